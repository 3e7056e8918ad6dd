//! Page faults of an address space, served by the real MMU's way in.

use kernel::ktest;
use kernel::memory::{Memory, space, workload};
use kernel::uaccess::{Fault, clear_user, copy_from_user, copy_to_user, get_user, put_user};
use mm::aspace::{FaultCounts, MmError, Placement};
use mm::pgtable::EntryFlags;
use mm::vma::VmFlags;
use mm::{Gfp, Order, PAGE_SIZE, VirtAddr};

use crate::support::{Hoard, Random, bytes, leaks_nothing};

ktest!(a_read_sees_the_zero_page_and_a_write_replaces_it);
ktest!(a_first_write_takes_a_zeroed_frame);
ktest!(wrong_accesses_are_refused_and_counted);
ktest!(a_copy_across_a_bad_boundary_says_how_much_is_left);
ktest!(protection_changes_keep_the_contents);
ktest!(unmapping_gives_frames_and_tables_back);
ktest!(a_fixed_mapping_replaces_what_was_there);
ktest!(bad_mappings_are_refused);
ktest!(thousands_of_random_faults_read_what_was_written);
ktest!(a_fault_without_memory_is_an_error_and_succeeds_later);
ktest!(areas_without_memory_are_an_error);
ktest!(a_space_larger_than_ram_runs_out_cleanly, on "bios-128m-1cpu");

const PAGE: u64 = PAGE_SIZE as u64;
const READ_WRITE: VmFlags = VmFlags::READ.union(VmFlags::WRITE);

