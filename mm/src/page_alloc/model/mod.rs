//! Random operations of all kinds against a naive map of who has which page, looked at as a whole after each: any CPU
//! allocates any order and type from any node, frees what another allocated, takes ranges, sets pageblocks aside, drains.
//!
//! ```text
//! Op  ->  World::step  ->  the allocator, and the PageMap  ->  World::check: struct pages, lists and counters agree with it
//! ```

mod cpus;

use super::*;
use crate::arch::run_as_cpu;
use crate::id::ZoneIdx;
use crate::order::PAGEBLOCK_NR_PAGES;
use crate::page::{PageFlags, PagePtr, PageType};
use crate::pfn::PfnRange;
use crate::testing::TestMachine;
use crate::testing::page_map::{PageMap, frames};
use proptest::prelude::*;
use proptest::sample::Index;
use std::vec::Vec;

/// So that the nodes' border is in the middle of a pageblock.
const MIB: u64 = 46;
const FRAMES: u64 = (MIB << 20) / crate::PAGE_SIZE as u64;
const NODES: u16 = 2;
const CPUS: u32 = 3;
/// Whose the pages are that boot keeps.
const BOOT: u32 = u32::MAX;

/// What allocations are asked to be, besides their order and place.
const FLAGS: [Gfp; 10] = [
    Gfp::KERNEL,
    Gfp::HIGHUSER_MOVABLE,
    Gfp::KERNEL.union(Gfp::RECLAIMABLE),
    Gfp::ATOMIC_CONTEXT,
    Gfp::NOWAIT,
    Gfp::KERNEL.union(Gfp::DMA),
    Gfp::HIGHUSER_MOVABLE.union(Gfp::COMP),
    Gfp::KERNEL.union(Gfp::ZERO),
    Gfp::KERNEL.union(Gfp::MEMALLOC),
    Gfp::KERNEL.union(Gfp::NORETRY).union(Gfp::DMA32),
];

/// Where from.
#[derive(Clone, Copy, Debug)]
enum Place {
    Here,
    Near(u16),
    Only(u16),
    Masked(u16),
}

/// One operation.
#[derive(Clone, Debug)]
enum Op {
    Alloc { order: u8, flags: usize, place: Place },
    Exact { nr_pages: usize, flags: usize },
    Split(Index),
    Free(Index),
    Drain,
    DrainZone(Index),
    DrainAll,
    Contig { start: u64, nr_pages: u64 },
    Isolate { start: u64, nr_pages: u64 },
    Restore(Index, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let place = prop_oneof![
        3 => Just(Place::Here),
        1 => (0..NODES).prop_map(Place::Near),
        1 => (0..NODES).prop_map(Place::Only),
        1 => (0..NODES).prop_map(Place::Masked),
    ];
    let alloc = (0..=10u8, 0..FLAGS.len(), place);
    let range = || (0..FRAMES, 1..1500u64);
    prop_oneof![
        12 => alloc.prop_map(|(order, flags, place)| Op::Alloc { order, flags, place }),
        2 => (1..200usize, 0..FLAGS.len()).prop_map(|(nr_pages, flags)| Op::Exact { nr_pages, flags }),
        1 => any::<Index>().prop_map(Op::Split),
        10 => any::<Index>().prop_map(Op::Free),
        1 => Just(Op::Drain),
        1 => any::<Index>().prop_map(Op::DrainZone),
        1 => Just(Op::DrainAll),
        2 => range().prop_map(|(start, nr_pages)| Op::Contig { start, nr_pages }),
        1 => range().prop_map(|(start, nr_pages)| Op::Isolate { start, nr_pages }),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(pick, movable)| Op::Restore(pick, movable)),
    ]
}

/// What somebody has.
#[derive(Debug)]
enum Held {
    Block(PageBlock),
    Contig(ContigPages),
}

struct World {
    m: TestMachine,
    map: PageMap,
    held: Vec<(Held, u32)>,
    isolated: Vec<(IsolatedRange, PfnRange)>,
    next_owner: u32,
}

