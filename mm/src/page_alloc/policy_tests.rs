//! The slow path's steps, told by a machine that records them.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::boxed::Box;
use std::string::String;
use std::sync::Mutex;
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::arch::run_as_cpu;
use crate::counters::NodeStat;
use crate::id::ZoneIdx;
use crate::numa::NodeMask;
use crate::smp::CallCpus;
use crate::testing::TestMachine;
use crate::testlog::capture;
use crate::zone::{Watermark, Zone};

const QUIET: Gfp = Gfp::KERNEL.union(Gfp::NOWARN);

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

/// What runs at a step.
type AtStep = Box<dyn FnMut(&str) + Send>;

/// What happens when it is asked, and what it was asked.
struct Fake {
    steps: Mutex<Vec<String>>,
    freed: AtomicU64,
    reclaimable: AtomicU64,
    compacts: Mutex<CompactResult>,
    kills: AtomicBool,
    reserves: Mutex<Reserves>,
    nodes: Mutex<Option<&'static NodeMask>>,
    /// Runs at each step whose name it is given.
    at: Mutex<AtStep>,
}

impl Fake {
    fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            steps: Mutex::new(Vec::new()),
            freed: AtomicU64::new(0),
            reclaimable: AtomicU64::new(0),
            compacts: Mutex::new(CompactResult::Complete),
            kills: AtomicBool::new(false),
            reserves: Mutex::new(Reserves::None),
            nodes: Mutex::new(None),
            at: Mutex::new(Box::new(|_| {})),
        }))
    }

    fn step(&self, step: &str) {
        self.steps.lock().unwrap().push(step.into());
        self.at.lock().unwrap()(step);
    }

    fn take(&self) -> Vec<String> {
        core::mem::take(&mut self.steps.lock().unwrap())
    }
}

impl Reclaim for Fake {
    fn wake_kswapd(&self, _: &Zone, _: Gfp, _: Order, _: ZoneIdx) {
        self.step("kswapd");
    }

    fn compact(&self, _: &Shortage<'_>, priority: CompactPriority) -> CompactResult {
        self.step(&format!("{priority:?}"));
        *self.compacts.lock().unwrap()
    }

    fn reclaim(&self, what: &Shortage<'_>) -> u64 {
        assert!(what.gfp.contains(Gfp::DIRECT_RECLAIM) && what.zones().count() > 0);
        self.step("reclaim");
        self.freed.load(Relaxed)
    }

    fn reclaimable_pages(&self, _: &Zone) -> u64 {
        self.reclaimable.load(Relaxed)
    }

    fn out_of_memory(&self, _: &Shortage<'_>) -> Progress {
        self.step("oom");
        if self.kills.load(Relaxed) { Progress::Made } else { Progress::None }
    }

    fn pause(&self) {
        self.step("pause");
    }
}

impl Context for Fake {
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("tester")
    }

    fn pid(&self) -> u32 {
        42
    }

    fn reserves(&self) -> Reserves {
        *self.reserves.lock().unwrap()
    }

    fn allowed_nodes(&self) -> Option<&NodeMask> {
        *self.nodes.lock().unwrap()
    }

    fn dump_stack(&self) {
        log::warn!("CPU: {} PID: {} Comm: tester", crate::arch::cpu_id(), self.pid());
    }
}

impl CallCpus for Fake {
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
        self.step("drain");
        for cpu in (0..2).map(CpuId).filter(|&cpu| wanted(cpu)) {
            run_as_cpu(cpu, f);
        }
    }
}

/// A machine, and who records what it does.
struct Tired {
    m: TestMachine,
    fake: &'static Fake,
    held: Vec<PageBlock>,
}

impl Tired {
    /// Two CPUs, and nothing left for `GFP_KERNEL`, up to its watermarks.
    fn new(mib: u64, nodes: u64) -> Self {
        let m = TestMachine::with(mib, nodes, 2);
        let held = core::iter::from_fn(|| m.pages.alloc_pages(QUIET, Order::ZERO).ok()).collect();
        m.drain_all();
        let fake = Fake::new();
        m.pages.set_reclaim(fake);
        m.pages.set_context(fake);
        m.pages.set_cpus(fake);
        Self { m, fake, held }
    }

