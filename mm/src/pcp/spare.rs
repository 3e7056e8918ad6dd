//! The one block without a list that a CPU keeps for itself: the last that it freed.
//!
//! Blocks of orders 4 to 8 have no lists: kept in numbers they would stay apart that belong together. But who frees one often
//! wants one again at once, and then merging it and splitting it again is work for nothing.
//!
//! # Invariants
//! - S1: whoever takes from the zone's free lists for this CPU, or gives back what its lists hold too much, gives the spare block
//!   back first, under the same hold of the zone's lock (Linux has no such block: the free lists look as Linux's then). Who
//!   only frees leaves it. So it holds up merges of its neighbours' for no longer than until the CPU takes again.
//! - S2: it is a block of one of [`ORDERS`], as C2 says, of a type that has lists.

use core::ops::RangeInclusive;

use crate::buddy::{FreeBlock, noted_type_of};
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_ORDER};
use crate::page::PagePtr;

use super::{COSTLY_ORDER, Pcp};

/// The orders of such blocks.
const ORDERS: RangeInclusive<u8> = COSTLY_ORDER + 1..=PAGEBLOCK_ORDER.get() - 1;

impl Pcp {
    /// Whether blocks of `order` may be kept as the spare one.
    #[inline(always)]
    pub(crate) const fn may_keep(order: Order) -> bool {
        *ORDERS.start() <= order.get() && order.get() <= *ORDERS.end()
    }

    /// Takes the spare block, when it is of that order and type.
    #[inline(always)]
    pub(crate) fn pop_spare(&self, order: Order, migrate_type: MigrateType) -> Option<FreeBlock> {
        let spare = self.spare.get().filter(|spare| spare.order == order)?;
        // SAFETY: the page of a block that is ours: the word is its type (C2).
        if unsafe { noted_type_of(spare.page) } != Some(migrate_type) {
            return None;
        }
        self.take_spare()
    }

    /// Takes the spare block, whatever it is.
    #[inline(always)]
    pub(crate) fn take_spare(&self) -> Option<FreeBlock> {
        let spare = self.spare.take()?;
        self.add_count((spare.order.nr_pages() as u32).wrapping_neg());
        // SAFETY: made of a block by `keep_spare`, and out of the cell.
        Some(unsafe { spare.into_block() })
    }

    /// Keeps a block of one of [`ORDERS`] as the spare one. What has to go to the buddy for it: the one before, or the block
    /// itself when it is as much as the lists may hold. Lists that are full keep it, too: the next block freed to them takes it
    /// along to the buddy.
    #[inline(always)]
    pub(crate) fn keep_spare(&self, block: FreeBlock) -> Option<FreeBlock> {
        debug_assert!(Self::may_keep(block.order()));
        let nr_pages = block.order().nr_pages() as u32;
        if nr_pages >= self.high() {
            return Some(block);
        }
        let older = self.take_spare();
        self.spare.set(Some(Spare::of(block)));
        self.add_count(nr_pages);
        older
    }

    /// The spare block's first page and order, to look at.
    pub(super) fn peek_spare(&self) -> Option<(PagePtr, Order)> {
        self.spare.get().map(|spare| (spare.page, spare.order))
    }
}

/// A block that a CPU keeps, for a cell: who reads it leaves it there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare {
    page: PagePtr,
    order: Order,
}

impl Spare {
    fn of(block: FreeBlock) -> Self {
        Self { page: block.page(), order: block.order() }
    }

    /// The block.
    ///
    /// # Safety
    /// It was made of one, is in no cell any more, and nobody else makes a block of it.
    unsafe fn into_block(self) -> FreeBlock {
        // SAFETY: the caller's.
        unsafe { FreeBlock::from_raw(self.page, self.order) }
    }
}
