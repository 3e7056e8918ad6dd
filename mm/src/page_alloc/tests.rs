mod lists;

use super::*;
use crate::arch::run_as_cpu;
use crate::buddy::BadReason;
use crate::id::ZoneIdx;
use crate::page::{OwnerFlags, PageFlags, PagePtr};
use crate::testing::TestMachine;
use proptest::prelude::*;
use std::vec::Vec;

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

const QUIET: Gfp = Gfp::KERNEL.union(Gfp::NOWARN);

#[test]
fn every_order_comes_aligned_with_one_reference_and_goes_back() {
    let m = TestMachine::new(64);
    for n in Order::all() {
        for gfp in [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE, Gfp::ATOMIC_CONTEXT] {
            let block = m.pages.alloc_pages(gfp, n).unwrap();
            assert_eq!((block.order(), block.page().refcount()), (n, 1));
            assert!(block.pfn(m.machine()).is_aligned(n.nr_pages()));
            m.pages.free_pages(block);
        }
    }
}

#[test]
fn zeroed_blocks_are_zero() {
    let m = TestMachine::new(32);
    for n in [0, 3, 5] {
        let dirty = m.pages.alloc_pages(Gfp::KERNEL, order(n)).unwrap();
        // SAFETY: the block's memory is ours.
        unsafe { dirty.address(m.machine()).write_bytes(0x5a, order(n).size_bytes()) };
        m.pages.free_pages(dirty);
        let block = m.pages.alloc_zeroed(Gfp::KERNEL, order(n)).unwrap();
        // SAFETY: as above.
        let bytes = unsafe {
            core::slice::from_raw_parts(block.address(m.machine()).as_ptr(), order(n).size_bytes())
        };
        assert!(bytes.iter().all(|&b| b == 0));
        m.pages.free_pages(block);
    }
}

#[test]
fn compound_pages_know_their_head() {
    let m = TestMachine::new(32);
    for n in [1, 3, 4, 9, 10] {
        let block = m.pages.alloc_pages(Gfp::KERNEL | Gfp::COMP, order(n)).unwrap();
        assert_eq!(block.folio().order(), order(n));
        for page in block.pages() {
            // SAFETY: the block is ours.
            let head = unsafe { crate::page::compound_head(PagePtr::from_raw(NonNull::from_ref(page))) };
            assert_eq!(head, block.page());
        }
        m.pages.free_pages(block);
    }
    let single = m.pages.alloc_pages(Gfp::KERNEL | Gfp::COMP, Order::ZERO).unwrap();
    assert_eq!(single.folio().order(), Order::ZERO);
    m.pages.free_pages(single);
}

#[test]
fn exhaustion_is_an_error_and_loses_nothing() {
    for gfp in [QUIET, QUIET | Gfp::MOVABLE, QUIET | Gfp::MEMALLOC, QUIET | Gfp::DMA, QUIET | Gfp::NOFAIL] {
        for n in Order::all() {
            let m = TestMachine::with(64, 2, 2);
            let blocks: Vec<_> = core::iter::from_fn(|| m.pages.alloc_pages(gfp, n).ok()).collect();
            assert!(!blocks.is_empty(), "{gfp:?} of order {}", n.get());
            m.pages.validate();
            blocks.into_iter().for_each(|b| m.pages.free_pages(b));
        }
    }
}

#[test]
fn reserves_are_for_those_who_may_use_them() {
    let m = TestMachine::new(256);
    let take_all = |gfp: Gfp| {
        core::iter::from_fn(|| m.pages.alloc_pages(gfp | Gfp::NOWARN, order(4)).ok()).collect::<Vec<_>>()
    };
    let normal = take_all(Gfp::KERNEL);
    let zone = m.pages.nodes().get(NodeId(0)).unwrap().zone(ZoneIdx::Dma32);
    let min = zone.watermark(crate::zone::Watermark::Min);
    assert!((min..min + 32).contains(&zone.nr_free()), "{} free, min {min}", zone.nr_free());
    let atomic = take_all(Gfp::ATOMIC_CONTEXT);
    assert!(!atomic.is_empty() && zone.nr_free() > 0);
    let all = take_all(Gfp::KERNEL | Gfp::MEMALLOC);
    assert!(!all.is_empty() && zone.nr_free() < 16);
    normal.into_iter().chain(atomic).chain(all).for_each(|b| m.pages.free_pages(b));
}

#[test]
fn low_zones_are_kept_from_those_who_have_higher_ones() {
    let m = TestMachine::new(512);
    let dma = m.pages.nodes().get(NodeId(0)).unwrap().zone(ZoneIdx::Dma);
    let blocks: Vec<_> = core::iter::from_fn(|| m.pages.alloc_pages(QUIET, order(4)).ok()).collect();
    let reserve = dma.lowmem_reserve(ZoneIdx::Normal);
    assert!(reserve > 0 && dma.nr_free() > reserve, "{} free, {reserve} reserved", dma.nr_free());
    let low: Vec<_> = core::iter::from_fn(|| m.pages.alloc_pages(QUIET | Gfp::DMA, order(4)).ok()).collect();
    assert!(dma.nr_free() < reserve);
    blocks.into_iter().chain(low).for_each(|b| m.pages.free_pages(b));
}