    /// So many pages come free when a step of that name comes.
    fn frees_at(&mut self, step: &'static str, nr: usize) {
        let blocks: Vec<_> = self.held.drain(..nr).collect();
        let mut blocks = Some(blocks);
        let pages: *const PageAllocator = &self.m.pages;
        let pages = pages as usize;
        *self.fake.at.lock().unwrap() = Box::new(move |now| {
            if now == step
                && let Some(blocks) = blocks.take()
            {
                // SAFETY: the machine outlives its use: `Tired` drops it last.
                let pages = unsafe { &*(pages as *const PageAllocator) };
                blocks.into_iter().for_each(|block| pages.free_pages(block));
                pages.drain_local();
            }
        });
    }

    #[track_caller]
    fn fails(&self, gfp: Gfp, n: u8, steps: &[&str]) {
        let result = self.m.pages.alloc_pages(gfp | Gfp::NOWARN, order(n));
        assert!(result.is_err(), "{gfp:?} of order {n}");
        assert_eq!(self.fake.take(), steps, "{gfp:?} of order {n}");
    }

    #[track_caller]
    fn succeeds(&mut self, gfp: Gfp, n: u8, steps: &[&str]) {
        let block = self.m.pages.alloc_pages(gfp, order(n)).unwrap();
        self.held.push(block);
        assert_eq!(self.fake.take(), steps, "{gfp:?} of order {n}");
    }
}

impl Drop for Tired {
    fn drop(&mut self) {
        *self.fake.at.lock().unwrap() = Box::new(|_| {});
        self.held.drain(..).for_each(|block| self.m.pages.free_pages(block));
    }
}

#[test]
fn a_single_page_is_reclaimed_for_and_then_killed_for() {
    let t = Tired::new(64, 1);
    t.fails(Gfp::KERNEL, 0, &["kswapd", "kswapd", "reclaim", "oom"]);
    t.fails(Gfp::KERNEL | Gfp::NORETRY, 0, &["kswapd", "kswapd", "reclaim"]);
    t.fails(Gfp::KERNEL | Gfp::RETRY_MAYFAIL, 0, &["kswapd", "kswapd", "reclaim"]);
    t.fails(Gfp::KERNEL | Gfp::THISNODE, 0, &["kswapd", "kswapd", "reclaim"]);
    t.fails(Gfp::KERNEL | Gfp::DMA32, 0, &["kswapd", "kswapd", "reclaim"]);
    t.fails(Gfp::NOWAIT, 0, &["kswapd", "kswapd"]);
    t.fails(Gfp::empty(), 0, &[]);
    // Who asks for all reclaim but kswapd's.
    t.fails(Gfp::KERNEL - Gfp::KSWAPD_RECLAIM, 0, &["reclaim", "oom"]);
}

#[test]
fn who_reclaims_does_not_reclaim_for_itself() {
    let mut t = Tired::new(64, 1);
    *t.fake.reserves.lock().unwrap() = Reserves::All;
    t.fails(Gfp::KERNEL | Gfp::NOMEMALLOC, 0, &["kswapd", "kswapd"]);
    t.succeeds(Gfp::KERNEL, 0, &["kswapd", "kswapd"]);
}

#[test]
fn large_blocks_are_compacted_for_before_anything_is_reclaimed() {
    let t = Tired::new(64, 1);
    t.fails(Gfp::KERNEL, 2, &["kswapd", "Async", "kswapd", "reclaim", "SyncLight", "oom"]);
    // Movable ones can wait for that.
    t.fails(Gfp::HIGHUSER_MOVABLE, 2, &["kswapd", "kswapd", "reclaim", "SyncLight", "oom"]);
    t.fails(Gfp::HIGHUSER_MOVABLE, 4, &["kswapd", "Async", "kswapd", "reclaim", "SyncLight"]);
    t.fails(Gfp::KERNEL, 4, &["kswapd", "Async", "kswapd", "reclaim", "SyncLight"]);
    t.fails(Gfp::KERNEL | Gfp::NORETRY, 4, &["kswapd", "Async", "kswapd", "reclaim", "Async"]);
    for result in [CompactResult::Skipped, CompactResult::Deferred] {
        *t.fake.compacts.lock().unwrap() = result;
        t.fails(Gfp::KERNEL | Gfp::NORETRY, 4, &["kswapd", "Async"]);
    }
    t.fails(Gfp::ATOMIC_CONTEXT, 10, &["kswapd", "kswapd"]);
}

