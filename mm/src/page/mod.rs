//! `struct Page`: what the system knows of each page frame, 64 bytes a frame, in the vmemmap.
//!
//! ```text
//!   0         8                                       48         52         56        64
//!   | flags   | words[0..5]: by the page's state      | type or  | refcount | owner   |
//!   |         |                                       | mapcount |          |         |
//!
//!   flags     63 .. 54   53 .. 51    50 .. 23   22 .. 0
//!             node       zone        unused     PageFlags
//! ```
//!
//! | state | flags | type | refcount | words |
//! |---|---|---|---|---|
//! | not initialised | all zero | 0 | 0 | zero: reads as a bug everywhere |
//! | reserved (kernel image, holes, boot memory kept) | `RESERVED` | none | 1 | - |
//! | free, head of a buddy block | none | `Buddy` | 0 | 0, 1: list links; 2: order, migratetype of the list, zone |
//! | free, inside a buddy block | none | none | 0 | - |
//! | free, on a per-CPU list | none | none | 0 | 0, 1: list links; 3: migratetype |
//! | allocated | any | none or `Table` | >= 1 | the owner's |
//! | slab | `SLAB` | none | >= 1 | see `slub` |
//! | compound head | `HEAD` | none or mapcount | >= 1, or 0: frozen | the owner's |
//! | compound tail | none | none or mapcount | 0 | 0: head page, with bit 0 set; first tail: see `compound` |
//!
//! # Invariants
//! - I1: a [`PagePtr`] points to a `Page` inside the populated vmemmap of a machine that outlives it.
//! - I2: whoever owns the page (by its state) is the only one to touch `words`; for free pages that is the holder of the
//!   zone's lock, or the CPU of the per-CPU list.
//! - I3: while a page is on a list, words 0 and 1 are its links and nothing else writes them.
//! - I4: flags that others trust with memory (`HEAD`, `SLAB`, `RESERVED`, ...) are changed by the page's owner in this crate
//!   only; anybody may change [`OwnerFlags`], on which nothing but the page's contents depends.
//!
//! # Not here
//! Who may move a page from one state to another: `buddy`, `pcp`, `slub`, `fault`.

mod atomic;
mod compound;
mod dump;
mod flags;
mod list;
mod reference;
mod refs;

pub(crate) use compound::{CompoundFault, make_compound, peek_compound, unmake_compound};
pub use compound::{Destructor, Folio, compound_head};
pub(crate) use dump::FlagNames;
pub use dump::PageDump;
pub use flags::{OwnerFlags, PageFlags, PageType};
pub use list::{PageList, PageListIter};
pub use reference::{Frozen, PageRef};
pub use refs::{MapCount, MapState, RefCount, RefState};

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::{self, Machine};
use crate::id::{NodeId, ZoneIdx};
use crate::pfn::Pfn;

/// What the system knows of one page frame (Linux: `struct page`).
#[repr(C, align(64))]
pub struct Page {
    flags: AtomicU64,
    words: [UnsafeCell<u64>; 5],
    /// `PageType::NONE` (all ones, also "mapped nowhere"), another [`PageType`], or the number of page-table entries
    /// that map the page, less one. All values: see `refs`.
    type_or_mapcount: MapCount,
    /// 0: free, frozen or a tail page. n: that many users. Reserved pages have 1. All values: see `refs`.
    refcount: RefCount,
    /// Where it is recorded who allocated it (O1 of `page_alloc`'s `owner`); 0: nowhere.
    owner: AtomicU64,
}

const _: () =
    assert!(size_of::<Page>() == arch::STRUCT_PAGE_BYTES && align_of::<Page>() == arch::STRUCT_PAGE_BYTES);

/// The vmemmap, both ways.
impl Machine {
    /// The `struct Page` of frame `pfn` (Linux: `pfn_to_page`). Not checked.
    #[inline(always)]
    pub fn page(self, pfn: Pfn) -> *mut Page {
        self.vmemmap().cast::<Page>().wrapping_add(pfn.index())
    }

