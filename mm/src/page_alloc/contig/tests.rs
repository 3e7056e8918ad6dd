use super::*;
use crate::testing::TestMachine;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

const RANGE: PfnRange = PfnRange { start: Pfn::new(8192), end: Pfn::new(8192 + 700) };

fn range(start: u64, nr: u64) -> PfnRange {
    PfnRange::new(Pfn::new(start), Pfn::new(start + nr))
}

fn take(m: &TestMachine, pages: PfnRange) -> Result<ContigPages, ContigError> {
    m.pages.alloc_contig_range(pages, ContigType::Movable, Gfp::KERNEL, m)
}

/// All memory in single pages; whoever keeps some of them keeps them allocated.
fn all_pages(m: &TestMachine) -> Vec<PageBlock> {
    core::iter::from_fn(|| {
        m.pages.alloc_pages(Gfp::HIGHUSER_MOVABLE | Gfp::MEMALLOC | Gfp::NOWARN, Order::ZERO).ok()
    })
    .collect()
}

#[test]
fn a_free_range_is_taken_and_given_back() {
    let m = TestMachine::with(64, 1, 2);
    let pages = take(&m, RANGE).unwrap();
    assert_eq!(pages.pages(), RANGE);
    for page in m.pages.pages_of(RANGE) {
        assert_eq!((page.refcount(), page.page_type()), (1, crate::page::PageType::NONE));
    }
    assert_eq!(m.free_pages(), m.all_pages - 700);
    m.pages.validate();
    assert_eq!(take(&m, range(8192 + 699, 2)).unwrap_err(), ContigError::InUse(Pfn::new(8192 + 699)));
    m.pages.free_contig_range(pages);
}

#[test]
fn pages_on_lists_of_all_cpus_are_collected() {
    let m = TestMachine::with(64, 1, 4);
    let blocks = all_pages(&m);
    for (n, block) in blocks.into_iter().enumerate() {
        crate::arch::run_as_cpu(crate::CpuId(n as u32 % 4), || m.pages.free_pages(block));
    }
    let zone = m.pages.zone_of_range(RANGE).unwrap();
    assert!((0..4).all(|cpu| m.pages.pcp_count(zone, crate::CpuId(cpu)) > 0), "lists hold pages");
    let pages = take(&m, RANGE).unwrap();
    m.pages.free_contig_range(pages);
}

#[test]
fn a_page_in_use_is_named_and_nothing_changes() {
    let m = TestMachine::new(64);
    let mut blocks = all_pages(&m);
    let at = blocks.iter().position(|b| b.pfn(m.machine()) == Pfn::new(8192 + 300)).unwrap();
    let kept = blocks.swap_remove(at);
    blocks.into_iter().for_each(|b| m.pages.free_pages(b));
    let free = m.free_pages();
    assert_eq!(take(&m, RANGE).unwrap_err(), ContigError::InUse(Pfn::new(8192 + 300)));
    assert_eq!(m.free_pages(), free);
    m.pages.validate();
    let zone = m.pages.zone_of_range(RANGE).unwrap();
    assert_eq!(zone.free().lock().pages_of(MigrateType::Isolate), 0);
    m.pages.free_pages(kept);
    m.pages.free_contig_range(take(&m, RANGE).unwrap());
}

#[test]
fn an_isolated_pageblock_keeps_what_comes_free_in_it() {
    let m = TestMachine::new(64);
    let blocks = all_pages(&m);
    // In use, but known to reclaim: such pages may be moved away.
    let (inside, outside): (Vec<_>, Vec<_>) =
        blocks.into_iter().partition(|b| RANGE.contains(b.pfn(m.machine())));
    inside.iter().for_each(|b| b.page().set_flags_owned(crate::page::PageFlags::LRU));
    outside.into_iter().for_each(|b| m.pages.free_pages(b));
    m.drain_all();
    let isolated = m.pages.isolate_range(RANGE, MigrateType::Movable).unwrap();
    let again = m.pages.isolate_range(RANGE, MigrateType::Movable).unwrap_err();
    assert_eq!(again, ContigError::Contended(RANGE.start));
    let free = m.pages.free_pages_total();
    for block in inside {
        block.page().clear_flags_owned(crate::page::PageFlags::LRU);
        m.pages.free_pages(block);
    }
    assert_eq!(m.pages.free_pages_total(), free, "isolated pages are not free to be allocated");
    let others = all_pages(&m);
    assert!(others.iter().all(|b| !RANGE.contains(b.pfn(m.machine()))));
    others.into_iter().for_each(|b| m.pages.free_pages(b));
    m.pages.restore_range(isolated, MigrateType::Movable);
}

