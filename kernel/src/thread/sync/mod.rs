//! Locks that sleep: whoever has to wait leaves the CPU to others. Threads only, with interrupts and preemption on; a debug
//! build reports who takes one elsewhere ([`might_sleep`](super::might_sleep)).
//!
//! | type | Linux | |
//! |---|---|---|
//! | [`Mutex`] | `struct mutex` | one at a time |
//! | [`RwLock`] | `struct rw_semaphore` | many readers, or one writer |
//! | [`Semaphore`] | `struct semaphore` | so many at a time |
//! | [`Completion`] | `struct completion` | something has happened |
//!
//! All are fair: who has waited longest is next, and gets the lock from who gives it up, so that nobody who comes later is
//! faster. Semaphores and completions are the same [`count`] inside. Their lists of waiters follow the invariants of [`wait`](super::wait).

mod completion;
mod count;
mod mutex;
mod rwlock;
mod semaphore;

pub use completion::Completion;
pub use count::TimedOut;
pub use mutex::{Mutex, MutexGuard};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::Semaphore;
