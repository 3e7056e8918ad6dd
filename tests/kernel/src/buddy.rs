//! The page allocator on the machine's whole memory.

use kernel::ktest;
use kernel::memory::Memory;
use mm::arch::Machine;
use mm::order::PAGEBLOCK_NR_PAGES;
use mm::page::{PageFlags, PageRef, compound_head};
use mm::page_alloc::{AllocError, PageBlock};
use mm::zone::Watermark;
use mm::{Gfp, Order, PAGE_SIZE, PagePtr};

use crate::support::{Hoard, Random, bytes, leaks_nothing, order};

ktest!(blocks_of_every_order_and_type_are_aligned_and_come_back, on "debug");
ktest!(zeroed_blocks_are_zero_whatever_was_there, on "debug");
ktest!(zone_flags_bound_the_address, on "debug");
ktest!(blocks_do_not_overlap, on "debug");
ktest!(exhaustion_is_an_error_and_everything_comes_back, on "debug");
ktest!(reserves_are_for_those_who_may_take_them, on "debug");
ktest!(a_failure_is_reported_and_survived, on "debug");
ktest!(random_operations_keep_every_counter_right, on "debug");
ktest!(draining_empties_this_cpus_lists, on "debug");
ktest!(tails_of_compound_blocks_name_their_head, on "debug");
ktest!(a_second_user_keeps_the_first_page_only, on "debug");

const TYPES: [Gfp; 3] = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL.union(Gfp::RECLAIMABLE)];

/// Larger blocks are merged with their neighbours when freed (Linux: `PAGE_ALLOC_COSTLY_ORDER`).
const PCP_ORDER: Order = Order::new(3).unwrap();

fn alloc(memory: &Memory, gfp: Gfp, order: Order) -> PageBlock {
    memory.pages.alloc_pages(gfp, order).expect("plenty is free")
}

fn blocks_of_every_order_and_type_are_aligned_and_come_back() {
    leaks_nothing(|memory| {
        for gfp in TYPES {
            for order in Order::all() {
                let block = alloc(memory, gfp, order);
                assert_eq!((block.order(), block.page().refcount()), (order, 1));
                assert!(block.pfn(Machine).is_aligned(order.nr_pages()), "{block:?}");
                let zone = memory.pages.nodes().zone_of(&block.page());
                assert!(zone.span().contains(block.pfn(Machine)));
                memory.pages.free_pages(block);
            }
        }
    });
}

fn zeroed_blocks_are_zero_whatever_was_there() {
    leaks_nothing(|memory| {
        for order in Order::all() {
            let mut dirty = alloc(memory, Gfp::KERNEL, order);
            bytes(&mut dirty).fill(0xa5);
            let was_at = dirty.pfn(Machine);
            memory.pages.free_pages(dirty);
            let mut clean = memory.pages.alloc_zeroed(Gfp::KERNEL, order).expect("plenty is free");
            if order <= PCP_ORDER {
                assert_eq!(clean.pfn(Machine), was_at, "the block freed last is hot: it is taken first");
            }
            assert!(bytes(&mut clean).iter().all(|&byte| byte == 0), "{order:?}");
            memory.pages.free_pages(clean);
        }
    });
}

fn zone_flags_bound_the_address() {
    leaks_nothing(|memory| {
        for (flag, end) in [(Gfp::DMA, 16 << 20), (Gfp::DMA32, 4 << 30)] {
            for order in [0, 3, 9, 10].map(order) {
                let block = alloc(memory, Gfp::KERNEL | flag, order);
                assert!((block.pfn(Machine) + order.nr_pages()).byte() <= end, "{flag:?}: {block:?}");
                memory.pages.free_pages(block);
            }
        }
    });
}

/// Each block's words hold its own address: whoever overlaps it destroys them.
fn blocks_do_not_overlap() {
    leaks_nothing(|memory| {
        let mut random = Random(1);
        let mut hoard = Hoard::new();
        // A quarter of what is free.
        let end = memory.pages.free_pages_total() / 4;
        while hoard.nr_pages < end {
            let order = order(random.below(11) as u8);
            let block = alloc(memory, TYPES[random.below(3) as usize], order);
            words(&block).for_each(|word| {
                // SAFETY: inside our own block.
                unsafe { word.write_volatile(word as u64) }
            });
            hoard.push(block);
        }
        while let Some(block) = hoard.pop() {
            // The first bytes of the first page are the hoard's link.
            words(&block).skip(1).for_each(|word| {
                // SAFETY: inside our own block.
                assert_eq!(unsafe { word.read_volatile() }, word as u64, "{block:?}");
            });
            memory.pages.free_pages(block);
        }
    });
}

/// A word in the middle of each page of a block but the first page's at its start.
fn words(block: &PageBlock) -> impl Iterator<Item = *mut u64> + use<> {
    let start = block.address(Machine).as_ptr() as usize;
    (0..block.order().nr_pages() as usize).map(move |page| (start + page * PAGE_SIZE) as *mut u64)
}

fn exhaustion_is_an_error_and_everything_comes_back() {
    leaks_nothing(|memory| {
        let free = memory.pages.free_pages_total();
        let mut hoard = Hoard::new();
        hoard.exhaust(Gfp::KERNEL);
        for order in Order::all() {
            assert_eq!(memory.pages.alloc_pages(Gfp::KERNEL | Gfp::NOWARN, order).err(), Some(AllocError));
        }
        assert!(hoard.nr_pages > free / 10 * 8, "{} of {free} pages were given out", hoard.nr_pages);
        memory.pages.validate();
        hoard.free();
        let again = alloc(memory, Gfp::KERNEL, Order::MAX);
        memory.pages.free_pages(again);
    });
}

