//! Free blocks, what their first pages note while they are listed, and where their buddies are.
//!
//! ```text
//! FreeBlock { page, order }   owned, on no list        words of the head page while it is listed:
//!     | mark, push  ^ pop, unmark                        0, 1  links
//!     v             |                                    2     Note: order, migratetype of the list (not always the
//! FreeArea.lists[migratetype]                                  pageblock's), zone
//! ```
//!
//! # Invariants
//! - B1: a [`FreeBlock`] owns `order.nr_pages()` frames from `page` on, all with refcount 0 and type `NONE`, none on a
//!   list. They are aligned to their number and lie in populated sections of the vmemmap: blocks are no larger than
//!   4 MiB, sections are 128 MiB.
//! - B2: the head of a block on a list of an area has type `BUDDY`, and word 2 says which list of which area of which
//!   zone. No other page has that type.

use core::ptr::NonNull;

use super::list::{FreeList, Links};
use crate::arch::Machine;
use crate::gfp::MigrateType;
use crate::id::{MAX_NUMNODES, NodeId, ZoneIdx};
use crate::order::{Order, PAGEBLOCK_NR_PAGES};
use crate::page::{Page, PagePtr, PageType};
use crate::pfn::{Pfn, PfnRange};

const NOTE: usize = 2;
const FREED_AS: usize = 3;

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

    /// Its blocks of `order`, lowest first; the block is at least as large.
    #[inline]
    pub(crate) fn shatter(self, order: Order) -> impl Iterator<Item = FreeBlock> {
        debug_assert!(order <= self.order);
        // SAFETY: parts of our own block, each handed on once (B1).
        (0..self.order.nr_pages() >> order.get())
            .map(move |nr| unsafe { Self { page: later(self.page, nr << order.get()), order } })
    }
}

/// Notes in a page that is not on a free list which migratetype it was freed as (Linux: `set_pcppage_migratetype`).
#[inline(always)]
pub(crate) fn note_migrate_type(block: &FreeBlock, migrate_type: MigrateType) {
    // SAFETY: our own block (B1).
    unsafe { block.page.set_word(FREED_AS, migrate_type as u64) };
}

/// The same for the type with that number.
#[inline(always)]
pub(crate) fn note_type_number(block: &FreeBlock, number: u8) {
    // SAFETY: our own block (B1).
    unsafe { block.page.set_word(FREED_AS, u64::from(number)) };
}

/// The migratetype noted last by [`note_migrate_type`].
#[inline(always)]
pub(crate) fn noted_migrate_type(block: &FreeBlock) -> Option<MigrateType> {
    // SAFETY: our own block (B1).
    unsafe { noted_type_of(block.page) }
}

/// The same of a block's first page.
///
/// # Safety
/// The block is the caller's (B1).
#[inline(always)]
pub(crate) unsafe fn noted_type_of(page: PagePtr) -> Option<MigrateType> {
    // SAFETY: the caller's block.
    MigrateType::from_index(unsafe { page.word(FREED_AS) } as usize)
}

/// What the head of a listed block says of the list that it is on, in one word, so that a load and a comparison tell
/// whether a page is the one looked for.
///
/// ```text
/// 63 .. 32   31 .. 16   15 .. 8       7 .. 0
/// 0          zone key   migratetype   order
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Note(u64);

const TYPE_SHIFT: u32 = 8;
const TYPE_BITS: u64 = 0xff << TYPE_SHIFT;
const ZONE_SHIFT: u32 = 16;
const _: () = assert!(Page::key_of(NodeId(MAX_NUMNODES as u16 - 1), ZoneIdx::Device) < 1 << 16);

impl Note {
    #[inline(always)]
    pub(super) const fn new(order: Order, migrate_type: MigrateType, zone_key: u64) -> Self {
        Self(zone_key << ZONE_SHIFT | (migrate_type as u64) << TYPE_SHIFT | order.get() as u64)
    }

    /// What the head of a listed block has noted. Of a page that is not one, nonsense.
    #[inline(always)]
    pub(super) fn of(page: PagePtr) -> Self {
        // SAFETY: a page of type BUDDY (B2) of this zone belongs to the holder of the zone's lock; of another zone's page
        // at most the value is of no use.
        Self(unsafe { page.word(NOTE) })
    }

    /// The order; `None` for nonsense.
    pub(super) fn order(self) -> Option<Order> {
        Order::new(self.0 as u8)
    }

    /// The type; `None` for nonsense.
    #[inline(always)]
    pub(super) const fn migrate_type(self) -> Option<MigrateType> {
        MigrateType::from_index((self.0 >> TYPE_SHIFT & 0xff) as usize)
    }

    /// Whether both are of the same order and zone.
    #[inline(always)]
    pub(super) const fn is_alike(self, other: Self) -> bool {
        (self.0 ^ other.0) & !TYPE_BITS == 0
    }

    /// The same for the next larger order.
    #[inline(always)]
    pub(super) const fn up(self) -> Self {
        Self(self.0 + 1)
    }

    /// The same for the next smaller order.
    #[inline(always)]
    pub(super) const fn down(self) -> Self {
        Self(self.0 - 1)
    }
}

/// Makes a page the head of a free block that is being listed.
#[inline(always)]
pub(super) fn mark(page: PagePtr, note: Note) {
    page.set_page_type(PageType::BUDDY);
    // SAFETY: the first page of a block of ours, on no list (B1).
    unsafe { page.set_word(NOTE, note.0) };
}

