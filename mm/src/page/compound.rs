//! Compound pages: a block of several pages that is used and freed as one (`__GFP_COMP`).
//!
//! ```text
//! head                  first tail                          other tails
//! flags: HEAD           word 0: head | 1                    word 0: head | 1
//! refcount: all users   word 1: order | destructor << 8     refcount 0
//! words: the owner's    word 2: entries that map the whole  mapcount: its own
//! mapcount: its own     refcount 0
//! ```
//!
//! # Invariants
//! - C1: while the head has users or is frozen, order, destructor and the tails' word 0 stay: who holds a reference may
//!   read them.
//! - C2: no page that is not a tail has bit 0 of word 0 set while it has users or is on a list.
//!
//! # Not here
//! Who takes blocks apart: `page_alloc`.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{MapCount, Page, PageFlags, PagePtr, RefCount};
use crate::order::Order;
use crate::pfn::Pfn;

const TAIL_HEAD: usize = 0;
const TAIL_STATE: usize = 1;
const TAIL_MAPCOUNT: usize = 2;
const TAIL_BIT: u64 = 1;
const DESTRUCTOR_SHIFT: u32 = 8;
const LARGEST: u64 = Order::MAX.nr_pages();

/// What the last `put` of a compound page does (Linux: `enum compound_dtor_id`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Destructor {
    /// None: not a compound page. Freeing one is a bug.
    Null = 0,
    /// Goes back to the page allocator.
    Compound = 1,
    /// Goes to the pool of huge pages.
    HugeTlb = 2,
    /// Leaves the queue of huge pages to be split, then goes back.
    TransHuge = 3,
}

impl Destructor {
    const fn of(number: u8) -> Self {
        match number {
            1 => Self::Compound,
            2 => Self::HugeTlb,
            3 => Self::TransHuge,
            _ => Self::Null,
        }
    }
}

/// What is wrong with a compound page that is freed, and which page shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CompoundFault {
    /// A tail does not say that it is one.
    NotATail(PagePtr),
    /// A tail says that it belongs to another head.
    OtherHead(PagePtr),
    /// The whole is still mapped.
    Mapped(PagePtr),
}

/// Page `nr` of the block that starts at `head`.
///
/// # Safety
/// The block is that large: blocks lie within sections, whose vmemmap is contiguous.
unsafe fn nth(head: PagePtr, nr: u64) -> PagePtr {
    // SAFETY: the vmemmap of a populated section is contiguous and not near address zero.
    unsafe { PagePtr::from_raw(NonNull::new_unchecked(head.as_ptr().add(nr as usize))) }
}

/// The pages behind the first one of a block.
///
/// # Safety
/// As [`nth`]; the block is the caller's own as long as the result lives.
unsafe fn tails<'a>(head: PagePtr, order: Order) -> &'a [Page] {
    // SAFETY: contiguous in the vmemmap, and what changes in a page is atomic or a cell.
    unsafe { core::slice::from_raw_parts(head.as_ptr().add(1), order.nr_pages() as usize - 1) }
}

/// Sets the word by which tails find their head. Little more than an instruction a page.
///
/// # Safety
/// The pages are the caller's own.
#[inline(always)]
unsafe fn set_heads(tails: &[Page], word: u64) {
    let (eights, rest) = tails.as_chunks::<8>();
    for eight in eights {
        // SAFETY: the caller's pages.
        eight.iter().for_each(|tail| unsafe { tail.set_word(TAIL_HEAD, word) });
    }
    // SAFETY: the caller's pages.
    rest.iter().for_each(|tail| unsafe { tail.set_word(TAIL_HEAD, word) });
}

/// Whether that word is `word` in all of them. Little more than two instructions a page.
///
/// # Safety
/// As [`set_heads`].
#[inline(always)]
unsafe fn all_lead_to(tails: &[Page], word: u64) -> bool {
    let (mut any, mut all) = (word, word);
    let (eights, rest) = tails.as_chunks::<8>();
    for eight in eights {
        for tail in eight {
            // SAFETY: the caller's pages.
            let found = unsafe { tail.word(TAIL_HEAD) };
            (any, all) = (any | found, all & found);
        }
    }
    for tail in rest {
        // SAFETY: the caller's pages.
        let found = unsafe { tail.word(TAIL_HEAD) };
        (any, all) = (any | found, all & found);
    }
    any == word && all == word
}

/// Which tail does not have `word`, and what that means.
///
/// # Safety
/// As [`set_heads`]; there is one.
#[cold]
unsafe fn wrong_tail(head: PagePtr, order: Order, word: u64) -> CompoundFault {
    let mut fault = CompoundFault::NotATail(head);
    for nr in (1..order.nr_pages()).rev() {
        // SAFETY: the caller's pages.
        let (tail, found) = unsafe { (nth(head, nr), nth(head, nr).word(TAIL_HEAD)) };
        if found & TAIL_BIT == 0 {
            fault = CompoundFault::NotATail(tail);
        } else if found != word {
            fault = CompoundFault::OtherHead(tail);
        }
    }
    fault
}

