//! Lists of who waits, and wait queues on top.
//!
//! ```text
//! WaitList  | oldest Waiter | <-> | ... | <-> | newest |      nodes on the waiters' own stacks
//!
//! wait_until:  push, prepare, look at the condition -> true: leave
//!                ^                                  -> false: park -+
//!                +--------------------------------------------------+
//! ```
//!
//! # Invariants
//! - I1: a [`Waiter`] is linked exactly while `queued`; both change under the lock around its list only, and it is unlinked
//!   before its function returns.
//! - I2: who wakes does so under that lock, and a waiter takes the lock before it goes on. So its thread is alive while it
//!   is woken, and what it waits on may be freed by who has waited.

use core::cell::Cell;
use core::marker::PhantomPinned;
use core::ptr;
use core::time::Duration;

use mm::sync::{Level, SpinGuard, SpinLock};

use super::timer::{self, Deadline};
use super::{Thread, current, might_sleep, sched};

/// How many are to be woken by one event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// One of them (Linux: `WQ_FLAG_EXCLUSIVE`).
    Exclusive,
    /// This one in any case.
    Shared,
}

/// Somebody who waits: a node on the waiting function's stack.
#[derive(Debug)]
pub(super) struct Waiter {
    thread: *const Thread,
    kind: Kind,
    queued: Cell<bool>,
    next: Cell<*const Waiter>,
    previous: Cell<*const Waiter>,
    _pinned: PhantomPinned,
}

impl Waiter {
    /// For the thread that runs this, to be woken alone.
    pub(super) fn new() -> Self {
        Self::of_kind(Kind::Exclusive)
    }

    pub(super) fn of_kind(kind: Kind) -> Self {
        Self {
            thread: current().map_or(ptr::null(), ptr::from_ref),
            kind,
            queued: Cell::new(false),
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
            _pinned: PhantomPinned,
        }
    }

    /// Whether nobody has woken it since it was pushed. Under its list's lock.
    pub(super) fn is_queued(&self) -> bool {
        self.queued.get()
    }
}

/// Those who wait, oldest first. Lives inside a lock.
#[derive(Debug)]
pub(super) struct WaitList {
    first: *const Waiter,
    last: *const Waiter,
}

// SAFETY: the nodes are touched under the lock around the list only (I1).
unsafe impl Send for WaitList {}

impl WaitList {
    pub(super) const fn new() -> Self {
        Self { first: ptr::null(), last: ptr::null() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Adds one at the end. The caller has it removed before it goes (I1): by [`remove`](Self::remove) or a wake-up.
    pub(super) fn push(&mut self, waiter: &Waiter) {
        debug_assert!(!waiter.queued.get());
        waiter.queued.set(true);
        waiter.next.set(ptr::null());
        waiter.previous.set(self.last);
        // SAFETY: I1: the last is alive while linked.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(waiter),
            None => self.first = waiter,
        }
        self.last = waiter;
    }

    /// Adds one in front of all.
    fn push_front(&mut self, waiter: &Waiter) {
        debug_assert!(!waiter.queued.get());
        waiter.queued.set(true);
        waiter.previous.set(ptr::null());
        waiter.next.set(self.first);
        // SAFETY: I1: the first is alive while linked.
        match unsafe { self.first.as_ref() } {
            Some(first) => first.previous.set(waiter),
            None => self.last = waiter,
        }
        self.first = waiter;
    }

    /// Takes one out, if it is still in.
    pub(super) fn remove(&mut self, waiter: &Waiter) {
        if !waiter.queued.replace(false) {
            return;
        }
        let (next, previous) = (waiter.next.get(), waiter.previous.get());
        // SAFETY: I1: neighbours are alive while linked.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
                None => self.last = previous,
            }
        }
    }

    /// The kind of the one that has waited longest.
    pub(super) fn first_kind(&self) -> Option<Kind> {
        // SAFETY: I1: alive while linked.
        unsafe { self.first.as_ref() }.map(|waiter| waiter.kind)
    }

    /// The thread that has waited longest, to be compared, not followed; null when nobody waits.
    pub(super) fn first_thread(&self) -> *const Thread {
        // SAFETY: I1: alive while linked.
        unsafe { self.first.as_ref() }.map_or(ptr::null(), |waiter| waiter.thread)
    }

    /// Whether more than one waits.
    pub(super) fn has_second(&self) -> bool {
        !ptr::eq(self.first, self.last)
    }

    /// Takes the oldest out and wakes it; returns its kind.
    pub(super) fn wake_first(&mut self) -> Option<Kind> {
        // SAFETY: I1: alive while linked, and it waits for the lock before it goes (I2).
        let waiter = unsafe { self.first.as_ref() }?;
        self.remove(waiter);
        // SAFETY: null or the waiter's thread, which waits for the lock before it goes on (I2).
        if let Some(thread) = unsafe { waiter.thread.as_ref() } {
            sched::wake(thread);
        }
        Some(waiter.kind)
    }

    /// Takes all out and wakes them.
    pub(super) fn wake_all(&mut self) {
        while self.wake_first().is_some() {}
    }
}