#[test]
fn an_isolated_pageblock_is_not_set_apart_for_atomic_allocations_any_more() {
    let m = TestMachine::new(64);
    let (page, order) = m.pages.alloc_pages(Gfp::KERNEL, Order::new(4).unwrap()).unwrap().into_raw();
    let start = page.pfn(m.machine()).align_down(PAGEBLOCK_NR_PAGES);
    let zone = m.pages.nodes().zone_of(&page);
    // SAFETY: the block is ours; only its place matters.
    m.pages.reserve_highatomic(zone, &unsafe { FreeBlock::from_raw(page, order) });
    assert_eq!(zone.nr_reserved_highatomic(), PAGEBLOCK_NR_PAGES);
    // SAFETY: taken apart above.
    m.pages.free_pages(unsafe { PageBlock::from_raw(page, order) });
    m.drain_all();
    let pages = take(&m, PfnRange::new(start, start + PAGEBLOCK_NR_PAGES)).unwrap();
    assert_eq!(zone.nr_reserved_highatomic(), 0);
    m.pages.free_contig_range(pages);
}

#[test]
fn a_block_that_comes_free_while_one_of_its_pageblocks_is_isolated_is_not_lost() {
    let m = TestMachine::new(64);
    let block = m.pages.alloc_pages(Gfp::KERNEL, Order::MAX).unwrap();
    let start = block.pfn(m.machine());
    let part = PfnRange::new(start + 100, start + 200);
    let isolated = m.pages.isolate_range(part, MigrateType::Movable).unwrap();
    m.pages.free_pages(block);
    m.pages.take_isolated(part, &m).unwrap();
    m.pages.restore_range(isolated, MigrateType::Movable);
    m.pages.validate();
    m.pages.pages_of(part).for_each(|page| page.set_refcount(1));
    m.pages.free_contig_range(ContigPages { pages: part });
    let zone = m.pages.zone_of_range(part).unwrap();
    assert_eq!(zone.free().lock().pages_of(MigrateType::Isolate), 0);
}

/// The second pageblock of a block of two, and pages in the middle of it.
fn second_pageblock(m: &TestMachine, block: &PageBlock) -> (PfnRange, PfnRange) {
    let start = block.pfn(m.machine()) + PAGEBLOCK_NR_PAGES;
    (PfnRange::new(start, start + PAGEBLOCK_NR_PAGES), PfnRange::new(start + 100, start + 200))
}

fn isolated_pages(m: &TestMachine, range: PfnRange) -> u64 {
    m.pages.zone_of_range(range).unwrap().free().lock().pages_of(MigrateType::Isolate)
}

#[test]
fn the_tails_of_a_compound_page_are_in_use_as_its_head_is() {
    let m = TestMachine::new(64);
    let block = m.pages.alloc_pages(Gfp::KERNEL | Gfp::COMP, Order::MAX).unwrap();
    let (pageblock, part) = second_pageblock(&m, &block);
    for range in [pageblock, part] {
        let error = m.pages.isolate_range(range, MigrateType::Movable).unwrap_err();
        assert_eq!(error, ContigError::InUse(range.start));
    }
    // One that reclaim knows can be moved, all of it.
    block.page().set_flags_owned(crate::page::PageFlags::LRU);
    let isolated = m.pages.isolate_range(part, MigrateType::Movable).unwrap();
    m.pages.restore_range(isolated, MigrateType::Movable);
    block.page().clear_flags_owned(crate::page::PageFlags::LRU);
    m.pages.free_pages(block);
    m.pages.free_contig_range(take(&m, part).unwrap());
}

