//! Recounts everything that the free lists say.

use super::{FreeAreas, FreeBlock, Pageblocks, block, mergeable, why_not_free};
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_ORDER};
use crate::page::{PageFlags, PagePtr, PageType};
use crate::pfn::Pfn;

impl FreeAreas {
    /// Checks A1 to A3 and B2 for every listed block, looking at each of its pages.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn validate(&self, blocks: &impl Pageblocks) {
        let mut pages = [0; MigrateType::COUNT];
        for order in Order::all() {
            for migrate_type in MigrateType::ALL {
                let list = self.area(order).list(migrate_type);
                list.validate();
                let nr = list
                    .iter()
                    .inspect(|&page| self.validate_block(page, order, migrate_type, blocks))
                    .count() as u64;
                assert_eq!(
                    self.area(order).nr(migrate_type),
                    nr,
                    "blocks of order {} {migrate_type:?}",
                    order.get()
                );
                let bit = self.nonempty[migrate_type.index()] >> order.get() & 1;
                assert_eq!(bit == 1, nr > 0, "bit of order {} {migrate_type:?}", order.get());
                pages[migrate_type.index()] += nr << order.get();
            }
        }
        assert_eq!(self.pages, pages, "free pages by type");
        assert!(self.free_pages() <= self.span().nr_pages());
    }

    fn validate_block(
        &self,
        page: PagePtr,
        order: Order,
        migrate_type: MigrateType,
        blocks: &impl Pageblocks,
    ) {
        let (pfn, span) = (page.pfn(self.zone.machine), self.zone.span);
        assert_eq!(page.page_type(), PageType::BUDDY, "{page:?}");
        assert_eq!(block::listed(page), (order.get() as u64, migrate_type as u64), "{pfn:?} {page:?}");
        assert!(pfn.is_aligned(order.nr_pages()), "{pfn:?} of order {}", order.get());
        assert!(span.start <= pfn && pfn + order.nr_pages() <= span.end, "{pfn:?} outside {span:?}");
        for nr in 1..order.nr_pages() {
            let inside = block::inside(page, nr, order);
            assert_eq!(why_not_free(&inside, PageFlags::CHECK_AT_PREP), None, "{:?} {inside:?}", pfn + nr);
            assert!(inside.same_zone(&page), "{:?} {inside:?}", pfn + nr);
        }
        if order < Order::MAX && FreeBlock::find_buddy(&self.zone, page, pfn, order).is_some() {
            let other = blocks.migrate_type(Pfn::new(pfn.get() ^ order.nr_pages()));
            let (own, apart) =
                (blocks.migrate_type(pfn), !mergeable(other) || !mergeable(blocks.migrate_type(pfn)));
            assert!(order >= PAGEBLOCK_ORDER && own != other && apart, "{pfn:?} and its buddy are both free");
        }
    }
}
