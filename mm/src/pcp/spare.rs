//! The one block without a list that a CPU keeps for itself: the last that it freed.
//!
//! Blocks of orders 4 to 8 have no lists: kept in numbers they would stay apart that belong together. But who frees one often
//! wants one again at once, and then merging it and splitting it again is work for nothing.
//!
//! # Invariants
//! - S1: whoever takes the zone's lock for this CPU gives the spare block back first (Linux has no such block: the free lists
//!   look as Linux's whenever somebody takes from them). So it holds up no merge, and never comes from a zone short of
//!   memory.
//! - S2: it is a block of one of [`ORDERS`], as C2 says, of a type that has lists.

use core::ops::RangeInclusive;

use crate::buddy::{FreeBlock, noted_migrate_type};
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_ORDER};

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
        let spare = self.spare.take()?;
        if spare.order() == order && noted_migrate_type(&spare) == Some(migrate_type) {
            self.add_count((order.nr_pages() as u32).wrapping_neg());
            return Some(spare);
        }
        self.spare.set(Some(spare));
        None
    }

    /// Takes the spare block, whatever it is.
    #[inline(always)]
    pub(crate) fn take_spare(&self) -> Option<FreeBlock> {
        let spare = self.spare.take()?;
        self.add_count((spare.order().nr_pages() as u32).wrapping_neg());
        Some(spare)
    }

    /// Keeps a block of one of [`ORDERS`] as the spare one; gives it back when there is one already, or when it is as much as
    /// the lists may hold. Lists that are full keep it, too: the next block freed to them takes it along to the buddy.
    #[inline(always)]
    pub(crate) fn keep_spare(&self, block: FreeBlock) -> Result<(), FreeBlock> {
        debug_assert!(Self::may_keep(block.order()));
        let nr_pages = block.order().nr_pages() as u32;
        if nr_pages >= self.high() {
            return Err(block);
        }
        if let Some(older) = self.spare.take() {
            self.spare.set(Some(older));
            return Err(block);
        }
        self.spare.set(Some(block));
        self.add_count(nr_pages);
        Ok(())
    }
}
