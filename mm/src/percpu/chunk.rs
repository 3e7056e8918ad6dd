//! Chunks, and the lists in which they are found.
//!
//! ```text
//! first -> chunk -> chunk -> chunk                 all
//! slots[0]   nothing ready                         by the longest ready run (Linux: pcpu_chunk_lists)
//! slots[k]   2^(k-1) to 2^k - 1 units
//! ```
//! A chunk of slot k fits what is at most 2^(k-1) units long, so lower slots, with fuller chunks, are tried first; what is
//! wanted larger than its slot's least finds its chunk there by looking at a few, or at the next slot's first.
//!
//! # Invariants
//! - C1: a chunk in the lists is in `first`'s list and in that of its slot, once each; the pointers lead to chunks that are
//!   alive, and reached only through the [`Chunks`] that they are in.
//! - C2: `slot` of a chunk is [`slot_of`] its longest ready run; a bit of `nonempty` is set for each slot with chunks.
//! - C3: `totals` are the sums over all chunks.

use core::ops::Range;
use core::ptr::NonNull;

use super::kept::Kept;
use super::map::{Map, Wanted};

const NR_SLOTS: usize = slot_of(super::runs::CAP) + 1;
/// How many chunks of a slot are looked at before a higher slot is, which fits in any case.
const FEW: usize = 4;

/// The slot for a longest run of so many units.
#[inline(always)]
const fn slot_of(units: u32) -> usize {
    (u32::BITS - units.leading_zeros()) as usize
}

/// Whose memory a chunk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// There since boot, for good, with all its pages.
    First,
    /// In addresses and pages of the source.
    Dynamic,
}

type Link = Option<NonNull<Chunk>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) map: Map,
    pub(super) base: NonNull<u8>,
    kind: Kind,
    slot: usize,
    /// Before and after it in its slot.
    in_slot: [Link; 2],
    /// Before and after it among all.
    in_all: [Link; 2],
}

impl Chunk {
    pub(super) fn new(kind: Kind, base: NonNull<u8>, map: Map) -> Self {
        Self { map, base, kind, slot: 0, in_slot: [None; 2], in_all: [None; 2] }
    }

    /// Where a chunk's first unit is: that never changes, and may be asked without the lock.
    ///
    /// # Safety
    /// The chunk is alive.
    #[inline(always)]
    pub(super) unsafe fn base(this: NonNull<Self>) -> NonNull<u8> {
        // SAFETY: the caller's promise; no reference is made, as another CPU may have one.
        unsafe { (*this.as_ptr()).base }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    fn is_unused(&self) -> bool {
        self.kind == Kind::Dynamic && self.map.is_unused()
    }

    fn totals(&self) -> Totals {
        Totals {
            nr_populated: self.map.nr_populated(),
            nr_empty: self.map.nr_empty(),
            nr_unused: self.is_unused().into(),
        }
    }
}

/// Sums over chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    /// Pages of each unit that have memory (Linux: `pcpu_nr_populated`).
    pub(super) nr_populated: usize,
    /// Those of them without areas (Linux: `pcpu_nr_empty_pop_pages`).
    pub(super) nr_empty: usize,
    /// Dynamic chunks without areas.
    pub(super) nr_unused: usize,
}

impl Totals {
    #[inline(always)]
    fn change(&mut self, before: Self, after: Self) {
        self.nr_populated = self.nr_populated + after.nr_populated - before.nr_populated;
        self.nr_empty = self.nr_empty + after.nr_empty - before.nr_empty;
        self.nr_unused = self.nr_unused + after.nr_unused - before.nr_unused;
    }
}

/// All chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    first: Link,
    slots: [Link; NR_SLOTS],
    nonempty: u32,
    totals: Totals,
    kept: Kept,
}

