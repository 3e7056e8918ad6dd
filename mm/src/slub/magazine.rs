//! A magazine: objects that a CPU has at hand, so that allocating and freeing mostly moves one pointer.
//!
//! ```text
//! bottom                 top                    limit
//!   v                     v                       v
//!   [ oldest | ... | newest |   empty   ...       ]        push: *top++ = object      pop: *--top
//! ```
//! A magazine without room is both empty and full: its cache works without magazines, by the slow path alone (during
//! bootstrap, and for caches whose memory is too scarce to keep back).
//!
//! # Invariants
//! - M1: `bottom <= top <= limit`, all into one array of that many entries that lives as long as the magazine.
//! - M2: entries `bottom..top` are objects of the magazine's cache, counted as in use by their slabs, owned by the
//!   magazine.
//!
//! # Locking
//! None: a magazine is one slot of a [`PerCpu`](crate::percpu::PerCpu), changed by its CPU with interrupts off. Pointer
//! and entries are relaxed atomics, plain moves, so that other CPUs may look at them racily (counters, `validate`).

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use crate::id::NodeId;

type Entry = AtomicPtr<u8>;

/// One CPU's objects of one cache (Linux 6.18: a sheaf; SLAB: `array_cache`).
#[derive(Debug)]
pub(super) struct Magazine {
    top: AtomicPtr<Entry>,
    bottom: *mut Entry,
    limit: *mut Entry,
    /// Where the CPU's objects should come from.
    node: NodeId,
}

// SAFETY: owns its objects (M2); pointers lead to memory that lives as long (M1).
unsafe impl Send for Magazine {}
// SAFETY: as above, and through a shared reference only atomics are read.
unsafe impl Sync for Magazine {}

impl Magazine {
    /// A magazine without room.
    pub(super) const fn without_room(node: NodeId) -> Self {
        let none = ptr::null_mut();
        Self { top: AtomicPtr::new(none), bottom: none, limit: none, node }
    }

    /// An empty magazine for `capacity` objects.
    ///
    /// # Safety
    /// `entries` points to that many writable words, nobody else's, which live as long (M1).
    pub(super) unsafe fn new(entries: NonNull<u64>, capacity: usize, node: NodeId) -> Self {
        let bottom = entries.as_ptr().cast::<Entry>();
        for n in 0..capacity {
            // SAFETY: the caller's words.
            unsafe { bottom.add(n).write(Entry::new(ptr::null_mut())) };
        }
        Self { top: AtomicPtr::new(bottom), bottom, limit: bottom.wrapping_add(capacity), node }
    }

    /// Where the CPU's objects should come from.
    #[inline(always)]
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// How many objects it has room for.
    pub(super) fn capacity(&self) -> usize {
        (self.limit as usize - self.bottom as usize) / size_of::<Entry>()
    }

    /// How many more it could take.
    pub(super) fn room(&self) -> usize {
        self.capacity() - self.len()
    }

    /// How many it has.
    pub(super) fn len(&self) -> usize {
        (self.top.load(Relaxed) as usize - self.bottom as usize) / size_of::<Entry>()
    }

    /// The newest object, `None` when empty.
    #[inline(always)]
    pub(super) fn pop(&self) -> Option<NonNull<u8>> {
        let top = self.top.load(Relaxed);
        if top == self.bottom {
            return None;
        }
        let top = top.wrapping_sub(1);
        self.top.store(top, Relaxed);
        // SAFETY: below the old top, so it is an entry (M1) with an object, which is not null (M2).
        Some(unsafe { NonNull::new_unchecked((*top).load(Relaxed)) })
    }

    /// Puts an object in; whether there was room.
    ///
    /// # Safety
    /// As M2 says.
    #[inline(always)]
    pub(super) unsafe fn push(&self, object: NonNull<u8>) -> bool {
        let top = self.top.load(Relaxed);
        if top == self.limit {
            return false;
        }
        // SAFETY: below the limit (M1).
        unsafe { (*top).store(object.as_ptr(), Relaxed) };
        self.top.store(top.wrapping_add(1), Relaxed);
        true
    }

