//! Every order in which CPUs can allocate, free each other's pages, drain lists and isolate pageblocks, on the allocator
//! itself over a small machine.

use super::*;
use crate::order::PAGEBLOCK_NR_PAGES;
use crate::pfn::PfnRange;
use crate::testing::TestMachine;
use crate::testing::page_map::{PageMap, frames};
use crate::testing::schedule::{Orders, Program, ScheduledCpus, explore};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::vec::Vec;

const MIB: u64 = 8;
/// Frames of the machine, all in one zone.
const FRAMES: u64 = (MIB << 20) / crate::PAGE_SIZE as u64;
/// A pageblock without pages that boot keeps.
const PAGEBLOCK: PfnRange =
    PfnRange { start: Pfn::new(PAGEBLOCK_NR_PAGES), end: Pfn::new(2 * PAGEBLOCK_NR_PAGES) };
/// Any page that there is, without a word when there is none.
const ANY: Gfp = Gfp::KERNEL.union(Gfp::MEMALLOC).union(Gfp::NOWARN);

/// The machine, who has which page, and blocks that any CPU may take over and free.
struct World {
    m: TestMachine,
    map: PageMap,
    passed: Mutex<VecDeque<PageBlock>>,
    /// What only makes memory scarce.
    kept: Vec<PageBlock>,
}

/// This CPU as an owner.
fn me() -> u32 {
    crate::arch::cpu_id().0 + 1
}

/// Whoever frees what was passed on.
const PASSED: u32 = u32::MAX;

impl World {
    /// Lists that hold a page or two, so that they are refilled and trimmed all the time.
    fn new() -> Self {
        let m = TestMachine::with(MIB, 1, 3);
        m.pages.set_cpus(&ScheduledCpus);
        m.pages.nodes().populated_zones().for_each(|zone| zone.set_pcp_limits(3, 2));
        Self { m, map: PageMap::new(FRAMES), passed: Mutex::default(), kept: Vec::new() }
    }

    /// The same with blocks of `order` that were allocated on CPU 0.
    fn with_passed(orders: &[u8]) -> Self {
        let world = Self::new();
        for &order in orders {
            let block = world.m.pages.alloc_pages(ANY, Order::new(order).unwrap()).unwrap();
            world.map.take(frames(&world.m, &block), PASSED);
            world.passed.lock().unwrap().push_back(block);
        }
        world.m.drain_all();
        world
    }

    /// The same with only so many pages free.
    fn with_free(nr_pages: usize) -> Self {
        let mut world = Self::new();
        let all = core::iter::from_fn(|| world.m.pages.alloc_pages(ANY, Order::ZERO).ok());
        world.kept = all.collect();
        let free = world.kept.split_off(world.kept.len() - nr_pages);
        free.into_iter().for_each(|block| world.m.pages.free_pages(block));
        world.m.drain_all();
        world
    }

    fn alloc(&self, order: u8) -> Option<PageBlock> {
        let block = self.m.pages.alloc_pages(ANY, Order::new(order).unwrap()).ok()?;
        self.map.take(frames(&self.m, &block), me());
        Some(block)
    }

    fn free(&self, block: PageBlock) {
        self.map.give_up(frames(&self.m, &block), me());
        self.m.pages.free_pages(block);
    }

    fn pair(&self, order: u8) {
        if let Some(block) = self.alloc(order) {
            self.free(block);
        }
    }

    /// As many single pages at once.
    fn bulk(&self, nr: usize) {
        let mut slots: Vec<_> = (0..nr).map(|_| None).collect();
        self.m.pages.alloc_pages_bulk(ANY, &mut slots);
        let taken: Vec<_> = slots.iter().flatten().map(|block| frames(&self.m, block)).collect();
        taken.iter().for_each(|&pages| self.map.take(pages, me()));
        taken.iter().for_each(|&pages| self.map.give_up(pages, me()));
        self.m.pages.free_pages_bulk(&mut slots);
    }

    /// Frees a block that another CPU allocated.
    fn free_passed(&self) {
        let Some(block) = self.passed.lock().unwrap().pop_front() else { return };
        self.map.give_up(frames(&self.m, &block), PASSED);
        self.m.pages.free_pages(block);
    }

    /// Takes a range of [`PAGEBLOCK`], and gives it back.
    fn contig(&self, nr_pages: u64) -> Result<(), ContigError> {
        let range = PfnRange::new(PAGEBLOCK.start, PAGEBLOCK.start + nr_pages);
        let kind = ContigType::Movable;
        let pages = self.m.pages.alloc_contig_range(range, kind, Gfp::KERNEL, &ScheduledCpus)?;
        self.map.take(range, me());
        self.map.give_up(range, me());
        self.m.pages.free_contig_range(pages);
        Ok(())
    }

    fn isolate(&self) {
        let isolated = self.m.pages.isolate_range(PAGEBLOCK, MigrateType::Movable);
        if let Ok(isolated) = isolated {
            self.m.pages.restore_range(isolated, MigrateType::Movable);
        }
    }

    /// Nothing is lost, and nothing is free twice.
    fn check(&self) {
        let m = &self.m;
        let left = self.passed.lock().unwrap().len();
        assert_eq!((self.map.nr_taken(), left), (0, 0), "pages that nobody gave back");
        m.pages.validate();
        let kept = self.kept.len() as u64;
        assert_eq!(m.free_pages(), m.all_pages - kept, "free pages, those on lists included");
        m.drain_all();
        m.pages.validate();
        assert_eq!(m.pages.free_pages_total(), m.all_pages - kept, "free pages");
        let zone = m.pages.nodes().populated_zones().next().unwrap();
        assert_eq!(zone.free().lock().pages_of(MigrateType::Isolate), 0, "isolated pages");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kept.drain(..).for_each(|block| self.m.pages.free_pages(block));
    }
}

