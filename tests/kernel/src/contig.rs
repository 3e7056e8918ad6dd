//! Ranges of pages at a given place, and the contiguous-memory area.

use kernel::ktest;
use mm::cma::{Cma, Wanted};
use mm::gfp::MigrateType;
use mm::page_alloc::{ContigError, ContigType};
use mm::pfn::PfnRange;
use mm::smp::OnlyThisCpu;
use mm::{Gfp, Order, PAGE_SIZE};

use crate::support::{Hoard, leaks_nothing, memory, order};

ktest!(a_range_that_is_free_is_taken_whole);
ktest!(a_page_in_use_keeps_its_range);
ktest!(the_area_is_as_large_as_asked_for, on "bios-512m-cma");
ktest!(the_area_serves_movable_pages_and_gets_them_back, on "bios-512m-cma");
ktest!(runs_of_every_size_come_from_the_area, on "bios-512m-cma");

/// Eight MiB around a block that was free a moment ago.
fn free_range() -> PfnRange {
    let pages = memory().pages;
    let block = pages.alloc_pages(Gfp::HIGHUSER_MOVABLE, Order::MAX).expect("plenty is free");
    let start = block.pfn(mm::arch::Machine);
    pages.free_pages(block);
    PfnRange::new(start, start + Order::MAX.nr_pages())
}

fn a_range_that_is_free_is_taken_whole() {
    leaks_nothing(|memory| {
        let range = free_range();
        let part = PfnRange::new(range.start + 3, range.end - 5);
        let taken = memory.pages.alloc_contig_range(part, ContigType::Movable, Gfp::KERNEL, &OnlyThisCpu);
        let taken = taken.expect("a free range");
        assert_eq!(taken.pages(), part);
        let again = memory.pages.alloc_contig_range(part, ContigType::Movable, Gfp::KERNEL, &OnlyThisCpu);
        assert_eq!(again.expect_err("taken"), ContigError::InUse(part.start));
        memory.pages.free_contig_range(taken);
    });
}

fn a_page_in_use_keeps_its_range() {
    leaks_nothing(|memory| {
        let page = memory.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).expect("plenty is free");
        let pfn = page.pfn(mm::arch::Machine);
        let around = PfnRange::new(pfn, pfn + 1);
        let taken = memory.pages.alloc_contig_range(around, ContigType::Movable, Gfp::KERNEL, &OnlyThisCpu);
        assert_eq!(taken.expect_err("in use"), ContigError::InUse(pfn));
        memory.pages.free_pages(page);
    });
}

fn area() -> &'static Cma<'static> {
    memory().cma.as_ref().expect("cma= on the command line")
}

fn the_area_is_as_large_as_asked_for() {
    let (node, idx) = area().zone();
    let zone = memory().pages.nodes().get(node).expect("the area's node").zone(idx);
    assert_eq!(area().pages().nr_pages() * PAGE_SIZE as u64, 128 << 20);
    assert_eq!(zone.cma_pages(), area().pages().nr_pages());
    let listed = zone.free().lock().pages_of(MigrateType::Cma);
    assert!(listed <= zone.cma_pages());
    area().validate();
}

fn the_area_serves_movable_pages_and_gets_them_back() {
    leaks_nothing(|memory| {
        let (node, idx) = area().zone();
        let zone = memory.pages.nodes().get(node).expect("the area's node").zone(idx);
        let mut unmovable = Hoard::new();
        unmovable.exhaust_type(Gfp::KERNEL);
        let free = zone.free().lock().pages_of(MigrateType::Cma);
        assert_eq!(free, zone.cma_pages(), "unmovable pages leave the area alone");
        let mut movable = Hoard::new();
        movable.exhaust_type(Gfp::HIGHUSER_MOVABLE);
        assert!(movable.nr_pages >= free * 9 / 10, "{} movable pages", movable.nr_pages);
        movable.free();
        unmovable.free();
        memory.pages.drain_local();
        assert_eq!(zone.free().lock().pages_of(MigrateType::Cma), zone.cma_pages());
    });
}

fn runs_of_every_size_come_from_the_area() {
    leaks_nothing(|memory| {
        memory.pages.drain_local();
        for nr_pages in [1, 7, 512, 513, 5000, area().pages().nr_pages()] {
            let align = order(nr_pages.ilog2().min(9) as u8);
            let wanted = Wanted { nr_pages, align, gfp: Gfp::KERNEL };
            let taken = area().alloc(memory.pages, wanted, &OnlyThisCpu);
            let taken = taken.expect("the whole area is free");
            assert!(taken.pages().start.is_aligned(align.nr_pages()));
            assert_eq!((taken.pages().nr_pages(), area().used_pages()), (nr_pages, nr_pages));
            area().release(memory.pages, taken).expect("pages of the area");
        }
        area().validate();
    });
}