#[test]
fn compaction_that_fails_is_tried_again_at_a_higher_price() {
    let t = Tired::new(64, 1);
    t.fake.freed.store(1, Relaxed);
    let start = ["kswapd", "Async", "kswapd", "reclaim", "drain", "SyncLight"];
    let again = ["kswapd", "reclaim", "drain", "SyncFull", "oom"];
    t.fails(Gfp::KERNEL, 1, &[&start[..], &again].concat());
    // Costly blocks are not worth that.
    t.fails(Gfp::KERNEL | Gfp::RETRY_MAYFAIL, 4, &start);
    // Compaction that always says it succeeded is believed so often at each price.
    *t.fake.compacts.lock().unwrap() = CompactResult::Success;
    assert!(t.m.pages.alloc_pages(QUIET, order(1)).is_err());
    let steps = t.fake.take();
    let nr = |name| steps.iter().filter(|step| *step == name).count();
    assert_eq!((nr("Async"), nr("SyncLight"), nr("SyncFull"), nr("oom")), (1, 17, 17, 1));
}

#[test]
fn what_was_reclaimed_is_looked_for_on_other_cpus_too() {
    let mut t = Tired::new(64, 1);
    t.fake.freed.store(64, Relaxed);
    let blocks: Vec<_> = t.held.drain(..64).collect();
    let mut blocks = Some(blocks);
    let pages = core::ptr::from_ref(&t.m.pages) as usize;
    *t.fake.at.lock().unwrap() = Box::new(move |step| {
        if step == "reclaim" {
            // SAFETY: the machine outlives its use.
            let pages = unsafe { &*(pages as *const PageAllocator) };
            let free = || blocks.take().into_iter().flatten().for_each(|block| pages.free_pages(block));
            run_as_cpu(CpuId(1), free);
        }
    });
    t.succeeds(Gfp::KERNEL, 0, &["kswapd", "kswapd", "reclaim", "drain"]);
}

#[test]
fn reclaim_goes_on_while_it_could_help_but_not_for_ever() {
    let t = Tired::new(64, 1);
    t.fake.reclaimable.store(100_000, Relaxed);
    assert!(t.m.pages.alloc_pages(QUIET, Order::ZERO).is_err());
    let steps = t.fake.take();
    let nr = |name| steps.iter().filter(|step| *step == name).count();
    assert_eq!((nr("reclaim"), nr("pause"), nr("oom")), (17, 16, 1));
    assert_eq!(steps.last().unwrap(), "oom");
}

#[test]
fn a_kill_is_waited_for() {
    let mut t = Tired::new(64, 1);
    t.fake.kills.store(true, Relaxed);
    t.frees_at("oom", 64);
    t.succeeds(Gfp::KERNEL, 0, &["kswapd", "kswapd", "reclaim", "oom", "kswapd"]);
}

#[test]
fn without_file_systems_nothing_is_killed_but_others_are_waited_for() {
    let mut t = Tired::new(64, 1);
    t.frees_at("pause", 64);
    t.succeeds(Gfp::NOFS, 0, &["kswapd", "kswapd", "reclaim", "pause", "kswapd"]);
}

#[test]
fn a_victim_takes_its_share_and_gives_up() {
    let mut t = Tired::new(64, 1);
    *t.fake.reserves.lock().unwrap() = Reserves::Oom;
    t.fake.kills.store(true, Relaxed);
    t.succeeds(Gfp::KERNEL, 0, &["kswapd", "kswapd"]);
    t.fails(Gfp::KERNEL | Gfp::NOMEMALLOC, 0, &["kswapd", "kswapd", "reclaim", "oom"]);
}