    /// Moves objects to the first of `slots`, the newest first, as far as there are both; how many.
    #[inline]
    pub(super) fn pop_into(&self, slots: &mut [Option<NonNull<u8>>]) -> usize {
        let nr = slots.len().min(self.len());
        let mut top = self.top.load(Relaxed);
        for slot in &mut slots[..nr] {
            top = top.wrapping_sub(1);
            // SAFETY: not below the bottom, so it is an entry (M1) with an object, which is not null (M2).
            *slot = Some(unsafe { NonNull::new_unchecked((*top).load(Relaxed)) });
        }
        self.top.store(top, Relaxed);
        nr
    }

    /// Takes the objects of the first `slots`, which are empty then, as far as there is room; how many slots.
    ///
    /// # Safety
    /// Each as M2 says.
    #[inline]
    pub(super) unsafe fn push_from(&self, slots: &mut [Option<NonNull<u8>>]) -> usize {
        let nr = slots.len().min(self.room());
        let mut top = self.top.load(Relaxed);
        for object in slots[..nr].iter_mut().filter_map(Option::take) {
            // SAFETY: there is room (M1).
            unsafe { (*top).store(object.as_ptr(), Relaxed) };
            top = top.wrapping_add(1);
        }
        self.top.store(top, Relaxed);
        nr
    }

    /// Takes the `nr` oldest objects out, or all when there are fewer, and hands each to `sink`.
    pub(super) fn take_oldest(&self, nr: usize, mut sink: impl FnMut(NonNull<u8>)) {
        let len = self.len();
        let nr = nr.min(len);
        for n in 0..nr {
            // SAFETY: entries below the top (M1) with objects (M2).
            sink(unsafe { NonNull::new_unchecked((*self.bottom.add(n)).load(Relaxed)) });
        }
        // SAFETY: both within the array (M1); the entries left slide down.
        unsafe { ptr::copy(self.bottom.add(nr), self.bottom, len - nr) };
        self.top.store(self.bottom.wrapping_add(len - nr), Relaxed);
    }

    /// Looks at each object, newest last. Racy when the magazine is another CPU's: then an object may be missing, old or
    /// shown twice, but not followed.
    pub(super) fn each(&self, mut look: impl FnMut(*mut u8)) {
        for n in 0..self.len().min(self.capacity()) {
            // SAFETY: an entry (M1).
            look(unsafe { (*self.bottom.add(n)).load(Relaxed) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    fn object(n: usize) -> NonNull<u8> {
        NonNull::new(ptr::without_provenance_mut(8 * (n + 1))).unwrap()
    }

    #[test]
    fn without_room_it_is_empty_and_full() {
        let magazine = Magazine::without_room(NodeId(0));
        assert_eq!((magazine.pop(), magazine.len(), magazine.capacity()), (None, 0, 0));
        // SAFETY: nothing ever follows the object.
        assert!(!unsafe { magazine.push(object(0)) });
    }

    proptest! {
        #[test]
        fn behaves_like_a_bounded_stack_emptied_from_below(ops in prop::collection::vec(0usize..12, 0..200)) {
            let mut entries = [0u64; 7];
            let at = NonNull::new(entries.as_mut_ptr()).unwrap();
            // SAFETY: the array lives longer.
            let magazine = unsafe { Magazine::new(at, 7, NodeId(0)) };
            let mut model = VecDeque::new();
            for (n, op) in ops.into_iter().enumerate() {
                match op {
                    0..5 => {
                        // SAFETY: nothing ever follows the object.
                        let room = unsafe { magazine.push(object(n)) };
                        prop_assert_eq!(room, model.len() < 7);
                        if room { model.push_back(object(n)); }
                    }
                    5..10 => prop_assert_eq!(magazine.pop(), model.pop_back()),
                    _ => {
                        let mut got = Vec::new();
                        magazine.take_oldest(op - 7, |o| got.push(o));
                        let nr = (op - 7).min(model.len());
                        prop_assert_eq!(got, model.drain(..nr).collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!(magazine.len(), model.len());
            }
        }
    }
}
