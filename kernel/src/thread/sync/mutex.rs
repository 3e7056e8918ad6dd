//! A lock for one thread at a time.
//!
//! ```text
//! owner   0 free    thread            held        thread | WAITERS    held, and the list is not empty
//! ```
//!
//! Taking and releasing a lock that nobody waits for is one compare-and-swap each.
//!
//! # Invariants
//! - I1: `owner` names the thread that has the guard. While the list is not empty, WAITERS is set: it is set under the list's
//!   lock by who joins, and the next owner gets it with the lock.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use mm::sync::{Level, SpinLock};

use crate::thread::wait::{WaitList, Waiter, block};
use crate::thread::{current, might_sleep};

const FREE: usize = 0;
const WAITERS: usize = 1;

/// Data that one thread at a time may touch (Linux: `struct mutex`).
pub struct Mutex<T> {
    owner: AtomicUsize,
    waiters: SpinLock<WaitList>,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached by one thread at a time (I1).
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mutex {{ owner: {:#x} }}", self.owner.load(Ordering::Relaxed))
    }
}

/// The thread that runs this, as an owner.
fn me() -> usize {
    // The boot thread is known before the first lock.
    current().map_or(FREE, |thread| ptr::from_ref(thread).addr())
}

impl<T> Mutex<T> {
    /// A free lock around `data`.
    pub const fn new(data: T) -> Self {
        let waiters = SpinLock::new(Level::WaitQueue, WaitList::new());
        Self { owner: AtomicUsize::new(FREE), waiters, data: UnsafeCell::new(data) }
    }

    /// Waits for the lock. Sleeps (Linux: `mutex_lock`).
    ///
    /// # Panics
    /// When the thread has it already: it would wait for itself.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        might_sleep();
        self.try_lock().unwrap_or_else(|| self.lock_slow(me()))
    }

    /// The lock, if it is free. Does not sleep, but only threads may have it (Linux: `mutex_trylock`).
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // Acquire pairs with the release in the guard's drop.
        let taken = self.owner.compare_exchange(FREE, me(), Ordering::Acquire, Ordering::Relaxed);
        taken.ok().map(|_| MutexGuard { lock: self, _not_send: PhantomData })
    }

    #[cold]
    #[track_caller]
    fn lock_slow(&self, me: usize) -> MutexGuard<'_, T> {
        let waiter = Waiter::new();
        let mut list = self.waiters.lock();
        loop {
            let owner = self.owner.load(Ordering::Relaxed);
            assert_ne!(owner & !WAITERS, me, "a thread waits for a mutex that it has");
            let wanted = if owner == FREE { me } else { owner | WAITERS };
            // Acquire pairs with the release in the guard's drop, should the lock be free now.
            let done = self.owner.compare_exchange(owner, wanted, Ordering::Acquire, Ordering::Relaxed);
            match done {
                Ok(FREE) => return MutexGuard { lock: self, _not_send: PhantomData },
                Ok(_) => break,
                Err(_) => {}
            }
        }
        list.push(&waiter);
        // The list's lock orders what the last owner did before what we do.
        drop(block(&self.waiters, list, &waiter));
        debug_assert_eq!(self.owner.load(Ordering::Relaxed) & !WAITERS, me, "handed over");
        MutexGuard { lock: self, _not_send: PhantomData }
    }

    /// Hands the lock to who has waited longest.
    #[cold]
    fn unlock_slow(&self) {
        let mut list = self.waiters.lock();
        let next = list.first_thread().addr();
        let more = list.has_second();
        // There is a next one: who waits for a mutex does not give up, so the list is not empty while WAITERS is set (I1).
        debug_assert_ne!(next, FREE);
        // The list's lock orders what we did before what the next owner does.
        self.owner.store(if more { next | WAITERS } else { next }, Ordering::Relaxed);
        list.wake_first();
    }

    /// Whether some thread has it: a hint (Linux: `mutex_is_locked`).
    pub fn is_locked(&self) -> bool {
        self.owner.load(Ordering::Relaxed) != FREE
    }

    /// Whether anybody waits for it: a hint (Linux: `rwsem_is_contended`).
    pub fn is_contended(&self) -> bool {
        self.owner.load(Ordering::Relaxed) & WAITERS != 0
    }

    /// The data, without the lock: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// The data: nobody else can have the lock.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

/// The lock is held.
#[must_use = "the lock is released when this is dropped"]
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    /// Belongs to the thread that took it.
    _not_send: PhantomData<*mut ()>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: I1: ours until the guard is dropped.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: I1: ours until the guard is dropped.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // Release pairs with the acquire of who takes it next.
        let freed = self.lock.owner.compare_exchange(me(), FREE, Ordering::Release, Ordering::Relaxed);
        if freed.is_err() {
            self.lock.unlock_slow();
        }
    }
}