#[test]
fn what_must_not_fail_gets_more_and_waits_as_long_as_it_takes() {
    let mut t = Tired::new(64, 1);
    let steps = ["kswapd", "kswapd", "reclaim", "oom"];
    t.succeeds(Gfp::KERNEL | Gfp::NOFAIL, 0, &steps);
    let nofail = QUIET | Gfp::NOFAIL;
    // All reserves go; then it waits.
    let zones = || t.m.pages.nodes().populated_zones().map(Zone::nr_free).sum::<u64>();
    let mut last = zones();
    let waits: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let pages = core::ptr::from_ref(&t.m.pages) as usize;
    let mut blocks = Some(t.held.drain(..4096).collect::<Vec<_>>());
    *t.fake.at.lock().unwrap() = Box::new(move |step| {
        if step == "pause" && !waits.swap(true, Relaxed) {
            // SAFETY: the machine outlives its use.
            let pages = unsafe { &*(pages as *const PageAllocator) };
            blocks.take().into_iter().flatten().for_each(|block| pages.free_pages(block));
        }
    });
    let mut more = vec![];
    while !waits.load(Relaxed) {
        more.push(t.m.pages.alloc_pages(nofail, Order::ZERO).unwrap());
        if !waits.load(Relaxed) {
            assert!(zones() <= last, "it comes from what is left");
            last = zones();
        }
    }
    assert_eq!(last, 0, "all reserves");
    t.held.extend(more);
    t.fake.take();
}

#[test]
fn what_must_not_fail_and_cannot_have_anything_killed_gets_all_reserves() {
    let mut t = Tired::new(64, 1);
    t.succeeds(Gfp::NOFS | Gfp::NOFAIL, 0, &["kswapd", "kswapd", "reclaim", "pause"]);
}

#[test]
fn without_reclaim_what_must_not_fail_takes_all_there_is_and_then_fails() {
    let m = TestMachine::new(64);
    let blocks: Vec<_> =
        core::iter::from_fn(|| m.pages.alloc_pages(QUIET | Gfp::NOFAIL, Order::ZERO).ok()).collect();
    assert_eq!(m.pages.free_pages_total(), 0);
    blocks.into_iter().for_each(|block| m.pages.free_pages(block));
}

#[test]
fn a_nodemask_bounds_the_walk() {
    let t = TestMachine::with(128, 2, 2);
    let mask = |node| [NodeId(node)].into_iter().collect::<NodeMask>();
    for (node, at) in [(0, 0), (1, 1), (1, 0), (0, 1)] {
        let block =
            t.pages.alloc_pages_nodemask(QUIET, order(0), Some(NodeId(node)), Some(&mask(at))).unwrap();
        assert_eq!(block.page().node(), NodeId(at));
        t.pages.free_pages(block);
    }
    assert!(t.pages.alloc_pages_nodemask(QUIET, order(0), None, Some(&mask(7))).is_err());
    assert!(t.pages.alloc_pages_nodemask(QUIET | Gfp::DMA, order(0), None, Some(&mask(1))).is_err());
}

#[test]
fn the_contexts_nodes_bind_user_pages_hard_and_the_kernels_softly() {
    let m = TestMachine::with(128, 2, 2);
    let fake = Fake::new();
    m.pages.set_context(fake);
    let only_1: &'static NodeMask = Box::leak(Box::new([NodeId(1)].into_iter().collect()));
    *fake.nodes.lock().unwrap() = Some(only_1);
    let user = Gfp::USER | Gfp::NOWARN;
    let pages = &m.pages;
    let take = |gfp| core::iter::from_fn(move || pages.alloc_pages_nodemask(gfp, order(0), None, None).ok());
    let mut blocks: Vec<_> = take(user).collect();
    assert!(blocks.iter().all(|block| block.page().node() == NodeId(1)));
    assert!(blocks.len() > 10_000, "all of node 1: {}", blocks.len());
    let kernel = m.pages.alloc_pages_nodemask(QUIET, order(0), None, None).unwrap();
    assert_eq!(kernel.page().node(), NodeId(0), "what is not HARDWALL may come from elsewhere");
    blocks.push(kernel);
    let atomic = Gfp::ATOMIC_CONTEXT | Gfp::HARDWALL;
    blocks.push(m.pages.alloc_pages_nodemask(atomic, order(0), None, None).unwrap());
    assert_eq!(
        m.pages.alloc_pages_nodemask(user, order(0), Some(NodeId(0)), None).err(),
        Some(AllocError),
        "user pages stay inside"
    );
    blocks.into_iter().for_each(|block| m.pages.free_pages(block));
}