/// Makes a block of several pages a compound page (Linux: `prep_compound_page`). A single page stays as it is. Takes time
/// by the pages.
///
/// # Safety
/// The block is the caller's own, on no list.
pub(crate) unsafe fn make_compound(head: PagePtr, order: Order) {
    if order == Order::ZERO {
        return;
    }
    head.set_flags_owned(PageFlags::HEAD);
    let state = u64::from(order.get()) | (Destructor::Compound as u64) << DESTRUCTOR_SHIFT;
    // SAFETY: pages of the caller's own block.
    unsafe {
        set_heads(tails(head, order), head.as_ptr() as u64 | TAIL_BIT);
        let first = nth(head, 1);
        first.set_word(TAIL_STATE, state);
        first.set_word(TAIL_MAPCOUNT, u64::from(MapCount::UNMAPPED));
    }
}

/// Undoes [`make_compound`] (Linux: `free_tail_pages_check`). Takes time by the pages.
///
/// # Safety
/// The block is the caller's own, compound, and of that order.
pub(crate) unsafe fn unmake_compound(head: PagePtr, order: Order) -> Result<(), CompoundFault> {
    // SAFETY: pages of the caller's own block.
    unsafe {
        let first = nth(head, 1);
        if first.word(TAIL_MAPCOUNT) as u32 != MapCount::UNMAPPED {
            return Err(CompoundFault::Mapped(first));
        }
        let word = head.as_ptr() as u64 | TAIL_BIT;
        if !all_lead_to(tails(head, order), word) {
            return Err(wrong_tail(head, order, word));
        }
        set_heads(tails(head, order), 0);
        first.set_word(TAIL_STATE, 0);
    }
    head.clear_flags_owned(PageFlags::HEAD);
    Ok(())
}

/// A compound page that a page looks like a part of, to somebody who has no reference to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glimpse {
    /// Its first page.
    pub(crate) head: PagePtr,
    pub(crate) order: Order,
    /// Which of its pages it was.
    pub(crate) nr: u64,
}

/// A word of a page's own words, whoever owns it.
fn glimpse(page: PagePtr, index: usize) -> u64 {
    // SAFETY: inside the page's struct, which is mapped (I1 of `page`); volatile, since its owner may change it.
    unsafe { page.words[index].get().read_volatile() }
}

/// The compound page that `page`, of frame `pfn`, is part of, as its words have it just now: anybody's words, so all that
/// they say is checked, and may be of no use a moment later. What is found is the head of a compound page in the same block
/// of the largest order, which reaches `page` (Linux: `compound_head` where no reference is held).
pub(crate) fn peek_compound(page: PagePtr, pfn: Pfn) -> Option<Glimpse> {
    let nr = if page.flags().contains(PageFlags::HEAD) {
        0
    } else {
        let word = glimpse(page, TAIL_HEAD);
        let distance =
            (page.as_ptr() as u64).checked_sub(word & !TAIL_BIT).filter(|_| word & TAIL_BIT != 0)?;
        distance.is_multiple_of(size_of::<Page>() as u64).then(|| distance / size_of::<Page>() as u64)?
    };
    let start = pfn.get().checked_sub(nr).filter(|start| start / LARGEST == pfn.get() / LARGEST)?;
    // SAFETY: as far as the start of the largest block around the page at most, and such blocks lie within sections, whose
    // vmemmap is contiguous and populated as a whole.
    let head = unsafe { PagePtr::from_raw(NonNull::new_unchecked(page.as_ptr().sub(nr as usize))) };
    if !head.flags().contains(PageFlags::HEAD) || !start.is_multiple_of(2) {
        return None;
    }
    // SAFETY: the frame behind an even one is in the same section.
    let order = Order::new(glimpse(unsafe { nth(head, 1) }, TAIL_STATE) as u8)?;
    let reaches = nr < order.nr_pages() && start.is_multiple_of(order.nr_pages());
    reaches.then_some(Glimpse { head, order, nr })
}

/// The first page of the compound page that `page` belongs to, or `page` itself (Linux: `compound_head`). One load.
///
/// # Safety
/// The caller holds a reference to the page or to the block that it is in (C1, C2).
#[inline]
pub unsafe fn compound_head(page: PagePtr) -> PagePtr {
    // SAFETY: the caller's page; a word with the bit set is the head's address (see the module).
    unsafe {
        let word = page.word(TAIL_HEAD);
        match NonNull::new((word & !TAIL_BIT) as *mut Page) {
            Some(head) if word & TAIL_BIT != 0 => PagePtr::from_raw(head),
            _ => page,
        }
    }
}

/// A page that is never a tail: the head of a compound page, or a single page (Linux: `struct folio`). Somebody's
/// reference keeps it as long as this lives.
#[derive(Clone, Copy, Debug)]
pub struct Folio<'a> {
    head: PagePtr,
    _reference: PhantomData<&'a ()>,
}