    /// The frame of a `struct Page` (Linux: `page_to_pfn`). Not checked.
    #[inline(always)]
    pub fn pfn_of(self, page: *const Page) -> Pfn {
        Pfn::new((page as u64 - self.vmemmap() as u64) / size_of::<Page>() as u64)
    }
}

// SAFETY: `words` is touched by the page's owner only (I2); the rest are atomics.
unsafe impl Sync for Page {}
// SAFETY: as above.
unsafe impl Send for Page {}

const ZONE_SHIFT: u32 = 51;
const ZONE_MASK: u64 = 7;
const NODE_SHIFT: u32 = 54;
const _: () = assert!(crate::id::MAX_NUMNODES <= 1 << (64 - NODE_SHIFT) && ZoneIdx::COUNT <= 8);

impl Page {
    /// A reserved page of that zone, as boot leaves those that it does not hand to the page allocator
    /// (Linux: `__init_single_page`, `__SetPageReserved`).
    pub fn reserved(node: NodeId, zone: ZoneIdx) -> Self {
        Self::with(place(node, zone) | PageFlags::RESERVED.bits(), 1)
    }

    /// A page of that zone that is free but on no list: neither counted nor owned.
    pub fn free(node: NodeId, zone: ZoneIdx) -> Self {
        Self::with(place(node, zone), 0)
    }

    fn with(flags: u64, refcount: u32) -> Self {
        Self {
            flags: AtomicU64::new(flags),
            words: [const { UnsafeCell::new(0) }; 5],
            type_or_mapcount: MapCount::new(),
            refcount: RefCount::new(refcount),
            owner: AtomicU64::new(0),
        }
    }

    /// The flags, without node and zone.
    #[inline]
    pub fn flags(&self) -> PageFlags {
        PageFlags::from_bits_retain(self.flags.load(Ordering::Relaxed) & PageFlags::all().bits())
    }

    /// Sets `flags` atomically.
    #[inline]
    pub fn set_flags(&self, flags: OwnerFlags) {
        self.flags.fetch_or(flags.bits(), Ordering::Relaxed);
    }

    /// Clears `flags` atomically.
    #[inline]
    pub fn clear_flags(&self, flags: OwnerFlags) {
        self.flags.fetch_and(!flags.bits(), Ordering::Relaxed);
    }

    /// Sets `flags` without an atomic operation: for a page whose flags nobody else changes now (Linux: `__SetPage...`).
    #[inline]
    pub(crate) fn set_flags_owned(&self, flags: PageFlags) {
        self.flags.store(self.flags.load(Ordering::Relaxed) | flags.bits(), Ordering::Relaxed);
    }

    /// Clears `flags` without an atomic operation: as [`set_flags_owned`](Self::set_flags_owned).
    #[inline]
    pub(crate) fn clear_flags_owned(&self, flags: PageFlags) {
        self.flags.store(self.flags.load(Ordering::Relaxed) & !flags.bits(), Ordering::Relaxed);
    }

    /// The address of the record of its owner; 0: there is none.
    #[inline(always)]
    pub(crate) fn owner(&self) -> u64 {
        self.owner.load(Ordering::Relaxed)
    }

    /// Says where its owner is recorded.
    pub(crate) fn set_owner(&self, record: u64) {
        self.owner.store(record, Ordering::Relaxed);
    }

    /// The page's node (Linux: `page_to_nid`).
    #[inline]
    pub fn node(&self) -> NodeId {
        NodeId((self.flags.load(Ordering::Relaxed) >> NODE_SHIFT) as u16)
    }

    /// The page's zone (Linux: `page_zonenum`).
    #[inline]
    pub fn zone(&self) -> ZoneIdx {
        ZoneIdx::ALL
            [((self.flags.load(Ordering::Relaxed) >> ZONE_SHIFT) & ZONE_MASK) as usize % ZoneIdx::COUNT]
    }

