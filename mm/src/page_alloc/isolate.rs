//! Pageblocks set aside, so that their free pages can be collected: for contiguous ranges, and for memory that goes away.
//!
//! ```text
//! isolate_range   every pageblock that the range touches, one after the other:   T -> Isolate
//!                 one holds a page that cannot move, or is somebody else's: those before become what they were
//! restore         Isolate -> T'
//! ```
//! A page inside of a block of several that is not compound looks like a free one, as in Linux: what nobody has said cannot be
//! seen. Its pageblock may be set aside; the page is on no free list, so whoever wants it fails then.
//!
//! # Invariants
//! - I1: while an [`IsolatedRange`] exists its pageblocks are of type `Isolate`, and nobody else changes that.

use super::rmqueue::{sound, with_free};
use super::{ContigError, PageAllocator};
use crate::arch::IrqGuard;
use crate::gfp::MigrateType;
use crate::order::PAGEBLOCK_NR_PAGES;
use crate::page::{Page, PageFlags, PagePtr, PageType, peek_compound};
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

    /// Whether no other zone has pages of the pageblocks that a range touches: a pageblock has one type, and is set aside
    /// under one zone's lock (Linux: `prep_move_freepages_block`).
    fn has_whole_pageblocks(&self, zone: &Zone, range: PfnRange) -> bool {
        let (start, end) = (range.start, range.end);
        let before = PfnRange::new(start.align_down(PAGEBLOCK_NR_PAGES), start);
        let behind = PfnRange::new(end, end.align_up(PAGEBLOCK_NR_PAGES));
        let key = Page::key_of(zone.node(), zone.idx());
        let is_ours = |pfn| self.nodes().sparse().page(pfn).is_none_or(|page| page.zone_key() == key);
        before.iter().chain(behind.iter()).all(is_ours)
    }

    /// Sets all pageblocks that a range touches aside: nothing is allocated from them any more, and what comes free in them
    /// stays there (Linux: `start_isolate_page_range`). Pages on per-CPU lists are not collected. Any context; takes the
    /// zone's lock for each pageblock, and looks at its pages.
    ///
    /// # Errors
    /// [`ContigError::NotOneZone`]; [`ContigError::InUse`]: a page of the range that cannot be moved away, or is of a
    /// contiguous-memory area where `restore` is not `Cma`, or the other way round; [`ContigError::Contended`]: somebody else
    /// has set a pageblock of it aside. Nothing has changed then, but for types: pageblocks that were set aside for a moment
    /// are of type `restore` now.
    pub fn isolate_range(&self, range: PfnRange, restore: MigrateType) -> Result<IsolatedRange, ContigError> {
        let zone = self.zone_of_range(range).filter(|zone| self.has_whole_pageblocks(zone, range));
        let zone = zone.ok_or(ContigError::NotOneZone)?;
        for pfn in each_pageblock(range) {
            if let Err(error) = self.isolate_pageblock(zone, pfn, range, restore) {
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
    fn isolate_pageblock(
        &self,
        zone: &Zone,
        pfn: Pfn,
        range: PfnRange,
        restore: MigrateType,
    ) -> Result<(), ContigError> {
        let page = zone.sparse().page(pfn).ok_or(ContigError::NotOneZone)?;
        let block = PfnRange::new(pfn, (pfn + 1).align_up(PAGEBLOCK_NR_PAGES)).intersect(range);
        let irq = IrqGuard::new();
        with_free(zone, &irq, |free| {
            let was = zone.sparse().migrate_type(pfn);
            if was == MigrateType::Isolate {
                return Err(ContigError::Contended(pfn));
            }
            if (was == MigrateType::Cma) != (restore == MigrateType::Cma) {
                return Err(ContigError::InUse(pfn));
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

    /// The first page in use that cannot be moved away (Linux: `has_unmovable_pages`).
    fn first_unmovable(&self, block: PfnRange) -> Option<Pfn> {
        let mut at = block.start;
        while at < block.end {
            match self.nodes().sparse().page(at).map_or(0, |page| movable_run(page, at)) {
                0 => return Some(at),
                run => at = at + run,
            }
        }
        None
    }
}

/// How many pages from `page`, of frame `pfn`, on are free, on whatever list they are, or can be moved away; 0: it cannot.
/// Those that reclaim knows can. Of a compound page the head says it, and others may be freeing it meanwhile: then its tails
/// stay for now.
fn movable_run(page: PagePtr, pfn: Pfn) -> u64 {
    if page.flags().contains(PageFlags::RESERVED) {
        return 0;
    }
    if let Some(compound) = peek_compound(page, pfn) {
        let moves = compound.head.flags().contains(PageFlags::LRU);
        return if moves { compound.order.nr_pages() - compound.nr } else { 0 };
    }
    let is_free = page.refcount() == 0 && page.page_type() != PageType::TABLE;
    u64::from(is_free || page.flags().contains(PageFlags::LRU))
}
