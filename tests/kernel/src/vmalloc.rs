//! Memory of single pages in a row: it is there, it is its own, and it comes back.

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use kernel::ktest;
use kernel::memory::Memory;
use kernel::memory::ioremap::ioremap;
use kernel::memory::vmalloc::{
    self, Snapshot, Vmalloc, vfree, vmalloc, vmalloc_huge, vmalloc_node, vmap, vunmap, vzalloc, vzalloc_node,
};
use kernel::thread;
use mm::arch::Machine;
use mm::arch::layout::{VMALLOC, VMALLOC_END};
use mm::page_alloc::PageBlock;
use mm::pgtable::{Access, EntryFlags, PageSize, VirtRange};
use mm::stat::VmallocAreas;
use mm::stat::vmallocinfo::write_area;
use mm::{Gfp, NodeId, Order, PAGE_SIZE, PagePtr, Pfn, PhysAddr, VirtAddr};

use crate::support::{Hoard, Random, bytes, free_frames, leaks_nothing, memory, order};
use crate::tables::{can_write, leaf};

ktest!(each_size_keeps_its_contents, on "all");
ktest!(zeroed_memory_is_zero_whatever_was_there, on "debug");
ktest!(nothing_and_more_than_there_is_are_refused, on "debug");
ktest!(it_is_mapped_read_write_never_executable_with_a_hole_behind, on "debug");
ktest!(what_was_freed_faults, on "debug");
ktest!(pages_come_from_the_node_that_is_asked_for, on "bios-2g-2x2cpu");
ktest!(each_step_without_memory_gives_everything_back, on "debug");
ktest!(large_sizes_are_mapped_by_large_pages_as_long_as_there_are_any, on "bios-512m-1cpu,bios-6g-4cpu");
ktest!(pages_of_somebody_are_mapped_in_a_row, on "debug");
ktest!(areas_are_counted_and_shown_with_their_callers, on "bios-512m-1cpu,bios-4g-numa2,uefi-512m-4cpu");
ktest!(threads_that_take_and_give_back_at_random_lose_nothing, on "bios-2g-2x2cpu,bios-512m-1cpu");

const PAGE: u64 = PAGE_SIZE as u64;
const MIB: u64 = 1 << 20;

