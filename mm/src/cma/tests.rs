use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::boxed::Box;
use std::thread;

use super::*;
use crate::arch::{IrqGuard, run_as_cpu};
use crate::gfp::{Gfp, MigrateType};
use crate::id::CpuId;
use crate::init::testing::{Spec, TestMachine};
use crate::order::{Order, PAGEBLOCK_NR_PAGES};
use crate::page_alloc::{AllocError, Context, ContigError, ContigType, PageBlock};
use crate::pfn::{Pfn, PfnRange};
use crate::smp::{CallCpus, OnlyThisCpu};
use proptest::prelude::*;
use std::vec::Vec;

fn machine(mib: u64, request: &str) -> TestMachine {
    let spec = Spec::new().ram(0, 0..mib << 20).reserved(0..4096).cpus(0, 2);
    spec.cma(CmaRequest::parse(request).unwrap()).boot()
}

fn take(m: &TestMachine, gfp: Gfp) -> Option<PageBlock> {
    m.allocator().alloc_pages(gfp | Gfp::NOWARN, Order::ZERO).ok()
}

fn wanted(nr_pages: u64, align: u8) -> Wanted {
    Wanted { nr_pages, align: Order::new(align).unwrap(), gfp: Gfp::KERNEL | Gfp::NOWARN }
}

fn alloc(m: &TestMachine, nr: u64, align: u8) -> Result<CmaPages, AllocError> {
    m.cma().unwrap().alloc(m.allocator(), wanted(nr, align), &OnlyThisCpu)
}

fn release(m: &TestMachine, pages: CmaPages) {
    m.cma().unwrap().release(m.allocator(), pages).expect("pages of the area");
}

fn check(m: &TestMachine) {
    m.allocator().validate();
    m.cma().unwrap().validate();
}

#[test]
fn an_area_is_managed_memory_of_its_own_type() {
    let m = machine(128, "32M");
    let area = m.cma().unwrap();
    let zone = m.nodes().populated_zones().last().unwrap();
    assert_eq!((zone.node(), zone.idx()), area.zone());
    assert_eq!((zone.cma_pages(), zone.stat(crate::counters::ZoneStat::FreeCma)), (8192, 8192));
    assert_eq!(zone.free().lock().pages_of(MigrateType::Cma), 8192);
    check(&m);
}

#[test]
fn only_movable_pages_use_the_area() {
    let m = machine(64, "32M");
    let area = m.cma().unwrap().pages();
    let is_inside = |block: &PageBlock| area.contains(block.pfn(m.allocator().machine()));
    let mut kept: Vec<PageBlock> = core::iter::from_fn(|| take(&m, Gfp::KERNEL)).collect();
    assert!(!kept.is_empty() && !kept.iter().any(is_inside), "unmovable pages in the area");
    let movable: Vec<PageBlock> = core::iter::from_fn(|| take(&m, Gfp::HIGHUSER_MOVABLE)).collect();
    assert!(movable.len() > 4096 && movable.iter().all(is_inside), "{} movable pages", movable.len());
    kept.extend(movable);
    kept.into_iter().for_each(|b| m.allocator().free_pages(b));
    m.allocator().drain_local();
    check(&m);
}

#[test]
fn movable_pages_come_from_the_area_while_it_has_most_of_what_is_free() {
    let m = machine(64, "48M");
    let area = m.cma().unwrap().pages();
    let first = take(&m, Gfp::HIGHUSER_MOVABLE).unwrap();
    assert!(area.contains(first.pfn(m.allocator().machine())));
    let zone = m.nodes().populated_zones().last().unwrap();
    let free_cma = || zone.stat(crate::counters::ZoneStat::FreeCma);
    m.allocator().drain_local();
    assert_eq!(free_cma(), 12287, "what else the list got went back as what it was");
    m.allocator().free_pages(first);
    m.allocator().drain_local();
    assert_eq!(free_cma(), 12288, "pages went back as what they were");
}

#[test]
fn pages_in_use_make_the_area_look_elsewhere() {
    let m = machine(64, "48M");
    let area = m.cma().unwrap();
    let used = take(&m, Gfp::HIGHUSER_MOVABLE).unwrap();
    let pages = alloc(&m, 1024, 10).unwrap();
    assert!(!pages.pages().contains(used.pfn(m.allocator().machine())));
    assert!(pages.pages().start.is_aligned(1024));
    assert_eq!((area.used_pages(), area.counts()), (1024, (1, 0)));
    assert!(alloc(&m, 12288, 0).is_err(), "all of it, with a page in use");
    assert_eq!((area.used_pages(), area.counts()), (1024, (1, 1)));
    release(&m, pages);
    m.allocator().free_pages(used);
    let all = alloc(&m, 12288, 0).unwrap();
    assert_eq!(all.pages(), area.pages());
    assert!(alloc(&m, 1, 0).is_err() && alloc(&m, 0, 0).is_err());
    release(&m, all);
    check(&m);
}

