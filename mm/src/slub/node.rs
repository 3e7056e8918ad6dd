//! A cache's slabs on one node.
//!
//! ```text
//!          new            last object taken
//! owned ----------> partial --------------> full
//!   ^                |   ^                    |
//!   +----------------+   +--------------------+
//!   no object in use,       an object back
//!   and enough are kept
//! ```
//!
//! # Invariants
//! - N1: the lists hold every slab of the cache whose pages are on the node, each once, by its place, but those on the
//!   way to or from the page allocator.
//! - N2: a full slab has no free object, a partial one has. `nr_slabs`, `nr_objects`, `nr_partial` and `nr_free` (free
//!   objects) count the lists.
//!
//! # Locking
//! [`Level::SlabNode`] protects both lists, the counters, and the slabs' words (S2). Taken with interrupts off, from any
//! context; page allocation happens outside it.

use core::ptr::NonNull;

use super::geometry::Geometry;
use super::report::Misuse;
use super::slab::{Place, Slab, State};
use crate::arch::Machine;
use crate::page::{PageList, PagePtr};
use crate::sync::{Level, SpinLock};

/// The lists of a cache on a node, with their lock (Linux: `struct kmem_cache_node`).
pub(super) type SlabNode = SpinLock<NodeLists>;

/// A node without slabs.
pub(super) const fn new_node() -> SlabNode {
    SpinLock::new(
        Level::SlabNode,
        NodeLists { partial: PageList::new(), full: PageList::new(), counts: NodeCounts::NONE },
    )
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct NodeLists {
    partial: PageList,
    full: PageList,
    counts: NodeCounts,
}

/// How much there is on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NodeCounts {
    pub(super) nr_slabs: u64,
    pub(super) nr_partial: u64,
    /// Objects of all slabs, free or not.
    pub(super) nr_objects: u64,
    /// Free objects of partial slabs. What magazines hold is not free but in use.
    pub(super) nr_free: u64,
}

impl NodeCounts {
    const NONE: Self = Self { nr_slabs: 0, nr_partial: 0, nr_objects: 0, nr_free: 0 };
}

/// Slabs taken off the lists to be freed once the lock is no longer held.
#[derive(Debug, Default)]
pub(super) struct EmptySlabs(PageList);

impl EmptySlabs {
    pub(super) const fn new() -> Self {
        Self(PageList::new())
    }

    fn push(&mut self, slab: Slab) {
        // SAFETY: an owned slab (S2), on no list.
        unsafe { self.0.push_back(slab.head()) };
    }
}

impl Iterator for EmptySlabs {
    type Item = PagePtr;

    /// The head page of the next slab, which is the caller's now and has no object in use.
    #[inline]
    fn next(&mut self) -> Option<PagePtr> {
        self.0.pop_front()
    }
}

impl NodeLists {
    /// The counters.
    pub(super) fn counts(&self) -> NodeCounts {
        self.counts
    }

    /// Hands up to `want` free objects to `sink`; how many. They count as in use from now on.
    pub(super) fn take(
        &mut self,
        machine: Machine,
        geometry: &Geometry,
        want: usize,
        mut sink: impl FnMut(NonNull<u8>),
    ) -> usize {
        let mut got = 0;
        while got < want
            && let Some(head) = self.partial.first()
            && let Some(slab) = Slab::from_head(head)
        {
            // SAFETY: on our list, and the lock is held (S2); of the cache's geometry.
            unsafe {
                got += slab.take(machine, geometry, want - got, &mut sink);
                if slab.state().free() == 0 {
                    self.partial.remove(head);
                    self.full.push_front(head);
                    slab.set_place(Place::Full);
                    self.counts.nr_partial -= 1;
                }
            }
        }
        self.counts.nr_free -= got as u64;
        got
    }

    /// Lists a new slab.
    ///
    /// # Safety
    /// The slab is the caller's own, of this cache, has a free object, and its pages are on this node (N1).
    pub(super) unsafe fn add(&mut self, slab: Slab) {
        // SAFETY: the caller's own (S2), on no list.
        let state = unsafe {
            self.partial.push_front(slab.head());
            slab.set_place(Place::Partial);
            slab.state()
        };
        self.counts.nr_slabs += 1;
        self.counts.nr_partial += 1;
        self.counts.nr_objects += state.objects() as u64;
        self.counts.nr_free += state.free() as u64;
    }

    /// Takes an object back. A slab without objects in use goes to `empty` when the node keeps `min_partial` already.
    ///
    /// # Safety
    /// `slab` is a slab of this cache on this node, and nobody uses `object` any more. That it is one of the slab's
    /// objects in use is checked, except that in builds without debug assertions one freed twice may go unnoticed.
    #[inline]
    pub(super) unsafe fn put(
        &mut self,
        machine: Machine,
        geometry: &Geometry,
        slab: Slab,
        object: NonNull<u8>,
        empty: &mut EmptySlabs,
    ) -> Result<(), Misuse> {
        // SAFETY: one of ours, and the lock is held (S2); checked to be an object in use.
        let after = unsafe {
            self.check(machine, geometry, slab, object)?;
            slab.put(geometry, object)
        };
        self.counts.nr_free += 1;
        if after.place() == Place::Full {
            // SAFETY: on the full list by its place (N1).
            unsafe {
                self.full.remove(slab.head());
                self.partial.push_back(slab.head());
                slab.set_place(Place::Partial);
            }
            self.counts.nr_partial += 1;
        }
        if after.inuse() == 0 && self.counts.nr_partial >= geometry.min_partial as u64 {
            // SAFETY: on the partial list, and without objects in use.
            unsafe { self.take_off(slab, after, empty) };
        }
        Ok(())
    }

