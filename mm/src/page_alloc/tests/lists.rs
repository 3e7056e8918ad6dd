//! Per-CPU lists: how much they hold, how they are emptied, bulk, isolated pageblocks, and a model of all of it.

use super::*;
use crate::buddy::Pageblocks;
use crate::smp::CallCpus;
use crate::zone::ZoneFlag;
use std::collections::BTreeMap;
use std::sync::Mutex;

fn dma32(m: &TestMachine, node: u16) -> &Zone {
    m.pages.nodes().get(NodeId(node)).unwrap().zone(ZoneIdx::Dma32)
}

/// So many single pages.
fn take(m: &TestMachine, nr: usize) -> Vec<PageBlock> {
    (0..nr).map(|_| m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap()).collect()
}

fn give(m: &TestMachine, blocks: Vec<PageBlock>) {
    blocks.into_iter().for_each(|block| m.pages.free_pages(block));
}

/// CPUs that do what they are told one after the other, and remember who was asked.
struct OneByOne {
    nr_cpus: u32,
    asked: Mutex<Vec<u32>>,
}

impl CallCpus for OneByOne {
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
        for cpu in (0..self.nr_cpus).filter(|&cpu| wanted(CpuId(cpu))) {
            self.asked.lock().unwrap().push(cpu);
            run_as_cpu(CpuId(cpu), f);
        }
    }
}

#[test]
fn a_zone_without_memory_has_no_lists_to_drain() {
    let m = TestMachine::new(32);
    let empty = m.pages.nodes().get(NodeId(0)).unwrap().zone(ZoneIdx::Movable);
    assert!(!empty.is_populated());
    m.pages.drain_zone(empty);
    m.pages.drain_zone_all(empty, &m);
}

#[test]
fn lists_hold_less_while_a_zone_is_reclaimed() {
    let m = TestMachine::new(256);
    let zone = dma32(&m, 0);
    let blocks = take(&m, 1000);
    let few = zone.pcp_batch() << 2;
    assert!(few < zone.pcp_high());
    zone.set_flag(ZoneFlag::ReclaimActive);
    for block in blocks {
        m.pages.free_pages(block);
        assert!(m.pages.pcp_count(zone, CpuId(0)) < few);
    }
    zone.clear_flag(ZoneFlag::ReclaimActive);
    let blocks = take(&m, 1000);
    give(&m, blocks);
    assert!(m.pages.pcp_count(zone, CpuId(0)) > few);
}

#[test]
fn pages_freed_on_another_nodes_cpu_go_home() {
    let m = TestMachine::with(256, 2, 2);
    let blocks: Vec<_> = (0..100)
        .map(|_| m.pages.alloc_pages_node(NodeId(1), Gfp::KERNEL | Gfp::THISNODE, Order::ZERO).unwrap())
        .collect();
    let (home, free) = (dma32(&m, 1), m.free_pages());
    give(&m, blocks);
    assert_eq!(m.free_pages(), free + 100);
    // On this CPU's lists of their own zone, and from there to that zone's free lists.
    assert!(m.pages.pcp_count(home, CpuId(0)) >= 100);
    let before = home.nr_free() + m.pages.pcp_pages(home);
    m.pages.drain_zone(home);
    assert_eq!((m.pages.pcp_count(home, CpuId(0)), home.nr_free() + m.pages.pcp_pages(home)), (0, before));
}

#[test]
fn a_large_block_just_freed_is_the_next_one_and_holds_up_no_merge() {
    let m = TestMachine::new(256);
    let zone = dma32(&m, 0);
    let kernel = |n| m.pages.alloc_pages(Gfp::KERNEL | Gfp::COMP, order(n)).unwrap();
    let blocks = || crate::stat::collect::free_lists(zone).nr.map(|of_types| of_types.iter().sum::<u64>());
    for n in 4..=8 {
        m.drain_all();
        let whole = blocks();
        let block = kernel(n);
        let page = block.page();
        m.pages.free_pages(block);
        assert_eq!(m.pages.pcp_count(zone, CpuId(0)), 1 << n, "kept");
        let block = kernel(n);
        assert_eq!(block.page(), page, "order {n}");
        m.pages.free_pages(block);
        m.pages.validate();
        // Whoever takes from the free lists finds it there.
        let largest = kernel(10);
        assert_eq!(m.pages.pcp_count(zone, CpuId(0)), 0, "given back");
        m.pages.free_pages(largest);
        assert_eq!(blocks(), whole, "order {n}");
    }
}