/// Makes a page the head of a block that is kept back, with what it noted while it was listed.
pub(super) fn mark_guard(page: PagePtr, note: Note) {
    page.set_page_type(PageType::GUARD);
    // SAFETY: the first page of a block of ours, on no list (B1).
    unsafe { page.set_word(NOTE, note.0) };
}

/// Whether a page heads a block that is kept back, of the order and zone of `note`.
pub(super) fn is_guard(page: PagePtr, note: Note) -> bool {
    page.type_and_refcount() == Page::GUARD_HEAD && Note::of(page).is_alike(note)
}

/// Whether a page heads a listed block of the order and zone of `note`.
#[inline(always)]
pub(super) fn is_listed(page: PagePtr, note: Note) -> bool {
    page.type_and_refcount() == Page::FREE_HEAD && Note::of(page).is_alike(note)
}

/// Free blocks of one order, by migratetype (Linux: `struct free_area`).
#[derive(Debug)]
pub struct FreeArea {
    pub(super) lists: [FreeList; MigrateType::COUNT],
    pub(super) nr: [u64; MigrateType::COUNT],
}

impl FreeArea {
    pub(super) const fn new() -> Self {
        Self { lists: [const { FreeList::new() }; MigrateType::COUNT], nr: [0; MigrateType::COUNT] }
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
    #[inline]
    pub fn list(&self, migrate_type: MigrateType) -> &FreeList {
        &self.lists[migrate_type.index()]
    }
}

/// Where a zone is, and what its blocks note of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) machine: Machine,
    pub(super) span: PfnRange,
    pub(super) links: Links,
    zone_key: u64,
}

const PAGE_STRUCT: u64 = size_of::<Page>() as u64;

impl Bounds {
    pub(super) fn new(machine: Machine, zone_key: usize, span: PfnRange) -> Self {
        Self { machine, span, links: Links::new(machine, span), zone_key: zone_key as u64 }
    }

    /// What the head of a listed block of this zone notes.
    #[inline(always)]
    pub(super) fn note(&self, order: Order, migrate_type: MigrateType) -> Note {
        Note::new(order, migrate_type, self.zone_key)
    }
}

/// A place in the vmemmap where a block of some order starts, for the arithmetic of buddies: of two halves of a block the
/// byte offsets differ in one bit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    machine: Machine,
    offset: u64,
}

impl Place {
    #[inline(always)]
    pub(super) fn of(page: PagePtr, machine: Machine) -> Self {
        Self { machine, offset: page.as_ptr() as u64 - machine.vmemmap() as u64 }
    }

    /// The page there.
    #[inline(always)]
    pub(super) fn page(self) -> PagePtr {
        let at = self.machine.vmemmap().wrapping_add(self.offset as usize).cast::<Page>();
        // SAFETY: made from a page by steps within its block of the largest order, which lies in one section (B1), whose
        // vmemmap is populated as a whole (I2 of `sparse`) and not near address zero.
        unsafe { PagePtr::from_raw(NonNull::new_unchecked(at)) }
    }

    /// Its frame.
    #[inline(always)]
    pub(super) fn pfn(self) -> Pfn {
        Pfn::new(self.offset / PAGE_STRUCT)
    }

    /// The other half of the block one order up, below the largest.
    #[inline(always)]
    pub(super) fn buddy(self, order: Order) -> Self {
        debug_assert!(order < Order::MAX);
        Self { offset: self.offset ^ PAGE_STRUCT << order.get(), ..self }
    }

    /// The block one order up.
    #[inline(always)]
    pub(super) fn parent(self, order: Order) -> Self {
        Self { offset: self.offset & !(PAGE_STRUCT << order.get()), ..self }
    }

    /// The upper half of the block of `order` here, which is the block of the order below.
    #[inline(always)]
    pub(super) fn upper_half(self, order: Order) -> Self {
        debug_assert!(order > Order::ZERO);
        Self { offset: self.offset + (PAGE_STRUCT << order.get() >> 1), ..self }
    }
}

/// The block of `order` that `page` heads, which has just been taken off its list, or was kept back.
///
/// # Safety
/// Just so, or kept back until now (`guard`): by B2, or B3, it is ours now.
#[inline(always)]
pub(super) unsafe fn unmark(page: PagePtr, order: Order) -> FreeBlock {
    page.set_page_type(PageType::NONE);
    FreeBlock { page, order }
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
    Note::of(page).migrate_type()
}

/// The type of the list that a block was taken from, as long as it has not been listed again.
#[inline(always)]
pub(crate) fn taken_from(block: &FreeBlock) -> Option<MigrateType> {
    Note::of(block.page()).migrate_type()
}

/// The order of the free block that `page` is the head of.
#[inline]
pub(super) fn free_order(page: PagePtr) -> Option<Order> {
    if page.page_type() != PageType::BUDDY {
        return None;
    }
    Note::of(page).order()
}

/// Page `nr` of the listed block of `order` that `page` heads.
pub(super) fn inside(page: PagePtr, nr: u64, order: Order) -> PagePtr {
    assert!(nr < order.nr_pages());
    // SAFETY: blocks lie within sections (B1).
    unsafe { later(page, nr) }
}
