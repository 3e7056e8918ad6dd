//! A slab: a block of pages cut into objects of one cache. The only code that follows links between free objects.
//!
//! ```text
//! words of the head page, which has the flag SLAB:
//!   0, 1  links of the node's list that the slab is on
//!   2     the cache
//!   3     first returned object, each holding the next one at `link_offset`; 0 ends the chain
//!   4     63..48 objects | 47..32 inuse | 31..16 fresh | 15..8 order | 7..0 place
//!
//!   |<-- handed out at least once -->|<-- never handed out -->|
//!   [ object 0 |   ...   | fresh - 1 | fresh | ... | objects - 1 ]      free = chain + (objects - fresh)
//! ```
//! A new slab costs no work per object: objects are cut off at `fresh` as they are wanted.
//!
//! # Invariants
//! - S1: the head page of a slab has the flag `SLAB`, and word 2 is its cache, which lives longer than the slab. Both are
//!   set before an object is handed out and stay until the last is back: whoever has an object may read them.
//! - S2: words 0, 1, 3 and 4 are touched by the holder of the lock of the cache's lists for the slab's node; before the
//!   slab is listed and after it is taken off, by its owner.
//! - S3: the chain of word 3 has `fresh - inuse` objects, all below `fresh`, and nobody else uses them.
//!   `inuse <= fresh <= objects`, and the block holds `objects` objects of the cache's size.

use core::fmt;
use core::ptr::NonNull;

use super::geometry::Geometry;
use crate::addr::VirtAddr;
use crate::arch::Machine;
use crate::order::Order;
use crate::page::{PageFlags, PagePtr, compound_head};
use crate::pfn::Pfn;

const CACHE: usize = 2;
const CHAIN: usize = 3;
const STATE: usize = 4;

/// Which of its node's lists a slab is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Place {
    /// None: its owner's.
    Owned = 0,
    /// Has free objects, all of them possibly.
    Partial = 1,
    /// Has none.
    Full = 2,
}

/// Word 4: the counters, kept as one word so that a change costs one addition.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State(u64);

impl State {
    const ONE_IN_USE: u64 = 1 << 32;
    const ONE_FRESH: u64 = 1 << 16;
    const PLACE: u64 = 0xff;

    const fn new(objects: u16, order: Order) -> Self {
        Self((objects as u64) << 48 | (order.get() as u64) << 8 | Place::Owned as u64)
    }

