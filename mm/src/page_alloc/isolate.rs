//! Pageblocks set aside, so that their free pages can be collected: for contiguous ranges, and for memory that goes away.
//!
//! ```text
//! isolate_range   every pageblock that the range touches, one after the other:   T -> Isolate
//!                 one holds a page that cannot move, or is somebody else's: those before become what they were
//! restore         Isolate -> T'
//! ```
//!
//! # Invariants
//! - I1: while an [`IsolatedRange`] exists its pageblocks are of type `Isolate`, and nobody else changes that.

use super::rmqueue::{sound, with_free};
use super::{ContigError, PageAllocator};
use crate::arch::IrqGuard;
use crate::gfp::MigrateType;
use crate::order::PAGEBLOCK_NR_PAGES;
use crate::page::{PageFlags, PagePtr, PageType};
use crate::pfn::{Pfn, PfnRange};
use crate::zone::Zone;

/// Pageblocks that are set aside (I1).
#[must_use = "its pages cannot be allocated until `restore_range`"]
#[derive(Debug)]
pub struct IsolatedRange {
    /// The range asked for.
    pages: PfnRange,
}

/// The pageblocks that a range touches, as the parts of the zone's frames that they are: `visit` until one fails.
fn each_pageblock(range: PfnRange) -> impl Iterator<Item = Pfn> {
    let end = range.end;
    core::iter::successors(Some(range.start), |at| Some((*at + 1).align_up(PAGEBLOCK_NR_PAGES)))
        .take_while(move |at| *at < end)
}

impl PageAllocator {
    /// The zone of all frames of a range.
    pub(super) fn zone_of_range(&self, range: PfnRange) -> Option<&Zone> {
        let sparse = self.nodes().sparse();
        let first = sparse.page(range.start)?;
        let zone = self.nodes().zone_of(&first);
        if range.is_empty() || range.end > zone.span().end || range.start < zone.span().start {
            return None;
        }
        let alike = |pfn| sparse.page(pfn).is_some_and(|page| page.same_zone(&first));
        range.iter().all(alike).then_some(zone)
    }

    /// Sets all pageblocks that a range touches aside: nothing is allocated from them any more, and what comes free in them
    /// stays there (Linux: `start_isolate_page_range`). Pages on per-CPU lists are not collected. Any context; takes the
    /// zone's lock for each pageblock, and looks at its pages.
    ///
    /// # Errors
    /// [`ContigError::NotOneZone`]; [`ContigError::InUse`]: a page of the range that cannot be moved away;
    /// [`ContigError::Contended`]: somebody else has set a pageblock of it aside. Nothing has changed then, but for types:
    /// pageblocks that were set aside for a moment are of type `restore` now.
    pub fn isolate_range(&self, range: PfnRange, restore: MigrateType) -> Result<IsolatedRange, ContigError> {
        let zone = self.zone_of_range(range).ok_or(ContigError::NotOneZone)?;
        for pfn in each_pageblock(range) {
            if let Err(error) = self.isolate_pageblock(zone, pfn, range) {
                let done = PfnRange::new(range.start, pfn.align_down(PAGEBLOCK_NR_PAGES));
                self.restore_pageblocks(zone, done, restore);
                return Err(error);
            }
        }
        Ok(IsolatedRange { pages: range })
    }

    /// Ends isolation: pageblocks become ones of type `to` (Linux: `undo_isolate_page_range`). Any context.
    pub fn restore_range(&self, isolated: IsolatedRange, to: MigrateType) {
        if let Some(zone) = self.zone_of_range(isolated.pages) {
            self.restore_pageblocks(zone, isolated.pages, to);
        }
    }

    fn restore_pageblocks(&self, zone: &Zone, range: PfnRange, to: MigrateType) {
        for page in each_pageblock(range).filter_map(|pfn| zone.sparse().page(pfn)) {
            let irq = IrqGuard::new();
            sound(with_free(zone, &irq, |free| free.retype_pageblock(page, to, zone.sparse())));
        }
    }

    /// Linux: `set_migratetype_isolate`.
    fn isolate_pageblock(&self, zone: &Zone, pfn: Pfn, range: PfnRange) -> Result<(), ContigError> {
        let page = zone.sparse().page(pfn).ok_or(ContigError::NotOneZone)?;
        let block = PfnRange::new(pfn, (pfn + 1).align_up(PAGEBLOCK_NR_PAGES)).intersect(range);
        let irq = IrqGuard::new();
        with_free(zone, &irq, |free| {
            let was = zone.sparse().migrate_type(pfn);
            if was == MigrateType::Isolate {
                return Err(ContigError::Contended);
            }
            if let Some(stays) = self.first_unmovable(block) {
                return Err(ContigError::InUse(stays));
            }
            if was == MigrateType::HighAtomic {
                // It will be of another type when it comes back.
                zone.add_reserved_highatomic(free, -(PAGEBLOCK_NR_PAGES as i64));
            }
            sound(free.retype_pageblock(page, MigrateType::Isolate, zone.sparse()));
            Ok(())
        })
    }

    /// The first page in use that cannot be moved away (Linux: `has_unmovable_pages`). Free ones count as movable, on whatever
    /// list they are, and so do those that reclaim knows.
    fn first_unmovable(&self, block: PfnRange) -> Option<Pfn> {
        let page_of = |pfn| self.nodes().sparse().page(pfn);
        let stays = |page: PagePtr| {
            let is_free = page.refcount() == 0 && page.page_type() != PageType::TABLE;
            page.flags().contains(PageFlags::RESERVED) || !is_free && !page.flags().contains(PageFlags::LRU)
        };
        block.iter().find(|&pfn| page_of(pfn).is_none_or(stays))
    }
}
