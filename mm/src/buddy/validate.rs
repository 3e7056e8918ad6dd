//! Recounts everything that the free lists say.

use super::block::{self, Note, Place, is_listed};
use super::{FreeAreas, Pageblocks, may_merge, why_not_free};
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_ORDER};
use crate::page::{PageFlags, PagePtr, PageType};

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
        assert_eq!((self.pages, self.all_pages), (pages, pages.iter().sum()), "free pages by type");
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
        let note = self.zone.note(order, migrate_type);
        assert_eq!(Note::of(page), note, "{pfn:?} {page:?}");
        assert!(pfn.is_aligned(order.nr_pages()), "{pfn:?} of order {}", order.get());
        assert!(span.start <= pfn && pfn + order.nr_pages() <= span.end, "{pfn:?} outside {span:?}");
        for nr in 1..order.nr_pages() {
            let inside = block::inside(page, nr, order);
            assert_eq!(why_not_free(&inside, PageFlags::CHECK_AT_PREP), None, "{:?} {inside:?}", pfn + nr);
            assert!(inside.same_zone(&page), "{:?} {inside:?}", pfn + nr);
        }
        let place = Place::of(page, self.zone.machine);
        if order < Order::MAX && is_listed(place.buddy(order).page(), note) {
            let (own, other) = (blocks.migrate_type(pfn), blocks.migrate_type(place.buddy(order).pfn()));
            assert!(
                order >= PAGEBLOCK_ORDER && !may_merge(own, other),
                "{pfn:?} and its buddy are both free"
            );
        }
    }
}