/// As [`leaks_nothing`], areas included. The first one leaves nodes in the CPU's slab caches and keeps no more than that, so
/// one comes before.
#[track_caller]
fn leaves_nothing(test: impl FnOnce(&'static Memory)) {
    vfree(vmalloc(memory(), 1).expect("plenty is free"));
    let before = memory().vmalloc.lock().nr_areas();
    leaks_nothing(test);
    let space = memory().vmalloc.lock();
    space.validate();
    assert_eq!(space.nr_areas(), before, "areas before and after");
}

fn start(area: &Vmalloc) -> u64 {
    area.address().as_ptr() as u64
}

fn range(area: &Vmalloc) -> VirtRange {
    VirtRange::new(VirtAddr::new(start(area)), area.len_bytes() as u64).expect("whole pages")
}

/// The addresses of its pages.
fn page_addresses(area: &Vmalloc) -> impl Iterator<Item = u64> {
    (start(area)..start(area) + area.len_bytes() as u64).step_by(PAGE_SIZE)
}

/// How many pages of each size map it.
fn pages(area: &Vmalloc) -> [u64; 3] {
    let counts = memory().kernel_map.lock().count_pages(range(area));
    PageSize::ALL.map(|size| counts.nr_pages(size))
}

/// Writes what only `seed` and the place determine.
fn fill(area: &mut Vmalloc, seed: u64) {
    for (nr, page) in area.as_uninit().chunks_exact_mut(PAGE_SIZE).enumerate() {
        let mut random = Random(seed << 32 | (nr as u64 + 1));
        for at in [0, 1024, 4088] {
            page[at..at + 8].write_copy_of_slice(&random.next().to_le_bytes());
        }
    }
}

#[track_caller]
fn check(area: &Vmalloc, seed: u64) {
    for nr in 0..area.len_bytes() / PAGE_SIZE {
        let mut random = Random(seed << 32 | (nr as u64 + 1));
        for at in [0, 1024, 4088] {
            let word = area.address().as_ptr().wrapping_add(nr * PAGE_SIZE + at).cast::<u64>();
            // SAFETY: `fill` has written it, and it is aligned.
            assert_eq!(unsafe { word.read_volatile() }, random.next(), "{area:?}, page {nr}, byte {at}");
        }
    }
}

fn each_size_keeps_its_contents() {
    leaves_nothing(|memory| {
        let sizes = [1, PAGE, PAGE + 1, 16 * PAGE, 63 * PAGE, 64 * PAGE, 65 * PAGE, MIB, 3 * MIB + 5];
        let mut areas = Vec::new();
        for (size, seed) in sizes.into_iter().zip(1..) {
            let mut area = vmalloc(memory, size).expect("plenty is free");
            assert_eq!(area.len_bytes() as u64, size.next_multiple_of(PAGE));
            assert!(start(&area).is_multiple_of(PAGE) && (VMALLOC..VMALLOC_END).contains(&start(&area)));
            assert_eq!(pages(&area), [size.div_ceil(PAGE), 0, 0]);
            fill(&mut area, seed);
            areas.push((area, seed));
        }
        areas.iter().for_each(|(area, seed)| check(area, *seed));
        memory.vmalloc.lock().validate();
    });
}

fn zeroed_memory_is_zero_whatever_was_there() {
    leaves_nothing(|memory| {
        let mut dirty = vmalloc(memory, 2 * MIB).expect("plenty is free");
        dirty.as_uninit().fill(core::mem::MaybeUninit::new(0x77));
        vfree(dirty);
        let mut zeroed = vzalloc(memory, MIB + 1).expect("plenty is free");
        assert_eq!(zeroed.len() as u64, MIB + PAGE);
        assert!(zeroed.iter().all(|byte| *byte == 0));
        zeroed[5] = 1;
        assert_eq!(zeroed.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 1);
        vfree(zeroed);
        let zeroed = vzalloc_node(memory, PAGE, NodeId(0)).expect("plenty is free");
        assert!(zeroed.iter().all(|byte| *byte == 0));
    });
}

fn nothing_and_more_than_there_is_are_refused() {
    leaves_nothing(|memory| {
        let total = memory.pages.nodes().managed() * PAGE;
        for size in [0, total + PAGE, 1 << 46, u64::MAX - PAGE, u64::MAX] {
            assert!(vmalloc(memory, size).is_err() && vzalloc(memory, size).is_err(), "{size:#x}");
            assert!(vmalloc_huge(memory, size).is_err(), "{size:#x}");
        }
        assert!(vmap(memory, &[], Access::Read).is_err());
    });
}

fn it_is_mapped_read_write_never_executable_with_a_hole_behind() {
    leaves_nothing(|memory| {
        let areas = [0, 1, 2].map(|_| vmalloc(memory, 3 * PAGE).expect("plenty is free"));
        for area in &areas {
            for at in page_addresses(area) {
                let rights = leaf(at).expect("mapped").rights;
                let wanted = EntryFlags::PRESENT | EntryFlags::WRITABLE | EntryFlags::NO_EXECUTE;
                assert_eq!(rights, wanted, "{at:#x}");
            }
            let behind = range(area).last() + 1;
            assert!(leaf(behind).is_none() && !can_write(behind), "{behind:#x}");
        }
    });
}

fn what_was_freed_faults() {
    leaves_nothing(|memory| {
        for size in [PAGE, 70 * PAGE] {
            let area = vmalloc(memory, size).expect("plenty is free");
            let at = start(&area);
            // Now the TLB knows it.
            assert!(can_write(at) && can_write(at + size - PAGE));
            vfree(area);
            assert!(leaf(at).is_none() && leaf(at + size - PAGE).is_none());
            assert!(!can_write(at) && !can_write(at + size - PAGE));
        }
    });
}

fn pages_come_from_the_node_that_is_asked_for() {
    leaves_nothing(|memory| {
        for node in [NodeId(1), NodeId(0)] {
            let area = vmalloc_node(memory, 100 * PAGE, node).expect("plenty is free");
            for at in page_addresses(&area) {
                let leaf = leaf(at).expect("mapped");
                // SAFETY: a page of the page allocator's.
                let page = unsafe { PagePtr::new(Machine, Pfn::containing(leaf.phys)) };
                assert_eq!(page.node(), node);
            }
        }
    });
}

fn each_step_without_memory_gives_everything_back() {
    leaves_nothing(|memory| {
        for size in [PAGE, 130 * PAGE, 2 * MIB] {
            let mut hoard = Hoard::new();
            hoard.exhaust(Gfp::KERNEL);
            let mut refused = 0;
            // A page more each time: it fails at the node, at each page and at each table.
            let mut area = loop {
                let before = free_frames(memory);
                match vmalloc_huge(memory, size) {
                    Ok(area) => break area,
                    Err(_) => refused += 1,
                }
                memory.vmalloc.lock().validate();
                assert_eq!(free_frames(memory), before, "after {refused} failures");
                memory.pages.free_pages(hoard.pop().expect("more memory than that"));
            };
            fill(&mut area, size);
            check(&area, size);
            drop(area);
            hoard.free();
            assert!(refused > 0, "there was no memory");
        }
    });
}

fn large_sizes_are_mapped_by_large_pages_as_long_as_there_are_any() {
    leaves_nothing(|memory| {
        let huge = |size| vmalloc_huge(memory, size).expect("plenty is free");
        assert_eq!(pages(&huge(2 * MIB - PAGE)), [511, 0, 0]);
        assert_eq!(pages(&huge(4 * MIB)), [0, 2, 0]);
        let mut area = huge(5 * MIB);
        assert_eq!(pages(&area), [256, 2, 0]);
        assert!(start(&area).is_multiple_of(2 * MIB));
        fill(&mut area, 3);
        check(&area, 3);
        drop(area);
        // One block of 2 MiB is left, or one of 4 MiB.
        let mut hoard = Hoard::new();
        hoard.take_all(Gfp::KERNEL, Order::MAX, None);
        hoard.take_all(Gfp::KERNEL, order(9), None);
        memory.pages.free_pages(hoard.pop().expect("a large block"));
        // And pages of others, of which none becomes whole again.
        let mut kept = Hoard::new();
        for _ in 0..4 {
            let pages = hoard.pop().and_then(|block| block.split().ok()).expect("a large block");
            for (nr, page) in pages.enumerate() {
                if nr % 512 == 0 { kept.push(page) } else { memory.pages.free_pages(page) }
            }
        }
        let mut area = huge(6 * MIB);
        kept.free();
        hoard.free();
        let [small, large, _] = pages(&area);
        // How many of them are large is the page allocator's: a zone at its limit may have blocks for whoever frees some.
        assert!(large >= 1 && small + 512 * large == 1536, "{small} small and {large} large pages");
        fill(&mut area, 4);
        check(&area, 4);
    });
}

fn pages_of_somebody_are_mapped_in_a_row() {
    leaves_nothing(|memory| {
        let take = |n: u8| {
            let mut block = memory.pages.alloc_pages(Gfp::KERNEL, order(n)).expect("plenty is free");
            bytes(&mut block).fill(n + 1);
            block
        };
        let mut blocks: Vec<PageBlock> = [0, 2, 1, 0].map(take).into_iter().collect();
        let mapping = vmap(memory, &blocks, Access::Read).expect("plenty is free");
        let at = mapping.address().as_ptr() as u64;
        assert_eq!(mapping.len_bytes(), 8 * PAGE_SIZE);
        for (page, n) in (0..8).zip([1, 3, 3, 3, 3, 2, 2, 1]) {
            // SAFETY: mapped, and written by nobody meanwhile.
            let byte = unsafe { ((at + page * PAGE + 99) as *const u8).read_volatile() };
            assert_eq!((byte, can_write(at + page * PAGE)), (n, false), "page {page}");
        }
        assert!(leaf(at + 8 * PAGE).is_none());
        vunmap(mapping);
        assert!(leaf(at).is_none() && !can_write(at));
        let mapping = vmap(memory, &blocks[1..2], Access::ReadWrite).expect("plenty is free");
        // SAFETY: mapped to the block, whose memory nobody uses meanwhile.
        unsafe { mapping.address().as_ptr().add(2 * PAGE_SIZE).write_volatile(0xee) };
        drop(mapping);
        assert_eq!(bytes(&mut blocks[1])[2 * PAGE_SIZE], 0xee);
        let code = vmap(memory, &blocks[..1], Access::ReadExec).expect("plenty is free");
        let rights = leaf(code.address().as_ptr() as u64).expect("mapped").rights;
        assert_eq!(rights, EntryFlags::PRESENT, "to execute, not to write");
        drop(code);
        blocks.into_iter().for_each(|block| memory.pages.free_pages(block));
    });
}

/// The lines of `/proc/vmallocinfo`.
fn info(memory: &'static Memory) -> String {
    let mut text = String::new();
    let snapshot = Snapshot::new(memory).expect("plenty is free");
    snapshot.for_each(&mut |area| write_area(&mut text, area)).expect("memory for the text");
    text
}

fn areas_are_counted_and_shown_with_their_callers() {
    let memory = memory();
    let before = vmalloc::used_bytes(memory);
    let area = vmalloc(memory, 20 * PAGE).expect("plenty is free");
    assert_eq!(vmalloc::used_bytes(memory), before + 20 * PAGE);
    let block = memory.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).expect("plenty is free");
    let blocks = [block];
    let mapping = vmap(memory, &blocks, Access::Read).expect("plenty is free");
    assert_eq!(vmalloc::used_bytes(memory), before + 20 * PAGE, "these pages are somebody's");
    let device = ioremap(memory, PhysAddr::new(0xd000_0000), PAGE).expect("a hole");
    let text = info(memory);
    let at = start(&area);
    let line = |at: u64| {
        let head = alloc::format!("0x{at:016x}-");
        text.lines().find(|line| line.starts_with(&head)).expect("a line of the area")
    };
    assert!(line(at).contains(&alloc::format!("-0x{:016x}   86016 ", at + 21 * PAGE)), "{}", line(at));
    assert!(line(at).contains(" pages=20 vmalloc N"), "{}", line(at));
    assert!(line(at).contains("areas_are_counted_and_shown_with_their_callers+0x"), "{}", line(at));
    let map = line(mapping.address().as_ptr() as u64);
    assert!(map.contains("    8192 ") && map.ends_with(" vmap"), "{map}");
    assert!(text.contains(" phys=0x00000000d0000000 ioremap\n"), "{text}");
    drop((area, mapping, device));
    blocks.into_iter().for_each(|block| memory.pages.free_pages(block));
    assert_eq!(vmalloc::used_bytes(memory), before);
    assert!(!info(memory).contains(&alloc::format!("0x{at:016x}-")));
}

