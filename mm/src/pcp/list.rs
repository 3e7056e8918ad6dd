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
    head: Option<PagePtr>,
    tail: Option<PagePtr>,
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
        Self { head: None, tail: None }
    }

    /// Takes the block put there last.
    #[inline(always)]
    pub(super) fn pop(&mut self, order: Order) -> Option<FreeBlock> {
        let page = self.head?;
        self.head = link(page, NEXT);
        // SAFETY: from the list of that order, no longer on it (P2).
        Some(unsafe { FreeBlock::from_raw(page, order) })
    }

    /// Takes the block that has been there longest.
    #[inline]
    pub(super) fn pop_last(&mut self, order: Order) -> Option<FreeBlock> {
        let (head, page) = (self.head?, self.tail?);
        if page == head {
            self.head = None;
        } else {
            self.tail = link(page, PREV);
            if let Some(tail) = self.tail {
                set_link(tail, NEXT, None);
            }
        }
        // SAFETY: as in `pop`.
        Some(unsafe { FreeBlock::from_raw(page, order) })
    }

    /// Puts a block where the next one is taken.
    #[inline(always)]
    pub(super) fn push(&mut self, block: FreeBlock) {
        let page = block.page();
        set_link(page, NEXT, self.head);
        match self.head {
            Some(head) => set_link(head, PREV, Some(page)),
            None => self.tail = Some(page),
        }
        self.head = Some(page);
    }

    /// Puts a block behind all others.
    #[inline]
    pub(super) fn push_last(&mut self, block: FreeBlock) {
        let page = block.page();
        set_link(page, NEXT, None);
        match (self.head, self.tail) {
            (Some(_), Some(tail)) => {
                set_link(page, PREV, Some(tail));
                set_link(tail, NEXT, Some(page));
            }
            _ => self.head = Some(page),
        }
        self.tail = Some(page);
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
        let tail = self.tail;
        core::iter::successors(self.head, move |&page| {
            let next = link(page, NEXT);
            match next {
                Some(next) => assert_eq!(link(next, PREV), Some(page), "back link of {next:?}"),
                None => assert_eq!(tail, Some(page), "last page of a per-CPU list"),
            }
            next
        })
    }
}
