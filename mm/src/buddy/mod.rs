//! The buddy allocator of one zone: free blocks of 1 to 1024 pages, split on allocation, merged on free.
//!
//! ```text
//!             Unmovable  Movable  Reclaimable  HighAtomic  Cma  Isolate
//! order 10       o-o        o          .            .       o      .      one list each, blocks linked through their
//! ...                                                                 first page; `nonempty[type]` has a bit for
//! order 0        o          o-o-o      o            .       .      .      each order whose list has a block
//!
//! alloc: smallest fitting block of the type, halves given back;  none: steal from another type (`fallback`)
//! free:  while the other half of the block one order up is free too, both become one
//! ```
//!
//! # Invariants
//! - A1: every listed block is aligned to its size and inside `span`, all its pages of one zone (Linux's rule: pages at a
//!   zone's end belong to no block of another).
//! - A2: no two buddies of one order below the largest are both listed, unless a pageblock type forbids the merge (a
//!   block of a pageblock's size or more whose types differ and one of which is `HighAtomic`, `Cma` or `Isolate`).
//! - A3: `pages[type]` is the sum over orders of `nr[type] << order`; `free_pages` is the sum of them without `Isolate`.
//! - B1, B2: see [`block`](FreeBlock).
//!
//! # Locking
//! None of its own: a `FreeAreas` is what the zone's lock protects (Linux: `zone->lock`). Usable in any context that may
//! take that lock.
//!
//! # Not here
//! Watermarks and zones (`page_alloc`, `zone`), per-CPU lists (`pcp`), where pageblock types are stored (`sparse`).
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "follows the links of lists")]
mod block;

mod bad;
mod fallback;
mod isolate;
mod validate;

#[cfg(test)]
#[allow(unsafe_code, reason = "makes the pages of a zone")]
mod tests;

pub use bad::{BadPage, BadReason};
pub use block::{End, FreeArea, FreeBlock};
pub use isolate::TakeError;
pub(crate) use {bad::why_not_free, block::later, block::note_migrate_type, block::noted_migrate_type};

use block::Bounds;

use crate::arch::Machine;
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_ORDER};
use crate::page::{PageFlags, PagePtr};
use crate::pfn::{Pfn, PfnRange};

/// Where the migratetypes of pageblocks are kept. Both functions are for any frame of a populated section.
pub trait Pageblocks {
    /// The type of the pageblock that `pfn` lies in (Linux: `get_pfnblock_migratetype`).
    fn migrate_type(&self, pfn: Pfn) -> MigrateType;
    /// Sets it. The caller holds the lock of the pageblock's zone.
    fn set_migrate_type(&self, pfn: Pfn, migrate_type: MigrateType);
    /// A part of a pageblock is about to be used for another type than its own (Linux: where `steal_suitable_fallback`
    /// boosts watermarks).
    fn types_mix(&self, _free: &FreeAreas) {}
}

/// May an allocation mix types within pageblocks (Linux: `ALLOC_NOFRAGMENT`)?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fragment {
    /// Take what there is.
    #[default]
    Allowed,
    /// Only steal whole pageblocks.
    Avoided,
}

/// The free blocks of a zone (Linux: `zone->free_area`).
#[derive(Debug)]
pub struct FreeAreas {
    zone: Bounds,
    areas: [FreeArea; Order::COUNT],
    /// Bit n: the list of order n is not empty.
    nonempty: [u16; MigrateType::COUNT],
    pages: [u64; MigrateType::COUNT],
    /// Pageblocks of type `Isolate` (Linux: `nr_isolate_pageblock`).
    nr_isolated: u64,
}

/// Whether blocks of that type merge with those of other types (Linux: `migratetype_is_mergeable`).
const fn mergeable(migrate_type: MigrateType) -> bool {
    (migrate_type as usize) < MigrateType::PCP_COUNT
}

impl FreeAreas {
    /// No free pages, of a zone that spans those frames.
    pub fn new(machine: Machine, span: PfnRange) -> Self {
        Self {
            zone: Bounds::new(machine, span),
            areas: [const { FreeArea::new() }; Order::COUNT],
            nonempty: [0; MigrateType::COUNT],
            pages: [0; MigrateType::COUNT],
            nr_isolated: 0,
        }
    }

    /// The frames that the zone spans.
    pub fn span(&self) -> PfnRange {
        self.zone.span
    }

    /// The free blocks of one order.
    pub fn area(&self, order: Order) -> &FreeArea {
        &self.areas[order.index()]
    }

