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
//! - A3: `pages[type]` is the sum over orders of `nr[type] << order`, and `all_pages` the sum of them; bit n of
//!   `nonempty[type]` is set exactly when the list of order n has a block.
//! - B1, B2: see [`block`](FreeBlock). B3, A4: see `guard`; without guard pages there is nothing to them.
//!
//! # Locking
//! None of its own: a `FreeAreas` is what the zone's lock protects (Linux: `zone->lock`). Usable in any context that may
//! take that lock. Outside of this crate a `FreeAreas` can only be looked at: whoever allocates and frees has to know what
//! is whose.
//!
//! # Not here
//! Watermarks and zones (`page_alloc`, `zone`), per-CPU lists (`pcp`), where pageblock types are stored (`sparse`).
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "makes blocks out of pages")]
mod block;

#[allow(unsafe_code, reason = "follows the links of lists")]
mod list;

mod bad;
mod fallback;
mod guard;
mod isolate;
mod validate;

#[cfg(test)]
#[allow(unsafe_code, reason = "makes the pages of a zone")]
mod tests;

pub(crate) use bad::why_not_free;
pub use bad::{BadPage, BadReason};
pub use block::{FreeArea, FreeBlock};
pub(crate) use block::{
    later, note_migrate_type, note_type_number, noted_migrate_type, noted_type_of, taken_from,
};
pub(crate) use isolate::TakeError;
pub use list::{End, FreeList};

use block::{Bounds, Note, Place, is_listed, mark, unmark};
use guard::Guards;

use crate::arch::Machine;
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_ORDER};
use crate::page::{Page, PageFlags, PagePtr};
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
    all_pages: u64,
    /// Pageblocks of type `Isolate` (Linux: `nr_isolate_pageblock`), and [`KEEPS_GUARDS`]; 0 is the usual.
    special: u64,
    guards: Guards,
}

/// Set in `special`: small halves of what is split are kept back (`guard`).
const KEEPS_GUARDS: u64 = 1 << 63;

/// Whether blocks of that type merge with those of other types (Linux: `migratetype_is_mergeable`).
const fn mergeable(migrate_type: MigrateType) -> bool {
    (migrate_type as usize) < MigrateType::PCP_COUNT
}