#[test]
fn a_bulk_gets_all_that_it_asks_for_whatever_block_is_kept() {
    let m = TestMachine::new(256);
    for n in 4..=8 {
        m.drain_all();
        m.pages.free_pages(m.pages.alloc_pages(Gfp::KERNEL, order(n)).unwrap());
        let mut slots: Vec<_> = (0..200).map(|_| None).collect();
        assert_eq!(m.pages.alloc_pages_bulk(Gfp::KERNEL, &mut slots), 200, "order {n}");
        m.pages.free_pages_bulk(&mut slots);
        m.pages.validate();
    }
}

#[test]
fn trimming_gives_no_more_back_than_what_is_too_much() {
    let m = TestMachine::new(256);
    let zone = dma32(&m, 0);
    let (high, batch) = (zone.pcp_high(), zone.pcp_batch());
    let blocks = take(&m, high as usize + 1);
    m.pages.drain_local();
    m.pages.free_pages(m.pages.alloc_pages(Gfp::KERNEL, order(6)).unwrap());
    let listed = || m.pages.pcp_count(zone, CpuId(0));
    let mut most = 0;
    for block in blocks {
        let before = listed();
        m.pages.free_pages(block);
        most = most.max(before.saturating_sub(listed()));
    }
    assert!(most > 0 && most <= batch.max(64), "{most} pages at once, batch {batch}");
}

#[test]
fn pages_of_another_node_go_home_when_their_lists_are_not_in_use_any_more() {
    let m = TestMachine::with(256, 2, 2);
    let gfp = Gfp::KERNEL | Gfp::THISNODE;
    let blocks: Vec<_> =
        (0..10).map(|_| m.pages.alloc_pages_node(NodeId(1), gfp, Order::ZERO).unwrap()).collect();
    m.drain_all();
    give(&m, blocks);
    give(&m, take(&m, 1));
    let listed = |node| m.pages.pcp_count(dma32(&m, node), CpuId(0));
    let (here, away) = (listed(0), listed(1));
    assert!(here > 0 && away >= 10);
    for _ in 0..2 {
        m.pages.expire_remote_lists();
        assert_eq!(listed(1), away);
    }
    m.pages.expire_remote_lists();
    assert_eq!((listed(0), listed(1)), (here, 0), "this node's stay");
}

#[test]
fn draining_a_zone_leaves_the_others_lists() {
    let m = TestMachine::with(256, 2, 2);
    m.drain_all();
    give(&m, take(&m, 1));
    run_as_cpu(CpuId(1), || give(&m, take(&m, 1)));
    let count = |node: u16| m.pages.pcp_pages(dma32(&m, node));
    assert!(count(0) > 0 && count(1) > 0);
    let cpus = OneByOne { nr_cpus: 2, asked: Mutex::default() };
    m.pages.drain_zone_all(dma32(&m, 1), &cpus);
    assert!(count(0) > 0 && count(1) == 0);
    assert_eq!(*cpus.asked.lock().unwrap(), [1], "CPU 0 has no pages of that zone");
    m.pages.drain_zone_all(dma32(&m, 1), &cpus);
    assert_eq!(*cpus.asked.lock().unwrap(), [1], "nobody has any");
}

#[test]
fn bulk_fills_the_empty_slots_from_the_first_one_on() {
    let m = TestMachine::new(256);
    let mut slots: Vec<_> = (0..200).map(|_| None).collect();
    slots[3] = Some(m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap());
    let kept = slots[3].as_ref().unwrap().page();
    let events = m.pages.events(dma32(&m, 0)).allocs[0];
    assert_eq!(m.pages.alloc_pages_bulk(Gfp::KERNEL | Gfp::ZERO, &mut slots), 200);
    assert_eq!(m.pages.events(dma32(&m, 0)).allocs[0], events + 199);
    assert_eq!(slots[3].as_ref().unwrap().page(), kept);
    let mut pages: Vec<_> = slots.iter().map(|slot| slot.as_ref().unwrap().page()).collect();
    pages.sort();
    pages.dedup();
    assert_eq!(pages.len(), 200);
    assert_eq!(m.pages.alloc_pages_bulk(Gfp::KERNEL, &mut slots), 200, "nothing is empty");
    m.pages.free_pages_bulk(&mut slots);
    assert!(slots.iter().all(Option::is_none));
    assert_eq!(m.pages.alloc_pages_bulk(Gfp::KERNEL, &mut []), 0);
}

#[test]
fn bulk_gets_a_page_as_long_as_there_is_one() {
    let m = TestMachine::new(32);
    let mut all = Vec::new();
    loop {
        let mut slots: Vec<_> = (0..64).map(|_| None).collect();
        match m.pages.alloc_pages_bulk(QUIET, &mut slots) {
            0 => break,
            got => {
                assert!(slots[..got].iter().all(Option::is_some) && slots[got..].iter().all(Option::is_none));
                all.extend(slots.into_iter().flatten());
            }
        }
    }
    assert!(m.pages.alloc_pages(QUIET, Order::ZERO).is_err());
    give(&m, all);
}

