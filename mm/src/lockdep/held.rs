//! The locks that a CPU holds.
//!
//! ```text
//! slots:  [ outermost | ... | innermost | free | free | ... ]
//!          0                   depth - 1
//! ```
//!
//! # Invariants
//! - H1: a slot from `depth` on has lock address 0. Whoever looks in the middle of a change takes such a slot for none.

use core::panic::Location;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

use super::Level;
use super::place::Place;

/// How many locks a CPU may hold at a time (Linux: `MAX_LOCK_DEPTH`).
pub const MAX_LOCK_DEPTH: usize = 48;

/// Without the checker there is nothing to keep.
const SLOTS: usize = if cfg!(debug_assertions) { MAX_LOCK_DEPTH } else { 0 };

/// A lock that is held or wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The lock's address, which is what tells it from others of its level.
    pub lock: usize,
    /// Its level.
    pub level: Level,
    /// Who took it.
    pub at: &'static Location<'static>,
}

/// A CPU holds [`MAX_LOCK_DEPTH`] locks already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

#[derive(Debug)]
struct Slot {
    lock: AtomicUsize,
    level: AtomicU8,
    at: Place,
}

/// What a CPU holds (Linux: `task_struct.held_locks`). Changed by its CPU with interrupts off, read by anybody.
#[derive(Debug)]
pub struct HeldLocks {
    depth: AtomicUsize,
    slots: [Slot; SLOTS],
}

impl Slot {
    const fn free() -> Self {
        Self { lock: AtomicUsize::new(0), level: AtomicU8::new(0), at: Place::none() }
    }

    fn get(&self) -> Option<Held> {
        let lock = self.lock.load(Relaxed);
        let level = *Level::ALL.get(usize::from(self.level.load(Relaxed)))?;
        (lock != 0).then_some(Held { lock, level, at: self.at.get()? })
    }

    fn set(&self, held: Held) {
        self.level.store(held.level as u8, Relaxed);
        self.at.set(held.at);
        self.lock.store(held.lock, Relaxed);
    }
}

impl HeldLocks {
    /// Nothing is held.
    pub const fn new() -> Self {
        Self { depth: AtomicUsize::new(0), slots: [const { Slot::free() }; SLOTS] }
    }

    /// Notes that the CPU has taken a lock.
    ///
    /// # Errors
    /// [`Full`]: nothing is noted.
    pub fn push(&self, held: Held) -> Result<(), Full> {
        let depth = self.depth.load(Relaxed);
        let slot = self.slots.get(depth).ok_or(Full)?;
        // The slot is taken before it is filled, so that an NMI's locks come behind it.
        self.depth.store(depth + 1, Relaxed);
        slot.set(held);
        Ok(())
    }

    /// Notes that the CPU has given a lock back, in whichever order; those above it move down. `None` when it was not held
    /// here.
    #[must_use = "a lock that was not held is a bug"]
    pub fn remove(&self, lock: usize) -> Option<Held> {
        let depth = self.depth.load(Relaxed);
        let held = self.slots.get(..depth)?;
        // Nearly always the last.
        let found = held.iter().rposition(|slot| slot.lock.load(Relaxed) == lock)?;
        let removed = held[found].get();
        for (to, from) in held[found..].iter().zip(&held[found + 1..]) {
            if let Some(moved) = from.get() {
                to.set(moved);
            }
        }
        held[depth - 1].lock.store(0, Relaxed);
        self.depth.store(depth - 1, Relaxed);
        removed
    }

    /// The locks, outermost first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Held> {
        let depth = self.depth.load(Relaxed).min(SLOTS);
        self.slots[..depth].iter().filter_map(Slot::get)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.depth.load(Relaxed)
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for HeldLocks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[track_caller]
    fn held(lock: usize) -> Held {
        Held { lock, level: Level::ALL[lock % Level::COUNT], at: Location::caller() }
    }

    #[test]
    fn a_stack_that_is_full_takes_no_more_and_goes_on_working() {
        let locks = HeldLocks::new();
        for n in 1..=MAX_LOCK_DEPTH {
            assert_eq!(locks.push(held(n)), Ok(()));
        }
        assert_eq!(locks.push(held(99)), Err(Full));
        assert_eq!(locks.remove(99), None, "it was not noted");
        assert!((1..=MAX_LOCK_DEPTH).rev().all(|n| locks.remove(n).is_some_and(|held| held.lock == n)));
        assert!(locks.is_empty());
    }

    proptest! {
        /// Against a vector: locks are taken, and given back in any order.
        #[test]
        fn the_stack_holds_what_was_taken_and_not_given_back(ops in prop::collection::vec((any::<bool>(), 1..60usize), 0..200)) {
            let (locks, mut model) = (HeldLocks::new(), Vec::<Held>::new());
            for (take, lock) in ops {
                if take && !model.iter().any(|held| held.lock == lock) {
                    let fits = model.len() < MAX_LOCK_DEPTH;
                    prop_assert_eq!(locks.push(held(lock)).is_ok(), fits);
                    if fits {
                        model.push(held(lock));
                    }
                } else if !take {
                    let at = model.iter().position(|held| held.lock == lock);
                    let removed = at.map(|at| model.remove(at));
                    prop_assert_eq!(locks.remove(lock).map(|held| held.lock), removed.map(|held| held.lock));
                }
                let key = |held: Held| (held.lock, held.level);
                prop_assert_eq!(locks.iter().map(key).collect::<Vec<_>>(), model.iter().copied().map(key).collect::<Vec<_>>());
                prop_assert_eq!(locks.len(), model.len());
            }
        }
    }
}