    /// Objects in the slab.
    #[inline(always)]
    pub(super) const fn objects(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Objects that are not free.
    #[inline(always)]
    pub(super) const fn inuse(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Objects that were handed out at least once.
    #[inline(always)]
    pub(super) const fn fresh(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Objects that can be taken.
    #[inline(always)]
    pub(super) const fn free(self) -> u16 {
        self.objects() - self.inuse()
    }

    /// The slab's size.
    pub(super) const fn order(self) -> Order {
        match Order::new((self.0 >> 8) as u8) {
            Some(order) => order,
            None => Order::ZERO,
        }
    }

    /// The list that it is on.
    #[inline(always)]
    pub(super) const fn place(self) -> Place {
        match self.0 & Self::PLACE {
            1 => Place::Partial,
            2 => Place::Full,
            _ => Place::Owned,
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (objects, inuse, fresh) = (self.objects(), self.inuse(), self.fresh());
        write!(f, "{:?}, {objects} objects, {inuse} in use, {fresh} fresh", self.place())
    }
}

/// A slab, by its head page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slab(PagePtr);

/// The slab that `object` lies in, by its own page or what its tail page says; `Err` with the first page of its block
/// when that is no slab.
///
/// # Safety
/// `object` lies in a block in use that came from a page source.
#[inline(always)]
pub(super) unsafe fn slab_of(machine: Machine, object: NonNull<u8>) -> Result<Slab, PagePtr> {
    let pfn = Pfn::containing(machine.virt_to_phys(object.as_ptr()));
    // SAFETY: the direct map leads to frames with a struct page, and this one is in use.
    let page = unsafe { PagePtr::new(machine, pfn) };
    let flags = page.flags();
    if flags.contains(PageFlags::SLAB) {
        return Ok(Slab(page));
    }
    if flags.contains(PageFlags::HEAD) {
        return Err(page);
    }
    // SAFETY: a page in use by the caller.
    let head = unsafe { compound_head(page) };
    Slab::from_head(head).ok_or(head)
}

impl Slab {
    /// Makes a slab of a block, none of its objects handed out.
    ///
    /// # Safety
    /// The block of `order` is the caller's, holds at least one object of that geometry, and `cache` lives longer (S1).
    pub(super) unsafe fn make(head: PagePtr, order: Order, cache: NonNull<()>, geometry: &Geometry) -> Self {
        let objects = geometry.objects(order) as u16;
        let state = State::new(objects, order);
        // SAFETY: the caller's own page.
        unsafe {
            head.set_word(CACHE, cache.as_ptr() as u64);
            head.set_word(CHAIN, 0);
            head.set_word(STATE, state.0);
        }
        head.set_flags_owned(PageFlags::SLAB);
        Self(head)
    }

    /// Ends being a slab: the block, to be freed.
    ///
    /// # Safety
    /// The slab is the caller's own (S2), and no object is in use.
    pub(super) unsafe fn unmake(self) -> (PagePtr, Order) {
        // SAFETY: the caller's own (S2).
        let state = unsafe { self.state() };
        debug_assert!(state.inuse() == 0 && state.place() == Place::Owned);
        self.0.clear_flags_owned(PageFlags::SLAB);
        (self.0, state.order())
    }

    /// The slab whose head page this is, `None` when it is not a slab's.
    #[inline(always)]
    pub(super) fn from_head(head: PagePtr) -> Option<Self> {
        head.flags().contains(PageFlags::SLAB).then_some(Self(head))
    }

    /// Shows each object of a slab of that geometry and order.
    pub(super) fn each_object(
        self,
        machine: Machine,
        geometry: &Geometry,
        order: Order,
        mut look: impl FnMut(NonNull<u8>),
    ) {
        for nr in 0..geometry.objects(order) {
            // SAFETY: within the slab's block.
            look(unsafe { self.base(machine).add(nr * geometry.size as usize) });
        }
    }

    /// The head page.
    #[inline(always)]
    pub(super) fn head(self) -> PagePtr {
        self.0
    }

    /// The cache.
    #[inline(always)]
    pub(super) fn cache(self) -> NonNull<()> {
        // SAFETY: constant as long as it is a slab, and never null (S1).
        unsafe { NonNull::new_unchecked(self.0.word(CACHE) as *mut ()) }
    }

    /// Address of object 0.
    #[inline(always)]
    pub(super) fn base(self, machine: Machine) -> NonNull<u8> {
        // SAFETY: the direct map does not reach address zero.
        unsafe { NonNull::new_unchecked(machine.phys_to_virt(self.0.pfn(machine).phys())) }
    }

    /// Address of object 0, as a number.
    pub(super) fn address(self, machine: Machine) -> VirtAddr {
        VirtAddr::from_ptr(self.base(machine).as_ptr())
    }

    /// The number of the object at `object`; `None` when none starts there. It may be above that of the last object.
    #[inline(always)]
    pub(super) fn number(self, machine: Machine, geometry: &Geometry, object: NonNull<u8>) -> Option<usize> {
        geometry.object_at((object.as_ptr() as usize).wrapping_sub(self.base(machine).as_ptr() as usize))
    }

    /// The counters.
    ///
    /// # Safety
    /// The slab is the caller's (S2).
    #[inline(always)]
    pub(super) unsafe fn state(self) -> State {
        // SAFETY: the caller's (S2).
        State(unsafe { self.0.word(STATE) })
    }

    #[inline(always)]
    unsafe fn set_state(self, state: State) {
        // SAFETY: the caller's (S2).
        unsafe { self.0.set_word(STATE, state.0) };
    }

    /// Notes the list that the slab is on now.
    ///
    /// # Safety
    /// The slab is the caller's (S2).
    #[inline]
    pub(super) unsafe fn set_place(self, place: Place) {
        // SAFETY: the caller's (S2).
        unsafe { self.set_state(State(self.state().0 & !State::PLACE | place as u64)) };
    }

    /// Hands up to `want` free objects to `sink`; how many.
    ///
    /// # Safety
    /// The slab is the caller's (S2) and of that geometry.
    #[inline]
    pub(super) unsafe fn take(
        self,
        machine: Machine,
        geometry: &Geometry,
        want: usize,
        mut sink: impl FnMut(NonNull<u8>),
    ) -> usize {
        // SAFETY: the caller's (S2).
        let (mut state, mut chain) = unsafe { (self.state(), self.0.word(CHAIN)) };
        let nr = want.min(state.free() as usize);
        let mut left = nr;
        while left != 0
            && let Some(object) = NonNull::new(chain as *mut u8)
        {
            // SAFETY: a free object of this slab, whose link is ours to read (S3).
            chain = unsafe { link(geometry, object).read() };
            sink(object);
            left -= 1;
        }
        // SAFETY: the caller's (S2).
        unsafe { self.0.set_word(CHAIN, chain) };
        let mut at =
            self.base(machine).as_ptr().wrapping_add(state.fresh() as usize * geometry.size as usize);
        state.0 += left as u64 * State::ONE_FRESH + nr as u64 * State::ONE_IN_USE;
        while left != 0 {
            // SAFETY: an object within the block (S3).
            sink(unsafe { NonNull::new_unchecked(at) });
            at = at.wrapping_add(geometry.size as usize);
            left -= 1;
        }
        // SAFETY: the caller's (S2).
        unsafe { self.set_state(state) };
        nr
    }

    /// Takes an object back; the counters after it.
    ///
    /// # Safety
    /// The slab is the caller's (S2) and of that geometry; `object` is one of its objects in use, and nobody uses it any
    /// more.
    #[inline]
    pub(super) unsafe fn put(self, geometry: &Geometry, object: NonNull<u8>) -> State {
        // SAFETY: the caller's (S2); the object is ours now, so its link is (S3).
        unsafe {
            link(geometry, object).write(self.0.word(CHAIN));
            self.0.set_word(CHAIN, object.as_ptr() as u64);
            let state = self.state();
            debug_assert!(state.inuse() != 0);
            let state = State(state.0 - State::ONE_IN_USE);
            self.set_state(state);
            state
        }
    }

    /// The numbers of the objects on the chain of returned ones; stops with `Err` at a link that leads nowhere, or when
    /// there are more than there can be.
    ///
    /// # Safety
    /// The slab is the caller's (S2) and of that geometry.
    pub(super) unsafe fn chain(
        self,
        machine: Machine,
        geometry: &Geometry,
        mut each: impl FnMut(u16),
    ) -> Result<(), BrokenChain> {
        // SAFETY: the caller's (S2).
        let (state, mut next) = unsafe { (self.state(), self.0.word(CHAIN)) };
        for _ in 0..state.objects() {
            let Some(object) = NonNull::new(next as *mut u8) else { return Ok(()) };
            let nr = self.number(machine, geometry, object).filter(|&nr| nr < state.objects() as usize);
            let nr = nr.ok_or(BrokenChain { link: next })? as u16;
            each(nr);
            // SAFETY: an object of this slab, by its number; what is read is checked before it is followed.
            next = unsafe { link(geometry, object).read() };
        }
        if next == 0 { Ok(()) } else { Err(BrokenChain { link: next }) }
    }
}

/// A link between free objects that leads to no object of the slab, or in a circle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BrokenChain {
    pub(super) link: u64,
}

/// Where `object`, when free, keeps its link.
///
/// # Safety
/// An object of that geometry.
#[inline(always)]
unsafe fn link(geometry: &Geometry, object: NonNull<u8>) -> NonNull<u64> {
    // SAFETY: inside the object, and aligned, as it is (G1).
    unsafe { object.add(geometry.link_offset as usize) }.cast()
}