// SAFETY: chunks are reached only through this (C1).
unsafe impl Send for Chunks {}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self {
            first: None,
            slots: [None; NR_SLOTS],
            nonempty: 0,
            totals: Totals { nr_populated: 0, nr_empty: 0, nr_unused: 0 },
            kept: Kept::new(),
        }
    }

    #[inline(always)]
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// All chunks.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NonNull<Chunk>, &Chunk)> {
        // SAFETY: C1; nothing changes while this is borrowed.
        let follow = |link: Link| link.map(|at| (at, unsafe { at.as_ref() }));
        core::iter::successors(follow(self.first), move |(_, chunk)| follow(chunk.in_all[1]))
    }

    /// Puts a chunk in.
    ///
    /// # Safety
    /// It is alive until it is [`remove`](Self::remove)d, in no list, and from now on reached only through here.
    pub(super) unsafe fn insert(&mut self, mut chunk: NonNull<Chunk>) {
        // SAFETY: the caller's promise, and C1 for the first.
        unsafe {
            let new = chunk.as_mut();
            new.in_all = [None, self.first];
            if let Some(mut next) = self.first.replace(chunk) {
                next.as_mut().in_all[0] = Some(chunk);
            }
            self.totals.change(Totals::default(), new.totals());
            self.link(chunk);
        }
    }

    /// Takes a chunk out.
    ///
    /// # Safety
    /// It is in.
    pub(super) unsafe fn remove(&mut self, mut chunk: NonNull<Chunk>) {
        // SAFETY: C1.
        unsafe {
            self.unlink(chunk);
            let old = chunk.as_mut();
            let [before, after] = core::mem::take(&mut old.in_all);
            match before {
                Some(mut before) => before.as_mut().in_all[1] = after,
                None => self.first = after,
            }
            if let Some(mut after) = after {
                after.as_mut().in_all[0] = before;
            }
            self.totals.change(old.totals(), Totals::default());
        }
    }

    /// Puts a chunk into its slot's list.
    ///
    /// # Safety
    /// It is alive and in none.
    #[inline]
    unsafe fn link(&mut self, mut chunk: NonNull<Chunk>) {
        // SAFETY: the caller's promise, and C1 for the first of the slot.
        unsafe {
            let new = chunk.as_mut();
            new.slot = slot_of(new.map.best());
            let head = &mut self.slots[new.slot];
            new.in_slot = [None, *head];
            if let Some(mut next) = head.replace(chunk) {
                next.as_mut().in_slot[0] = Some(chunk);
            }
            self.nonempty |= 1 << new.slot;
        }
    }

    /// Takes a chunk out of its slot's list.
    ///
    /// # Safety
    /// It is in.
    #[inline]
    unsafe fn unlink(&mut self, mut chunk: NonNull<Chunk>) {
        // SAFETY: C1.
        unsafe {
            let old = chunk.as_mut();
            let [before, after] = core::mem::take(&mut old.in_slot);
            match before {
                Some(mut before) => before.as_mut().in_slot[1] = after,
                None => {
                    self.slots[old.slot] = after;
                    self.nonempty &= !(u32::from(after.is_none()) << old.slot);
                }
            }
            if let Some(mut after) = after {
                after.as_mut().in_slot[0] = before;
            }
        }
    }

    /// Lets `f` change a chunk's map, and what follows from it after that.
    ///
    /// # Safety
    /// The chunk is in.
    #[inline(always)]
    pub(super) unsafe fn change<R>(&mut self, mut chunk: NonNull<Chunk>, f: impl FnOnce(&mut Map) -> R) -> R {
        // SAFETY: C1; `f` knows the map only, which leads to no chunk.
        let (result, slot) = unsafe {
            let this = chunk.as_mut();
            let before = this.totals();
            let result = f(&mut this.map);
            self.totals.change(before, this.totals());
            (result, this.slot)
        };
        // SAFETY: it is in.
        unsafe {
            if slot_of(chunk.as_ref().map.best()) != slot {
                self.unlink(chunk);
                self.link(chunk);
            }
        }
        result
    }

    /// Pages of a chunk that lack memory, among `pages`: the first, and those that follow it, `limit` at most.
    ///
    /// # Safety
    /// The chunk is in.
    pub(super) unsafe fn lacking(
        &self,
        chunk: NonNull<Chunk>,
        pages: Range<usize>,
        limit: usize,
    ) -> Option<Range<usize>> {
        // SAFETY: C1.
        let map = unsafe { &chunk.as_ref().map };
        map.unpopulated(pages.start, pages.end.min(map.nr_pages()), limit)
    }

    /// Takes a place with memory: what was freed last, or one in a chunk that is as full as can be, without looking at many.
    #[inline(always)]
    pub(super) fn alloc(&mut self, wanted: Wanted) -> Option<(NonNull<Chunk>, usize)> {
        match self.kept.take(wanted) {
            Some(kept) => Some(kept),
            None => self.alloc_new(wanted),
        }
    }

    #[inline(never)]
    fn alloc_new(&mut self, wanted: Wanted) -> Option<(NonNull<Chunk>, usize)> {
        if let Some(found) = self.alloc_among(wanted, FEW) {
            return Some(found);
        }
        self.drain();
        self.alloc_among(wanted, usize::MAX)
    }

    /// Gives an area back, or keeps it for who wants its size next. True when its chunk has changed by that.
    ///
    /// # Safety
    /// The chunk is in, and nobody uses the area that starts at `unit`.
    ///
    /// # Panics
    /// When there is no such area: see [`Map::free`].
    #[inline(always)]
    pub(super) unsafe fn free(&mut self, chunk: NonNull<Chunk>, unit: usize) -> bool {
        // SAFETY: C1.
        let units = unsafe { chunk.as_ref() }.map.len_of(unit);
        if self.kept.keep((chunk, unit), units) {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe { self.change(chunk, |map| map.free(unit)) };
        true
    }

    /// Gives all that is kept to the maps.
    pub(super) fn drain(&mut self) {
        while let Some((chunk, unit)) = self.kept.pop() {
            // SAFETY: a chunk with an area in it is in (K1).
            unsafe { self.change(chunk, |map| map.free(unit)) };
        }
    }

    #[inline]
    fn alloc_among(&mut self, wanted: Wanted, few: usize) -> Option<(NonNull<Chunk>, usize)> {
        let mut slots = self.nonempty & (u32::MAX << slot_of(wanted.units));
        while slots != 0 {
            let mut next = self.slots[slots.trailing_zeros() as usize];
            let mut left = few;
            while let Some(chunk) = next.filter(|_| left > 0) {
                // SAFETY: C1: in the lists.
                if let Some(unit) = unsafe { self.change(chunk, |map| map.alloc(wanted)) } {
                    return Some((chunk, unit));
                }
                // SAFETY: C1; nothing has changed.
                next = unsafe { chunk.as_ref() }.in_slot[1];
                left -= 1;
            }
            slots &= slots - 1;
        }
        None
    }

    /// Reserves a place that lacks memory in one of the chunks. See [`Map::reserve`].
    pub(super) fn reserve(&mut self, wanted: Wanted) -> Option<(NonNull<Chunk>, Range<usize>)> {
        let mut next = self.first;
        while let Some(chunk) = next {
            // SAFETY: C1: in the lists.
            let (has_unpopulated, after) =
                unsafe { (chunk.as_ref().map.has_unpopulated(), chunk.as_ref().in_all[1]) };
            if has_unpopulated {
                // SAFETY: as above.
                if let Some(range) = unsafe { self.change(chunk, |map| map.reserve(wanted)) } {
                    return Some((chunk, range));
                }
            }
            next = after;
        }
        None
    }

    /// Recounts C1 to C3 and all maps, nothing being reserved.
    pub(super) fn validate(&self) {
        let mut totals = Totals::default();
        for (at, chunk) in self.iter() {
            chunk.map.validate();
            totals.change(Totals::default(), chunk.totals());
            assert_eq!(chunk.slot, slot_of(chunk.map.best()));
            assert_eq!(self.in_slot(chunk.slot).filter(|&(other, _)| other == at).count(), 1);
            assert!(chunk.kind == Kind::Dynamic || !chunk.map.has_unpopulated());
        }
        assert_eq!(totals, self.totals);
        for ((at, unit), units) in self.kept.iter() {
            let chunk = self.iter().find(|&(chunk, _)| chunk == at).expect("what is kept is in a chunk").1;
            assert_eq!(chunk.map.len_of(unit), units, "what is kept is an area");
        }
        let in_slots: usize = (0..NR_SLOTS).map(|slot| self.in_slot(slot).count()).sum();
        assert_eq!(in_slots, self.iter().count());
        for slot in 0..NR_SLOTS {
            assert_eq!(self.nonempty >> slot & 1 != 0, self.slots[slot].is_some(), "slot {slot}");
        }
    }

    fn in_slot(&self, slot: usize) -> impl Iterator<Item = (NonNull<Chunk>, &Chunk)> {
        // SAFETY: C1; nothing changes while this is borrowed.
        let follow = |link: Link| link.map(|at| (at, unsafe { at.as_ref() }));
        core::iter::successors(follow(self.slots[slot]), move |(_, chunk)| follow(chunk.in_slot[1]))
    }
}
