//! The lock and its guards.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::checked::Taken;
use crate::arch::IrqGuard;
use crate::lockdep::Level;

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
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        let irq = IrqGuard::new();
        SpinGuard { held: self.take(), _irq: irq }
    }

    /// Waits for the lock, for a caller that has interrupts off already.
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock_irq<'a>(&'a self, _irq: &'a IrqGuard) -> SpinLockGuard<'a, T> {
        self.take()
    }

    /// The lock when it is free, for contexts that must not wait (reports from a panic or a fault handler).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        let irq = IrqGuard::new();
        let inner = self.inner.try_lock()?;
        let taken = Taken::without_waiting(self, self.level);
        Some(SpinGuard { held: SpinLockGuard { inner, taken, _not_send: PhantomData }, _irq: irq })
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
    #[cfg_attr(debug_assertions, track_caller)]
    fn take(&self) -> SpinLockGuard<'_, T> {
        let taken = Taken::waiting(self, self.level);
        SpinLockGuard { inner: self.inner.lock(), taken, _not_send: PhantomData }
    }
}

/// The lock is held; interrupts are off by somebody else's [`IrqGuard`].
#[must_use = "the lock is released when this is dropped"]
#[derive(Debug)]
pub struct SpinLockGuard<'a, T> {
    // Dropped in this order: the lock first.
    inner: SpinMutexGuard<'a, T>,
    #[expect(dead_code, reason = "kept for its drop")]
    taken: Taken,
    /// Belongs to the CPU that has interrupts off.
    _not_send: PhantomData<*mut ()>,
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

/// Does not compile when a guard becomes `Send`: there are two ways to name the constant then.
const _: () = {
    trait NotSend<A> {
        const CHECK: () = ();
    }
    struct OfSend;
    impl<T> NotSend<()> for T {}
    impl<T: Send> NotSend<OfSend> for T {}
    let () = <SpinLockGuard<'static, u32> as NotSend<_>>::CHECK;
    let () = <SpinGuard<'static, u32> as NotSend<_>>::CHECK;
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch;
    use crate::sync::assert_none_held;
    use std::vec::Vec;

    fn held() -> Vec<Level> {
        arch::with_held_locks(|held| held.iter().map(|held| held.level).collect())
    }

    #[test]
    fn interrupts_are_off_while_a_lock_is_held() {
        let lock = SpinLock::new(Level::Zone, 1);
        assert!(arch::irqs_enabled());
        let guard = lock.lock();
        assert!(!arch::irqs_enabled());
        assert_eq!(*guard, 1);
        drop(guard);
        assert!(arch::irqs_enabled());
        assert_eq!(held(), []);
    }

    #[test]
    #[should_panic(expected = "lock order: SlabNode wanted while Zone is held")]
    fn taking_an_outer_lock_under_an_inner_one_is_caught() {
        let (zone, slab) = (SpinLock::new(Level::Zone, ()), SpinLock::new(Level::SlabNode, ()));
        let _zone = zone.lock();
        let _slab = slab.lock();
    }

    #[test]
    #[should_panic(expected = "lock order: Zone wanted while Zone is held")]
    fn two_locks_of_a_level_are_caught() {
        let zones = [SpinLock::new(Level::Zone, ()), SpinLock::new(Level::Zone, ())];
        let _both = [zones[0].lock(), zones[1].lock()];
    }

    #[test]
    #[should_panic(expected = "lock order: Zone wanted while Zone is held")]
    fn taking_a_lock_twice_is_caught_rather_than_waited_for() {
        let zone = SpinLock::new(Level::Zone, ());
        let _zone = zone.lock();
        let _again = zone.lock();
    }

    #[test]
    #[should_panic(expected = "inconsistent lock state: Zone")]
    fn taking_a_lock_with_interrupts_on_is_caught() {
        let zone = SpinLock::new(Level::Zone, ());
        let _zone = zone.take();
    }

    #[test]
    #[should_panic(expected = "1 locks are held when a thread sleeps")]
    fn sleeping_with_a_lock_held_is_caught() {
        assert_none_held("when nothing is held");
        let zone = SpinLock::new(Level::Zone, ());
        let _zone = zone.lock();
        assert_none_held("when a thread sleeps");
    }

    #[test]
    fn the_place_of_a_lock_is_its_takers() {
        let zone = SpinLock::new(Level::Zone, ());
        let line = line!() + 1;
        let _zone = zone.lock();
        arch::with_held_locks(|held| {
            let at = held.iter().next().unwrap().at;
            assert_eq!((at.file(), at.line()), (file!(), line));
        });
    }

    #[test]
    fn a_lock_that_is_free_may_be_tried_for_in_any_order() {
        let (zone, slab) = (SpinLock::new(Level::Zone, ()), SpinLock::new(Level::SlabNode, ()));
        let _zone = zone.lock();
        assert!(zone.try_lock().is_none());
        let tried = slab.try_lock();
        assert_eq!(held(), [Level::Zone, Level::SlabNode]);
        drop(tried);
        assert_eq!(held(), [Level::Zone]);
    }

    #[test]
    fn locks_may_be_released_in_any_order() {
        let (zone, slab) = (SpinLock::new(Level::Zone, ()), SpinLock::new(Level::SlabNode, ()));
        let irq = IrqGuard::new();
        let (outer, inner) = (slab.lock_irq(&irq), zone.lock_irq(&irq));
        drop(outer);
        assert_eq!(held(), [Level::Zone]);
        drop(inner);
        assert_eq!(held(), []);
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

    #[test]
    fn threads_take_turns() {
        let lock = SpinLock::new(Level::Leaf, 0u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(*lock.lock(), 40_000);
    }
}