/// All pageblocks that a range touches.
fn pageblocks(range: PfnRange) -> PfnRange {
    PfnRange::new(range.start.align_down(PAGEBLOCK_NR_PAGES), range.end.align_up(PAGEBLOCK_NR_PAGES))
}

impl World {
    fn new(options: DebugOptions, guards: GuardMinorder) -> Self {
        let m = TestMachine::guarded(MIB, NODES.into(), CPUS, options, guards);
        let map = PageMap::new(FRAMES);
        let world = Self { m, map, held: Vec::new(), isolated: Vec::new(), next_owner: 1 };
        for pfn in (0..FRAMES).map(Pfn::new) {
            if world.page(pfn).flags().contains(PageFlags::RESERVED) {
                world.map.take(PfnRange::new(pfn, pfn + 1), BOOT);
            }
        }
        assert_eq!(FRAMES - world.map.nr_taken(), world.m.all_pages);
        world
    }

    fn page(&self, pfn: Pfn) -> PagePtr {
        // SAFETY: a frame of the machine.
        unsafe { PagePtr::new(self.m.machine(), pfn) }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Alloc { order, flags, place } => self.alloc(Order::new(order).unwrap(), FLAGS[flags], place),
            Op::Exact { nr_pages, flags } => self.alloc_exact(nr_pages, FLAGS[flags]),
            Op::Split(pick) => self.split(pick),
            Op::Free(pick) if !self.held.is_empty() => {
                let (held, owner) = self.held.swap_remove(pick.index(self.held.len()));
                self.free(held, owner);
            }
            Op::Drain => self.m.pages.drain_local(),
            Op::DrainZone(pick) => {
                let zones: Vec<_> = self.m.pages.nodes().populated_zones().collect();
                self.m.pages.drain_zone(zones[pick.index(zones.len())]);
            }
            Op::DrainAll => self.m.drain_all(),
            Op::Contig { start, nr_pages } => self.contig(self.range(start, nr_pages)),
            Op::Isolate { start, nr_pages } => self.isolate(self.range(start, nr_pages)),
            Op::Restore(pick, movable) if !self.isolated.is_empty() => {
                let (isolated, _) = self.isolated.swap_remove(pick.index(self.isolated.len()));
                let to = if movable { MigrateType::Movable } else { MigrateType::Unmovable };
                self.m.pages.restore_range(isolated, to);
            }
            Op::Free(_) | Op::Restore(..) => {}
        }
    }

    /// A range that ends where the machine does, at last.
    fn range(&self, start: u64, nr_pages: u64) -> PfnRange {
        PfnRange::new(Pfn::new(start), Pfn::new((start + nr_pages).min(FRAMES)))
    }

    fn hold(&mut self, held: Held, pages: PfnRange) {
        self.map.take(pages, self.next_owner);
        self.held.push((held, self.next_owner));
        self.next_owner += 1;
    }

    fn alloc(&mut self, order: Order, gfp: Gfp, place: Place) {
        let (pages, gfp) = (&self.m.pages, gfp | Gfp::NOWARN);
        let mask = |node| [NodeId(node)].into_iter().collect::<NodeMask>();
        let block = match place {
            Place::Here => pages.alloc_pages(gfp, order),
            Place::Near(node) => pages.alloc_pages_node(NodeId(node), gfp, order),
            Place::Only(node) => pages.alloc_pages_node(NodeId(node), gfp | Gfp::THISNODE, order),
            Place::Masked(node) => pages.alloc_pages_nodemask(gfp, order, None, Some(&mask(node))),
        };
        let Ok(block) = block else { return };
        let page = block.page();
        assert_eq!((block.order(), page.refcount()), (order, 1));
        assert!(block.pfn(self.m.machine()).is_aligned(order.nr_pages()));
        assert!(page.zone() <= gfp.zone() || gfp.zone() == ZoneIdx::Movable, "{:?}", page.zone());
        // Who may use reserves takes them wherever they are, whatever the mask.
        let masked = !gfp.intersects(Gfp::ATOMIC | Gfp::MEMALLOC);
        match place {
            Place::Only(node) => assert_eq!(page.node(), NodeId(node)),
            Place::Masked(node) if masked => assert_eq!(page.node(), NodeId(node)),
            Place::Masked(_) | Place::Here | Place::Near(_) => {}
        }
        let folio_order = if gfp.contains(Gfp::COMP) { order } else { Order::ZERO };
        assert_eq!(block.folio().order(), folio_order);
        self.use_memory(&block, gfp);
        let taken = frames(&self.m, &block);
        let aside = self.isolated.iter().find(|(_, aside)| !pageblocks(*aside).intersect(taken).is_empty());
        assert!(aside.is_none(), "{taken:?} of {aside:?} was given out");
        self.hold(Held::Block(block), taken);
    }

    /// Looks whether each page is zero if it should be, and makes it something else.
    fn use_memory(&self, block: &PageBlock, gfp: Gfp) {
        let at = block.address(self.m.machine()).cast::<u64>();
        for nr in 0..block.order().nr_pages() as usize {
            // SAFETY: in the block's memory, which is ours.
            unsafe {
                let word = at.add((nr + 1) * crate::PAGE_SIZE / size_of::<u64>() - 1);
                assert!(!gfp.contains(Gfp::ZERO) || word.read() == 0, "page {nr} is not zero");
                word.write(1);
            }
        }
    }

    fn alloc_exact(&mut self, nr_pages: usize, gfp: Gfp) {
        let bytes = nr_pages * crate::PAGE_SIZE;
        let Ok(exact) = self.m.pages.alloc_pages_exact(bytes, gfp | Gfp::NOWARN) else { return };
        assert_eq!(exact.nr_pages(), nr_pages as u64);
        for block in exact.into_pages() {
            let pages = frames(&self.m, &block);
            self.hold(Held::Block(block), pages);
        }
    }

    fn split(&mut self, pick: Index) {
        if self.held.is_empty() {
            return;
        }
        match self.held.swap_remove(pick.index(self.held.len())) {
            (Held::Block(block), owner) if !block.folio().is_compound() => {
                self.map.give_up(frames(&self.m, &block), owner);
                for block in block.split().unwrap() {
                    let pages = frames(&self.m, &block);
                    self.hold(Held::Block(block), pages);
                }
            }
            other => self.held.push(other),
        }
    }

    fn free(&self, held: Held, owner: u32) {
        match held {
            Held::Block(block) => {
                self.map.give_up(frames(&self.m, &block), owner);
                self.m.pages.free_pages(block);
            }
            Held::Contig(pages) => {
                self.map.give_up(pages.pages(), owner);
                self.m.pages.free_contig_range(pages);
            }
        }
    }

    /// Whether all pageblocks that a range touches are of one zone.
    fn is_one_zone(&self, range: PfnRange) -> bool {
        let all = pageblocks(range);
        let (first, last) = (self.page(all.start), self.page(Pfn::new(all.end.get().min(FRAMES) - 1)));
        (first.node(), first.zone()) == (last.node(), last.zone())
    }

    fn is_aside(&self, range: PfnRange) -> bool {
        let all = pageblocks(range);
        self.isolated.iter().any(|(_, aside)| !pageblocks(*aside).intersect(all).is_empty())
    }

    fn is_all_free(&self, range: PfnRange) -> bool {
        range.iter().all(|pfn| self.map.owner(pfn).is_none())
    }

    /// Whether a frame is one of those that are kept back, which are at the start of a block of them or in it.
    fn is_guard(&self, pfn: Pfn) -> bool {
        Order::all().any(|n| {
            let head = self.page(pfn.align_down(n.nr_pages()));
            head.page_type() == PageType::GUARD
        })
    }

    /// What a range's failure must be for.
    fn check_error(&self, range: PfnRange, error: ContigError) {
        match error {
            ContigError::NotOneZone => assert!(!self.is_one_zone(range)),
            ContigError::InUse(pfn) => {
                let is_used = self.map.owner(pfn).is_some() || self.is_guard(pfn);
                assert!(range.contains(pfn) && is_used, "{pfn} is free")
            }
            ContigError::Contended(pfn) => assert!(self.is_aside(PfnRange::new(pfn, pfn + 1))),
        }
    }

    fn contig(&mut self, range: PfnRange) {
        let to_be_had = self.is_one_zone(range) && !self.is_aside(range) && self.is_all_free(range);
        // Pages on per-CPU lists keep others back, until they are drained.
        let must_be_had = to_be_had && !range.iter().any(|pfn| self.is_guard(pfn));
        match self.m.pages.alloc_contig_range(range, ContigType::Movable, Gfp::KERNEL, &self.m) {
            Ok(pages) => {
                assert!(to_be_had, "{range:?}");
                self.hold(Held::Contig(pages), range);
            }
            Err(error) => {
                assert!(!must_be_had, "{range:?}: {error:?}");
                self.check_error(range, error);
            }
        }
    }

    fn isolate(&mut self, range: PfnRange) {
        let must_do = self.is_one_zone(range) && !self.is_aside(range) && self.is_all_free(range);
        match self.m.pages.isolate_range(range, MigrateType::Movable) {
            Ok(isolated) => {
                assert!(self.is_one_zone(range) && !self.is_aside(range));
                // From now on nothing of it is given out.
                self.m.drain_all();
                self.isolated.push((isolated, range));
            }
            Err(error) => {
                assert!(!must_do, "{range:?}: {error:?}");
                self.check_error(range, error);
            }
        }
    }

    /// Everything that can be counted is what the map says.
    fn check(&self) {
        let m = &self.m;
        m.pages.validate();
        let zones = m.pages.nodes().populated_zones();
        let isolated: u64 = zones.map(|zone| zone.free().lock().pages_of(MigrateType::Isolate)).sum();
        let not_used = m.free_pages() + isolated + m.pages.guard_pages();
        assert_eq!(not_used, FRAMES - self.map.nr_taken(), "free pages");
        for pfn in (0..FRAMES).map(Pfn::new) {
            if let Some(direct_map) = m.direct_map {
                assert_eq!(direct_map.is_mapped(pfn), self.map.owner(pfn).is_some(), "{pfn} is mapped");
            }
            if self.map.owner(pfn).is_none() {
                let page = self.page(pfn);
                assert_eq!((page.refcount(), page.flags()), (0, PageFlags::empty()), "{pfn} is free");
            }
        }
        for (held, _) in &self.held {
            if let Held::Block(block) = held {
                assert_eq!(block.page().refcount(), 1);
            }
        }
    }

    fn end(mut self) {
        for (held, owner) in core::mem::take(&mut self.held) {
            self.free(held, owner);
        }
        for (isolated, _) in self.isolated.drain(..) {
            self.m.pages.restore_range(isolated, MigrateType::Movable);
        }
        self.check();
        self.m.drain_all();
        assert_eq!(self.m.pages.guard_pages(), 0, "all merge when all is free");
    }
}

fn run(ops: Vec<(u32, Op)>, mut world: World) {
    for (cpu, op) in ops {
        run_as_cpu(CpuId(cpu), || world.step(op));
        world.check();
    }
    world.end();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_operation_does_what_a_map_of_all_pages_says(
        ops in prop::collection::vec((0..CPUS, op()), 1..150),
    ) {
        run(ops, World::new(DebugOptions::empty(), GuardMinorder::NONE));
    }

    /// A free page that somebody touches ends the process.
    #[test]
    fn every_operation_leaves_just_what_is_in_use_mapped(
        ops in prop::collection::vec((0..CPUS, op()), 1..150),
        minorder in 0..=GuardMinorder::MOST,
        more in 0..4usize,
    ) {
        let more = [
            DebugOptions::empty(),
            DebugOptions::POISON,
            DebugOptions::INIT_ON_FREE,
            DebugOptions::INIT_ON_ALLOC,
        ][more];
        let guards = GuardMinorder::new(minorder).expect("not too large");
        run(ops, World::new(DebugOptions::PAGEALLOC | more, guards));
    }
}