#[test]
fn zones_and_nodes_are_as_asked() {
    let m = TestMachine::with(6 << 10, 2, 2);
    let place = |gfp, node: Option<u16>, n| {
        let block = match node {
            Some(node) => m.pages.alloc_pages_node(NodeId(node), gfp, order(n)),
            None => m.pages.alloc_pages(gfp, order(n)),
        };
        let block = block.unwrap();
        let at = (block.page().node().0, block.page().zone());
        m.pages.free_pages(block);
        at
    };
    for n in [0, 3, 6] {
        for _ in 0..3 {
            assert_eq!(place(Gfp::KERNEL, None, n), (0, ZoneIdx::Dma32));
            assert_eq!(place(Gfp::KERNEL, Some(1), n), (1, ZoneIdx::Normal));
            assert_eq!(place(Gfp::KERNEL | Gfp::DMA32, Some(1), n), (1, ZoneIdx::Dma32));
            assert_eq!(place(Gfp::KERNEL | Gfp::DMA, Some(1), n), (0, ZoneIdx::Dma));
            assert_eq!(place(Gfp::KERNEL | Gfp::THISNODE, Some(1), n), (1, ZoneIdx::Normal));
            assert_eq!(run_as_cpu(CpuId(1), || place(Gfp::KERNEL, None, n)), (1, ZoneIdx::Normal));
        }
    }
    assert!(m.pages.alloc_pages_node(NodeId(1), QUIET | Gfp::THISNODE | Gfp::DMA, order(0)).is_err());
    assert!(m.pages.alloc_pages_node(NodeId(7), QUIET, order(0)).is_err());
}

#[test]
fn events_follow_from_what_was_done() {
    let m = TestMachine::with(64, 2, 2);
    let zone = |node| m.pages.nodes().get(NodeId(node)).unwrap().zone(ZoneIdx::Dma32);
    let before = m.pages.events(zone(1));
    for n in [0, 2, 5] {
        let block = m.pages.alloc_pages_node(NodeId(1), Gfp::KERNEL, order(n)).unwrap();
        m.pages.free_pages(block);
    }
    let after = m.pages.events(zone(1));
    assert_eq!(after.pages_allocated() - before.pages_allocated(), 1 + 4 + 32);
    assert_eq!(after.pages_freed() - before.pages_freed(), 1 + 4 + 32);
    assert_eq!((after.numa_hit(), after.numa_miss, after.numa_local(), after.numa_other), (3, 0, 0, 3));
    // With node 1 used up, what wants it goes to node 0.
    let blocks: Vec<_> =
        core::iter::from_fn(|| m.pages.alloc_pages_node(NodeId(1), QUIET | Gfp::THISNODE, order(3)).ok())
            .collect();
    let block = m.pages.alloc_pages_node(NodeId(1), Gfp::KERNEL, order(3)).unwrap();
    assert_eq!(block.page().node(), NodeId(0));
    assert_eq!((m.pages.events(zone(1)).numa_foreign, m.pages.events(zone(0)).numa_miss), (1, 1));
    blocks.into_iter().chain([block]).for_each(|b| m.pages.free_pages(b));
}

#[test]
fn the_last_reference_frees() {
    let m = TestMachine::new(32);
    for (n, gfp) in [(0, Gfp::KERNEL), (3, Gfp::KERNEL), (3, Gfp::KERNEL | Gfp::COMP)] {
        let block = m.pages.alloc_pages(gfp, order(n)).unwrap();
        let page = block.page();
        page.get();
        let before = m.free_pages();
        m.pages.free_pages(block);
        assert_eq!(page.refcount(), 1);
        let rest = if gfp.contains(Gfp::COMP) { order(n) } else { Order::ZERO };
        assert_eq!(m.free_pages() - before, order(n).nr_pages() - rest.nr_pages());
        // SAFETY: the reference taken above.
        m.pages.free_pages(unsafe { PageBlock::from_raw(page, rest) });
    }
}

#[test]
fn full_lists_give_back_and_empty_ones_are_refilled_in_batches() {
    let m = TestMachine::new(256);
    let zone = m.pages.nodes().get(NodeId(0)).unwrap().zone(ZoneIdx::Dma32);
    let blocks: Vec<_> = (0..4000).map(|_| m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap()).collect();
    assert!(m.pages.pcp_count(zone, CpuId(0)) < zone.pcp_batch());
    for block in blocks {
        m.pages.free_pages(block);
        assert!(m.pages.pcp_count(zone, CpuId(0)) <= zone.pcp_high());
    }
    assert!(m.pages.pcp_count(zone, CpuId(0)) > 0);
}

#[track_caller]
fn freeing_is_a_bug(reason: BadReason, spoil: impl FnOnce(PagePtr)) {
    let mut m = TestMachine::new(32);
    m.allow_leaks();
    let block = m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap();
    spoil(block.page());
    let caught =
        std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| m.pages.free_pages(block))).unwrap_err();
    let said = caught.downcast_ref::<std::string::String>().unwrap();
    assert!(said.starts_with("BUG: Bad page state") && said.contains(reason.as_str()), "{said}");
}

