//! A list of free blocks of one order and migratetype that one CPU has to itself.
//!
//! ```text
//! head -> page -> page -> page <- tail      words of each page: 0 next, 1 previous, 3 migratetype when freed
//! ```
//! Taking from the head touches one page and writes nothing to it, which is why it is no [`PageList`](crate::page::PageList):
//! links beyond the ends are left as they were.
//!
//! # Invariants
//! - P1: when `head` is `None` the list is empty, whatever else is in it. Else following word 0 leads from `head` to
//!   `tail` over all blocks of the list, and word 1 back; what is beyond either end means nothing.
//! - P2: each page of the list heads a block that the list owns (B1 of `buddy`), of the order and type of the list.

use core::ptr::NonNull;

use crate::buddy::FreeBlock;
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
fn set_link(page: PagePtr, index: usize, to: PagePtr) {
    // SAFETY: a page of the list, or one being put on it (P2).
    unsafe { page.set_word(index, to.as_ptr() as u64) };
}

impl PcpList {
    pub(super) const fn new() -> Self {
        Self { head: None, tail: None }
    }

    /// Takes the block put there last.
    #[inline(always)]
    pub(super) fn pop(&mut self, order: Order) -> Option<FreeBlock> {
        let page = self.head?;
        self.head = if self.tail == Some(page) { None } else { link(page, NEXT) };
        // SAFETY: from the list of that order, no longer on it (P2).
        Some(unsafe { FreeBlock::from_raw(page, order) })
    }

    /// Takes the block that has been there longest.
    #[inline]
    pub(super) fn pop_last(&mut self, order: Order) -> Option<FreeBlock> {
        let head = self.head?;
        let page = self.tail?;
        if page == head {
            self.head = None;
        } else {
            self.tail = link(page, PREV);
        }
        // SAFETY: as in `pop`.
        Some(unsafe { FreeBlock::from_raw(page, order) })
    }

    /// Puts a block where the next one is taken.
    #[inline(always)]
    pub(super) fn push(&mut self, block: FreeBlock) {
        let page = block.page();
        match self.head {
            Some(head) => {
                set_link(page, NEXT, head);
                set_link(head, PREV, page);
            }
            None => self.tail = Some(page),
        }
        self.head = Some(page);
    }

    /// Puts a block behind all others.
    #[inline]
    pub(super) fn push_last(&mut self, block: FreeBlock) {
        let page = block.page();
        match (self.head, self.tail) {
            (Some(_), Some(tail)) => {
                set_link(page, PREV, tail);
                set_link(tail, NEXT, page);
            }
            _ => self.head = Some(page),
        }
        self.tail = Some(page);
    }

    /// Each page, first to last, having checked P1's links.
    pub(super) fn iter(&self) -> impl Iterator<Item = PagePtr> {
        let tail = self.tail;
        core::iter::successors(self.head, move |&page| {
            let next = if tail == Some(page) { None } else { link(page, NEXT) };
            assert!(next.is_some() || tail == Some(page), "per-CPU list ends before its tail");
            if let Some(next) = next {
                assert_eq!(link(next, PREV), Some(page), "back link of {next:?}");
            }
            next
        })
    }
}
