//! What boot ends with: an address space whose every page comes from a fault, driven by a thread of its own.
//!
//! ```text
//! read a range      the zero page, page by page
//! write it          a frame each in its place
//! write another     a zeroed frame each
//! misuse            holes, protections: refused, reported, survived
//! unmap             every frame is back
//! ```
//!
//! # Invariants
//! - I1: frames that are free after the workload are as many as before it: nothing else allocates meanwhile.

use mm::aspace::{FaultCounts, Placement};
use mm::vma::VmFlags;
use mm::{PAGE_SIZE, VirtAddr};

use super::{Memory, space};
use crate::cpu::call;
use crate::thread;
use crate::uaccess::{Fault, get_user, put_user};

/// Pages that are read before they are written.
const READ_FIRST_PAGES: u64 = 2048;
/// Pages that are written at once.
const WRITTEN_PAGES: u64 = 1024;
/// Pages that are only read.
const CONSTANT_PAGES: u64 = 256;

const READ_WRITE: VmFlags = VmFlags::READ.union(VmFlags::WRITE);

/// Runs the workload in a thread, which prints what was served and checks that every frame came back.
///
/// # Panics
/// When the memory subsystem does something wrong.
pub fn run(memory: &'static Memory) {
    let thread = thread::spawn("workload", move || body(memory)).expect("memory for a thread");
    thread.join();
    memory.pages.validate();
    memory.slub.validate();
}

/// Free frames when no CPU keeps anything for later: no object in a magazine, no empty slab, no page on a per-CPU list.
/// Where others may be waited for; interrupts all CPUs.
pub fn free_frames(memory: &'static Memory) -> u64 {
    call::on_all(&|| memory.slub.drain_this_cpu());
    memory.slub.shrink_all();
    memory.pages.drain_all();
    memory.pages.free_pages_total() + memory.pages.nr_debug_pages()
}

fn body(memory: &'static Memory) {
    let free_before = free_frames(memory);
    space::enter(memory).expect("memory for an address space");
    serve(memory).expect("valid accesses are served");
    let before = faults(memory);
    misuse(memory);
    let refused = faults(memory).refused - before.refused;
    assert_eq!(refused, 5, "refused accesses");
    space::check(memory).expect("the address space maps what it should");
    report(memory);
    space::leave(memory);
    let free_after = free_frames(memory);
    assert_eq!(free_before, free_after, "frames that are free before and after the workload");
    log::info!("workload: unmapped, every frame is back: {free_after} free");
}

/// Maps pages where there is room; returns where.
fn map(memory: &'static Memory, nr_pages: u64, access: VmFlags) -> u64 {
    let bytes = nr_pages * PAGE_SIZE as u64;
    let mapped =
        space::with(memory, |s| s.lock().mmap(bytes, access, Placement::Any, &mut space::backing(memory)));
    mapped.expect("room and memory for an area").as_u64()
}

fn page(start: u64, index: u64) -> VirtAddr {
    VirtAddr::new(start + index * PAGE_SIZE as u64)
}

/// Accesses that have to succeed.
fn serve(memory: &'static Memory) -> Result<(), Fault> {
    let first = map(memory, READ_FIRST_PAGES, READ_WRITE);
    for n in 0..READ_FIRST_PAGES {
        assert_eq!(get_user::<u64>(page(first, n))?, 0, "untouched memory is zero");
    }
    for n in 0..READ_FIRST_PAGES {
        put_user(page(first, n), !n)?;
    }
    let second = map(memory, WRITTEN_PAGES, READ_WRITE);
    for n in 0..WRITTEN_PAGES {
        put_user(page(second, n), n)?;
    }
    let constant = map(memory, CONSTANT_PAGES, VmFlags::READ);
    for n in 0..CONSTANT_PAGES {
        assert_eq!(get_user::<u64>(page(constant, n))?, 0, "untouched memory is zero");
    }
    for n in 0..READ_FIRST_PAGES {
        assert_eq!(get_user::<u64>(page(first, n))?, !n, "what was written is read");
        assert_eq!(get_user::<u64>(page(first, n) + 8u64)?, 0, "the rest of the page is zero");
    }
    for n in 0..WRITTEN_PAGES {
        assert_eq!(get_user::<u64>(page(second, n))?, n, "what was written is read");
    }
    let counts = faults(memory);
    assert_eq!(counts.zero_page, READ_FIRST_PAGES + CONSTANT_PAGES, "zero-page faults");
    assert_eq!(counts.zero_page_copied, READ_FIRST_PAGES, "copies of the zero page");
    assert_eq!(counts.new_page, WRITTEN_PAGES, "zeroed frames");
    Ok(())
}

/// Accesses that have to fail, cleanly.
fn misuse(memory: &'static Memory) {
    let refused = |done: Result<(), Fault>| assert!(done.is_err(), "a wrong access is refused");
    let constant = map(memory, 1, VmFlags::READ);
    refused(put_user(page(constant, 0), 1u64));
    let hidden = map(memory, 1, VmFlags::empty());
    refused(get_user::<u64>(page(hidden, 0)).map(drop));
    refused(get_user::<u64>(VirtAddr::new(0x1000)).map(drop));

    let area = map(memory, 64, READ_WRITE);
    for n in 0..64 {
        put_user(page(area, n), n).expect("a served write");
    }
    let half = 32 * PAGE_SIZE as u64;
    let changed = space::with(memory, |s| {
        let mut mm = s.lock();
        mm.mprotect(area, half, VmFlags::READ, &mut space::backing(memory))?;
        mm.munmap(area + half, PAGE_SIZE as u64, &mut space::backing(memory))
    });
    changed.expect("memory to split areas");
    refused(put_user(page(area, 0), 1u64));
    refused(get_user::<u64>(page(area, 32)).map(drop));
    assert_eq!(get_user(page(area, 31)), Ok(31u64), "protected memory is as it was");
    assert_eq!(get_user(page(area, 33)), Ok(33u64), "memory behind a hole is as it was");
}

fn faults(memory: &'static Memory) -> FaultCounts {
    space::with(memory, |s| s.lock().faults())
}

/// What was served, and the state of every layer while the pages are still mapped.
fn report(memory: &'static Memory) {
    space::with(memory, |s| {
        let mm = s.lock();
        mm.validate();
        let counts = mm.faults();
        log::info!(
            "workload: {} page faults: {} zero page, {} zeroed frame, {} copied from the zero page, {} renewed, {} refused",
            counts.all,
            counts.zero_page,
            counts.new_page,
            counts.zero_page_copied,
            counts.reused,
            counts.refused
        );
        log::info!(
            "workload: {} areas of {} kB, {} kB anonymous, {} kB page tables",
            mm.areas().nr_areas(),
            mm.total_pages() * 4,
            mm.nr_anon_pages() * 4,
            mm.nr_tables() * 4
        );
        for area in mm.areas().iter() {
            log::info!("workload: area {:x}-{:x} {:?}", area.start(), area.end(), area.flags());
        }
    });
    memory.pages.show_mem();
    let (mut caches, mut objects, mut slabs) = (0, 0, 0);
    memory.slub.for_each_cache(|info| {
        caches += 1;
        objects += info.active_objs;
        slabs += info.num_slabs;
    });
    log::info!("slab: {caches} caches, {objects} objects in use, {slabs} slabs");
    done();
}

/// Where a debugger can look at everything: the workload's pages are all mapped, nothing runs.
#[inline(never)]
pub extern "C" fn done() {
    core::hint::black_box(());
}