    /// Free pages of one type.
    #[inline]
    pub fn pages_of(&self, migrate_type: MigrateType) -> u64 {
        self.pages[migrate_type.index()]
    }

    /// Pages that are free to be allocated: all but isolated ones (Linux: `NR_FREE_PAGES`).
    #[inline]
    pub fn free_pages(&self) -> u64 {
        let [unmovable, movable, reclaimable, high_atomic, cma, _isolate] = self.pages;
        unmovable + movable + reclaimable + high_atomic + cma
    }

    /// Whether a block of at least `order` is listed as one of `types`.
    #[inline]
    pub fn has_block(&self, order: Order, types: &[MigrateType]) -> bool {
        types.iter().any(|t| self.nonempty[t.index()] >> order.get() != 0)
    }

    /// Takes a block of exactly `order`, of type `migrate_type` or, when there is none, of another that may be used for
    /// it; `None` when none fits. A few instructions a level split; stealing may look at a pageblock's pages
    /// (Linux: `__rmqueue`).
    ///
    /// # Errors
    /// A block whose page is not in the state of a free block.
    #[inline]
    pub fn alloc(
        &mut self,
        order: Order,
        migrate_type: MigrateType,
        fragment: Fragment,
        blocks: &impl Pageblocks,
    ) -> Result<Option<FreeBlock>, BadPage> {
        loop {
            if let Some(source) = self.source(order, migrate_type) {
                return self.alloc_of_type(order, source);
            }
            if !self.steal(order, migrate_type, fragment, blocks)? {
                return Ok(None);
            }
        }
    }

    /// The type whose lists serve a request for `wanted` as long as nothing is stolen. Movable pages use `Cma` blocks when
    /// their own lists are empty, and rather than those while more than half of what is free is of that type: the areas are
    /// to be used, but in step with the rest (Linux: `__rmqueue`).
    #[inline]
    fn source(&self, order: Order, wanted: MigrateType) -> Option<MigrateType> {
        let has = |t: MigrateType| self.nonempty[t.index()] >> order.get() != 0;
        if wanted == MigrateType::Movable && has(MigrateType::Cma) {
            let rather = self.pages_of(MigrateType::Cma) > self.free_pages() / 2;
            return if rather || !has(wanted) { Some(MigrateType::Cma) } else { Some(wanted) };
        }
        has(wanted).then_some(wanted)
    }

    /// Takes a block of exactly `order` from the lists of one type only (Linux: `__rmqueue_smallest`).
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    #[inline]
    pub fn alloc_of_type(
        &mut self,
        order: Order,
        migrate_type: MigrateType,
    ) -> Result<Option<FreeBlock>, BadPage> {
        let fitting = self.nonempty[migrate_type.index()] >> order.get();
        let Some(from) = Order::new(order.get() + fitting.trailing_zeros() as u8) else { return Ok(None) };
        let Some(page) = self.area(from).list(migrate_type).first() else { return Ok(None) };
        let mut block = self.take(page, from)?;
        self.split_to(order, &mut block, migrate_type);
        Ok(Some(block))
    }

    /// Gives back the upper halves of a block until it is of `order` (Linux: `expand`).
    #[inline(always)]
    fn split_to(&mut self, order: Order, block: &mut FreeBlock, migrate_type: MigrateType) {
        while block.order() > order {
            let Some(upper) = block.take_upper_half() else { return };
            self.push(upper, migrate_type, End::Head);
        }
    }

