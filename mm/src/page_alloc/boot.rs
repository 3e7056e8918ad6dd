//! Boot's hand-over: memory that memblock did not reserve becomes the page allocator's.

use core::cmp::min;

use crate::arch::IrqGuard;
use crate::buddy::{End, FreeBlock, why_not_free};
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_NR_PAGES};
use crate::page::{Page, PageFlags, PagePtr};
use crate::pfn::{Pfn, PfnRange};
use crate::zone::Zone;

use super::rmqueue::with_free;
use super::{PageAllocator, bug};

impl PageAllocator {
    /// Gives all pages of a range to the buddy, in the largest blocks that its ends allow, and counts them as managed
    /// (Linux: `__free_pages_memory`). Returns how many those are. Takes time by the blocks: pages are as boot made them.
    ///
    /// # Safety
    /// Nobody uses the pages. They are RAM of one node, initialised as [`Page::free`](crate::page::Page::free), and were
    /// not given over before.
    #[allow(unsafe_code, reason = "takes pages over from boot")]
    pub unsafe fn hand_over(&self, range: PfnRange) -> u64 {
        let mut at = range.start;
        while at < range.end {
            // SAFETY: the caller's page.
            let page = unsafe { PagePtr::new(self.machine, at) };
            let zone = self.nodes().zone_of(&page);
            let order = largest_block(at, min(range.end, zone.span().end));
            // SAFETY: nobody uses the pages, which lie within one zone of one node.
            let block = unsafe { FreeBlock::from_raw(page, order) };
            self.hand_over_block(zone, block);
            at = at + order.nr_pages();
        }
        range.nr_pages()
    }

    /// Makes reserved memory that of a contiguous-memory area: its pageblocks of type `Cma`, its pages free and managed
    /// (Linux: `init_cma_reserved_pageblock`). The zone that it is all of; `None` when there is none, and nothing has changed.
    /// Takes time by the pages.
    ///
    /// # Safety
    /// Nobody uses the pages. They are whole pageblocks that memblock had reserved at the hand-over, and were not freed since.
    #[allow(unsafe_code, reason = "takes pages over from boot")]
    pub(crate) unsafe fn init_cma(&self, pages: PfnRange) -> Option<&Zone> {
        let zone = self.zone_of_range(pages)?;
        for page in pages.iter().filter_map(|pfn| zone.sparse().page(pfn)) {
            page.clear_flags_owned(PageFlags::RESERVED);
            page.set_refcount(0);
        }
        for pageblock in pages.iter().step_by(PAGEBLOCK_NR_PAGES as usize) {
            zone.sparse().set_migrate_type(pageblock, MigrateType::Cma);
            // SAFETY: nobody's, of one zone, and now as boot made them; a pageblock at a time, so that types match.
            unsafe { self.hand_over(PfnRange::new(pageblock, pageblock + PAGEBLOCK_NR_PAGES)) };
        }
        zone.add_cma_pages(pages.nr_pages());
        Some(zone)
    }

    fn hand_over_block(&self, zone: &Zone, block: FreeBlock) {
        debug_assert!(
            block.pages().iter().all(|page| page.same_zone(&block.page()) && is_free(page)),
            "pages of more than one zone, or not free"
        );
        self.take_back(&block);
        let order = block.order();
        zone.add_managed(order.nr_pages());
        let irq = IrqGuard::new();
        let migrate_type = zone.sparse().migrate_type(block.page().pfn(self.machine));
        // To the tail: memory that is free since boot comes in larger pieces the longer it is left alone.
        let freed =
            with_free(zone, &irq, |free| free.free(block, migrate_type, Some(End::Tail), zone.sparse()));
        if let Err(bad) = freed {
            bug(bad);
        }
        self.with_pcp(zone, &irq, |pcp| pcp.events.freed(order));
    }
}

/// The largest aligned block that starts at `at` and ends by `end`, which is above.
fn largest_block(at: Pfn, end: Pfn) -> Order {
    let aligned = min(at.get().trailing_zeros(), u32::from(Order::MAX.get()));
    let fitting = min((end - at).ilog2(), aligned);
    Order::new(fitting as u8).unwrap_or(Order::ZERO)
}

/// Whether a page is as boot made it for the page allocator.
fn is_free(page: &Page) -> bool {
    why_not_free(page, PageFlags::CHECK_AT_PREP).is_none()
}
