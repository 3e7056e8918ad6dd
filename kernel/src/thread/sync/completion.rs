//! Something that others wait for until it has happened.

use core::time::Duration;

use super::TimedOut;
use super::count::Count;
use crate::thread::might_sleep;
use crate::thread::timer::Deadline;

/// An event: each [`complete`](Self::complete) lets one waiter go on (Linux: `struct completion`). It may be freed by who has
/// waited for it: who completes has let go by then.
#[derive(Debug)]
pub struct Completion {
    /// How often it has happened without anybody waiting.
    done: Count,
}

impl Default for Completion {
    fn default() -> Self {
        Self::new()
    }
}

impl Completion {
    /// It has not happened (Linux: `init_completion`).
    pub const fn new() -> Self {
        Self { done: Count::new(0) }
    }

    /// It has happened: one waiter, now or later, goes on. Any context (Linux: `complete`).
    pub fn complete(&self) {
        self.done.give();
    }

    /// It has happened for good: all go on. Any context (Linux: `complete_all`).
    pub fn complete_all(&self) {
        self.done.give_enough();
    }

    /// Waits until it has happened. Sleeps (Linux: `wait_for_completion`).
    #[track_caller]
    pub fn wait(&self) {
        might_sleep();
        // Without a deadline it cannot time out.
        let _ = self.done.take(None);
    }

    /// Waits until it has happened, but not longer. Sleeps (Linux: `wait_for_completion_timeout`).
    ///
    /// # Errors
    /// Time is up.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), TimedOut> {
        might_sleep();
        self.done.take(Some(Deadline::after(timeout)))
    }

    /// Whether a wait would return at once: a hint (Linux: `completion_done`).
    pub fn is_done(&self) -> bool {
        self.done.is_any_left()
    }
}