    /// Takes up to `count` blocks of `order`, the same ones and in the same order as so many calls of
    /// [`alloc`](Self::alloc), but a block of many at a time, which `sink` gets with how large its parts should be. How many
    /// blocks of `order` they make (Linux: `rmqueue_bulk`).
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc); what was taken until then has gone to `sink`.
    pub fn alloc_bulk(
        &mut self,
        order: Order,
        migrate_type: MigrateType,
        count: u32,
        fragment: Fragment,
        blocks: &impl Pageblocks,
        mut sink: impl FnMut(FreeBlock),
    ) -> Result<u32, BadPage> {
        let mut left = count;
        while left > 0 {
            let Some(source) = self.source(order, migrate_type) else {
                if !self.steal(order, migrate_type, fragment, blocks)? {
                    break;
                }
                continue;
            };
            let fitting = self.nonempty[source.index()] >> order.get();
            // The smallest block as ever, and as much of it as is wanted.
            let smallest = order.get() + fitting.trailing_zeros() as u8;
            let wanted = order.get() + left.ilog2() as u8;
            let Some(size) = Order::new(smallest.min(wanted)) else { break };
            let Some(block) = self.alloc_of_type(size, source)? else { break };
            left -= 1 << (size.get() - order.get());
            sink(block);
        }
        Ok(count - left)
    }

    /// Gives a block back, as one of type `migrate_type`, merged with all free buddies (Linux: `__free_one_page`). While
    /// pageblocks are isolated its own pageblock is asked again: the type may be from before.
    ///
    /// # Errors
    /// A page that is not in the state of one to be freed: mapped, used, free already, outside the zone.
    #[inline]
    pub fn free(
        &mut self,
        block: FreeBlock,
        migrate_type: MigrateType,
        end: Option<End>,
        blocks: &impl Pageblocks,
    ) -> Result<(), BadPage> {
        let mut pfn = block.page().pfn(self.zone.machine);
        self.check_to_free(&block, pfn)?;
        let migrate_type = if self.nr_isolated == 0 { migrate_type } else { blocks.migrate_type(pfn) };
        let mut block = block;
        while let Some(buddy) = self.mergeable_buddy(&block, pfn, migrate_type, blocks) {
            let buddy = self.take(buddy, block.order())?;
            block = block.merge(buddy);
            pfn = pfn.align_down(block.order().nr_pages());
        }
        let end = end.unwrap_or_else(|| self.likely_end(&block, pfn));
        self.push(block, migrate_type, end);
        Ok(())
    }

    fn check_to_free(&self, block: &FreeBlock, pfn: Pfn) -> Result<(), BadPage> {
        let nr_pages = block.order().nr_pages();
        let bad = |reason| Err(BadPage::new(self.zone.machine, block.page(), reason));
        if let Some(reason) = why_not_free(&block.page(), PageFlags::CHECK_AT_FREE) {
            return bad(reason);
        }
        if !pfn.is_aligned(nr_pages) || pfn < self.zone.span.start || pfn + nr_pages > self.zone.span.end {
            return bad(BadReason::Misplaced);
        }
        Ok(())
    }

    fn mergeable_buddy(
        &self,
        block: &FreeBlock,
        pfn: Pfn,
        migrate_type: MigrateType,
        blocks: &impl Pageblocks,
    ) -> Option<PagePtr> {
        let order = block.order();
        if order >= Order::MAX {
            return None;
        }
        let buddy = FreeBlock::find_buddy(&self.zone, block.page(), pfn, order)?;
        if order >= PAGEBLOCK_ORDER {
            // From here on buddies are other pageblocks, whose type may have to stay apart.
            let other = blocks.migrate_type(Pfn::new(pfn.get() ^ order.nr_pages()));
            if other != migrate_type && !(mergeable(other) && mergeable(migrate_type)) {
                return None;
            }
        }
        Some(buddy)
    }

    /// Where a block goes: to the tail when the buddy of its parent is free already, so that the block waits there for its
    /// own buddy instead of being split again (Linux: `buddy_merge_likely`).
    #[inline]
    fn likely_end(&self, block: &FreeBlock, pfn: Pfn) -> End {
        let order = block.order();
        match order.up() {
            Some(up) if order.get() + 2 <= Order::MAX.get() => {
                let parent = pfn.align_down(up.nr_pages());
                match FreeBlock::find_buddy(&self.zone, block.page(), parent, up) {
                    Some(_) => End::Tail,
                    None => End::Head,
                }
            }
            _ => End::Head,
        }
    }

    #[inline]
    fn push(&mut self, block: FreeBlock, migrate_type: MigrateType, end: End) {
        let order = block.order();
        self.areas[order.index()].push(block, migrate_type, end);
        self.nonempty[migrate_type.index()] |= 1 << order.get();
        self.pages[migrate_type.index()] += order.nr_pages();
    }

    #[inline(always)]
    fn take(&mut self, page: PagePtr, order: Order) -> Result<FreeBlock, BadPage> {
        let area = &mut self.areas[order.index()];
        let (block, migrate_type) = match area.take(page, order, &self.zone) {
            Ok(taken) => taken,
            Err(reason) => return Err(BadPage::new(self.zone.machine, page, reason)),
        };
        if area.is_empty(migrate_type) {
            self.nonempty[migrate_type.index()] &= !(1 << order.get());
        }
        self.pages[migrate_type.index()] -= order.nr_pages();
        Ok(block)
    }
}