const WORKERS: u64 = 8;
const ROUNDS: u64 = 400;

fn take_and_give_back(seed: u64) {
    let memory = memory();
    let mut random = Random(seed);
    let mut areas = [const { None }; 12];
    for round in 0..ROUNDS {
        let slot = random.below(areas.len() as u64) as usize;
        let old: Option<(Vmalloc, u64)> = areas[slot].take();
        if let Some((area, seed)) = old {
            check(&area, seed);
            vfree(area);
        }
        // Common sizes mostly, all of them sometimes.
        let nr_pages = if random.below(4) > 0 { 1 << random.below(5) } else { 1 + random.below(300) };
        let size = if random.below(16) == 0 { 2 * MIB + nr_pages * PAGE } else { nr_pages * PAGE };
        let taken = if random.below(8) == 0 { vmalloc_huge(memory, size) } else { vmalloc(memory, size) };
        let mut area = taken.expect("plenty is free");
        let new = seed << 16 | round;
        fill(&mut area, new);
        areas[slot] = Some((area, new));
        if random.below(16) == 0 {
            memory.vmalloc.lock().validate();
            thread::yield_now();
        }
    }
}

fn threads_that_take_and_give_back_at_random_lose_nothing() {
    let run = || {
        let workers: Vec<_> = (1..=WORKERS)
            .map(|seed| {
                thread::spawn("ktest", move || take_and_give_back(seed)).expect("memory for a thread")
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join());
    };
    // The first time leaves objects in the caches of the CPUs.
    run();
    let memory = memory();
    let before = (free_frames(memory), memory.vmalloc.lock().nr_areas());
    run();
    memory.pages.validate();
    memory.slub.validate();
    memory.vmalloc.lock().validate();
    assert_eq!((free_frames(memory), memory.vmalloc.lock().nr_areas()), before, "free pages and areas");
}