#[test]
fn pages_in_a_wrong_state_stop_the_machine() {
    freeing_is_a_bug(BadReason::AlreadyFree, |p| p.set_refcount(0));
    freeing_is_a_bug(BadReason::NonzeroMapcount, |p| p.add_mapping());
    freeing_is_a_bug(BadReason::FlagsAtFree, |p| p.set_flags(OwnerFlags::LOCKED));
}

#[test]
fn a_double_free_is_caught_wherever_the_page_went() {
    for n in [0, 2, 9, 10] {
        let mut m = TestMachine::new(32);
        m.allow_leaks();
        let (page, order) = m.pages.alloc_pages(Gfp::KERNEL, order(n)).unwrap().into_raw();
        // SAFETY: the first one is right, the second is what the test is about.
        let (first, second) = unsafe { (PageBlock::from_raw(page, order), PageBlock::from_raw(page, order)) };
        m.pages.free_pages(first);
        let caught = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| m.pages.free_pages(second)));
        assert!(caught.is_err(), "order {n}");
    }
}

#[test]
fn flags_of_a_user_that_are_harmless_are_cleared() {
    let m = TestMachine::new(32);
    let block = m.pages.alloc_pages(Gfp::KERNEL, order(1)).unwrap();
    block.page().set_flags(OwnerFlags::UPTODATE | OwnerFlags::DIRTY | OwnerFlags::REFERENCED);
    let page = block.page();
    m.pages.free_pages(block);
    assert_eq!(page.flags(), PageFlags::empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// By several CPUs on several nodes, frees on another CPU than the allocation: no page is given out twice, none lost,
    /// and what is free is what was not given out.
    #[test]
    fn random_allocations_lose_and_share_nothing(
        nodes in 1u64..4, cpus in 1u32..4,
        ops in prop::collection::vec((any::<bool>(), 0u32..4, 0u8..=10, 0usize..8, any::<prop::sample::Index>()), 1..600),
    ) {
        let m = TestMachine::with(48, nodes, cpus);
        let flags = [
            Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE, Gfp::ATOMIC_CONTEXT,
            Gfp::KERNEL | Gfp::DMA, Gfp::KERNEL | Gfp::COMP, Gfp::KERNEL | Gfp::THISNODE, Gfp::HIGHUSER_MOVABLE | Gfp::COMP,
        ];
        let mut used: Vec<PageBlock> = Vec::new();
        let mut owned = std::collections::BTreeMap::new();
        for (take, cpu, n, gfp, pick) in ops {
            run_as_cpu(CpuId(cpu % cpus), || {
                if take {
                    let Ok(block) = m.pages.alloc_pages(flags[gfp] | Gfp::NOWARN, order(n)) else { return };
                    let start = block.pfn(m.machine()).get();
                    let end = start + block.order().nr_pages();
                    let overlap = owned.range(..end).next_back().is_some_and(|(_, &e)| e > start);
                    assert!(!overlap, "{start} given out twice");
                    owned.insert(start, end);
                    used.push(block);
                } else if !used.is_empty() {
                    let block = used.swap_remove(pick.index(used.len()));
                    owned.remove(&block.pfn(m.machine()).get());
                    m.pages.free_pages(block);
                }
            });
            let out: u64 = owned.iter().map(|(s, e)| e - s).sum();
            prop_assert_eq!(m.free_pages(), m.all_pages - out);
        }
        m.pages.validate();
        used.into_iter().for_each(|b| m.pages.free_pages(b));
    }
}

#[test]
fn cpus_at_work_together_lose_and_share_nothing() {
    let m = TestMachine::with(64, 2, 4);
    let (pages, machine) = (&m.pages, m.machine());
    std::thread::scope(|s| {
        for cpu in 0..4 {
            s.spawn(move || {
                run_as_cpu(CpuId(cpu), || {
                    let stamp = |block: &PageBlock| block.address(machine).cast::<u64>();
                    let mut mine: Vec<(PageBlock, u64)> = Vec::new();
                    let mut random = u64::from(cpu) + 1;
                    for _ in 0..20_000 {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let (dice, n) = (random >> 33, [0, 0, 0, 1, 2, 3, 4, 9][(random >> 60) as usize % 8]);
                        if dice.is_multiple_of(2) || mine.is_empty() {
                            let gfp = if dice.is_multiple_of(3) { QUIET } else { QUIET | Gfp::MOVABLE };
                            let Ok(block) = pages.alloc_pages(gfp, order(n)) else { continue };
                            // SAFETY: the block's memory is ours.
                            unsafe { stamp(&block).write(random) };
                            mine.push((block, random));
                        } else {
                            let (block, stamped) = mine.swap_remove(dice as usize % mine.len());
                            // SAFETY: as above.
                            let found = unsafe { stamp(&block).read() };
                            assert_eq!(found, stamped, "another CPU has the page too");
                            pages.free_pages(block);
                        }
                    }
                    mine.into_iter().for_each(|(b, _)| pages.free_pages(b));
                });
            });
        }
    });
}
