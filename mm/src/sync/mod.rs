//! Locks: `spin`'s, held with interrupts off, with one global order that debug builds check.
//!
//! ```text
//! SpinLock::new(Level::Zone, data)
//!     .lock()            interrupts off, take, check the order       -> SpinGuard, which ends both
//!     .lock_irq(&irq)    the same, the caller having interrupts off  -> SpinLockGuard
//! ```
//!
//! # Invariants
//! - I1: a CPU takes locks of rising [`Level`] only; [`arch::held_levels`] has a bit for each level held.
//!
//! # Locking
//! The order of all locks is that of [`Level`]'s variants, outermost first. A lock is always taken with interrupts off,
//! so a handler may take any lock that its interrupted context does not hold below it.

use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::arch::{self, IrqGuard};

/// Where a lock stands in the global order: a CPU that holds one may take only those after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Which address space a CPU uses.
    CurrentSpace,
    /// An address space's VMAs (Linux: `mmap_lock`).
    AddressSpace,
    /// Page-table pages of an address space (Linux: `page_table_lock`).
    PageTable,
    /// The kernel's own page tables and the ranges mapped by them.
    KernelMap,
    /// Threads: the run queue, their stacks.
    Threads,
    /// The list of all slab caches (Linux: `slab_mutex`).
    SlabCaches,
    /// A slab cache's partial list on one node (Linux: `kmem_cache_node.list_lock`).
    SlabNode,
    /// A zone's free lists (Linux: `zone->lock`).
    Zone,
    /// A leaf: nothing is taken under it.
    Leaf,
}

/// Data that one CPU at a time may touch, with interrupts off (Linux: `spinlock_t` with `spin_lock_irqsave`).
#[derive(Debug)]
pub struct SpinLock<T> {
    level: Level,
    inner: SpinMutex<T>,
}

impl<T> SpinLock<T> {
    /// A lock of that level around `data`.
    pub const fn new(level: Level, data: T) -> Self {
        Self { level, inner: SpinMutex::new(data) }
    }

    /// Turns interrupts off and waits for the lock. Never sleeps; any context whose held locks are of lower levels.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        let irq = IrqGuard::new();
        SpinGuard { held: self.take(), _irq: irq }
    }

    /// Waits for the lock, for a caller that has interrupts off already.
    #[inline]
    pub fn lock_irq<'a>(&'a self, _irq: &'a IrqGuard) -> SpinLockGuard<'a, T> {
        self.take()
    }

    /// The lock when it is free, for contexts that must not wait (reports from a panic or a fault handler).
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        let irq = IrqGuard::new();
        let inner = self.inner.try_lock()?;
        let held = SpinLockGuard { order: OrderToken::raise_unchecked(self.level), inner };
        Some(SpinGuard { held, _irq: irq })
    }

    /// The data, without the lock: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    /// The data: nobody else can have the lock.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }

    #[inline]
    fn take(&self) -> SpinLockGuard<'_, T> {
        let order = OrderToken::raise(self.level);
        SpinLockGuard { inner: self.inner.lock(), order }
    }
}

/// The lock is held; interrupts are off by somebody else's [`IrqGuard`].
#[must_use = "the lock is released when this is dropped"]
#[derive(Debug)]
pub struct SpinLockGuard<'a, T> {
    // Dropped in this order: the lock first.
    inner: SpinMutexGuard<'a, T>,
    #[expect(dead_code, reason = "kept for its drop")]
    order: OrderToken,
}

impl<T> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// The lock is held and interrupts are off.
#[must_use = "the lock is released when this is dropped"]
#[derive(Debug)]
pub struct SpinGuard<'a, T> {
    // Dropped in this order: interrupts last.
    held: SpinLockGuard<'a, T>,
    _irq: IrqGuard,
}

impl<'a, T> SpinGuard<'a, T> {
    /// The lock without the interrupts, for functions that take either kind.
    pub fn held(&mut self) -> &mut SpinLockGuard<'a, T> {
        &mut self.held
    }
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held
    }
}

/// A level's bit in [`arch::held_levels`]; takes it back when dropped, in whichever order that happens. Costs nothing
/// without debug assertions.
#[derive(Debug)]
struct OrderToken {
    /// The bit, 0 when another lock of that level had set it (only [`SpinLock::try_lock`] takes a second one).
    #[cfg(debug_assertions)]
    set: u64,
}

impl OrderToken {
    #[inline(always)]
    #[track_caller]
    fn raise(level: Level) -> Self {
        debug_assert!(
            arch::held_levels() >> level as u8 == 0,
            "lock order: {level:?} wanted while locks of levels {:#b} are held",
            arch::held_levels()
        );
        Self::raise_unchecked(level)
    }

    #[inline(always)]
    fn raise_unchecked(level: Level) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = level;
        #[cfg(debug_assertions)]
        let (held, bit) = (arch::held_levels(), 1 << level as u8);
        #[cfg(debug_assertions)]
        arch::set_held_levels(held | bit);
        Self {
            #[cfg(debug_assertions)]
            set: bit & !held,
        }
    }
}

#[cfg(debug_assertions)]
impl Drop for OrderToken {
    fn drop(&mut self) {
        arch::set_held_levels(arch::held_levels() & !self.set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_off_while_a_lock_is_held() {
        let lock = SpinLock::new(Level::Zone, 1);
        assert!(arch::irqs_enabled());
        let guard = lock.lock();
        assert!(!arch::irqs_enabled());
        assert_eq!(*guard, 1);
        drop(guard);
        assert!(arch::irqs_enabled());
        assert_eq!(arch::held_levels(), 0);
    }

    #[test]
    #[should_panic(expected = "lock order: SlabNode")]
    fn taking_an_outer_lock_under_an_inner_one_is_caught() {
        let (zone, slab) = (SpinLock::new(Level::Zone, ()), SpinLock::new(Level::SlabNode, ()));
        let _zone = zone.lock();
        let _slab = slab.lock();
    }

    #[test]
    fn locks_may_be_released_in_any_order() {
        let (zone, slab) = (SpinLock::new(Level::Zone, ()), SpinLock::new(Level::SlabNode, ()));
        let irq = IrqGuard::new();
        let (outer, inner) = (slab.lock_irq(&irq), zone.lock_irq(&irq));
        drop(outer);
        assert_eq!(arch::held_levels(), 1 << Level::Zone as u8);
        drop(inner);
        assert_eq!(arch::held_levels(), 0);
    }

    #[test]
    #[should_panic(expected = "out of order")]
    fn interrupts_that_go_on_under_a_guard_are_caught() {
        let (outer, _inner) = (IrqGuard::new(), IrqGuard::new());
        drop(outer);
    }

    #[test]
    fn rising_levels_nest() {
        let (zone, slab) = (SpinLock::new(Level::Zone, ()), SpinLock::new(Level::SlabNode, ()));
        let _slab = slab.lock();
        let _zone = zone.lock();
    }
}