#[track_caller]
fn every_order<const N: usize>(orders: Orders, setup: impl Fn() -> World, programs: [Program<World>; N]) {
    let nr = explore(orders, setup, &programs, World::check);
    std::println!("{nr} orders");
    assert!(nr > 1);
}

fn allocates_two(w: &World) {
    let blocks = [w.alloc(0), w.alloc(0)];
    blocks.into_iter().flatten().for_each(|block| w.free(block));
}

fn frees_three(w: &World) {
    (0..3).for_each(|_| w.free_passed());
}

fn drains_all(w: &World) {
    w.m.pages.drain_all();
}

fn drains_its_own(w: &World) {
    w.m.pages.drain_local();
}

#[test]
fn two_cpus_refill_and_trim_their_lists() {
    every_order(Orders::All, World::new, [allocates_two, |w| w.pair(0)]);
    every_order(Orders::Preempted(3), World::new, [allocates_two, allocates_two]);
    every_order(Orders::Preempted(2), World::new, [|w| w.pair(3), |w| w.pair(9), allocates_two]);
}

#[test]
fn bulk_shares_the_zone_with_other_cpus() {
    every_order(Orders::Preempted(3), World::new, [|w| w.bulk(3), |w| w.bulk(3)]);
    every_order(Orders::Preempted(3), World::new, [|w| w.bulk(3), drains_all]);
    every_order(Orders::Preempted(1), || World::with_free(4), [|w| w.bulk(3), |w| w.bulk(3), allocates_two]);
}

#[test]
fn pages_of_other_cpus_go_to_the_list_of_who_frees_them() {
    let world = || World::with_passed(&[0, 0, 0, 0, 0]);
    every_order(Orders::All, world, [frees_three, |w| (0..2).for_each(|_| w.free_passed())]);
    every_order(
        Orders::Preempted(3),
        world,
        [|w| (0..5).for_each(|_| w.free_passed()), allocates_two, drains_its_own],
    );
    let larger = || World::with_passed(&[3, 9, 4]);
    every_order(Orders::Preempted(3), larger, [frees_three, |w| w.pair(3)]);
}

#[test]
fn lists_are_drained_from_other_cpus_whatever_those_do() {
    every_order(Orders::All, World::new, [drains_all, |w| w.pair(0)]);
    let world = || World::with_passed(&[0, 0, 0]);
    every_order(Orders::All, world, [drains_all, frees_three]);
    every_order(Orders::Preempted(2), world, [drains_all, frees_three, allocates_two]);
}

#[test]
fn cpus_that_drain_each_other_do_not_wait_for_ever() {
    let both = |w: &World| {
        w.pair(0);
        w.m.pages.drain_all();
    };
    every_order(Orders::Preempted(3), World::new, [both, both]);
    every_order(Orders::Preempted(2), World::new, [both, both, drains_all]);
}

#[test]
fn the_last_pages_go_to_one_cpu_each() {
    let world = || World::with_free(3);
    every_order(Orders::Preempted(3), world, [allocates_two, allocates_two]);
    every_order(Orders::Preempted(1), || World::with_free(1), [|w| w.pair(0); 3]);
}

#[test]
fn a_range_is_taken_whole_or_not_at_all_while_its_pages_come_and_go() {
    let takes = |w: &World| match w.contig(64) {
        Ok(()) | Err(ContigError::InUse(_)) => {}
        Err(error) => panic!("{error:?}"),
    };
    let in_it = || {
        let world = World::new();
        // All of memory is held for a moment: some of the pageblock's pages, in this order, are to be passed on.
        let all: Vec<_> = core::iter::from_fn(|| world.m.pages.alloc_pages(ANY, Order::ZERO).ok()).collect();
        for block in all {
            let at = block.pfn(world.m.machine());
            if at < PAGEBLOCK.start + 3 && at >= PAGEBLOCK.start {
                world.map.take(frames(&world.m, &block), PASSED);
                world.passed.lock().unwrap().push_back(block);
            } else {
                world.m.pages.free_pages(block);
            }
        }
        world.m.drain_all();
        world
    };
    every_order(Orders::Preempted(3), in_it, [takes, frees_three]);
    every_order(Orders::Preempted(3), World::new, [takes, allocates_two]);
    every_order(Orders::Preempted(2), in_it, [takes, frees_three, allocates_two]);
    every_order(
        Orders::Preempted(3),
        in_it,
        [World::isolate, |w| {
            frees_three(w);
            w.m.pages.drain_local();
        }],
    );
}

#[test]
fn one_cpu_at_a_time_has_a_pageblock_isolated() {
    let takes = |w: &World| match w.contig(600) {
        Ok(()) | Err(ContigError::InUse(_) | ContigError::Contended(_)) => {}
        Err(error) => panic!("{error:?}"),
    };
    every_order(Orders::Preempted(3), World::new, [takes, takes]);
    every_order(Orders::Preempted(3), World::new, [takes, World::isolate]);
}

/// A machine on which the caller works on other CPUs' lists itself, instead of asking them to.
#[test]
#[should_panic(expected = "works on what is its own at two places")]
fn draining_the_lists_of_a_cpu_that_works_on_them_is_noticed() {
    let drains_others = |w: &World| {
        use crate::smp::CallCpus;
        w.m.on_each(&|_| true, &|| w.m.pages.drain_local());
    };
    every_order(Orders::All, World::new, [drains_others, allocates_two]);
}
