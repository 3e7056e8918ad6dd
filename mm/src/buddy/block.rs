//! Free blocks and the lists they are kept on: the only part of the buddy allocator that follows raw links.
//!
//! ```text
//! FreeBlock { page, order }   owned, on no list        words of the head page while it is listed:
//!     | push        ^ pop, take                          0, 1  links
//!     v             |                                    2     order
//! FreeArea.lists[migratetype]                            3     migratetype of the list (not always the pageblock's)
//! ```
//!
//! # Invariants
//! - B1: a [`FreeBlock`] owns `order.nr_pages()` frames from `page` on, all with refcount 0 and type `NONE`, none on a
//!   list. They are aligned to their number and lie in populated sections of the vmemmap: blocks are no larger than
//!   4 MiB, sections are 128 MiB.
//! - B2: the head of a block on a list of an area has type `BUDDY`, and words 2 and 3 say which list of which area. No
//!   other page has that type.

use core::ptr::NonNull;

use super::bad::BadReason;
use crate::arch::Machine;
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_NR_PAGES};
use crate::page::{Page, PageList, PagePtr, PageType};
use crate::pfn::{Pfn, PfnRange};

const NEXT: usize = 0;
const PREV: usize = 1;
const ORDER: usize = 2;
const LIST: usize = 3;

/// An owned block of free pages that is on no list.
#[must_use = "the block's pages are lost when this is dropped"]
#[derive(Debug)]
pub struct FreeBlock {
    page: PagePtr,
    order: Order,
}

/// The page `nr` pages after `page`.
///
/// # Safety
/// It lies in the same section as `page`.
#[inline(always)]
pub(crate) unsafe fn later(page: PagePtr, nr: u64) -> PagePtr {
    // SAFETY: the vmemmap of a populated section is contiguous and not near address zero.
    unsafe { PagePtr::from_raw(NonNull::new_unchecked(page.as_ptr().add(nr as usize))) }
}

impl FreeBlock {
    /// The block of `order` from `page` on.
    ///
    /// # Safety
    /// As B1 says.
    #[inline(always)]
    pub unsafe fn from_raw(page: PagePtr, order: Order) -> Self {
        Self { page, order }
    }

    /// The first page.
    #[inline(always)]
    pub fn page(&self) -> PagePtr {
        self.page
    }

    /// The size.
    #[inline(always)]
    pub fn order(&self) -> Order {
        self.order
    }

    /// All its pages.
    #[inline]
    pub fn pages(&self) -> &[Page] {
        // SAFETY: our own block (B1), contiguous in the vmemmap of its section; what changes in a page is atomic or a cell.
        unsafe { core::slice::from_raw_parts(self.page.as_ptr(), self.order.nr_pages() as usize) }
    }

    /// Splits the upper half off, unless it is a single page.
    #[inline(always)]
    pub(super) fn take_upper_half(&mut self) -> Option<Self> {
        self.order = self.order.down()?;
        // SAFETY: the middle of our own block, which is two blocks of half the size as well (B1).
        let upper = unsafe { later(self.page, self.order.nr_pages()) };
        Some(Self { page: upper, order: self.order })
    }

    /// Its blocks of `order`, lowest first; the block is at least as large.
    #[inline]
    pub(crate) fn shatter(self, order: Order) -> impl Iterator<Item = FreeBlock> {
        debug_assert!(order <= self.order);
        // SAFETY: parts of our own block, each handed on once (B1).
        (0..self.order.nr_pages() >> order.get())
            .map(move |nr| unsafe { Self { page: later(self.page, nr << order.get()), order } })
    }

    /// The block that this one and its buddy make together.
    #[inline]
    pub(super) fn merge(self, buddy: Self) -> Self {
        debug_assert_eq!(self.order, buddy.order);
        let order = self.order.up().unwrap_or(self.order);
        debug_assert!(order > self.order);
        Self { page: self.page.min(buddy.page), order }
    }

    /// The other half of the block one order up, when it is on a free list too (Linux: `find_buddy_page_pfn`). The block
    /// is of `order` at `pfn`, `page` one of the same zone.
    #[inline]
    pub(super) fn find_buddy(zone: &Bounds, page: PagePtr, pfn: Pfn, order: Order) -> Option<PagePtr> {
        let buddy = Pfn::new(pfn.get() ^ order.nr_pages());
        if !zone.span.contains(buddy) {
            return None;
        }
        // SAFETY: in the same block of at most 4 MiB, so in the same section as a page that exists.
        let buddy = unsafe { PagePtr::new(zone.machine, buddy) };
        (buddy.page_type() == PageType::BUDDY
            && listed(buddy).0 == order.get() as u64
            && buddy.same_zone(&page))
        .then_some(buddy)
    }
}

/// Order and migratetype that the head of a listed block has noted.
#[inline(always)]
pub(super) fn listed(page: PagePtr) -> (u64, u64) {
    // SAFETY: a page of type BUDDY (B2) of this zone belongs to the holder of the zone's lock; of another zone's page
    // at most the value is of no use.
    unsafe { (page.word(ORDER), page.word(LIST)) }
}

/// Notes in a page that is not on a free list which migratetype it was freed as (Linux: `set_pcppage_migratetype`).
#[inline(always)]
pub(crate) fn note_migrate_type(block: &FreeBlock, migrate_type: MigrateType) {
    // SAFETY: our own block (B1).
    unsafe { block.page.set_word(LIST, migrate_type as u64) };
}

/// The migratetype noted last: by [`note_migrate_type`], or the list that the block came from.
#[inline(always)]
pub(crate) fn noted_migrate_type(block: &FreeBlock) -> Option<MigrateType> {
    // SAFETY: our own block (B1).
    MigrateType::from_index(unsafe { block.page.word(LIST) } as usize)
}

