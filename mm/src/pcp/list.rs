//! A list of free blocks of one order and migratetype that one CPU has to itself.
//!
//! ```text
//! head -> page -> page -> page <- tail      words of each page: 0 next (0 at the tail), 1 previous, 3 migratetype when freed
//! ```
//! Taking from the head touches one page and writes nothing to it, which is why it is no [`PageList`](crate::page::PageList):
//! the link back from the head is left as it was, and so is `tail` when the list becomes empty.
//!
//! # Invariants
//! - P1: following word 0 leads from `head` over all blocks of the list, ending with 0. When there is one, `tail` is the
//!   last, and word 1 leads back from it to `head`, whose own word 1 means nothing.
//! - P2: each page of the list heads a block that the list owns (B1 of `buddy`), of the order and type of the list.

use core::cell::Cell;
use core::ptr::NonNull;

use crate::buddy::{FreeBlock, noted_migrate_type};
use crate::gfp::MigrateType;
use crate::order::Order;
use crate::page::{Page, PagePtr};

const NEXT: usize = 0;
const PREV: usize = 1;

/// Such a list. Its order is not kept in it: the caller names the same one at each call.
#[derive(Debug, Default)]
pub(super) struct PcpList {
    head: Cell<Option<PagePtr>>,
    tail: Cell<Option<PagePtr>>,
}

#[inline(always)]
fn link(page: PagePtr, index: usize) -> Option<PagePtr> {
    // SAFETY: a page of the list (P2), one with a neighbour on that side: the word is that page (P1).
    unsafe { NonNull::new(page.word(index) as *mut Page).map(|p| PagePtr::from_raw(p)) }
}

#[inline(always)]
fn set_link(page: PagePtr, index: usize, to: Option<PagePtr>) {
    // SAFETY: a page of the list, or one being put on it (P2).
    unsafe { page.set_word(index, to.map_or(0, |p| p.as_ptr() as u64)) };
}

impl PcpList {
    pub(super) const fn new() -> Self {
        Self { head: Cell::new(None), tail: Cell::new(None) }
    }

    /// Takes the block put there last.
    #[inline(always)]
    pub(super) fn pop(&self, order: Order) -> Option<FreeBlock> {
        let page = self.head.get()?;
        self.head.set(link(page, NEXT));
        // SAFETY: from the list of that order, no longer on it (P2).
        Some(unsafe { FreeBlock::from_raw(page, order) })
    }

    /// Takes the block that has been there longest.
    #[inline]
    pub(super) fn pop_last(&self, order: Order) -> Option<FreeBlock> {
        let (head, page) = (self.head.get()?, self.tail.get()?);
        if page == head {
            self.head.set(None);
        } else {
            self.tail.set(link(page, PREV));
            if let Some(tail) = self.tail.get() {
                set_link(tail, NEXT, None);
            }
        }
        // SAFETY: as in `pop`.
        Some(unsafe { FreeBlock::from_raw(page, order) })
    }

    /// Puts a block where the next one is taken.
    #[inline(always)]
    pub(super) fn push(&self, block: FreeBlock) {
        // Read once: for all that the compiler knows, the page could be this list.
        let (page, head) = (block.page(), self.head.get());
        set_link(page, NEXT, head);
        match head {
            Some(head) => set_link(head, PREV, Some(page)),
            None => self.tail.set(Some(page)),
        }
        self.head.set(Some(page));
    }

    /// Puts a block behind all others.
    #[inline]
    pub(super) fn push_last(&self, block: FreeBlock) {
        let page = block.page();
        set_link(page, NEXT, None);
        match (self.head.get(), self.tail.get()) {
            (Some(_), Some(tail)) => {
                set_link(page, PREV, Some(tail));
                set_link(tail, NEXT, Some(page));
            }
            _ => self.head.set(Some(page)),
        }
        self.tail.set(Some(page));
    }

    /// As which type the block of a page of the list was freed or taken from the buddy.
    pub(super) fn noted(page: PagePtr) -> Option<MigrateType> {
        // SAFETY: a block of the list (P2), looked at and no more.
        noted_migrate_type(&unsafe { FreeBlock::from_raw(page, Order::ZERO) })
    }

    /// Each page, first to last, checking P1.
    ///
    /// # Panics
    /// When it does not hold.
    pub(super) fn iter(&self) -> impl Iterator<Item = PagePtr> {
        let tail = self.tail.get();
        core::iter::successors(self.head.get(), move |&page| {
            let next = link(page, NEXT);
            match next {
                Some(next) => assert_eq!(link(next, PREV), Some(page), "back link of {next:?}"),
                None => assert_eq!(tail, Some(page), "last page of a per-CPU list"),
            }
            next
        })
    }
}
