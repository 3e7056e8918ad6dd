//! A lock for many readers or one writer.
//!
//! ```text
//! first waits   lock is            then
//! reader        free or read       it reads, and so do the readers behind it, up to the first writer
//! writer        free               it writes
//! otherwise                        they go on waiting
//! ```
//!
//! # Invariants
//! - I1: `readers` is the number of read guards, `writer` says whether there is the write guard; never both.
//! - I2: nobody waits whom the table would let in; who comes waits when somebody does already.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use mm::sync::{Level, SpinGuard, SpinLock};

use crate::thread::might_sleep;
use crate::thread::wait::{Kind, WaitList, Waiter, block};

#[derive(Debug)]
struct State {
    readers: u32,
    writer: bool,
    /// Readers are shared, writers exclusive.
    waiters: WaitList,
}

impl State {
    fn admits(&self, kind: Kind) -> bool {
        match kind {
            Kind::Shared => !self.writer,
            Kind::Exclusive => !self.writer && self.readers == 0,
        }
    }

    fn admit(&mut self, kind: Kind) {
        match kind {
            Kind::Shared => self.readers += 1,
            Kind::Exclusive => self.writer = true,
        }
    }

    /// Lets in who may enter now (I2).
    fn admit_waiters(&mut self) {
        while let Some(kind) = self.waiters.first_kind().filter(|&kind| self.admits(kind)) {
            self.admit(kind);
            self.waiters.wake_first();
        }
    }
}

/// Data that many threads may read, or one may change (Linux: `struct rw_semaphore`).
pub struct RwLock<T> {
    state: SpinLock<State>,
    data: UnsafeCell<T>,
}

// SAFETY: the data is shared by readers, or one writer's (I1).
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock")
    }
}

impl<T> RwLock<T> {
    /// A free lock around `data`.
    pub const fn new(data: T) -> Self {
        let state = State { readers: 0, writer: false, waiters: WaitList::new() };
        Self { state: SpinLock::new(Level::WaitQueue, state), data: UnsafeCell::new(data) }
    }

    /// Waits until it may be read. Sleeps (Linux: `down_read`).
    #[track_caller]
    pub fn read(&self) -> ReadGuard<'_, T> {
        might_sleep();
        self.enter(Kind::Shared);
        ReadGuard { lock: self, _not_send: PhantomData }
    }

    /// Waits until it may be changed. Sleeps (Linux: `down_write`).
    #[track_caller]
    pub fn write(&self) -> WriteGuard<'_, T> {
        might_sleep();
        self.enter(Kind::Exclusive);
        WriteGuard { lock: self, _not_send: PhantomData }
    }

    /// The right to read, if it can be had at once (Linux: `down_read_trylock`).
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        self.try_enter(Kind::Shared).ok().map(|()| ReadGuard { lock: self, _not_send: PhantomData })
    }

    /// The right to write, if it can be had at once (Linux: `down_write_trylock`).
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.try_enter(Kind::Exclusive).ok().map(|()| WriteGuard { lock: self, _not_send: PhantomData })
    }

    fn try_enter(&self, kind: Kind) -> Result<(), SpinGuard<'_, State>> {
        let mut state = self.state.lock();
        if state.waiters.is_empty() && state.admits(kind) {
            state.admit(kind);
            return Ok(());
        }
        Err(state)
    }

    fn enter(&self, kind: Kind) {
        if let Err(mut state) = self.try_enter(kind) {
            let waiter = Waiter::of_kind(kind);
            state.waiters.push(&waiter);
            // Who lets us in has counted us.
            drop(block(&self.state, state, &waiter));
        }
    }

    /// The data: nobody else can have the lock.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

/// The data may be read.
#[must_use = "the lock is released when this is dropped"]
#[derive(Debug)]
pub struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    _not_send: PhantomData<*mut ()>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: I1: no writer as long as the guard lives.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        let mut state = self.lock.state.lock();
        state.readers -= 1;
        state.admit_waiters();
    }
}

/// The data may be changed.
#[must_use = "the lock is released when this is dropped"]
#[derive(Debug)]
pub struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    _not_send: PhantomData<*mut ()>,
}

impl<'a, T> WriteGuard<'a, T> {
    /// From now on only reads, so that others may, too; nobody writes in between (Linux: `downgrade_write`).
    pub fn downgrade(self) -> ReadGuard<'a, T> {
        let lock = self.lock;
        core::mem::forget(self);
        let mut state = lock.state.lock();
        state.writer = false;
        state.readers = 1;
        state.admit_waiters();
        drop(state);
        ReadGuard { lock, _not_send: PhantomData }
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: I1: nobody else as long as the guard lives.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: I1: nobody else as long as the guard lives.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        let mut state = self.lock.state.lock();
        state.writer = false;
        state.admit_waiters();
    }
}
