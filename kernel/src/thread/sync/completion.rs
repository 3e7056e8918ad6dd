//! Something that others wait for until it has happened.

use core::time::Duration;

use mm::sync::{Level, SpinLock};

use super::TimedOut;
use crate::thread::might_sleep;
use crate::thread::timer::Deadline;
use crate::thread::wait::{WaitList, Waiter, block_until};

/// How often it has happened without anybody waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    Times(u32),
    /// For all who come.
    ForGood,
}

#[derive(Debug)]
struct State {
    done: Done,
    waiters: WaitList,
}

/// An event: each [`complete`](Self::complete) lets one waiter go on (Linux: `struct completion`). It may be freed by who has
/// waited for it: who completes has let go by then.
#[derive(Debug)]
pub struct Completion {
    state: SpinLock<State>,
}

impl Default for Completion {
    fn default() -> Self {
        Self::new()
    }
}

impl Completion {
    /// It has not happened.
    pub const fn new() -> Self {
        let state = State { done: Done::Times(0), waiters: WaitList::new() };
        Self { state: SpinLock::new(Level::WaitQueue, state) }
    }

    /// It has happened: one waiter, now or later, goes on. Any context (Linux: `complete`).
    pub fn complete(&self) {
        let mut state = self.state.lock();
        if state.waiters.wake_first().is_none()
            && let Done::Times(times) = state.done
        {
            state.done = Done::Times(times.saturating_add(1));
        }
    }

    /// It has happened for good: all go on. Any context (Linux: `complete_all`).
    pub fn complete_all(&self) {
        let mut state = self.state.lock();
        state.done = Done::ForGood;
        state.waiters.wake_all();
    }

    /// Waits until it has happened. Sleeps (Linux: `wait_for_completion`).
    #[track_caller]
    pub fn wait(&self) {
        might_sleep();
        // Without a deadline it cannot time out.
        let _ = self.wait_until(None);
    }

    /// Waits until it has happened, but not longer. Sleeps (Linux: `wait_for_completion_timeout`).
    ///
    /// # Errors
    /// Time is up.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), TimedOut> {
        might_sleep();
        self.wait_until(Some(Deadline::after(timeout)))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> Result<(), TimedOut> {
        let mut state = self.state.lock();
        match state.done {
            Done::ForGood => return Ok(()),
            Done::Times(0) => {}
            Done::Times(times) => {
                state.done = Done::Times(times - 1);
                return Ok(());
            }
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

    /// Whether a wait would return at once: a hint (Linux: `completion_done`).
    pub fn is_done(&self) -> bool {
        self.state.lock().done != Done::Times(0)
    }
}