impl<'a> Folio<'a> {
    /// The folio that a page belongs to (Linux: `page_folio`).
    ///
    /// # Safety
    /// The caller holds a reference to the page or to the block that it is in, as long as `'a`.
    #[inline]
    pub unsafe fn of(page: PagePtr) -> Self {
        // SAFETY: the caller's reference.
        Self { head: unsafe { compound_head(page) }, _reference: PhantomData }
    }

    /// The folio whose first page `head` is.
    ///
    /// # Safety
    /// As [`of`](Self::of), and it is no tail.
    #[inline(always)]
    pub(crate) unsafe fn of_head(head: PagePtr) -> Self {
        Self { head, _reference: PhantomData }
    }

    /// The first page.
    #[inline(always)]
    pub fn head(self) -> PagePtr {
        self.head
    }

    /// The size: 0 when it is a single page (Linux: `compound_order`, `folio_order`).
    #[inline]
    pub fn order(self) -> Order {
        Order::new(self.state() as u8).unwrap_or(Order::ZERO)
    }

    /// How many pages it has (Linux: `compound_nr`, `folio_nr_pages`).
    #[inline]
    pub fn nr_pages(self) -> u64 {
        self.order().nr_pages()
    }

    /// What its last user does; `Null` for a single page.
    #[inline]
    pub fn destructor(self) -> Destructor {
        Destructor::of((self.state() >> DESTRUCTOR_SHIFT) as u8)
    }

    /// Order and destructor, 0 for a single page.
    #[inline]
    fn state(self) -> u64 {
        if !self.is_compound() {
            return 0;
        }
        // SAFETY: a compound page has a first tail, whose words stay (C1).
        unsafe { nth(self.head, 1).word(TAIL_STATE) }
    }

    /// Whether it has tails.
    #[inline]
    pub fn is_compound(self) -> bool {
        self.head.flags().contains(PageFlags::HEAD)
    }

    /// Page `nr` of it (Linux: `folio_page`).
    #[inline]
    pub fn page(self, nr: u64) -> Option<PagePtr> {
        // SAFETY: within the block.
        (nr < self.nr_pages()).then(|| unsafe { nth(self.head, nr) })
    }

    /// All its pages, the head first.
    pub fn pages(self) -> impl Iterator<Item = PagePtr> + 'a {
        // SAFETY: within the block.
        (0..self.nr_pages()).map(move |nr| unsafe { nth(self.head, nr) })
    }

    /// How many use it.
    #[inline]
    pub fn refcount(self) -> u32 {
        self.head.refcount()
    }

    /// The count of its users.
    #[inline(always)]
    pub(crate) fn refs(self) -> &'a RefCount {
        // SAFETY: the vmemmap outlives every reference to a page (I1 of `page`).
        unsafe { &*core::ptr::from_ref(self.head.refs()) }
    }

    /// The count of entries that map the whole; `None` for a single page, whose own count says it.
    pub(crate) fn entire_maps(self) -> Option<&'a MapCount> {
        // SAFETY: word 2 of a first tail is a `MapCount` in its lower half (see the module), used as such only (C1).
        self.is_compound()
            .then(|| unsafe { &*(*nth(self.head, 1).as_ptr()).words[TAIL_MAPCOUNT].get().cast() })
    }

    /// How many page-table entries map all of it at once (Linux: `folio_entire_mapcount`); 0 for a single page.
    pub fn entire_mapcount(self) -> u32 {
        self.entire_maps().map_or(0, MapCount::count)
    }

    /// How many page-table entries map page `nr` of it, alone or with the rest (Linux: `page_mapcount`).
    pub fn mapcount_of(self, nr: u64) -> u32 {
        self.page(nr).map_or(0, |page| page.mapcount()) + self.entire_mapcount()
    }

    /// How many page-table entries map it or a page of it (Linux: `total_mapcount`). Takes time by the pages.
    pub fn total_mapcount(self) -> u64 {
        self.pages().map(|page| u64::from(page.mapcount())).sum::<u64>() + u64::from(self.entire_mapcount())
    }

    /// Whether page-table entries map it or a page of it (Linux: `folio_mapped`). Takes time by the pages.
    pub fn is_mapped(self) -> bool {
        self.entire_mapcount() != 0 || self.pages().any(|page| page.mapcount() != 0)
    }

    /// Chooses what its last user does (Linux: `set_compound_page_dtor`).
    ///
    /// # Safety
    /// The caller is its only user. It is compound, and a destructor that keeps the page expects this one.
    pub unsafe fn set_destructor(self, destructor: Destructor) {
        debug_assert!(self.is_compound() && destructor != Destructor::Null);
        let state = u64::from(self.order().get()) | (destructor as u64) << DESTRUCTOR_SHIFT;
        // SAFETY: the first tail of the caller's own compound page.
        unsafe { nth(self.head, 1).set_word(TAIL_STATE, state) };
    }
}