#[test]
fn the_first_try_keeps_the_kernels_pages_inside_of_the_contexts_nodes_too() {
    let m = TestMachine::with(128, 2, 2);
    let fake = Fake::new();
    m.pages.set_context(fake);
    *fake.nodes.lock().unwrap() = Some(Box::leak(Box::new([NodeId(1)].into_iter().collect())));
    // The mask has both; the context's nodes are asked for by the first try alone.
    let both = [NodeId(0), NodeId(1)].into_iter().collect::<NodeMask>();
    let take = || m.pages.alloc_pages_nodemask(QUIET, order(0), Some(NodeId(0)), Some(&both)).ok();
    let blocks: Vec<_> = core::iter::from_fn(take).collect();
    let strays = blocks.iter().position(|block| block.page().node() == NodeId(0)).unwrap();
    assert!(strays > 10_000, "node 1 first, as far as its low watermark: {strays}");
    blocks.into_iter().for_each(|block| m.pages.free_pages(block));
}

#[test]
fn a_victims_movable_pages_come_from_contiguous_memory_areas_too() {
    let area = crate::cma::CmaRequest::parse("32M").unwrap();
    let spec = crate::init::testing::Spec::new().ram(0, 0..64 << 20).reserved(0..4096).cma(area);
    let m = spec.boot();
    let (pages, fake) = (m.allocator(), Fake::new());
    let zone = m.nodes().populated_zones().last().unwrap();
    // All that is left is of the area, and less than what anybody may have.
    let movable = Gfp::HIGHUSER_MOVABLE | Gfp::NOWARN;
    let all = QUIET | Gfp::MEMALLOC;
    let mut blocks: Vec<_> = core::iter::from_fn(|| pages.alloc_pages(all, order(0)).ok()).collect();
    blocks.extend(core::iter::from_fn(|| pages.alloc_pages(movable, order(0)).ok()));
    pages.drain_local();
    assert!(zone.nr_free() > 0 && zone.nr_free() == zone.free().lock().pages_of(MigrateType::Cma));
    pages.set_reclaim(fake);
    pages.set_context(fake);
    *fake.reserves.lock().unwrap() = Reserves::Oom;
    blocks.push(pages.alloc_pages(movable, order(0)).unwrap());
    assert_eq!(fake.take(), ["kswapd", "kswapd"], "half of the reserve is a victim's");
    assert!(pages.alloc_pages(QUIET, order(0)).is_err(), "nothing there is for unmovable pages");
    blocks.into_iter().for_each(|block| pages.free_pages(block));
}

#[test]
fn unmovable_pages_leave_their_reserve_however_much_of_an_area_is_free() {
    let area = crate::cma::CmaRequest::parse("32M").unwrap();
    let m = crate::init::testing::Spec::new().ram(0, 0..64 << 20).reserved(0..4096).cma(area).boot();
    let zone = m.nodes().populated_zones().last().unwrap();
    let blocks: Vec<_> = core::iter::from_fn(|| m.allocator().alloc_pages(QUIET, order(0)).ok()).collect();
    let left = zone.nr_free() - zone.free().lock().pages_of(MigrateType::Cma);
    // A CPU's list is filled as long as the zone is above.
    assert!(left + u64::from(zone.pcp_batch()) >= zone.watermark(Watermark::Min), "{left} pages");
    blocks.into_iter().for_each(|block| m.allocator().free_pages(block));
}

