//! Turns: one allocation of an area after the other, in the order in which they came.
//!
//! ```text
//! next: 5     given to who comes next
//! now:  3     at work; 4 waits, and lets other threads run meanwhile
//! ```
//! Without, two allocations meet in a pageblock again and again, each finding it set aside by the other (Linux: `cma_mutex`,
//! one for all areas; areas share no pageblock).
//!
//! # Invariants
//! - T1: a [`Turn`] exists for number `now` only, and `next - now` counts it and those that wait.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::arch;
use crate::page_alloc::PageAllocator;

#[derive(Debug)]
pub(super) struct Turns {
    next: AtomicU32,
    now: AtomicU32,
}

/// The right to take pages of the area.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(super) const fn new() -> Self {
        Self { next: AtomicU32::new(0), now: AtomicU32::new(0) }
    }

    /// Waits for all who came before; `None` where nobody may wait, and somebody is at work. Who waits lets other threads of
    /// its CPU run: the one that it waits for may be among them.
    pub(super) fn wait(&self, allocator: &PageAllocator) -> Option<Turn<'_>> {
        if !arch::may_sleep() {
            return self.try_now();
        }
        // Relaxed: the number alone gives no right.
        let mine = self.next.fetch_add(1, Ordering::Relaxed);
        // Acquire: partner of the release in `drop`.
        while self.now.load(Ordering::Acquire) != mine {
            allocator.pause();
        }
        Some(Turn(self))
    }

    fn try_now(&self) -> Option<Turn<'_>> {
        // Acquire: partner of the release in `drop`.
        let now = self.now.load(Ordering::Acquire);
        let mine = self.next.compare_exchange(now, now.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        mine.is_ok().then_some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Only who has the turn changes it (T1). Release: partner of the acquires above.
        self.0.now.store(self.0.now.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }
}