/// Parks until `waiter`, which was pushed under `guard`'s lock, has been woken by its list. Comes back with the lock.
pub(super) fn block<'a, S>(
    lock: &'a SpinLock<S>,
    guard: SpinGuard<'a, S>,
    waiter: &Waiter,
) -> SpinGuard<'a, S> {
    block_until(lock, guard, waiter, None)
}

/// As [`block`], or until `deadline`: then the waiter is still queued, and the caller takes it out.
pub(super) fn block_until<'a, S>(
    lock: &'a SpinLock<S>,
    mut guard: SpinGuard<'a, S>,
    waiter: &Waiter,
    deadline: Option<Deadline>,
) -> SpinGuard<'a, S> {
    while waiter.is_queued() && !deadline.is_some_and(Deadline::is_over) {
        // Under the lock: whoever takes the waiter out finds its thread Parking.
        sched::prepare();
        drop(guard);
        timer::park_until(deadline);
        guard = lock.lock();
    }
    guard
}

/// Threads that wait for something to become true (Linux: `wait_queue_head_t`).
#[derive(Debug)]
pub struct WaitQueue {
    list: SpinLock<WaitList>,
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self { list: SpinLock::new(Level::WaitQueue, WaitList::new()) }
    }

    /// Waits until `condition` is true; each wake-up lets it look again. `condition` must not sleep. Sleeps (Linux:
    /// `wait_event`).
    #[track_caller]
    pub fn wait_until(&self, condition: impl FnMut() -> bool) {
        might_sleep();
        self.wait(Kind::Shared, None, condition);
    }

    /// As [`wait_until`](Self::wait_until), as one of many of whom an event needs one: [`wake_one`](Self::wake_one) wakes the
    /// one that has waited longest (Linux: `wait_event_exclusive`). `condition` takes what it finds.
    #[track_caller]
    pub fn wait_until_exclusive(&self, condition: impl FnMut() -> bool) {
        might_sleep();
        self.wait(Kind::Exclusive, None, condition);
    }

    /// As [`wait_until`](Self::wait_until), but not longer than so; returns whether `condition` was true at the end (Linux:
    /// `wait_event_timeout`).
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration, condition: impl FnMut() -> bool) -> bool {
        might_sleep();
        self.wait(Kind::Shared, Some(Deadline::after(timeout)), condition)
    }

    /// As [`wait_until_exclusive`](Self::wait_until_exclusive), but not longer than so; returns whether `condition` was true
    /// at the end.
    #[track_caller]
    pub fn wait_timeout_exclusive(&self, timeout: Duration, condition: impl FnMut() -> bool) -> bool {
        might_sleep();
        self.wait(Kind::Exclusive, Some(Deadline::after(timeout)), condition)
    }

    fn wait(&self, kind: Kind, deadline: Option<Deadline>, mut condition: impl FnMut() -> bool) -> bool {
        if condition() {
            return true;
        }
        let waiter = Waiter::of_kind(kind);
        let mut done = false;
        while !done && !deadline.is_some_and(Deadline::is_over) {
            self.enqueue(&waiter);
            done = condition();
            if !done {
                timer::park_until(deadline);
            }
        }
        sched::cancel();
        let was_woken = {
            let mut list = self.list.lock();
            let was_woken = !waiter.is_queued();
            list.remove(&waiter);
            was_woken
        };
        if done && was_woken && kind == Kind::Exclusive {
            // What it was woken for came after what it found: for whoever waits behind it.
            self.wake_one();
        }
        // Time is up: a wake-up that came before the removal was for this one, so it has to look once more.
        done || condition()
    }

    /// Puts it into the list, if it is not, and prepares to park.
    fn enqueue(&self, waiter: &Waiter) {
        let mut list = self.list.lock();
        match waiter.kind {
            _ if waiter.is_queued() => {}
            // Before those of whom one is enough, so that each event reaches it.
            Kind::Shared => list.push_front(waiter),
            Kind::Exclusive => list.push(waiter),
        }
        sched::prepare();
    }

    /// Wakes all shared waiters and one exclusive one, who has waited longest (Linux: `wake_up`). Any context.
    pub fn wake_one(&self) {
        let mut list = self.list.lock();
        while let Some(kind) = list.wake_first() {
            if kind == Kind::Exclusive {
                break;
            }
        }
    }

    /// Wakes everybody (Linux: `wake_up_all`). Any context.
    pub fn wake_all(&self) {
        self.list.lock().wake_all();
    }

    /// Whether anybody waits: a hint.
    pub fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }
}