#[test]
fn atomic_blocks_that_had_to_try_harder_set_their_pageblock_apart() {
    let m = TestMachine::new(256);
    let zone = m.pages.nodes().get(NodeId(0)).unwrap().zone(ZoneIdx::Dma32);
    let take = |gfp: Gfp, n| {
        core::iter::from_fn(|| m.pages.alloc_pages(gfp | Gfp::NOWARN, order(n)).ok()).collect::<Vec<_>>()
    };
    let mut blocks = take(Gfp::KERNEL, 3);
    assert_eq!(zone.nr_reserved_highatomic(), 0);
    blocks.extend(take(Gfp::ATOMIC_CONTEXT, 2));
    let reserved = zone.nr_reserved_highatomic();
    assert!(reserved > 0 && reserved <= zone.managed() / 100 + 512, "{reserved} pages");
    m.pages.validate();
    // What comes free of it is for atomic blocks only.
    blocks.into_iter().for_each(|block| m.pages.free_pages(block));
    m.drain_all();
    let free = |zone: &Zone| zone.free().lock().pages_of(MigrateType::HighAtomic);
    let set_apart = free(zone);
    // A pageblock may have a few pages that boot keeps.
    assert!((reserved - 64..=reserved).contains(&set_apart), "{set_apart} of {reserved} free, of their type");
    let mut blocks = take(Gfp::NOWAIT, 3);
    assert_eq!(free(zone), set_apart, "nobody else takes from it");
    let before = zone.nr_free();
    blocks.push(m.pages.alloc_pages(Gfp::ATOMIC_CONTEXT | Gfp::NOWARN, order(6)).unwrap());
    assert_eq!((free(zone), zone.nr_free()), (set_apart - 64, before - 64));
    // Rather than fail, who may wait gives it back.
    let freed = m.pages.alloc_pages(QUIET, order(3)).unwrap();
    assert!(zone.nr_reserved_highatomic() < reserved);
    blocks.push(freed);
    blocks.extend(take(Gfp::KERNEL, 3));
    assert_eq!((zone.nr_reserved_highatomic(), free(zone)), (0, 0));
    m.pages.validate();
    blocks.into_iter().for_each(|block| m.pages.free_pages(block));
}

#[test]
fn mixed_types_boost_the_watermarks_until_kswapd_has_run() {
    let m = TestMachine::new(256);
    let fake = Fake::new();
    let zone = m.pages.nodes().get(NodeId(0)).unwrap().zone(ZoneIdx::Dma32);
    let min = zone.watermark(Watermark::Min);
    // Movable pages all over, every other one given back: no pageblock is free, each has movable pages free.
    let movable = Gfp::HIGHUSER_MOVABLE | Gfp::NOWARN;
    let all: Vec<_> = core::iter::from_fn(|| m.pages.alloc_pages(movable, order(1)).ok()).collect();
    let (mut blocks, mut free) = (Vec::new(), Vec::new());
    for block in all {
        if block.pfn(m.machine()).get() & 2 == 0 { free.push(block) } else { blocks.push(block) }
    }
    free.into_iter().for_each(|block| m.pages.free_pages(block));
    m.drain_all();
    assert_eq!(zone.watermark_boost(), 0);
    m.pages.set_reclaim(fake);
    let unmovable: Vec<_> = (0..64).filter_map(|_| m.pages.alloc_pages(QUIET, order(1)).ok()).collect();
    assert!(!unmovable.is_empty());
    let boost = zone.watermark_boost();
    assert!(boost >= 512 && zone.watermark(Watermark::Min) == min + boost, "{boost}");
    assert!(fake.take().iter().any(|step| step == "kswapd"), "kswapd is told");
    blocks.into_iter().chain(unmovable).for_each(|block| m.pages.free_pages(block));
}

