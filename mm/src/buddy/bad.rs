//! What is wrong with a page that the allocator found in a state it must not have: a bug of the kernel.

use core::fmt;

use crate::arch::Machine;
use crate::page::{Page, PageFlags, PagePtr, PageType};
use crate::pfn::Pfn;

/// Why a page's state is wrong. Linux's words where Linux has the case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadReason {
    /// Still mapped, or of a type that its owner should have taken back.
    NonzeroMapcount,
    /// Somebody still uses it.
    NonzeroRefcount,
    /// Has flags of a page in use.
    FlagsAtFree,
    /// Has flags though it was free.
    FlagsAtPrep,
    /// A tail page points to another head.
    CorruptedTail,
    /// A page inside a compound page does not say that it is a tail.
    NotATail,
    /// Entries still map the compound page as a whole.
    CompoundMapped,
    /// A compound page has nobody to take it when its last user leaves.
    NoDestructor,
    /// The block was given out with another order.
    WrongOrder,
    /// It is inside of a compound page, which is freed by its head.
    TailFreed,
    /// It is free already: on a free list, or inside a free block.
    AlreadyFree,
    /// Its list links or what the list says of it are not those of a free block.
    BrokenFreeList,
    /// Its number is not a multiple of the block's size, or the block leaves the zone.
    Misplaced,
    /// Somebody has written to a free page.
    Overwritten,
}

impl BadReason {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NonzeroMapcount => "nonzero mapcount",
            Self::NonzeroRefcount => "nonzero _refcount",
            Self::FlagsAtFree => "PAGE_FLAGS_CHECK_AT_FREE flag(s) set",
            Self::FlagsAtPrep => "PAGE_FLAGS_CHECK_AT_PREP flag set",
            Self::CorruptedTail => "compound_head not consistent",
            Self::NotATail => "PageTail not set",
            Self::CompoundMapped => "nonzero compound_mapcount",
            Self::NoDestructor => "compound page without a destructor",
            Self::WrongOrder => "freed with another order than it was allocated with",
            Self::TailFreed => "tail of a compound page freed by itself",
            Self::AlreadyFree => "page is free already",
            Self::BrokenFreeList => "corrupted free list",
            Self::Overwritten => "pagealloc: corrupted page details",
            Self::Misplaced => "block misaligned or outside its zone",
        }
    }
}

/// A page in a wrong state. The upper layer reports it and stops: see `page_alloc::bug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BadPage {
    /// The page.
    pub(crate) page: PagePtr,
    /// Its frame.
    pub(crate) pfn: Pfn,
    /// What is wrong.
    pub(crate) reason: BadReason,
}

impl BadPage {
    /// That page, for that reason.
    #[cold]
    pub fn new(machine: Machine, page: PagePtr, reason: BadReason) -> Self {
        Self { page, pfn: page.pfn(machine), reason }
    }
}

impl fmt::Display for BadPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn:{:05x} {:?}: {}", self.pfn, self.page, self.reason.as_str())
    }
}

impl fmt::Debug for BadPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What keeps a page from being free (Linux: `free_page_is_bad`), with flags that it must not have in `forbidden`. Of several
/// reasons the one that Linux's `page_bad_reason` gives, which is the last that it looks for.
pub(crate) fn why_not_free(page: &Page, forbidden: PageFlags) -> Option<BadReason> {
    if page.page_type() == PageType::BUDDY {
        Some(BadReason::AlreadyFree)
    } else if page.flags().intersects(forbidden) {
        let at_free = forbidden == PageFlags::CHECK_AT_FREE;
        Some(if at_free { BadReason::FlagsAtFree } else { BadReason::FlagsAtPrep })
    } else if page.refcount() != 0 {
        Some(BadReason::NonzeroRefcount)
    } else if page.page_type() != PageType::NONE {
        Some(BadReason::NonzeroMapcount)
    } else {
        None
    }
}