#[test]
fn only_the_area_takes_its_pageblocks() {
    let m = machine(64, "32M");
    let (area, zone) = (m.cma().unwrap().pages(), m.nodes().populated_zones().last().unwrap());
    let take = |range, contig_type| {
        m.allocator()
            .alloc_contig_range(range, contig_type, Gfp::KERNEL, &OnlyThisCpu)
            .map(|_| ())
            .unwrap_err()
    };
    let inside = PfnRange::new(area.start + 5, area.start + 9);
    assert_eq!(take(inside, ContigType::Movable), ContigError::InUse(inside.start));
    let outside = PfnRange::new(Pfn::new(4096), Pfn::new(4096 + 9));
    assert_eq!(take(outside, ContigType::Cma), ContigError::InUse(outside.start));
    assert_eq!(zone.free().lock().pages_of(MigrateType::Cma), area.nr_pages());
    check(&m);
}

/// The area's first pageblock is set aside by somebody else.
fn first_pageblock(m: &TestMachine) -> PfnRange {
    let start = m.cma().unwrap().pages().start;
    PfnRange::new(start, start + PAGEBLOCK_NR_PAGES)
}

#[test]
fn a_pageblock_that_somebody_else_works_on_is_left_out() {
    let m = machine(64, "4M");
    let isolated = m.allocator().isolate_range(first_pageblock(&m), MigrateType::Cma).unwrap();
    let pages = alloc(&m, 8, 0).unwrap();
    assert!(pages.pages().start >= first_pageblock(&m).end);
    assert!(alloc(&m, 513, 0).is_err(), "more than is left");
    release(&m, pages);
    m.allocator().restore_range(isolated, MigrateType::Cma);
    let all = alloc(&m, 1024, 0).unwrap();
    release(&m, all);
    check(&m);
}

/// How often somebody has waited.
#[derive(Default)]
struct Pauses(AtomicU32);

impl Context for Pauses {
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("tester")
    }

    fn pid(&self) -> u32 {
        1
    }

    fn pause(&self) {
        self.0.fetch_add(1, Relaxed);
        thread::yield_now();
    }
}

/// Runs something while an allocation is under way, which asks the CPUs then.
struct Meanwhile<'a>(&'a (dyn Fn() + Sync));

impl CallCpus for Meanwhile<'_> {
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
        (self.0)();
        OnlyThisCpu.on_each(wanted, f);
    }
}

#[test]
fn allocations_of_an_area_take_turns_and_let_others_run_while_they_wait() {
    let m = machine(64, "4M");
    let pauses: &'static Pauses = Box::leak(Box::default());
    m.allocator().set_context(pauses);
    let area = m.cma().unwrap();
    let under_way = AtomicBool::new(false);
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            while !under_way.load(Relaxed) {
                thread::yield_now();
            }
            run_as_cpu(CpuId(1), || alloc(&m, 512, 9)).expect("there is another pageblock")
        });
        let until_it_waits = || {
            under_way.store(true, Relaxed);
            while pauses.0.load(Relaxed) < 3 {
                thread::yield_now();
            }
        };
        let first = area.alloc(m.allocator(), wanted(512, 9), &Meanwhile(&until_it_waits)).unwrap();
        let second = second.join().unwrap();
        assert_ne!(first.pages(), second.pages());
        release(&m, first);
        release(&m, second);
    });
    check(&m);
}

#[test]
fn where_nobody_may_wait_an_area_at_work_has_no_pages() {
    let m = machine(64, "4M");
    let in_an_interrupt = || {
        let _irq = IrqGuard::new();
        assert!(alloc(&m, 1, 0).is_err());
    };
    let area = m.cma().unwrap();
    let pages = area.alloc(m.allocator(), wanted(8, 0), &Meanwhile(&in_an_interrupt)).unwrap();
    release(&m, pages);
    check(&m);
}

#[test]
fn pages_of_another_area_are_refused() {
    let (m, other) = (machine(64, "16M@32M"), machine(64, "16M@16M"));
    let pages = alloc(&m, 8, 0).unwrap();
    let pages = other.cma().unwrap().release(other.allocator(), pages).unwrap_err();
    release(&m, pages);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Allocations of the area among ones of movable pages: never the same page twice, and everything comes back.
    #[test]
    fn the_area_and_movable_pages_share_memory(
        ops in prop::collection::vec((0u8..5, 1u64..600, 0u8..8), 1..60)
    ) {
        let m = machine(64, "32M");
        let (mut areas, mut pages): (Vec<CmaPages>, Vec<PageBlock>) = (Vec::new(), Vec::new());
        for (op, nr, align) in ops {
            match op {
                0 | 1 => areas.extend(alloc(&m, nr, align)),
                2 => pages.extend((0..nr).filter_map(|_| take(&m, Gfp::HIGHUSER_MOVABLE))),
                3 if !areas.is_empty() => {
                    let at = nr as usize % areas.len();
                    release(&m, areas.swap_remove(at));
                }
                _ => pages.drain(..pages.len() / 2).for_each(|b| m.allocator().free_pages(b)),
            }
            let taken: u64 = areas.iter().map(|a| a.pages().nr_pages()).sum();
            prop_assert_eq!(m.cma().unwrap().used_pages(), taken);
            let inside = |b: &PageBlock| {
                areas.iter().any(|a| a.pages().contains(b.pfn(m.allocator().machine())))
            };
            prop_assert!(!pages.iter().any(inside), "a page given out twice");
        }
        pages.into_iter().for_each(|b| m.allocator().free_pages(b));
        areas.into_iter().for_each(|a| release(&m, a));
        m.allocator().drain_local();
        check(&m);
        prop_assert_eq!(m.allocator().free_pages_total(), m.given());
    }
}
