//! A list of free blocks: links between the first pages of blocks, checked where they are followed.
//!
//! ```text
//! FreeList { first, last }      first <-> .. <-> last, each end with a null link; words 0 (next) and 1 (previous)
//! ```
//! Not a [`PageList`](crate::page::PageList): a free page is what stray writes hit most, so a link is followed only when
//! it leads to a page of the zone, which takes four instructions.
//!
//! # Invariants
//! - L1: exactly the pages reachable from `first` are on the list, each once, and on no other list; `last` is the last.
//! - L2: links are 0 or a page on the same list, both ways.

use core::ptr::NonNull;

use super::bad::BadReason;
use crate::arch::Machine;
use crate::page::{Page, PagePtr};
use crate::pfn::PfnRange;

const NEXT: usize = 0;
const PREV: usize = 1;
const PAGE_STRUCT_SHIFT: u32 = size_of::<Page>().trailing_zeros();

/// Which end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Where blocks are taken from.
    Head,
    /// Where they wait longest.
    Tail,
}

/// Where a zone's struct pages are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    /// Address of the first.
    first: u64,
    nr: u64,
}

impl Links {
    pub(super) fn new(machine: Machine, span: PfnRange) -> Self {
        Self { first: machine.page(span.start) as u64, nr: span.nr_pages() }
    }

    /// The page that a link leads to; `None` at an end of the list.
    #[inline(always)]
    fn follow(self, link: u64) -> Result<Option<PagePtr>, BadReason> {
        let Some(at) = NonNull::new(link as *mut Page) else { return Ok(None) };
        // What is not at a multiple of the size becomes huge.
        if link.wrapping_sub(self.first).rotate_right(PAGE_STRUCT_SHIFT) >= self.nr {
            return Err(BadReason::BrokenFreeList);
        }
        // SAFETY: a struct page of the zone. It may be one of a hole; then what was broken stays so.
        Ok(Some(unsafe { PagePtr::from_raw(at) }))
    }
}

/// A list of free blocks. Each operation takes constant time.
#[derive(Debug, Default)]
pub struct FreeList {
    first: Option<PagePtr>,
    last: Option<PagePtr>,
}

#[inline(always)]
fn link(page: PagePtr, index: usize) -> u64 {
    // SAFETY: the page is on a list, which its zone's lock guards (I2 of `page`).
    unsafe { page.word(index) }
}

#[inline(always)]
fn set_link(page: PagePtr, index: usize, to: Option<PagePtr>) {
    // SAFETY: the page is on a list that the caller holds, or being put on it (I2, I3 of `page`).
    unsafe { page.set_word(index, to.map_or(0, |p| p.as_ptr() as u64)) };
}

impl FreeList {
    pub(super) const fn new() -> Self {
        Self { first: None, last: None }
    }

    /// Whether there are none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The first block's page.
    #[inline(always)]
    pub fn first(&self) -> Option<PagePtr> {
        self.first
    }

    /// The last block's page.
    #[inline]
    pub fn last(&self) -> Option<PagePtr> {
        self.last
    }

    /// Makes a page, which is on no list, the only one of an empty list.
    #[inline(always)]
    pub(super) fn set_only(&mut self, page: PagePtr) {
        debug_assert!(self.is_empty() && self.last.is_none());
        set_link(page, NEXT, None);
        set_link(page, PREV, None);
        (self.first, self.last) = (Some(page), Some(page));
    }

    /// Puts a page, which is on no list, at an end.
    #[inline(always)]
    pub(super) fn push(&mut self, page: PagePtr, end: End) {
        match end {
            End::Head => {
                set_link(page, NEXT, self.first);
                set_link(page, PREV, None);
                match self.first {
                    Some(first) => set_link(first, PREV, Some(page)),
                    None => self.last = Some(page),
                }
                self.first = Some(page);
            }
            End::Tail => {
                set_link(page, NEXT, None);
                set_link(page, PREV, self.last);
                match self.last {
                    Some(last) => set_link(last, NEXT, Some(page)),
                    None => self.first = Some(page),
                }
                self.last = Some(page);
            }
        }
    }

    /// Takes the first page off.
    ///
    /// # Errors
    /// When its links are not those of a first page. Nothing has changed then.
    #[inline(always)]
    pub(super) fn pop_first(&mut self, page: PagePtr, links: Links) -> Result<(), BadReason> {
        debug_assert_eq!(self.first, Some(page));
        if link(page, PREV) != 0 {
            return Err(BadReason::BrokenFreeList);
        }
        let next = links.follow(link(page, NEXT))?;
        self.first = next;
        match next {
            Some(next) => set_link(next, PREV, None),
            None => self.last = None,
        }
        Ok(())
    }

    /// Takes a page off, which says that it is on this list.
    ///
    /// # Errors
    /// When its links lead out of the zone. Nothing has changed then.
    #[inline(always)]
    pub(super) fn remove(&mut self, page: PagePtr, links: Links) -> Result<(), BadReason> {
        let (next, prev) = (links.follow(link(page, NEXT))?, links.follow(link(page, PREV))?);
        match prev {
            Some(prev) => set_link(prev, NEXT, next),
            None => self.first = next,
        }
        match next {
            Some(next) => set_link(next, PREV, prev),
            None => self.last = prev,
        }
        Ok(())
    }

    /// Each page, first to last.
    pub fn iter(&self) -> impl Iterator<Item = PagePtr> {
        let next_of = |page: &PagePtr| NonNull::new(link(*page, NEXT) as *mut Page);
        // SAFETY: a page on the list (L2).
        core::iter::successors(self.first, move |page| next_of(page).map(|p| unsafe { PagePtr::from_raw(p) }))
    }

    /// Checks L1 and L2 as far as the list itself shows.
    ///
    /// # Panics
    /// When they do not hold.
    pub fn validate(&self) {
        let mut prev = None;
        for page in self.iter() {
            assert_eq!(
                link(page, PREV),
                prev.map_or(0, |p: PagePtr| p.as_ptr() as u64),
                "back link of {page:?}"
            );
            prev = Some(page);
        }
        assert_eq!(self.last, prev, "last page of the list");
    }
}