    /// Node and zone as one number, eight for each node: an index into a table of all zones of the machine.
    #[inline(always)]
    pub fn zone_key(&self) -> usize {
        (self.flags.load(Ordering::Relaxed) >> ZONE_SHIFT) as usize
    }

    /// Whether both pages are of the same zone of the same node.
    #[inline(always)]
    pub fn same_zone(&self, other: &Self) -> bool {
        self.zone_key() == other.zone_key()
    }

    /// The number that [`zone_key`](Self::zone_key) has for pages of that zone.
    pub const fn key_of(node: NodeId, zone: ZoneIdx) -> usize {
        (place(node, zone) >> ZONE_SHIFT) as usize
    }

    /// The flags with node and zone, as they are.
    #[inline]
    pub(crate) fn raw_flags(&self) -> u64 {
        self.flags.load(Ordering::Relaxed)
    }

    /// What [`type_and_refcount`](Self::type_and_refcount) is for a page without type, mappings and users.
    pub(crate) const UNUSED: u64 = PageType::NONE.bits() as u64;
    /// The same with one user.
    pub(crate) const USED_ONCE: u64 = Self::UNUSED | 1 << 32;
    /// The same for the head of a free block.
    pub(crate) const FREE_HEAD: u64 = PageType::BUDDY.bits() as u64;
    /// The same for the head of a block that is kept back.
    pub(crate) const GUARD_HEAD: u64 = PageType::GUARD.bits() as u64;

    #[inline(always)]
    fn state_word(&self) -> *const u64 {
        const { assert!(core::mem::offset_of!(Self, type_or_mapcount) % 8 == 0) };
        const {
            assert!(
                core::mem::offset_of!(Self, refcount) == core::mem::offset_of!(Self, type_or_mapcount) + 4
            )
        };
        core::ptr::from_ref(self).wrapping_byte_add(core::mem::offset_of!(Self, type_or_mapcount)).cast()
    }

    /// Type or mapcount, and in the upper half the refcount, in one load.
    #[inline(always)]
    pub(crate) fn type_and_refcount(&self) -> u64 {
        // SAFETY: two neighbouring words of the page, aligned to their size together; read at once, as atomics.
        let both = unsafe { (*self.state_word().cast::<AtomicU64>()).load(Ordering::Relaxed) };
        u64::from_le(both)
    }

