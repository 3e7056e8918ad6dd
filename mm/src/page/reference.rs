//! Owned references to pages in use: what safe code holds instead of a count that it would have to get right.
//!
//! ```text
//! PageBlock --share--> PageRef --clone--> PageRef, PageRef        each given back by PageAllocator::put_page
//!                         | freeze: the only one
//!                         v
//!                      Frozen: nobody else can get it --unfreeze--> PageRef
//! ```
//!
//! # Invariants
//! - P1: a [`PageRef`] stands for one of the users that the head's count says. The pages stay as long.
//! - P2: a [`Frozen`] owns its pages alone; their head's count is 0.

use core::mem::ManuallyDrop;

use super::{Folio, PagePtr};
use crate::arch;

/// A reference to a compound page or a single page: it is not freed, whatever others do (Linux: what `get_page` gives).
#[must_use = "the page is lost when this is dropped: give it to `put_page`"]
#[derive(Debug)]
pub struct PageRef {
    head: PagePtr,
}

impl PageRef {
    /// One reference more to the page that `page` belongs to, by one who has one (Linux: `get_page`).
    ///
    /// # Safety
    /// The caller holds a reference to the page or to the compound page that it is in; when it is inside a block that is
    /// not compound, it is that block's first page, which alone is kept.
    ///
    /// # Panics
    /// When there are two thousand million references.
    #[inline]
    pub unsafe fn get(page: PagePtr) -> Self {
        // SAFETY: the caller's reference.
        let folio = unsafe { Folio::of(page) };
        folio.refs().get();
        Self { head: folio.head() }
    }

    /// A reference to a page that others may be freeing, unless they have (Linux: `get_page_unless_zero`,
    /// `folio_try_get`). A tail has no count of its own: `None`.
    ///
    /// # Safety
    /// Something keeps the page from being given out again until this returns, since before the caller found it: the lock
    /// of what it found it in, or a read-side section that its owner waits for (R3 of `refs`).
    #[inline]
    pub unsafe fn try_get(page: PagePtr) -> Option<Self> {
        if page.refs().try_get() { Some(Self { head: page }) } else { None }
    }

    /// The page, for whoever keeps the reference in another form.
    #[inline]
    pub fn into_raw(self) -> PagePtr {
        ManuallyDrop::new(self).head
    }

    /// The reference again.
    ///
    /// # Safety
    /// The reference is the caller's (P1): from [`into_raw`](Self::into_raw), once.
    #[inline]
    pub unsafe fn from_raw(head: PagePtr) -> Self {
        Self { head }
    }

    /// What it is a reference to.
    #[inline]
    pub fn folio(&self) -> Folio<'_> {
        // SAFETY: our reference (P1); it is no tail.
        unsafe { Folio::of_head(self.head) }
    }

    /// The page without other users, and without new ones until it is unfrozen (Linux: `folio_ref_freeze` of one).
    ///
    /// # Errors
    /// The reference as it was, when there are others.
    #[inline]
    pub fn freeze(self) -> Result<Frozen, Self> {
        if self.head.refs().freeze(1) { Ok(Frozen { head: self.into_raw() }) } else { Err(self) }
    }
}

impl Clone for PageRef {
    /// One reference more.
    ///
    /// # Panics
    /// When there are two thousand million.
    #[inline]
    fn clone(&self) -> Self {
        self.head.refs().get();
        Self { head: self.head }
    }
}

impl Drop for PageRef {
    /// Only a bug drops one: nothing can be done for the page, but debug builds say so.
    #[inline]
    fn drop(&mut self) {
        debug_assert!(arch::unwinding(), "a reference was not given back: {:?}", self.head);
    }
}

/// A compound page or a single page that nobody else uses or can get.
#[must_use = "the page is lost when this is dropped: unfreeze it"]
#[derive(Debug)]
pub struct Frozen {
    head: PagePtr,
}

impl Frozen {
    /// The page whose count has just become 0, or been frozen.
    ///
    /// # Safety
    /// It is the caller's alone (P2).
    #[inline]
    pub(crate) unsafe fn from_raw(head: PagePtr) -> Self {
        Self { head }
    }

    /// The page itself.
    #[inline]
    pub(crate) fn into_raw(self) -> PagePtr {
        ManuallyDrop::new(self).head
    }

    /// What is frozen.
    #[inline]
    pub fn folio(&self) -> Folio<'_> {
        // SAFETY: ours alone (P2); it is no tail.
        unsafe { Folio::of_head(self.head) }
    }

    /// The page with one user.
    #[inline]
    pub fn unfreeze(self) -> PageRef {
        let head = self.into_raw();
        head.refs().unfreeze(1);
        PageRef { head }
    }
}

impl Drop for Frozen {
    /// As for [`PageRef`].
    #[inline]
    fn drop(&mut self) {
        debug_assert!(arch::unwinding(), "a frozen page was lost: {:?}", self.head);
    }
}