impl FreeAreas {
    /// No free pages, of the zone whose pages have that [`zone_key`](Page::zone_key) and that spans those frames.
    pub(crate) fn new(machine: Machine, zone_key: usize, span: PfnRange) -> Self {
        Self {
            zone: Bounds::new(machine, zone_key, span),
            areas: [const { FreeArea::new() }; Order::COUNT],
            nonempty: [0; MigrateType::COUNT],
            pages: [0; MigrateType::COUNT],
            all_pages: 0,
            special: 0,
            guards: Guards::NONE,
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
        self.all_pages - self.pages_of(MigrateType::Isolate)
    }

    /// Whether a block that was freed as that type before the zone was locked goes to that type's lists, with nothing else to be
    /// looked at; else it is for [`free_special`](Self::free_special).
    #[inline(always)]
    pub(crate) fn is_plain(&self, as_freed: MigrateType) -> bool {
        self.special == 0 && as_freed != MigrateType::Isolate
    }

    /// As [`free`](Self::free), as the type that the pageblock has now: it may have been isolated since the block was freed, or
    /// let go (Linux: the checks of `has_isolate_pageblock`); and merged with guard pages.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    #[cold]
    pub(crate) fn free_special(
        &mut self,
        block: FreeBlock,
        as_freed: MigrateType,
        blocks: &impl Pageblocks,
    ) -> Result<(), BadPage> {
        let migrate_type = match self.has_isolated() || as_freed == MigrateType::Isolate {
            true => blocks.migrate_type(block.page().pfn(self.zone.machine)),
            false => as_freed,
        };
        self.free_guarded(block, migrate_type, blocks)
    }

    /// Whether pageblocks are isolated, so that types have to be asked again.
    #[inline(always)]
    pub(crate) fn has_isolated(&self) -> bool {
        self.special & !KEEPS_GUARDS != 0
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
    pub(crate) fn alloc(
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
    #[inline(always)]
    pub(crate) fn source(&self, order: Order, wanted: MigrateType) -> Option<MigrateType> {
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
    #[inline(always)]
    pub(crate) fn alloc_of_type(
        &mut self,
        order: Order,
        migrate_type: MigrateType,
    ) -> Result<Option<FreeBlock>, BadPage> {
        let t = migrate_type.index();
        let fitting = self.nonempty[t] >> order.get();
        let Some(from) = Order::new(order.get() + fitting.trailing_zeros() as u8) else { return Ok(None) };
        let area = &mut self.areas[from.index()];
        let Some(page) = area.lists[t].first() else { return Ok(None) };
        let note = self.zone.note(from, migrate_type);
        let is_head = page.type_and_refcount() == Page::FREE_HEAD && Note::of(page) == note;
        if !is_head || area.lists[t].pop_first(page, self.zone.links).is_err() {
            return Err(BadPage::new(self.zone.machine, page, BadReason::BrokenFreeList));
        }
        area.nr[t] -= 1;
        if area.lists[t].is_empty() {
            self.nonempty[t] &= !(1 << from.get());
        }
        if from > order {
            self.split(page, note, from, order, migrate_type);
        }
        self.pages[t] -= order.nr_pages();
        self.all_pages -= order.nr_pages();
        // SAFETY: just taken off the list that it said it was on.
        #[allow(unsafe_code, reason = "a block of the list becomes ours")]
        Ok(Some(unsafe { unmark(page, order) }))
    }

    /// Lists the upper halves of the block of `from` that `page` heads, down to `to` (Linux: `expand`). It was the
    /// smallest that fits, so the lists of the orders from `to` up are empty.
    #[inline(always)]
    fn split(&mut self, page: PagePtr, note: Note, from: Order, to: Order, migrate_type: MigrateType) {
        let (t, place) = (migrate_type.index(), Place::of(page, self.zone.machine));
        let (mut note, mut order) = (note, from);
        for area in self.areas[to.index()..from.index()].iter_mut().rev() {
            let upper = place.upper_half(order).page();
            note = note.down();
            order = order.down().unwrap_or(Order::ZERO);
            mark(upper, note);
            area.lists[t].set_only(upper);
            area.nr[t] = 1;
        }
        self.nonempty[t] |= (1 << from.get()) - (1 << to.get());
    }

    /// Takes up to `count` blocks of `order`, the same ones and in the same order as so many calls of
    /// [`alloc`](Self::alloc), but a block of many at a time, which `sink` gets with how large its parts should be. How many
    /// blocks of `order` they make (Linux: `rmqueue_bulk`).
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc); what was taken until then has gone to `sink`.
    pub(crate) fn alloc_bulk(
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

    /// Gives a block back, as one of type `migrate_type`, merged with all free buddies (Linux: `__free_one_page`).
    ///
    /// # Errors
    /// A page that is not in the state of one to be freed: mapped, used, free already, outside the zone.
    #[inline(always)]
    pub(crate) fn free(
        &mut self,
        block: FreeBlock,
        migrate_type: MigrateType,
        end: Option<End>,
        blocks: &impl Pageblocks,
    ) -> Result<(), BadPage> {
        let mut place = Place::of(block.page(), self.zone.machine);
        self.check_to_free(&block, place.pfn())?;
        let (mut order, mut note) = (block.order(), self.zone.note(block.order(), migrate_type));
        while order < PAGEBLOCK_ORDER && self.swallow_buddy(place, note, order, migrate_type)? {
            (place, order, note) = (place.parent(order), order.up().unwrap_or(Order::MAX), note.up());
        }
        if order >= PAGEBLOCK_ORDER {
            (place, order, note) = self.merge_pageblocks(place, note, order, migrate_type, blocks)?;
        }
        let end = end.unwrap_or_else(|| likely_end(place, order, note));
        self.list(place.page(), note, order, migrate_type, end);
        self.pages[migrate_type.index()] += block.order().nr_pages();
        self.all_pages += block.order().nr_pages();
        Ok(())
    }

    #[inline(always)]
    fn check_to_free(&self, block: &FreeBlock, pfn: Pfn) -> Result<(), BadPage> {
        let (page, nr_pages, span) = (block.page(), block.order().nr_pages(), self.zone.span);
        let is_unused =
            page.type_and_refcount() == Page::UNUSED && !page.flags().intersects(PageFlags::CHECK_AT_FREE);
        let is_inside = pfn >= span.start && pfn + nr_pages <= span.end;
        if is_unused && is_inside && pfn.is_aligned(nr_pages) {
            return Ok(());
        }
        let reason = why_not_free(&page, PageFlags::CHECK_AT_FREE).unwrap_or(BadReason::Misplaced);
        Err(BadPage::new(self.zone.machine, page, reason))
    }

    /// From pageblocks on, whose types may have to stay apart.
    #[inline(never)]
    fn merge_pageblocks(
        &mut self,
        place: Place,
        note: Note,
        order: Order,
        migrate_type: MigrateType,
        blocks: &impl Pageblocks,
    ) -> Result<(Place, Order, Note), BadPage> {
        let (mut place, mut note, mut order) = (place, note, order);
        while let Some(up) = order.up() {
            let other = blocks.migrate_type(place.buddy(order).pfn());
            if !may_merge(migrate_type, other) || !self.swallow_buddy(place, note, order, migrate_type)? {
                break;
            }
            (place, order, note) = (place.parent(order), up, note.up());
        }
        Ok((place, order, note))
    }

    /// Takes the buddy of the block of `order` at `place` off its list, if it is free, and counts it as one of
    /// `migrate_type`; whether it was. `note` is that of the block.
    #[inline(always)]
    fn swallow_buddy(
        &mut self,
        place: Place,
        note: Note,
        order: Order,
        migrate_type: MigrateType,
    ) -> Result<bool, BadPage> {
        let buddy = place.buddy(order).page();
        if !is_listed(buddy, note) {
            return Ok(false);
        }
        if Note::of(buddy) != note {
            return self.swallow_other(buddy, order, migrate_type).map(|()| true);
        }
        // Part of the block that is being freed now.
        let _ = self.unlist_from(buddy, order, migrate_type)?;
        Ok(true)
    }

    /// One that is listed as another type.
    #[inline(never)]
    fn swallow_other(
        &mut self,
        page: PagePtr,
        order: Order,
        migrate_type: MigrateType,
    ) -> Result<(), BadPage> {
        let (_, was) = self.unlist(page, order)?;
        self.pages[was.index()] -= order.nr_pages();
        self.pages[migrate_type.index()] += order.nr_pages();
        Ok(())
    }

    /// Puts the block that `page` heads on the list that `note` tells of. Does not count its pages.
    #[inline(always)]
    fn list(&mut self, page: PagePtr, note: Note, order: Order, migrate_type: MigrateType, end: End) {
        let (t, area) = (migrate_type.index(), &mut self.areas[order.index()]);
        mark(page, note);
        area.lists[t].push(page, end);
        area.nr[t] += 1;
        self.nonempty[t] |= 1 << order.get();
    }

    /// Takes a listed block of `order` off the list that it has noted. Does not count its pages.
    fn unlist(&mut self, page: PagePtr, order: Order) -> Result<(FreeBlock, MigrateType), BadPage> {
        let Some(migrate_type) = Note::of(page).migrate_type() else {
            return Err(BadPage::new(self.zone.machine, page, BadReason::BrokenFreeList));
        };
        Ok((self.unlist_from(page, order, migrate_type)?, migrate_type))
    }

    /// The same with the type that it has noted.
    #[inline(always)]
    fn unlist_from(
        &mut self,
        page: PagePtr,
        order: Order,
        migrate_type: MigrateType,
    ) -> Result<FreeBlock, BadPage> {
        let (t, area) = (migrate_type.index(), &mut self.areas[order.index()]);
        if area.lists[t].remove(page, self.zone.links).is_err() {
            return Err(BadPage::new(self.zone.machine, page, BadReason::BrokenFreeList));
        }
        area.nr[t] = area.nr[t].wrapping_sub(1);
        if area.lists[t].is_empty() {
            self.nonempty[t] &= !(1 << order.get());
        }
        // SAFETY: just taken off the list that it said it was on.
        #[allow(unsafe_code, reason = "a block of the list becomes ours")]
        Ok(unsafe { unmark(page, order) })
    }

    fn push(&mut self, block: FreeBlock, migrate_type: MigrateType, end: End) {
        let order = block.order();
        self.list(block.page(), self.zone.note(order, migrate_type), order, migrate_type, end);
        self.pages[migrate_type.index()] += order.nr_pages();
        self.all_pages += order.nr_pages();
    }

    /// Takes a listed block of `order` off its list; one that is not on such a list is an error.
    fn take(&mut self, page: PagePtr, order: Order) -> Result<FreeBlock, BadPage> {
        if !is_listed(page, self.zone.note(order, MigrateType::Unmovable)) {
            return Err(BadPage::new(self.zone.machine, page, BadReason::BrokenFreeList));
        }
        let (block, migrate_type) = self.unlist(page, order)?;
        self.pages[migrate_type.index()] -= order.nr_pages();
        self.all_pages -= order.nr_pages();
        Ok(block)
    }
}

/// Whether pageblocks of two types may be in one block.
fn may_merge(one: MigrateType, other: MigrateType) -> bool {
    one == other || mergeable(one) && mergeable(other)
}

/// Where a block goes: to the tail when the buddy of its parent is free already, so that the block waits there for its own
/// buddy instead of being split again (Linux: `buddy_merge_likely`).
#[inline(always)]
fn likely_end(place: Place, order: Order, note: Note) -> End {
    match order.up() {
        Some(up) if up < Order::MAX && is_listed(place.parent(order).buddy(up).page(), note.up()) => {
            End::Tail
        }
        _ => End::Head,
    }
}