#[test]
fn pages_of_isolated_pageblocks_stay_off_the_lists() {
    let m = TestMachine::new(256);
    let zone = dma32(&m, 0);
    // A whole pageblock, as single pages: some on the CPU's list already when it is isolated, some freed later.
    let block = m.pages.alloc_pages(Gfp::KERNEL, order(9)).unwrap();
    let first = block.page();
    let start = block.pfn(m.machine());
    let _ = block.into_raw();
    let single = |nr: u64| {
        // SAFETY: the pages of the block, each given a reference of its own as `split_page` does.
        unsafe {
            let page = PagePtr::new(m.machine(), start + nr);
            page.set_refcount(1);
            PageBlock::from_raw(page, Order::ZERO)
        }
    };
    (0..100).for_each(|nr| m.pages.free_pages(single(nr)));
    let isolate = |to| {
        let mut free = zone.free().lock();
        let before = free.free_pages();
        let moved = free.retype_pageblock(first, to, zone.sparse()).unwrap();
        let delta = free.free_pages() as i64 - before as i64;
        zone.add_free(&mut free, delta);
        moved
    };
    let was = Pageblocks::migrate_type(zone.sparse(), start);
    isolate(MigrateType::Isolate);
    let listed = m.pages.pcp_count(zone, CpuId(0));
    (100..512).for_each(|nr| m.pages.free_pages(single(nr)));
    assert_eq!(m.pages.pcp_count(zone, CpuId(0)), listed, "isolated pages bypass the lists");
    m.pages.drain_local();
    assert_eq!(zone.free().lock().pages_of(MigrateType::Isolate), 512, "the type is asked for again");
    assert_eq!(isolate(was), 512);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Several CPUs take and give back, single blocks and in bulk, and drain, in any order, with and without reclaim
    /// going on: against a map of who has which pages.
    #[test]
    fn lists_of_several_cpus_agree_with_a_page_map(
        nodes in 1u64..3, cpus in 1u32..4,
        ops in prop::collection::vec((0u8..9, 0u32..4, 0u8..=10, any::<prop::sample::Index>()), 1..300),
    ) {
        let m = TestMachine::with(48, nodes, cpus);
        let mut owned: BTreeMap<u64, PageBlock> = BTreeMap::new();
        let add = |owned: &mut BTreeMap<u64, PageBlock>, block: PageBlock| {
            let (start, nr) = (block.pfn(m.machine()).get(), block.order().nr_pages());
            let before = owned.range(..start + nr).next_back();
            assert!(before.is_none_or(|(&p, b)| p + b.order().nr_pages() <= start), "{start} given out twice");
            assert_eq!(block.page().refcount(), 1);
            owned.insert(start, block);
        };
        for (op, cpu, n, pick) in ops {
            let zone = dma32(&m, (u64::from(cpu) % nodes) as u16);
            run_as_cpu(CpuId(cpu % cpus), || match op {
                0..=2 => {
                    let gfp = if op == 0 { QUIET } else { QUIET | Gfp::MOVABLE };
                    m.pages.alloc_pages(gfp, order(n)).into_iter().for_each(|block| add(&mut owned, block));
                }
                3..=4 if !owned.is_empty() => {
                    let start = *owned.keys().nth(pick.index(owned.len())).unwrap();
                    m.pages.free_pages(owned.remove(&start).unwrap());
                }
                5 => {
                    let mut slots: Vec<_> = (0..pick.index(200)).map(|_| None).collect();
                    let got = m.pages.alloc_pages_bulk(QUIET, &mut slots);
                    assert!(slots.iter().take(got).all(Option::is_some));
                    slots.into_iter().flatten().for_each(|block| add(&mut owned, block));
                }
                6 => {
                    let some: Vec<u64> = owned.keys().copied().take(pick.index(200)).collect();
                    let mut slots: Vec<_> = some.iter().map(|start| owned.remove(start)).collect();
                    m.pages.free_pages_bulk(&mut slots);
                }
                7 => m.pages.drain_zone(zone),
                8 if n % 2 == 0 => zone.set_flag(ZoneFlag::ReclaimActive),
                _ => zone.clear_flag(ZoneFlag::ReclaimActive),
            });
            let out: u64 = owned.values().map(|block| block.order().nr_pages()).sum();
            prop_assert_eq!(m.free_pages(), m.all_pages - out);
        }
        m.pages.validate();
        let mut rest: Vec<_> = owned.into_values().map(Some).collect();
        m.pages.free_pages_bulk(&mut rest);
    }
}