fn reserves_are_for_those_who_may_take_them() {
    leaks_nothing(|memory| {
        let mut hoard = Hoard::new();
        hoard.exhaust(Gfp::KERNEL);
        for zone in memory.pages.nodes().populated_zones() {
            // Two large blocks are taken at once when one would do (Linux: `rmqueue_pcplist`), so a zone may end so far
            // below.
            let floor = zone.watermark(Watermark::Min) + zone.lowmem_reserve(Gfp::KERNEL.zone());
            let reach = zone.nr_free() + PAGEBLOCK_NR_PAGES;
            assert!(reach >= floor.min(zone.managed() / 2), "floor {floor}: {zone:?}");
        }
        let left = memory.pages.free_pages_total();
        let atomic = hoard.take_all(Gfp::ATOMIC_CONTEXT, Order::ZERO, None);
        assert!(0 < atomic && atomic < left, "an atomic allocation may take {atomic} of {left} pages");
        let rest = hoard.take_all(Gfp::HIGHUSER_MOVABLE | Gfp::MEMALLOC, Order::ZERO, None);
        assert!(rest > 0);
        assert_eq!(memory.pages.free_pages_total(), 0, "nothing is left for who frees memory");
        memory.pages.validate();
        hoard.free();
    });
}

fn a_failure_is_reported_and_survived() {
    leaks_nothing(|memory| {
        let mut hoard = Hoard::new();
        hoard.exhaust(Gfp::KERNEL);
        assert_eq!(memory.pages.alloc_pages(Gfp::KERNEL, Order::MAX).err(), Some(AllocError));
        memory.pages.show_mem();
        hoard.free();
    });
}

fn random_operations_keep_every_counter_right() {
    const SLOTS: usize = 512;
    leaks_nothing(|memory| {
        let mut random = Random(0x5eed);
        let mut held: [Option<PageBlock>; SLOTS] = [const { None }; SLOTS];
        for round in 0..100_000u32 {
            let slot = &mut held[random.below(SLOTS as u64) as usize];
            match slot.take() {
                Some(block) => memory.pages.free_pages(block),
                None => {
                    *slot = memory.pages.alloc_pages(random_gfp(&mut random), random_order(&mut random)).ok()
                }
            }
            if round % 25_000 == 0 {
                memory.pages.validate();
            }
        }
        held.into_iter().flatten().for_each(|block| memory.pages.free_pages(block));
    });
}

/// Small ones mostly, as in life.
fn random_order(random: &mut Random) -> Order {
    let most = if random.below(4) == 0 { 11 } else { 4 };
    order(random.below(most) as u8)
}

fn random_gfp(random: &mut Random) -> Gfp {
    let zone = [Gfp::empty(), Gfp::empty(), Gfp::DMA, Gfp::DMA32][random.below(4) as usize];
    let more = [Gfp::empty(), Gfp::COMP, Gfp::ZERO, Gfp::HIGH][random.below(4) as usize];
    TYPES[random.below(3) as usize] | zone | more | Gfp::NOWARN
}

fn draining_empties_this_cpus_lists() {
    leaks_nothing(|memory| {
        let on_lists = || -> u64 {
            let zones = memory.pages.nodes().populated_zones();
            zones.map(|zone| memory.pages.pcp_pages(zone)).sum()
        };
        let free = free_or_debugging(memory);
        let block = alloc(memory, Gfp::KERNEL, Order::ZERO);
        let listed = on_lists();
        let kept = memory.pages.nr_debug_pages();
        assert!(listed > 0, "a refill brings a batch");
        assert_eq!(free_or_debugging(memory) + listed + 1, free, "every page is somewhere");
        memory.pages.free_pages(block);
        let kept = memory.pages.nr_debug_pages() - kept;
        assert_eq!(on_lists() + kept, listed + 1, "a freed page stays on this CPU's list");
        memory.pages.drain_local();
        assert_eq!((on_lists(), free_or_debugging(memory)), (0, free));
    });
}

fn tails_of_compound_blocks_name_their_head() {
    leaks_nothing(|memory| {
        for order in [1, 3, 9, 10].map(order) {
            let block = alloc(memory, Gfp::KERNEL | Gfp::COMP, order);
            assert!(block.page().flags().contains(PageFlags::HEAD));
            assert_eq!(block.folio().order(), order);
            for n in 0..order.nr_pages() {
                // SAFETY: pages of our own block.
                let head = unsafe { compound_head(PagePtr::new(Machine, block.pfn(Machine) + n)) };
                assert_eq!(head, block.page());
            }
            memory.pages.free_pages(block);
        }
    });
}

/// Free pages, and those that debugging keeps: what it remembers of an allocation may take a new one.
fn free_or_debugging(memory: &Memory) -> u64 {
    memory.pages.free_pages_total() + memory.pages.nr_debug_pages()
}

fn a_second_user_keeps_the_first_page_only() {
    leaks_nothing(|memory| {
        let free = free_or_debugging(memory);
        let block = alloc(memory, Gfp::KERNEL, order(5));
        // SAFETY: the block's first page, which the block is a reference to.
        let second = unsafe { PageRef::get(block.page()) };
        memory.pages.free_pages(block);
        memory.pages.drain_local();
        assert_eq!(free_or_debugging(memory), free - 1);
        assert_eq!(second.folio().refcount(), 1);
        memory.pages.put_page(second);
    });
}