    /// Whether `object` is one of the slab's in use, as far as that is cheap to tell.
    ///
    /// # Safety
    /// `slab` is a slab of this cache on this node.
    #[inline]
    pub(super) unsafe fn check(
        &self,
        machine: Machine,
        geometry: &Geometry,
        slab: Slab,
        object: NonNull<u8>,
    ) -> Result<(), Misuse> {
        let number = slab.number(machine, geometry, object).ok_or(Misuse::NotAnObject)?;
        // SAFETY: the caller holds the lock (S2).
        let state = unsafe { slab.state() };
        if state.inuse() == 0 || number >= state.fresh() as usize {
            return Err(Misuse::NotInUse);
        }
        if cfg!(debug_assertions) {
            let mut found = false;
            // SAFETY: as above. A broken chain is `validate`'s to report.
            let _ = unsafe { slab.chain(machine, geometry, |nr| found |= nr as usize == number) };
            if found {
                return Err(Misuse::AlreadyFree);
            }
        }
        Ok(())
    }

    /// Moves every slab without objects in use to `empty`, to be freed.
    pub(super) fn take_empty(&mut self, empty: &mut EmptySlabs) {
        // Each once round: those kept go to the back and are in order again at the end.
        for _ in 0..self.counts.nr_partial {
            let Some(head) = self.partial.first() else { return };
            let Some(slab) = Slab::from_head(head) else { return };
            // SAFETY: on our partial list, and the lock is held (S2).
            unsafe {
                let state = slab.state();
                if state.inuse() == 0 {
                    self.take_off(slab, state, empty);
                } else {
                    self.partial.remove(head);
                    self.partial.push_back(head);
                }
            }
        }
    }

    /// # Safety
    /// The slab is on the partial list and has no object in use.
    unsafe fn take_off(&mut self, slab: Slab, state: State, empty: &mut EmptySlabs) {
        // SAFETY: on our partial list, and the lock is held (S2).
        unsafe {
            self.partial.remove(slab.head());
            slab.set_place(Place::Owned);
        }
        self.counts.nr_slabs -= 1;
        self.counts.nr_partial -= 1;
        self.counts.nr_objects -= state.objects() as u64;
        self.counts.nr_free -= state.objects() as u64;
        empty.push(slab);
    }

    /// Each slab with its counters, the partial ones first.
    pub(super) fn each(&self, mut look: impl FnMut(Slab, State)) {
        for head in self.partial.iter().chain(self.full.iter()) {
            if let Some(slab) = Slab::from_head(head) {
                // SAFETY: on our lists, and the lock is held (S2).
                look(slab, unsafe { slab.state() });
            }
        }
    }

    /// Recounts N1, N2 and S3.
    ///
    /// # Panics
    /// When something is not as the invariants say.
    pub(super) fn validate(&self, machine: Machine, geometry: &Geometry, cache: NonNull<()>) {
        self.partial.validate();
        self.full.validate();
        let mut counts = NodeCounts::NONE;
        for (place, list) in [(Place::Partial, &self.partial), (Place::Full, &self.full)] {
            for head in list.iter() {
                let slab = Slab::from_head(head).expect("a listed page is a slab");
                // SAFETY: on our list, and the lock is held (S2).
                let state = unsafe { validate_slab(slab, machine, geometry) };
                assert_eq!(slab.cache(), cache, "cache of {slab:?}");
                assert_eq!((state.place(), state.free() == 0), (place, place == Place::Full), "{slab:?}");
                counts.nr_slabs += 1;
                counts.nr_partial += (place == Place::Partial) as u64;
                counts.nr_objects += state.objects() as u64;
                counts.nr_free += state.free() as u64;
            }
        }
        assert_eq!(self.counts, counts, "counters of the node's slabs");
    }
}

/// # Safety
/// The slab is the caller's (S2).
unsafe fn validate_slab(slab: Slab, machine: Machine, geometry: &Geometry) -> State {
    // SAFETY: the caller's (S2).
    let state = unsafe { slab.state() };
    assert_eq!(state.objects() as usize, geometry.objects(state.order()), "objects of {slab:?}");
    assert!(state.inuse() <= state.fresh() && state.fresh() <= state.objects(), "{state:?}");
    let mut nr = 0;
    // A chain that ends after so many objects has none of them twice.
    // SAFETY: the caller's (S2).
    let chain = unsafe {
        slab.chain(machine, geometry, |number| {
            assert!(number < state.fresh(), "object {number} is free and was never handed out");
            nr += 1;
        })
    };
    assert_eq!(chain, Ok(()), "chain of {slab:?}");
    assert_eq!(nr, state.fresh() - state.inuse(), "returned objects of {slab:?}");
    state
}
