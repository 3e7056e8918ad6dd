//! Guard pages: halves of split blocks that are kept back, so that who runs out of a block meets memory that is nobody's, and
//! that `debug_pagealloc=on` has not mapped (Linux: `set_page_guard`, `clear_page_guard`).
//!
//! ```text
//! a block of order 3 is split for one page; minorder 2:
//!   [ block | guard | guard, order 1 | listed, order 2 ]       keep_guards: off the lists, type GUARD
//! the block is freed:
//!   [           listed, order 3                        ]       free_guarded: guards listed again, all merges
//! ```
//! What splits and what merges knows nothing of guards, and costs nothing without them: halves are listed as ever and taken off
//! again by [`keep_guards`](FreeAreas::keep_guards), and listed before what they merge with is freed.
//!
//! # Invariants
//! - B3: the head of a block that is kept back has type `GUARD`, refcount 0, and word 2 as if it were listed (B2); it is on no
//!   list. No other page has that type. The other half of the block one order up is neither free nor kept back as a whole.
//! - A4: with guards (`minorder` above 0), every block that is allocated goes by `keep_guards`, and every block below
//!   `minorder` that was and is freed by `free_guarded`, under the same hold of the zone's lock. `pages` is the sum of all that are kept
//!   back; it is not among the free pages.

use super::block::{self, Note, Place, is_guard, is_listed, mark_guard, unmark};
use super::{BadPage, End, FreeAreas, FreeBlock, KEEPS_GUARDS, Pageblocks, why_not_free};
use crate::gfp::MigrateType;
use crate::order::Order;
use crate::page::{PageFlags, PagePtr, PageType};

/// What is kept back.
#[derive(Debug)]
pub(super) struct Guards {
    /// Halves below this order are.
    minorder: Order,
    pages: u64,
}

impl Guards {
    pub(super) const NONE: Self = Self { minorder: Order::ZERO, pages: 0 };
}

impl FreeAreas {
    /// From now on halves below `minorder`, which is below a pageblock's, are kept back. Nothing has been allocated yet (A4).
    pub(crate) fn set_guard_minorder(&mut self, minorder: Order) {
        debug_assert!(minorder < crate::order::PAGEBLOCK_ORDER);
        self.guards.minorder = minorder;
        if minorder > Order::ZERO {
            self.special |= KEEPS_GUARDS;
        }
    }

    /// Whether halves are kept back, so that A4 has to be kept.
    #[inline(always)]
    pub(crate) fn has_guards(&self) -> bool {
        self.special & KEEPS_GUARDS != 0
    }

    /// The order below which they are.
    #[cfg(test)]
    pub(super) fn guards_below(&self) -> Order {
        self.guards.minorder
    }

    /// Pages that are kept back.
    #[inline]
    pub fn guard_pages(&self) -> u64 {
        self.guards.pages
    }

    /// A block was just allocated: keeps the halves back that it left, as far as they are small (Linux: `expand` with
    /// `set_page_guard`).
    ///
    /// # Errors
    /// A half that is not in the state of a free block.
    #[cold]
    pub(crate) fn keep_guards(&mut self, block: &FreeBlock) -> Result<(), BadPage> {
        let (mut place, mut order) = (Place::of(block.page(), self.zone.machine), block.order());
        while order < self.guards.minorder {
            let half = place.buddy(order).page();
            // Listed just now, by the split: a block that was free with its buddy would have been one with it (A2).
            if !is_listed(half, self.zone.note(order, MigrateType::Unmovable)) {
                break;
            }
            let note = Note::of(half);
            let kept = self.take(half, order)?;
            mark_guard(kept.page(), note);
            self.guards.pages += order.nr_pages();
            (place, order) = (place.parent(order), order.up().unwrap_or(Order::MAX));
        }
        Ok(())
    }

    /// As [`free`](Self::free), merged also with halves that were kept back (Linux: `__free_one_page` with `clear_page_guard`).
    ///
    /// # Errors
    /// As [`free`](Self::free).
    #[cold]
    pub(crate) fn free_guarded(
        &mut self,
        block: FreeBlock,
        migrate_type: MigrateType,
        blocks: &impl Pageblocks,
    ) -> Result<(), BadPage> {
        let (mut place, mut order) = (Place::of(block.page(), self.zone.machine), block.order());
        self.check_to_free(&block, place.pfn())?;
        while order < self.guards.minorder {
            let half = place.buddy(order).page();
            let note = self.zone.note(order, migrate_type);
            if is_guard(half, note) {
                self.guards.pages -= order.nr_pages();
                // SAFETY: kept back, so on no list and nobody's (B3).
                #[allow(unsafe_code, reason = "a block that was kept back becomes ours")]
                let kept = unsafe { unmark(half, order) };
                self.push(kept, migrate_type, End::Tail);
            } else if !is_listed(half, note) {
                break;
            }
            (place, order) = (place.parent(order), order.up().unwrap_or(Order::MAX));
        }
        self.free(block, migrate_type, None, blocks)
    }

    /// Checks B3 and A4 against `pages`, all struct pages of the zone.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn validate_guards(&self, pages: impl Iterator<Item = PagePtr>) {
        let kept = pages.filter(|page| page.page_type() == PageType::GUARD);
        let nr_pages = kept.map(|page| self.validate_guard(page).nr_pages()).sum::<u64>();
        assert_eq!(self.guards.pages, nr_pages, "guard pages");
    }

    fn validate_guard(&self, page: PagePtr) -> Order {
        let (pfn, span) = (page.pfn(self.zone.machine), self.zone.span);
        let (Some(order), Some(migrate_type)) = (Note::of(page).order(), Note::of(page).migrate_type())
        else {
            panic!("{pfn:?} {page:?} notes nonsense");
        };
        let note = self.zone.note(order, migrate_type);
        assert!(is_guard(page, note) && Note::of(page) == note, "{pfn:?} {page:?}");
        assert!(order < self.guards.minorder, "{pfn:?} of order {}", order.get());
        assert!(pfn.is_aligned(order.nr_pages()), "{pfn:?} of order {}", order.get());
        assert!(span.start <= pfn && pfn + order.nr_pages() <= span.end, "{pfn:?} outside {span:?}");
        for nr in 1..order.nr_pages() {
            let inside = block::inside(page, nr, order);
            assert_eq!(why_not_free(&inside, PageFlags::CHECK_AT_PREP), None, "{:?} {inside:?}", pfn + nr);
        }
        let half = Place::of(page, self.zone.machine).buddy(order).page();
        assert!(!is_listed(half, note) && !is_guard(half, note), "{pfn:?} has not merged with {half:?}");
        order
    }
}