#[test]
fn pages_that_will_be_written_are_spread_over_nodes_with_few_dirty_ones() {
    let m = TestMachine::with(128, 2, 2);
    let node = |nr| m.pages.nodes().get(NodeId(nr)).unwrap();
    let from = |gfp| {
        let block = m.pages.alloc_pages(gfp | Gfp::NOWARN, order(0)).unwrap();
        let from = block.page().node();
        m.pages.free_pages(block);
        from
    };
    let write = Gfp::HIGHUSER_MOVABLE | Gfp::WRITE;
    // This CPU's lists have pages of its node: they are not asked either.
    from(Gfp::HIGHUSER_MOVABLE);
    assert_eq!(from(write), NodeId(0));
    let limits = [0, 1].map(|nr| node(nr).dirty_limit() as i64);
    node(0).counters().add(NodeStat::FileDirty, limits[0] + 1);
    assert_eq!((from(write), from(Gfp::HIGHUSER_MOVABLE)), (NodeId(1), NodeId(0)));
    let near = m.pages.alloc_pages_node(NodeId(0), write, order(0)).unwrap();
    assert_eq!(near.page().node(), NodeId(1));
    m.pages.free_pages(near);
    assert_eq!(from(write | Gfp::THISNODE), NodeId(0), "there is no other: the second try takes it");
    // As much under writeback on the other: no node is better.
    node(1).counters().add(NodeStat::Writeback, limits[1] + 1);
    assert_eq!(from(write), NodeId(0));
    node(0).counters().add(NodeStat::FileDirty, -limits[0] - 1);
    assert_eq!(from(write), NodeId(0));
    node(1).counters().add(NodeStat::Writeback, -limits[1] - 1);
}

#[test]
fn interleaved_allocations_are_counted_where_they_were_wanted() {
    let m = TestMachine::with(128, 2, 2);
    let zone = |node| m.pages.nodes().get(NodeId(node)).unwrap().zone(ZoneIdx::Dma32);
    for n in 0..10 {
        let block = m.pages.alloc_pages_interleave(NodeId(n % 2), QUIET, order(0)).unwrap();
        m.pages.free_pages(block);
    }
    let events = m.pages.events(zone(1));
    assert_eq!((events.numa_interleave, events.numa_hit(), events.numa_other), (5, 5, 5));
    assert_eq!(events.numa_local(), 0);
    let local = run_as_cpu(CpuId(1), || m.pages.alloc_pages(QUIET, order(0)).unwrap());
    let events = m.pages.events(zone(1));
    assert_eq!((events.numa_hit(), events.numa_local(), events.numa_other), (6, 1, 5));
    m.pages.free_pages(local);
}

#[test]
fn an_allocation_that_may_wait_where_nobody_may_is_a_bug_reported_once() {
    let m = TestMachine::new(32);
    m.pages.set_context(Fake::new());
    let ((), lines) = capture(|| {
        let _irq = IrqGuard::new();
        for _ in 0..3 {
            let block = m.pages.alloc_pages(Gfp::KERNEL, order(0)).unwrap();
            m.pages.free_pages(block);
        }
        let block = m.pages.alloc_pages(Gfp::ATOMIC_CONTEXT, order(0)).unwrap();
        m.pages.free_pages(block);
    });
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].starts_with("BUG: sleeping function called from invalid context at "), "{}", lines[0]);
    assert!(lines[0].contains("policy_tests.rs:"), "{}", lines[0]);
    assert_eq!(lines[1], "in_atomic(): 0, irqs_disabled(): 1, non_block: 0, pid: 42, name: tester");
    assert_eq!(lines[2], "preempt_count: 0, expected: 0");
}