    /// Whether no page has a type, a mapping, a user, or one of the `forbidden` flags. Three instructions a page.
    ///
    /// # Safety
    /// The pages are the caller's (I2): nobody changes their flags, types or counts meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn are_unused(pages: &[Self], forbidden: PageFlags) -> bool {
        let mut flags = 0;
        let mut check = |page: &Self| {
            // SAFETY: plain loads, which can be operands: nobody writes, says the caller.
            unsafe {
                flags |= page.flags.as_ptr().read();
                u64::from_le(page.state_word().read()) == Self::UNUSED
            }
        };
        // Blocks are powers of two: small ones without a loop, large ones eight pages at a time.
        match pages {
            [page] if check(page) => {}
            [one, other] if check(one) && check(other) => {}
            [first, second, third, fourth]
                if check(first) && check(second) && check(third) && check(fourth) => {}
            [_, _, _, _, _, ..] => {
                let (eights, rest) = pages.as_chunks::<8>();
                for eight in eights {
                    for page in eight {
                        if !check(page) {
                            return false;
                        }
                    }
                }
                if !rest.iter().all(check) {
                    return false;
                }
            }
            _ => return pages.is_empty(),
        }
        flags & forbidden.bits() == 0
    }

    /// How many users the page has; 0 for a tail, whose head counts for it.
    #[inline]
    pub fn refcount(&self) -> u32 {
        self.refcount.value()
    }

    /// The count of its users, to change it.
    #[inline(always)]
    pub(crate) fn refs(&self) -> &RefCount {
        &self.refcount
    }

    /// Sets the count, for a page that nobody else can reach.
    #[inline(always)]
    pub(crate) fn set_refcount(&self, count: u32) {
        self.refcount.set(count);
    }

    /// One user more, for a caller that already has the page, which is no tail.
    #[cfg(test)]
    pub(crate) fn get(&self) {
        self.refcount.get();
    }

    /// One user less; whether it was the last.
    #[inline]
    #[must_use = "the last user frees the page"]
    pub(crate) fn put(&self) -> bool {
        self.refcount.put()
    }

    /// What kind of page it is, when it is not mapped.
    #[inline]
    pub fn page_type(&self) -> PageType {
        PageType::from_bits(self.type_or_mapcount.word())
    }

    /// Sets the kind.
    #[inline]
    pub(crate) fn set_page_type(&self, page_type: PageType) {
        self.type_or_mapcount.set_word(page_type.bits());
    }

    /// How many page-table entries map the page itself; 0 for pages with a type. Of a compound page, entries that map the
    /// whole are not among them: see [`Folio::mapcount_of`].
    #[inline]
    pub fn mapcount(&self) -> u32 {
        self.type_or_mapcount.count()
    }

    /// The count of its mappings, to change it.
    #[inline(always)]
    pub(crate) fn maps(&self) -> &MapCount {
        &self.type_or_mapcount
    }

    /// One mapping more.
    #[inline]
    pub(crate) fn add_mapping(&self) {
        self.type_or_mapcount.add();
    }

    /// One mapping less; whether it was the last.
    #[inline]
    pub(crate) fn remove_mapping(&self) -> bool {
        self.type_or_mapcount.remove()
    }

    /// The word `index` of the state's own words.
    ///
    /// # Safety
    /// The caller owns the page by its state (I2).
    #[inline(always)]
    pub(crate) unsafe fn word(&self, index: usize) -> u64 {
        // SAFETY: nobody else touches the words (I2).
        unsafe { *self.words[index].get() }
    }

    /// Sets word `index` of the state's own words.
    ///
    /// # Safety
    /// The caller owns the page by its state (I2), and the page is on no list when `index` is 0 or 1 (I3).
    #[inline(always)]
    pub(crate) unsafe fn set_word(&self, index: usize, value: u64) {
        // SAFETY: nobody else touches the words (I2).
        unsafe { *self.words[index].get() = value }
    }
}

const fn place(node: NodeId, zone: ZoneIdx) -> u64 {
    (node.0 as u64) << NODE_SHIFT | (zone as u64) << ZONE_SHIFT
}

/// A page of the vmemmap: a pointer that can be followed, and compared as identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PagePtr(NonNull<Page>);

// SAFETY: `Page` is Sync, and the pointer is only ever followed to share it.
unsafe impl Send for PagePtr {}
// SAFETY: as above.
unsafe impl Sync for PagePtr {}

impl PagePtr {
    /// The page of frame `pfn`.
    ///
    /// # Safety
    /// The frame's section is populated in the machine's vmemmap (`pfn_valid`), and the page initialised (I1).
    #[inline(always)]
    pub unsafe fn new(machine: Machine, pfn: Pfn) -> Self {
        // SAFETY: the vmemmap is nowhere near address zero.
        Self(unsafe { NonNull::new_unchecked(machine.page(pfn)) })
    }

    /// The page at `page`.
    ///
    /// # Safety
    /// As I1 says.
    #[inline(always)]
    pub unsafe fn from_raw(page: NonNull<Page>) -> Self {
        Self(page)
    }

    /// The pointer itself.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut Page {
        self.0.as_ptr()
    }

    /// The frame it stands for.
    #[inline(always)]
    pub fn pfn(self, machine: Machine) -> Pfn {
        machine.pfn_of(self.0.as_ptr())
    }
}

impl Deref for PagePtr {
    type Target = Page;
    #[inline(always)]
    fn deref(&self) -> &Page {
        // SAFETY: I1.
        unsafe { self.0.as_ref() }
    }
}

