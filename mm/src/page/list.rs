//! Lists of pages, linked through the pages themselves.
//!
//! ```text
//! PageList { first, last }      first <-> .. <-> last, each end with a null link; words 0 (next) and 1 (prev)
//! ```
//!
//! # Invariants
//! - L1: exactly the pages reachable from `first` are on the list, each once, and on no other list.
//! - L2: link words hold 0 or a page on the same list.
//!
//! # Locking
//! None of its own: the list is guarded by what it is a field of.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{Page, PagePtr};

const NEXT: usize = 0;
const PREV: usize = 1;

/// A doubly linked list of pages. Each operation takes constant time.
#[derive(Debug, Default)]
pub struct PageList {
    first: Option<PagePtr>,
    last: Option<PagePtr>,
}

fn link(page: PagePtr, index: usize) -> Option<PagePtr> {
    // SAFETY: the page is on a list that the caller holds (I2), so the word is 0 or a page (L2).
    unsafe { NonNull::new(page.word(index) as *mut Page).map(|p| PagePtr::from_raw(p)) }
}

fn set_link(page: PagePtr, index: usize, to: Option<PagePtr>) {
    // SAFETY: the page is on a list that the caller holds, or being put on it (I2, I3).
    unsafe { page.set_word(index, to.map_or(0, |p| p.as_ptr() as u64)) };
}

impl PageList {
    /// A list without pages.
    pub const fn new() -> Self {
        Self { first: None, last: None }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The first page.
    #[inline]
    pub fn first(&self) -> Option<PagePtr> {
        self.first
    }

    /// The last page.
    #[inline]
    pub fn last(&self) -> Option<PagePtr> {
        self.last
    }

    /// Puts a page at the front.
    ///
    /// # Safety
    /// The caller owns the page (I2), and it is on no list (L1).
    #[inline]
    pub unsafe fn push_front(&mut self, page: PagePtr) {
        set_link(page, NEXT, self.first);
        set_link(page, PREV, None);
        match self.first {
            Some(first) => set_link(first, PREV, Some(page)),
            None => self.last = Some(page),
        }
        self.first = Some(page);
    }

    /// Puts a page at the back.
    ///
    /// # Safety
    /// As [`push_front`](Self::push_front).
    #[inline]
    pub unsafe fn push_back(&mut self, page: PagePtr) {
        set_link(page, NEXT, None);
        set_link(page, PREV, self.last);
        match self.last {
            Some(last) => set_link(last, NEXT, Some(page)),
            None => self.first = Some(page),
        }
        self.last = Some(page);
    }

    /// Takes the first page off.
    #[inline]
    pub fn pop_front(&mut self) -> Option<PagePtr> {
        let page = self.first?;
        self.first = link(page, NEXT);
        match self.first {
            Some(next) => set_link(next, PREV, None),
            None => self.last = None,
        }
        Some(page)
    }

    /// Takes the last page off.
    #[inline]
    pub fn pop_back(&mut self) -> Option<PagePtr> {
        let page = self.last?;
        self.last = link(page, PREV);
        match self.last {
            Some(prev) => set_link(prev, NEXT, None),
            None => self.first = None,
        }
        Some(page)
    }

    /// Takes a page off.
    ///
    /// # Safety
    /// The page is on this list (L1).
    #[inline]
    pub unsafe fn remove(&mut self, page: PagePtr) {
        let (next, prev) = (link(page, NEXT), link(page, PREV));
        match prev {
            Some(prev) => set_link(prev, NEXT, next),
            None => self.first = next,
        }
        match next {
            Some(next) => set_link(next, PREV, prev),
            None => self.last = prev,
        }
    }

    /// Each page, first to last.
    pub fn iter(&self) -> PageListIter<'_> {
        PageListIter { next: self.first, _list: PhantomData }
    }

    /// Checks L1 and L2 as far as the list itself shows: links go both ways and end at `last`.
    ///
    /// # Panics
    /// When they do not.
    pub fn validate(&self) {
        let mut prev = None;
        for page in self.iter() {
            assert_eq!(link(page, PREV), prev, "back link of {page:?}");
            prev = Some(page);
        }
        assert_eq!(self.last, prev, "last page of the list");
    }
}

/// Iterator of [`PageList::iter`].
#[derive(Debug)]
pub struct PageListIter<'a> {
    next: Option<PagePtr>,
    _list: PhantomData<&'a PageList>,
}

impl Iterator for PageListIter<'_> {
    type Item = PagePtr;

    fn next(&mut self) -> Option<PagePtr> {
        let page = self.next?;
        self.next = link(page, NEXT);
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::SimMachine;
    use crate::id::{NodeId, ZoneIdx};
    use crate::pfn::Pfn;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    fn pages(sim: &SimMachine, nr: u64) -> Vec<PagePtr> {
        (0..nr)
            .map(|n| {
                let at = sim.machine().page(Pfn::new(n));
                // SAFETY: inside the machine's vmemmap, which outlives the test's use of the page.
                unsafe {
                    at.write(Page::free(NodeId(0), ZoneIdx::Normal));
                    PagePtr::new(sim.machine(), Pfn::new(n))
                }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_deque(ops in prop::collection::vec((0u8..5, 0usize..16), 0..200)) {
            let sim = SimMachine::new(1 << 20);
            let mut free = pages(&sim, 16);
            let (mut list, mut model) = (PageList::new(), VecDeque::new());
            for (op, n) in ops {
                match op {
                    0 | 1 if !free.is_empty() => {
                        let p = free.swap_remove(n % free.len());
                        if op == 0 {
                            // SAFETY: the page is one of those on no list.
                            unsafe { list.push_front(p) };
                            model.push_front(p);
                        } else {
                            // SAFETY: the page is one of those on no list.
                            unsafe { list.push_back(p) };
                            model.push_back(p);
                        }
                    }
                    2 => { let p = list.pop_front(); prop_assert_eq!(p, model.pop_front()); free.extend(p); }
                    3 => { let p = list.pop_back(); prop_assert_eq!(p, model.pop_back()); free.extend(p); }
                    4 if !model.is_empty() => {
                        let p = model.remove(n % model.len()).unwrap();
                        // SAFETY: the model says that it is on the list.
                        unsafe { list.remove(p) };
                        free.push(p);
                    }
                    _ => {}
                }
                list.validate();
                prop_assert!(list.iter().eq(model.iter().copied()));
            }
        }
    }
}
