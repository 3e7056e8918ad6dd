//! So many at a time.

use core::time::Duration;

use super::TimedOut;
use super::count::Count;
use crate::thread::might_sleep;
use crate::thread::timer::Deadline;

/// So many may be taken at a time (Linux: `struct semaphore`).
#[derive(Debug)]
pub struct Semaphore {
    count: Count,
}

impl Semaphore {
    /// With `count` to be taken (Linux: `sema_init`).
    pub const fn new(count: usize) -> Self {
        Self { count: Count::new(count) }
    }

    /// Takes one; waits for it. Sleeps (Linux: `down`).
    #[track_caller]
    pub fn acquire(&self) {
        might_sleep();
        // Without a deadline it cannot time out.
        let _ = self.count.take(None);
    }

    /// Takes one, if there is one or will be in time. Sleeps (Linux: `down_timeout`).
    ///
    /// # Errors
    /// Time is up.
    #[track_caller]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), TimedOut> {
        might_sleep();
        self.count.take(Some(Deadline::after(timeout)))
    }

    /// Takes one, if there is one now. Any context (Linux: `down_trylock`).
    ///
    /// # Errors
    /// There is none.
    pub fn try_acquire(&self) -> Result<(), TimedOut> {
        self.count.try_take()
    }

    /// Gives one. Any context (Linux: `up`).
    pub fn release(&self) {
        self.count.give();
    }
}
