use super::*;
use crate::gfp::{Gfp, MigrateType};
use crate::init::testing::{Spec, TestMachine};
use crate::order::Order;
use crate::page_alloc::PageBlock;
use crate::smp::OnlyThisCpu;
use proptest::prelude::*;
use std::vec::Vec;

fn machine(mib: u64, request: &str) -> TestMachine {
    let spec = Spec::new().ram(0, 0..mib << 20).reserved(0..4096);
    spec.cma(CmaRequest::parse(request).unwrap()).boot()
}

fn take(m: &TestMachine, gfp: Gfp) -> Option<PageBlock> {
    m.allocator().alloc_pages(gfp | Gfp::NOWARN, Order::ZERO).ok()
}

fn alloc(m: &TestMachine, nr: u64, align: u8) -> Result<CmaPages, crate::page_alloc::AllocError> {
    let align = Order::new(align).unwrap();
    m.cma().unwrap().alloc(m.allocator(), nr, align, Gfp::KERNEL | Gfp::NOWARN, &OnlyThisCpu)
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
    m.allocator().free_pages(first);
    m.allocator().drain_local();
    let zone = m.nodes().populated_zones().last().unwrap();
    assert_eq!(zone.stat(crate::counters::ZoneStat::FreeCma), 12288, "pages went back as what they were");
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