impl fmt::Debug for PagePtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page:{:p} {:?}", self.0, **self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_and_zone_survive_all_flags() {
        let page = Page::reserved(NodeId(1023), ZoneIdx::Device);
        page.set_flags_owned(PageFlags::all());
        page.clear_flags(OwnerFlags::DIRTY);
        assert_eq!((page.node(), page.zone()), (NodeId(1023), ZoneIdx::Device));
        assert_eq!(page.flags(), PageFlags::all() - PageFlags::DIRTY);
    }

    #[test]
    fn every_value_of_a_reference_count_has_a_meaning() {
        for (value, state) in [
            (0, RefState::Unused),
            (1, RefState::Users(1)),
            (i32::MAX, RefState::Users(i32::MAX as u32)),
            (-1, RefState::Underflow),
            (-127, RefState::Underflow),
            (-128, RefState::Overflow),
            (i32::MIN, RefState::Overflow),
        ] {
            assert_eq!(RefState::of(value as u32), state, "{value}");
        }
    }

    #[test]
    fn every_value_of_a_mapcount_has_a_meaning() {
        for (word, state) in [
            (-1i32 as u32, MapState::Unmapped),
            (0, MapState::Mapped(1)),
            (0x7fff_ffff, MapState::Mapped(0x8000_0000)),
            (0x8000_0000, MapState::Overflow),
            (0xefff_ffff, MapState::Overflow),
            (0xf000_0000, MapState::Typed(0xf000_0000)),
            (PageType::BUDDY.bits(), MapState::Typed(PageType::BUDDY.bits())),
            (PageType::GUARD.bits(), MapState::Typed(PageType::GUARD.bits())),
            (-129i32 as u32, MapState::Typed(-129i32 as u32)),
            (-128i32 as u32, MapState::Underflow),
            (-2i32 as u32, MapState::Underflow),
        ] {
            assert_eq!(MapState::of(word), state, "{word:#x}");
        }
    }

    #[track_caller]
    fn is_refused(act: impl FnOnce(&Page)) {
        let page = Page::free(NodeId(0), ZoneIdx::Normal);
        let caught = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| act(&page)));
        assert!(caught.is_err(), "{page:?}");
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        is_refused(|page| page.refs().get());
        is_refused(|page| page.refs().add(2));
        is_refused(|page| _ = page.refs().put());
        is_refused(|page| {
            page.set_refcount(3);
            _ = page.refs().sub(4);
        });
        is_refused(|page| {
            page.set_refcount(i32::MAX as u32);
            page.get();
            page.get();
        });
        is_refused(|page| _ = page.remove_mapping());
        is_refused(|page| {
            page.set_page_type(PageType::TABLE);
            page.add_mapping();
        });
    }

    #[test]
    fn nobody_gets_a_page_without_users_or_with_too_many() {
        for value in [0, -1, -128, i32::MIN] {
            let page = Page::free(NodeId(0), ZoneIdx::Normal);
            page.set_refcount(value as u32);
            assert!(!page.refs().try_get(), "{value}");
            assert_eq!(page.refcount(), value as u32);
        }
    }

    #[test]
    fn only_all_users_together_can_freeze_a_page() {
        let page = Page::free(NodeId(0), ZoneIdx::Normal);
        page.set_refcount(3);
        assert!(!page.refs().freeze(2) && page.refs().freeze(3));
        assert!(!page.refs().try_get());
        page.refs().unfreeze(3);
        assert!(page.refs().try_get() && !page.refs().sub(3) && page.put());
    }

    #[test]
    fn mappings_are_counted_from_none() {
        let page = Page::free(NodeId(0), ZoneIdx::Normal);
        assert_eq!(page.mapcount(), 0);
        page.add_mapping();
        page.add_mapping();
        assert_eq!(page.mapcount(), 2);
        assert!(!page.remove_mapping());
        assert!(page.remove_mapping());
        assert_eq!((page.mapcount(), page.page_type()), (0, PageType::NONE));
    }

    #[test]
    fn the_last_put_says_so() {
        let page = Page::free(NodeId(0), ZoneIdx::Normal);
        page.set_refcount(1);
        page.get();
        assert!(!page.put());
        assert!(page.put());
    }
}
