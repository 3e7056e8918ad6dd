//! What may be taken, counted, and who waits for more: semaphores and completions are made of it.
//!
//! ```text
//! give          somebody waits: it has the one, and goes on          nobody waits: one more is left
//! give_enough   all go on, and whoever comes later does
//! ```
//!
//! # Invariants
//! - I1: while anybody waits, nothing is left: what is given goes to who has waited longest.
//!
//! # Locking
//! One spin lock, under which waiters are woken. So who has waited may free the count: who gave has let go by then (I2 of
//! [`wait`](crate::thread::wait)).

use mm::sync::{Level, SpinLock};

use crate::thread::timer::Deadline;
use crate::thread::wait::{WaitList, Waiter, block_until};

/// Nothing could be had in time (Linux: `-ETIME`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOut;

/// What is left to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    So(usize),
    /// Enough for all who come, for good.
    Enough,
}

impl Left {
    /// What is left when one was taken; none when there is none.
    fn less_one(self) -> Option<Self> {
        match self {
            Self::So(left) => left.checked_sub(1).map(Self::So),
            Self::Enough => Some(Self::Enough),
        }
    }

    fn and_one(self) -> Self {
        match self {
            Self::So(left) => Self::So(left.saturating_add(1)),
            Self::Enough => Self::Enough,
        }
    }
}

#[derive(Debug)]
struct State {
    left: Left,
    waiters: WaitList,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Count {
    state: SpinLock<State>,
}

impl Count {
    /// So many may be taken.
    pub(super) const fn new(left: usize) -> Self {
        let state = State { left: Left::So(left), waiters: WaitList::new() };
        Self { state: SpinLock::new(Level::WaitQueue, state) }
    }

    /// One more may be taken. Any context.
    pub(super) fn give(&self) {
        let mut state = self.state.lock();
        if state.waiters.wake_first().is_none() {
            state.left = state.left.and_one();
        }
    }

    /// From now on there is enough. Any context.
    pub(super) fn give_enough(&self) {
        let mut state = self.state.lock();
        state.left = Left::Enough;
        state.waiters.wake_all();
    }

    /// Takes one, if there is one. Any context.
    pub(super) fn try_take(&self) -> Result<(), TimedOut> {
        let mut state = self.state.lock();
        state.left = state.left.less_one().ok_or(TimedOut)?;
        Ok(())
    }

    /// Takes one; waits for it, until `deadline` if there is one. Sleeps.
    pub(super) fn take(&self, deadline: Option<Deadline>) -> Result<(), TimedOut> {
        let mut state = self.state.lock();
        if let Some(left) = state.left.less_one() {
            state.left = left;
            return Ok(());
        }
        let waiter = Waiter::new();
        state.waiters.push(&waiter);
        let mut state = block_until(&self.state, state, &waiter, deadline);
        if waiter.is_queued() {
            state.waiters.remove(&waiter);
            return Err(TimedOut);
        }
        // Who took it out of the list gave it the one.
        Ok(())
    }

    /// Whether there is one to be taken: a hint.
    pub(super) fn is_any_left(&self) -> bool {
        self.state.lock().left != Left::So(0)
    }
}
