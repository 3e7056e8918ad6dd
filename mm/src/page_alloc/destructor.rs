//! The last user of a shared page leaves: who takes the page then.
//!
//! ```text
//! put_page(PageRef): users left -> nothing
//!                    last -> single page, or Compound ---------------------------> free
//!                            HugeTlb, TransHuge -> Retire::retire -> keeps it, or -> free
//! ```

use core::fmt;

use spin::Once;

use crate::buddy::{BadPage, BadReason, FreeBlock};
use crate::page::{Destructor, Frozen, PageRef};

use super::{PageAllocator, bug};

/// What else owns compound pages, and takes them when their last user leaves (Linux: `compound_page_dtor`).
pub trait Retire: Sync {
    /// Takes a page that nobody uses any more over; or gives it back, to be freed. Any context that pages are put in.
    fn retire(&self, page: Frozen) -> Option<Frozen>;
}

/// Who takes pages with a destructor of their own.
#[derive(Default)]
pub(super) struct Destructors {
    huge_tlb: Once<&'static dyn Retire>,
    trans_huge: Once<&'static dyn Retire>,
}

impl Destructors {
    pub(super) const fn new() -> Self {
        Self { huge_tlb: Once::new(), trans_huge: Once::new() }
    }

    fn of(&self, destructor: Destructor) -> Option<&Once<&'static dyn Retire>> {
        match destructor {
            Destructor::HugeTlb => Some(&self.huge_tlb),
            Destructor::TransHuge => Some(&self.trans_huge),
            Destructor::Null | Destructor::Compound => None,
        }
    }
}

impl fmt::Debug for Destructors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destructors")
            .field("huge_tlb", &self.huge_tlb.is_completed())
            .field("trans_huge", &self.trans_huge.is_completed())
            .finish()
    }
}

impl PageAllocator {
    /// Says who takes compound pages with that destructor from now on. Once for each; whether it was the first time, and
    /// a destructor that can be given.
    pub fn set_destructor(&self, destructor: Destructor, retire: &'static dyn Retire) -> bool {
        let Some(slot) = self.destructors.of(destructor) else { return false };
        let mut first = false;
        slot.call_once(|| {
            first = true;
            retire
        });
        first
    }

    /// Gives a reference back; the last one has the page taken by its destructor (Linux: `put_page`, `folio_put`,
    /// `__folio_put`). Any context. One atomic operation while others use the page.
    #[inline]
    #[allow(unsafe_code, reason = "ends the last reference")]
    pub fn put_page(&self, page: PageRef) {
        let head = page.into_raw();
        if head.put() {
            // SAFETY: the last reference was ours, so the page is (R2 of `refs`).
            self.destroy(unsafe { Frozen::from_raw(head) });
        }
    }

    /// Frees a page that was frozen, without asking its destructor: for who kept one (Linux: `free_compound_page`). Any
    /// context.
    #[allow(unsafe_code, reason = "ends being the page's owner")]
    pub fn free_frozen(&self, page: Frozen) {
        let order = page.folio().order();
        // SAFETY: nobody else has the pages, nor can get them (P2 of `page::reference`).
        self.free_unused(unsafe { FreeBlock::from_raw(page.into_raw(), order) });
    }

    #[inline(never)]
    fn destroy(&self, page: Frozen) {
        let (head, destructor) = (page.folio().head(), page.folio().destructor());
        let is_compound = page.folio().is_compound();
        let page = match (destructor, self.destructors.of(destructor)) {
            (Destructor::Compound, _) => Some(page),
            (Destructor::Null, _) if !is_compound => Some(page),
            (_, Some(slot)) if let Some(retire) = slot.get() => retire.retire(page),
            _ => bug(BadPage::new(self.machine, head, BadReason::NoDestructor)),
        };
        if let Some(page) = page {
            self.free_frozen(page);
        }
    }
}