#[test]
fn a_failure_is_reported_as_linux_reports_it() {
    let t = Tired::new(128, 2);
    let (result, lines) = capture(|| t.m.pages.alloc_pages(Gfp::KERNEL | Gfp::COMP, order(4)));
    assert!(result.is_err());
    assert_eq!(
        lines[0],
        "tester: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP), nodemask=(null),cpuset=/,mems_allowed=0-1"
    );
    assert_eq!(lines[1], "CPU: 0 PID: 42 Comm: tester");
    assert_eq!(lines[2], "Mem-Info:");
    assert_eq!(lines[3], "active_anon:0 inactive_anon:0 isolated_anon:0");
    assert_eq!(lines[8], " sec_pagetables:0 bounce:0");
    assert!(lines[10].starts_with(" free:") && lines[10].ends_with(" free_cma:0"), "{}", lines[10]);
    assert!(lines[11].starts_with("Node 0 active_anon:0kB inactive_anon:0kB "), "{}", lines[11]);
    assert!(lines[11].ends_with(" sec_pagetables:0kB all_unreclaimable? no"), "{}", lines[11]);
    let zone = t.m.pages.nodes().get(NodeId(0)).unwrap().zone(ZoneIdx::Dma);
    assert!(
        lines[13].starts_with(&format!("Node 0 DMA free:{}kB boost:0kB min:", zone.nr_free() * 4)),
        "{}",
        lines[13]
    );
    assert!(lines[14].starts_with("lowmem_reserve[]: 0 "), "{}", lines[14]);
    let blocks = lines.iter().find(|line| line.starts_with("Node 1 DMA32: ")).unwrap();
    assert!(blocks.contains("kB (U") && blocks.ends_with("kB"), "{blocks}");
    let end = lines.len() - 10;
    assert_eq!(
        lines[end..end + 2],
        [
            "Node 0 hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=2048kB",
            "Node 1 hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=2048kB"
        ]
    );
    assert_eq!(lines[end + 2], "0 total pagecache pages");
    assert_eq!(lines[end + 6], "32768 pages RAM");
}

#[test]
fn each_kind_of_allocation_ends_in_errors_and_leaves_its_reserve() {
    for gfp in [
        Gfp::KERNEL,
        Gfp::NOWAIT,
        Gfp::ATOMIC_CONTEXT,
        Gfp::KERNEL | Gfp::HIGH,
        Gfp::HIGHUSER_MOVABLE,
        Gfp::TRANSHUGE,
        Gfp::NOFS,
        Gfp::KERNEL | Gfp::NORETRY,
        Gfp::KERNEL | Gfp::DMA,
        Gfp::KERNEL | Gfp::DMA32,
        Gfp::KERNEL | Gfp::THISNODE,
        Gfp::KERNEL | Gfp::MEMALLOC,
        Gfp::KERNEL | Gfp::MEMALLOC | Gfp::NOMEMALLOC,
        Gfp::KERNEL | Gfp::NOFAIL,
    ] {
        let m = TestMachine::with(128, 2, 2);
        let gfp = gfp | Gfp::NOWARN;
        let take = |gfp| core::iter::from_fn(|| m.pages.alloc_pages(gfp, order(0)).ok()).collect::<Vec<_>>();
        let blocks = take(gfp);
        assert!(!blocks.is_empty(), "{gfp:?}");
        assert!(m.pages.alloc_pages(gfp, order(0)).is_err());
        m.pages.validate();
        let all = gfp.contains(Gfp::MEMALLOC) && !gfp.contains(Gfp::NOMEMALLOC) || gfp.contains(Gfp::NOFAIL);
        let rest = take(Gfp::KERNEL | Gfp::MEMALLOC | Gfp::NOWARN);
        assert_eq!(rest.is_empty(), all, "{gfp:?} leaves reserves");
        assert_eq!(m.free_pages(), 0);
        blocks.into_iter().chain(rest).for_each(|block| m.pages.free_pages(block));
    }
}

#[test]
fn atomic_pages_are_there_when_the_kernels_are_used_up() {
    let t = Tired::new(128, 1);
    let atomic: Vec<_> =
        core::iter::from_fn(|| t.m.pages.alloc_pages(Gfp::ATOMIC_CONTEXT | Gfp::NOWARN, order(0)).ok())
            .collect();
    let high: Vec<_> = core::iter::from_fn(|| {
        t.m.pages.alloc_pages(Gfp::KERNEL | Gfp::MEMALLOC | Gfp::NOWARN, order(0)).ok()
    })
    .collect();
    assert!(!atomic.is_empty() && !high.is_empty());
    atomic.into_iter().chain(high).for_each(|block| t.m.pages.free_pages(block));
}