/// Runs `test` with a new address space in use; every frame must come back when it goes.
#[track_caller]
fn in_a_space(test: impl FnOnce(&'static Memory)) {
    leaks_nothing(|memory| {
        space::enter(memory).expect("memory for an address space");
        test(memory);
        space::with(memory, |s| s.lock().validate());
        space::check(memory).expect("nothing is mapped but the areas");
        space::leave(memory);
    });
}

fn mmap(memory: &'static Memory, nr_pages: u64, access: VmFlags, at: Placement) -> Result<u64, MmError> {
    let mapped =
        space::with(memory, |s| s.lock().mmap(nr_pages * PAGE, access, at, &mut space::backing(memory)));
    mapped.map(VirtAddr::as_u64)
}

#[track_caller]
fn map(memory: &'static Memory, nr_pages: u64, access: VmFlags) -> u64 {
    mmap(memory, nr_pages, access, Placement::Any).expect("room and memory for an area")
}

#[track_caller]
fn unmap(memory: &'static Memory, start: u64, nr_pages: u64) {
    let done = space::with(memory, |s| s.lock().munmap(start, nr_pages * PAGE, &mut space::backing(memory)));
    done.expect("memory to split an area");
}

#[track_caller]
fn protect(memory: &'static Memory, start: u64, nr_pages: u64, access: VmFlags) {
    let done = space::with(memory, |s| {
        s.lock().mprotect(start, nr_pages * PAGE, access, &mut space::backing(memory))
    });
    done.expect("memory to split an area");
}

fn counts(memory: &'static Memory) -> FaultCounts {
    space::with(memory, |s| s.lock().faults())
}

fn at(addr: u64) -> VirtAddr {
    VirtAddr::new(addr)
}

fn a_read_sees_the_zero_page_and_a_write_replaces_it() {
    in_a_space(|memory| {
        let start = map(memory, 2, READ_WRITE);
        let zero = memory.zero_page.pfn().phys();
        let mapped = || space::with(memory, |s| s.lock().translate(at(start)));
        assert_eq!(mapped(), None, "nothing before the first access");
        assert_eq!(get_user::<u64>(at(start + 8)), Ok(0));
        let read = mapped().expect("mapped");
        assert!(read.phys == zero && !read.flags.contains(EntryFlags::WRITABLE), "{read:?}");
        assert_eq!(put_user(at(start + 8), 7u64), Ok(()));
        let written = mapped().expect("mapped");
        assert!(written.phys != zero && written.flags.contains(EntryFlags::WRITABLE), "{written:?}");
        assert_eq!((get_user(at(start + 8)), get_user(at(start))), (Ok(7u64), Ok(0u64)));
        assert_eq!(get_user::<u64>(at(start + PAGE + 8)), Ok(0), "the zero page is what it was");
        let counts = counts(memory);
        assert_eq!((counts.zero_page, counts.zero_page_copied, counts.new_page), (2, 1, 0));
        assert_eq!(space::with(memory, |s| s.lock().nr_anon_pages()), 1);
    });
}

fn a_first_write_takes_a_zeroed_frame() {
    const NR: usize = 64;
    in_a_space(|memory| {
        // Free pages that are not zero, and will be taken next.
        let mut dirty = [const { None }; NR];
        for slot in &mut dirty {
            let block = memory.pages.alloc_pages(Gfp::HIGHUSER_MOVABLE, Order::ZERO).expect("plenty is free");
            bytes(slot.insert(block)).fill(0xa5);
        }
        dirty.into_iter().flatten().for_each(|block| memory.pages.free_pages(block));
        let start = map(memory, NR as u64, READ_WRITE);
        let mut page = [0u8; PAGE_SIZE];
        for n in 0..NR as u64 {
            put_user(at(start + n * PAGE + 100), 1u8).expect("served");
            copy_from_user(&mut page, at(start + n * PAGE)).expect("there");
            let others = page.iter().enumerate().filter(|&(i, &byte)| i != 100 && byte != 0).count();
            assert_eq!((others, page[100]), (0, 1), "page {n}");
        }
        assert_eq!(counts(memory).new_page, NR as u64);
    });
}

fn wrong_accesses_are_refused_and_counted() {
    in_a_space(|memory| {
        let constant = map(memory, 1, VmFlags::READ);
        let hidden = map(memory, 1, VmFlags::empty());
        let refused = |done: Result<(), Fault>, left| assert_eq!(done, Err(Fault { left }));
        refused(put_user(at(constant), 1u64), 8);
        refused(clear_user(at(constant), 100), 100);
        refused(get_user::<u8>(at(hidden)).map(drop), 1);
        refused(put_user(at(hidden), 1u32), 4);
        refused(get_user::<u64>(at(0)).map(drop), 8);
        refused(put_user(at(0x7fff_ffff_e000), 1u16), 2);
        assert_eq!((counts(memory).refused, counts(memory).all), (6, 6));
        assert_eq!(get_user::<u64>(at(constant)), Ok(0), "what is allowed goes on");
    });
}

fn a_copy_across_a_bad_boundary_says_how_much_is_left() {
    in_a_space(|memory| {
        let start = map(memory, 2, READ_WRITE);
        unmap(memory, start + PAGE, 1);
        let edge = start + PAGE;
        let from = [0x33; 100];
        assert_eq!(copy_to_user(at(edge - 64), &from), Err(Fault { left: 36 }));
        let mut to = [0; 100];
        assert_eq!(copy_from_user(&mut to, at(edge - 64)), Err(Fault { left: 36 }));
        assert!(to[..64].iter().all(|&b| b == 0x33) && to[64..].iter().all(|&b| b == 0));
        assert_eq!(clear_user(at(edge - 64), 100), Err(Fault { left: 36 }));
        assert_eq!(get_user::<u64>(at(edge - 8)), Ok(0), "cleared up to the edge");
        assert_eq!(get_user::<u64>(at(edge - 4)), Err(Fault { left: 8 }));
        assert_eq!(copy_to_user(at(edge - 100), &from), Ok(()), "up to the edge all is well");
    });
}

fn protection_changes_keep_the_contents() {
    in_a_space(|memory| {
        let start = map(memory, 32, READ_WRITE);
        for n in 0..32 {
            put_user(at(start + n * PAGE), n).expect("served");
        }
        protect(memory, start + 8 * PAGE, 8, VmFlags::READ);
        protect(memory, start + 16 * PAGE, 8, VmFlags::empty());
        assert_eq!(put_user(at(start + 8 * PAGE), 9u64), Err(Fault { left: 8 }));
        assert_eq!(get_user(at(start + 15 * PAGE)), Ok(15u64));
        assert_eq!(get_user::<u64>(at(start + 16 * PAGE)), Err(Fault { left: 8 }));
        let nr_areas = || space::with(memory, |s| s.lock().areas().nr_areas());
        assert_eq!(nr_areas(), 4);
        protect(memory, start, 32, READ_WRITE);
        assert_eq!(nr_areas(), 1, "areas alike are one again");
        for n in 0..32 {
            assert_eq!(get_user(at(start + n * PAGE)), Ok(n));
            put_user(at(start + n * PAGE), n + 1).expect("writable again");
        }
        assert_eq!(counts(memory).new_page, 32, "no frame was taken twice");
    });
}

fn unmapping_gives_frames_and_tables_back() {
    in_a_space(|memory| {
        let before = workload::free_frames(memory);
        let start = map(memory, 700, READ_WRITE);
        for n in 0..700 {
            put_user(at(start + n * PAGE), n).expect("served");
        }
        assert!(workload::free_frames(memory) <= before - 700);
        unmap(memory, start + 100 * PAGE, 500);
        assert_eq!(space::with(memory, |s| s.lock().nr_anon_pages()), 200);
        assert_eq!(get_user::<u64>(at(start + 100 * PAGE)), Err(Fault { left: 8 }));
        assert_eq!(get_user(at(start + 99 * PAGE)), Ok(99u64));
        assert_eq!(get_user(at(start + 600 * PAGE)), Ok(600u64));
        unmap(memory, start, 700);
        assert_eq!(space::with(memory, |s| s.lock().nr_tables()), 0, "page tables");
        assert_eq!(workload::free_frames(memory), before);
    });
}

fn a_fixed_mapping_replaces_what_was_there() {
    in_a_space(|memory| {
        let start = map(memory, 4, READ_WRITE);
        for n in 0..4 {
            put_user(at(start + n * PAGE), 5u64).expect("served");
        }
        let middle = start + PAGE;
        assert_eq!(mmap(memory, 2, READ_WRITE, Placement::FixedNoReplace(middle)), Err(MmError::Exists));
        assert_eq!(mmap(memory, 2, READ_WRITE, Placement::Fixed(middle)), Ok(middle));
        let words = [0, 1, 2, 3].map(|n| get_user::<u64>(at(start + n * PAGE)));
        assert_eq!(words, [Ok(5), Ok(0), Ok(0), Ok(5)]);
    });
}

fn bad_mappings_are_refused() {
    in_a_space(|memory| {
        let end = mm::arch::layout::USER_END;
        for (nr_pages, access, placement, error) in [
            (0, READ_WRITE, Placement::Any, MmError::Invalid),
            (1, READ_WRITE, Placement::Fixed(0x12_3456), MmError::Invalid),
            (1, READ_WRITE, Placement::Fixed(end), MmError::NoMemory),
            (end / PAGE + 1, READ_WRITE, Placement::Any, MmError::NoMemory),
            (1, READ_WRITE, Placement::Fixed(0), MmError::NotPermitted),
            (1, READ_WRITE | VmFlags::EXEC, Placement::Any, MmError::AccessDenied),
        ] {
            assert_eq!(mmap(memory, nr_pages, access, placement), Err(error), "{placement:?}");
        }
        assert_eq!(space::with(memory, |s| s.lock().areas().nr_areas()), 0);
    });
}

/// Areas far from each other, so that each has page tables of its own.
fn thousands_of_random_faults_read_what_was_written() {
    const AREAS: u64 = 16;
    const PAGES: u64 = 256;
    let start = |area: u64| 0x1000_0000 + area * (0x77 << 32);
    in_a_space(|memory| {
        for area in 0..AREAS {
            let placed = mmap(memory, PAGES, READ_WRITE, Placement::Fixed(start(area)));
            assert_eq!(placed, Ok(start(area)));
        }
        let mut random = Random(9);
        let mut pages = || {
            let (area, page) = (random.below(AREAS), random.below(PAGES));
            at(start(area) + page * PAGE)
        };
        for _ in 0..8000 {
            let place = pages();
            let seen = get_user::<u64>(place).expect("served");
            assert!(seen == 0 || seen == place.as_u64(), "{seen:#x} at {place:?}");
            let place = pages();
            put_user(place, place.as_u64()).expect("served");
        }
        let counts = counts(memory);
        assert!(counts.all > 4000 && counts.refused + counts.oom == 0, "{counts:?}");
    });
}

fn a_fault_without_memory_is_an_error_and_succeeds_later() {
    in_a_space(|memory| {
        let start = map(memory, 8, READ_WRITE);
        put_user(at(start), 1u64).expect("served");
        assert_eq!(get_user::<u64>(at(start + PAGE)), Ok(0));
        let mut hoard = Hoard::new();
        hoard.exhaust(Gfp::KERNEL);
        assert_eq!(put_user(at(start + 2 * PAGE), 1u64), Err(Fault { left: 8 }), "a new page");
        assert_eq!(put_user(at(start + PAGE), 1u64), Err(Fault { left: 8 }), "a copy of the zero page");
        assert_eq!(get_user::<u64>(at(start + PAGE)), Ok(0), "which is still there");
        assert_eq!(get_user::<u64>(at(start + 3 * PAGE)), Ok(0), "the zero page needs no frame");
        assert_eq!(get_user::<u64>(at(start)), Ok(1));
        assert_eq!(counts(memory).oom, 2);
        hoard.free();
        assert_eq!(put_user(at(start + 2 * PAGE), 1u64), Ok(()));
        assert_eq!(put_user(at(start + PAGE), 1u64), Ok(()));
    });
}

fn areas_without_memory_are_an_error() {
    in_a_space(|memory| {
        let mut hoard = Hoard::new();
        hoard.exhaust(Gfp::KERNEL);
        let mut nr_areas = 0;
        // Each with a gap before it: none can be merged.
        let error = loop {
            let place = Placement::Fixed(0x1_0000_0000 + nr_areas * 2 * PAGE);
            match mmap(memory, 1, READ_WRITE, place) {
                Ok(_) => nr_areas += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, MmError::NoMemory);
        space::with(memory, |s| {
            let mm = s.lock();
            mm.validate();
            assert_eq!(mm.areas().nr_areas() as u64, nr_areas);
        });
        hoard.free();
        map(memory, 1, READ_WRITE);
    });
}

fn a_space_larger_than_ram_runs_out_cleanly() {
    in_a_space(|memory| {
        let start = map(memory, 1 << 20, READ_WRITE);
        let nr = (0..1 << 20).take_while(|n| put_user(at(start + n * PAGE), *n).is_ok()).count() as u64;
        assert!(nr > 10_000 && nr < 32_768, "{nr} pages of 128 MiB");
        assert!(counts(memory).oom == 1 && counts(memory).refused == 0);
        (0..nr).for_each(|n| assert_eq!(get_user(at(start + n * PAGE)), Ok(n)));
        unmap(memory, start, 1 << 20);
        map(memory, 1, READ_WRITE);
    });
}
