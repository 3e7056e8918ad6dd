//! A count of what may be taken.
//!
//! # Invariants
//! - I1: while anybody waits, the count is 0: what is given goes to who has waited longest.

use core::time::Duration;

use mm::sync::{Level, SpinLock};

use crate::thread::might_sleep;
use crate::thread::timer::Deadline;
use crate::thread::wait::{WaitList, Waiter, block_until};

#[derive(Debug)]
struct State {
    count: usize,
    waiters: WaitList,
}

/// So many may be taken at a time (Linux: `struct semaphore`).
#[derive(Debug)]
pub struct Semaphore {
    state: SpinLock<State>,
}

/// Nothing could be had in time (Linux: `-ETIME`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOut;

impl Semaphore {
    /// With `count` to be taken (Linux: `sema_init`).
    pub const fn new(count: usize) -> Self {
        Self { state: SpinLock::new(Level::WaitQueue, State { count, waiters: WaitList::new() }) }
    }

    /// Takes one; waits for it. Sleeps (Linux: `down`).
    #[track_caller]
    pub fn acquire(&self) {
        might_sleep();
        // Without a deadline it cannot time out.
        let _ = self.take(None);
    }

    /// Takes one, if there is one or will be in time. Sleeps (Linux: `down_timeout`).
    ///
    /// # Errors
    /// Time is up.
    #[track_caller]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), TimedOut> {
        might_sleep();
        self.take(Some(Deadline::after(timeout)))
    }

    /// Takes one, if there is one now. Any context (Linux: `down_trylock`).
    pub fn try_acquire(&self) -> Result<(), TimedOut> {
        let mut state = self.state.lock();
        state.count = state.count.checked_sub(1).ok_or(TimedOut)?;
        Ok(())
    }

    fn take(&self, deadline: Option<Deadline>) -> Result<(), TimedOut> {
        let mut state = self.state.lock();
        if let Some(left) = state.count.checked_sub(1) {
            state.count = left;
            return Ok(());
        }
        let waiter = Waiter::new();
        state.waiters.push(&waiter);
        let mut state = block_until(&self.state, state, &waiter, deadline);
        if waiter.is_queued() {
            state.waiters.remove(&waiter);
            return Err(TimedOut);
        }
        Ok(())
    }

    /// Gives one. Any context (Linux: `up`).
    pub fn release(&self) {
        let mut state = self.state.lock();
        if state.waiters.wake_first().is_none() {
            state.count += 1;
        }
    }
}
