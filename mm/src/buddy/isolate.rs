//! Pageblocks that change their type, and the free pages of isolated ones taken out whole.
//!
//! ```text
//! retype_pageblock   T -> Isolate   its free blocks are on lists that nothing is allocated from; those that reach across its
//!                                   borders are cut there; what comes free in it stays
//! take_range                        all pages of a range on such lists -> off the lists, the caller's
//! retype_pageblock   Isolate -> T'  its free blocks can be had again, merged with their neighbours
//! ```

use super::{BadPage, End, FreeAreas, FreeBlock, Pageblocks, block};
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use crate::page::PagePtr;
use crate::pfn::{Pfn, PfnRange};

impl FreeAreas {
    /// Makes the pageblock around `page` one of type `to`, and its free blocks too; how many pages those are (Linux:
    /// `set_pageblock_migratetype` with `move_freepages_block`, `set_migratetype_isolate`, `unset_migratetype_isolate`). A
    /// larger block that it is part of is cut; a pageblock that is free as a whole merges with its neighbour where types
    /// allow. Looks at each of its blocks and used pages once.
    ///
    /// # Errors
    /// A block in it that is not in the state of a free block.
    pub(crate) fn retype_pageblock(
        &mut self,
        page: PagePtr,
        to: MigrateType,
        blocks: &impl Pageblocks,
    ) -> Result<u64, BadPage> {
        let pfn = page.pfn(self.zone.machine);
        self.cut_at_pageblock(page, pfn, blocks)?;
        self.note_isolated(blocks.migrate_type(pfn), to);
        blocks.set_migrate_type(pfn, to);
        let pageblock = self.pageblock_of(pfn);
        let free = self.move_pageblock(page, pageblock, to)?.free;
        let head = block::in_same_block(&self.zone, page, pageblock.start);
        if block::free_order(head) == Some(PAGEBLOCK_ORDER) && head.same_zone(&page) {
            // All of it: a neighbour that the old type kept apart may be one with it now (A2).
            let whole = self.take(head, PAGEBLOCK_ORDER)?;
            self.free(whole, to, Some(End::Tail), blocks)?;
        }
        Ok(free)
    }

    fn note_isolated(&mut self, from: MigrateType, to: MigrateType) {
        match (from == MigrateType::Isolate, to == MigrateType::Isolate) {
            (false, true) => self.special += 1,
            (true, false) => self.special -= 1,
            _ => {}
        }
    }

    /// The part of `pfn`'s pageblock that the zone spans.
    fn pageblock_of(&self, pfn: Pfn) -> PfnRange {
        let start = pfn.align_down(PAGEBLOCK_NR_PAGES);
        PfnRange::new(start, start + PAGEBLOCK_NR_PAGES).intersect(self.zone.span)
    }

    /// Cuts a free block of more than one pageblock, one of them `pfn`'s, in pageblocks, each for the list of its type.
    fn cut_at_pageblock(&mut self, page: PagePtr, pfn: Pfn, blocks: &impl Pageblocks) -> Result<(), BadPage> {
        let Some((head, order)) = self.block_around(page, pfn).filter(|(_, order)| *order > PAGEBLOCK_ORDER)
        else {
            return Ok(());
        };
        for part in self.take(head, order)?.shatter(PAGEBLOCK_ORDER) {
            let migrate_type = blocks.migrate_type(part.page().pfn(self.zone.machine));
            self.push(part, migrate_type, End::Tail);
        }
        Ok(())
    }

    /// The listed block that the frame `pfn` of `page` lies in, as its head and order.
    fn block_around(&self, page: PagePtr, pfn: Pfn) -> Option<(PagePtr, Order)> {
        Order::all().find_map(|order| {
            let start = pfn.align_down(order.nr_pages());
            if start < self.zone.span.start {
                return None;
            }
            let head = block::in_same_block(&self.zone, page, start);
            (block::free_order(head) == Some(order) && head.same_zone(&page)).then_some((head, order))
        })
    }

    /// The first page of `range` that is on no list of isolated blocks, when there is one.
    fn first_not_isolated(&self, page_of: &impl Fn(Pfn) -> PagePtr, range: PfnRange) -> Option<Pfn> {
        let mut at = range.start;
        while at < range.end {
            let (head, order) = match self.block_around(page_of(at), at) {
                Some((head, order)) if block::list_of(head) == Some(MigrateType::Isolate) => (head, order),
                _ => return Some(at),
            };
            at = head.pfn(self.zone.machine) + order.nr_pages();
        }
        None
    }

    /// Takes all pages of `range` off the lists of isolated blocks, if all are there; `sink` gets them in blocks, lowest
    /// first. Parts of blocks outside of it stay (Linux: `test_pages_isolated`, `isolate_freepages_range`). `page_of` gives
    /// the struct page of each frame of the range, which has one, in this zone.
    ///
    /// # Errors
    /// [`TakeError::InUse`]: the first page that is not, and nothing was taken. [`TakeError::Bad`]: a block that is not in the
    /// state of a free one.
    pub(crate) fn take_range(
        &mut self,
        range: PfnRange,
        page_of: impl Fn(Pfn) -> PagePtr,
        mut sink: impl FnMut(FreeBlock),
    ) -> Result<(), TakeError> {
        if let Some(pfn) = self.first_not_isolated(&page_of, range) {
            return Err(TakeError::InUse(pfn));
        }
        let mut at = range.start;
        while at < range.end {
            let Some((head, order)) = self.block_around(page_of(at), at) else {
                return Err(TakeError::InUse(at));
            };
            let block = self.take(head, order).map_err(TakeError::Bad)?;
            at = head.pfn(self.zone.machine) + order.nr_pages();
            self.keep_inside(block, range, &mut sink);
        }
        Ok(())
    }

    /// Gives `sink` what lies in `range` of a block, and the lists the rest. Halves at a time: about twenty steps.
    fn keep_inside(&mut self, block: FreeBlock, range: PfnRange, sink: &mut impl FnMut(FreeBlock)) {
        let start = block.page().pfn(self.zone.machine);
        let whole = PfnRange::new(start, start + block.order().nr_pages());
        if whole.intersect(range) == whole {
            return sink(block);
        }
        if whole.intersect(range).is_empty() {
            return self.push(block, MigrateType::Isolate, End::Tail);
        }
        let Some(half) = block.order().down() else { return sink(block) };
        for part in block.shatter(half) {
            self.keep_inside(part, range, sink);
        }
    }
}

/// Why a range was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TakeError {
    /// This page is not free, or not set aside.
    InUse(Pfn),
    /// The free lists are broken.
    Bad(BadPage),
}