#[test]
fn a_range_inside_of_a_block_in_use_is_busy_whatever_the_block_is() {
    let m = TestMachine::new(64);
    for gfp in [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::COMP] {
        let block = m.pages.alloc_pages(gfp, Order::MAX).unwrap();
        let (pageblock, part) = second_pageblock(&m, &block);
        for range in [pageblock, part] {
            assert_eq!(take(&m, range).unwrap_err(), ContigError::InUse(range.start), "{gfp:?}");
            assert_eq!(isolated_pages(&m, range), 0);
            m.pages.validate();
        }
        m.pages.free_pages(block);
    }
}

#[test]
fn a_pageblock_that_two_zones_share_cannot_be_set_aside() {
    let m = TestMachine::with(46, 2, 1);
    let border = Pfn::new(23 << 8);
    for range in [PfnRange::new(border, border + 10), PfnRange::new(border + 90, border + 1000)] {
        assert_eq!(take(&m, range).unwrap_err(), ContigError::NotOneZone, "{range:?}");
        assert_eq!(isolated_pages(&m, range), 0);
    }
    let below = PfnRange::new(Pfn::new(border.get() - 1000), border);
    assert_eq!(take(&m, below).unwrap_err(), ContigError::NotOneZone);
    let behind = PfnRange::new(border.align_up(PAGEBLOCK_NR_PAGES), border + 1000);
    m.pages.free_contig_range(take(&m, behind).unwrap());
}

#[test]
fn a_range_of_no_zone_or_of_two_is_refused() {
    let m = TestMachine::new(64);
    for wrong in [range(4000, 200), range(16384 - 10, 20), range(8192, 0), range(1 << 30, 1)] {
        assert_eq!(take(&m, wrong).unwrap_err(), ContigError::NotOneZone, "{wrong:?}");
    }
    // The first frame is reserved.
    assert_eq!(take(&m, range(0, 4)).unwrap_err(), ContigError::InUse(Pfn::new(0)));
}

#[test]
fn zeroed_pages_are_zero() {
    let m = TestMachine::new(64);
    let at = |pfn: u64| m.machine().phys_to_virt(Pfn::new(pfn).phys());
    // SAFETY: a page that the machine has and nobody uses.
    unsafe { at(8200).write(7) };
    let pages = m.pages.alloc_contig_range(RANGE, ContigType::Movable, Gfp::KERNEL | Gfp::ZERO, &m).unwrap();
    // SAFETY: as above; ours now.
    assert_eq!(unsafe { at(8200).read() }, 0);
    m.pages.free_contig_range(pages);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Random frames stay in use; random ranges are taken exactly when they hold none of them.
    #[test]
    fn ranges_are_taken_exactly_when_all_of_them_is_free(
        used in prop::collection::btree_set(4096u64..16384, 0..12),
        wanted in prop::collection::vec((4096u64..16384, 1u64..3000), 1..8),
    ) {
        let m = TestMachine::new(64);
        let pages = all_pages(&m);
        let mut in_use: BTreeSet<u64> = (4096..16384).collect();
        let (kept, rest): (Vec<_>, Vec<_>) =
            pages.into_iter().partition(|b| used.contains(&b.pfn(m.machine()).get()));
        // What boot keeps, and what the test keeps.
        rest.iter().for_each(|b| { in_use.remove(&b.pfn(m.machine()).get()); });
        rest.into_iter().for_each(|b| m.pages.free_pages(b));
        for (start, nr) in wanted {
            let wanted = range(start, nr.min(16384 - start));
            let first = in_use.range(wanted.start.get()..wanted.end.get()).next();
            match (take(&m, wanted), first) {
                (Ok(pages), None) => {
                    m.pages.validate();
                    m.pages.free_contig_range(pages);
                }
                (Err(error), Some(&first)) => {
                    prop_assert_eq!(error, ContigError::InUse(Pfn::new(first)));
                }
                (got, first) => prop_assert!(false, "{:?} with {:?} in use", got, first),
            }
            m.pages.validate();
        }
        kept.into_iter().for_each(|b| m.pages.free_pages(b));
    }
}