/// Free blocks of one order, by migratetype (Linux: `struct free_area`).
#[derive(Debug)]
pub struct FreeArea {
    lists: [PageList; MigrateType::COUNT],
    nr: [u64; MigrateType::COUNT],
}

/// Which end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Where blocks are taken from.
    Head,
    /// Where they wait longest.
    Tail,
}

impl FreeArea {
    pub(super) const fn new() -> Self {
        Self { lists: [const { PageList::new() }; MigrateType::COUNT], nr: [0; MigrateType::COUNT] }
    }

    /// How many blocks of that migratetype are free.
    #[inline]
    pub fn nr(&self, migrate_type: MigrateType) -> u64 {
        self.nr[migrate_type.index()]
    }

    /// How many blocks are free (Linux: `nr_free`).
    pub fn nr_free(&self) -> u64 {
        self.nr.iter().sum()
    }

    /// The list itself, to look at.
    pub fn list(&self, migrate_type: MigrateType) -> &PageList {
        &self.lists[migrate_type.index()]
    }

    /// Puts a block on a list.
    #[inline]
    pub(super) fn push(&mut self, block: FreeBlock, migrate_type: MigrateType, end: End) {
        let (page, list) = (block.page, &mut self.lists[migrate_type.index()]);
        page.set_page_type(PageType::BUDDY);
        // SAFETY: our own block, on no list (B1).
        unsafe {
            page.set_word(ORDER, block.order.get() as u64);
            page.set_word(LIST, migrate_type as u64);
            match end {
                End::Head => list.push_front(page),
                End::Tail => list.push_back(page),
            }
        }
        self.nr[migrate_type.index()] += 1;
    }

    /// Takes a listed block of `order` off the list that it has noted; a block that is not on such a list is an error.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        page: PagePtr,
        order: Order,
        zone: &Bounds,
    ) -> Result<(FreeBlock, MigrateType), BadReason> {
        let (noted_order, noted_type) = listed(page);
        let Some(migrate_type) = MigrateType::from_index(noted_type as usize) else {
            return Err(BadReason::BrokenFreeList);
        };
        let is_listed = page.page_type() == PageType::BUDDY && noted_order == u64::from(order.get());
        if !is_listed || !zone.links_inside(page) {
            return Err(BadReason::BrokenFreeList);
        }
        // SAFETY: by its notes the page is on this list (B2), and its links lead to pages of the zone.
        unsafe { self.lists[migrate_type.index()].remove(page) };
        page.set_page_type(PageType::NONE);
        self.nr[migrate_type.index()] -= 1;
        Ok((FreeBlock { page, order }, migrate_type))
    }

    /// Whether no block of that migratetype is listed.
    #[inline]
    pub(super) fn is_empty(&self, migrate_type: MigrateType) -> bool {
        self.lists[migrate_type.index()].is_empty()
    }
}

/// Where a zone is, and where its pages are in the vmemmap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) machine: Machine,
    pub(super) span: PfnRange,
    /// Address of the first page's `struct Page`.
    first: u64,
    /// Bytes that the span's `struct Page`s take.
    size_bytes: u64,
}

const PAGE_STRUCT: u64 = size_of::<Page>() as u64;

impl Bounds {
    pub(super) fn new(machine: Machine, span: PfnRange) -> Self {
        let first = machine.page(span.start) as u64;
        Self { machine, span, first, size_bytes: span.nr_pages() * PAGE_STRUCT }
    }

    /// Whether both links of a page are null or lead to pages of the zone (a cheap sign of a page written to after free).
    #[inline(always)]
    fn links_inside(&self, page: PagePtr) -> bool {
        let inside = |link: u64| {
            let offset = link.wrapping_sub(self.first);
            link == 0 || offset < self.size_bytes && link.is_multiple_of(PAGE_STRUCT)
        };
        // SAFETY: as in `listed`.
        unsafe { inside(page.word(NEXT)) && inside(page.word(PREV)) }
    }
}

/// The page of frame `pfn`, which lies in the same pageblock as `page`.
#[inline]
pub(super) fn in_same_pageblock(zone: &Bounds, page: PagePtr, pfn: Pfn) -> PagePtr {
    debug_assert!(page.pfn(zone.machine).get() ^ pfn.get() < PAGEBLOCK_NR_PAGES);
    // SAFETY: pageblocks lie within sections, and the section of `page` is populated.
    unsafe { PagePtr::new(zone.machine, pfn) }
}

/// The page of frame `pfn`, which lies in the same aligned block of the largest order as `page`.
#[inline]
pub(super) fn in_same_block(zone: &Bounds, page: PagePtr, pfn: Pfn) -> PagePtr {
    debug_assert!(page.pfn(zone.machine).get() ^ pfn.get() < Order::MAX.nr_pages());
    // SAFETY: such blocks lie within sections, and the section of `page` is populated.
    unsafe { PagePtr::new(zone.machine, pfn) }
}

/// The type of the list that the head of a free block is on.
pub(super) fn list_of(page: PagePtr) -> Option<MigrateType> {
    if page.page_type() != PageType::BUDDY {
        return None;
    }
    MigrateType::from_index(listed(page).1 as usize)
}

/// The order of the free block that `page` is the head of.
#[inline]
pub(super) fn free_order(page: PagePtr) -> Option<Order> {
    if page.page_type() != PageType::BUDDY {
        return None;
    }
    u8::try_from(listed(page).0).ok().and_then(Order::new)
}

/// Page `nr` of the listed block of `order` that `page` heads.
pub(super) fn inside(page: PagePtr, nr: u64, order: Order) -> PagePtr {
    assert!(nr < order.nr_pages());
    // SAFETY: blocks lie within sections (B1).
    unsafe { later(page, nr) }
}
