//! Locks that spin: held with interrupts off, with one global order that debug builds check.
//!
//! ```text
//! SpinLock::new(Level::Zone, data)
//!     .lock()            interrupts off, check the order, take       -> SpinGuard, which ends both
//!     .lock_irq(&irq)    the same, the caller having interrupts off  -> SpinLockGuard
//!     .try_lock()        takes it if it is free, in any order
//! assert_none_held("when a thread sleeps")
//! ```
//!
//! # Invariants
//! - I1: a CPU waits for locks of rising [`Level`] only ([`crate::lockdep`]).
//! - I2: a lock is held with interrupts off, from before it is taken until after it is given back. So a handler on the
//!   same CPU never finds it half-way, and may take any lock itself: no lock is ever taken with interrupts on, which
//!   makes Linux's two kinds of contexts (`HARDIRQ-safe`, `-unsafe`) one. An NMI only tries.
//! - I3: a lock is given back by the CPU that took it: guards are not `Send`, and a CPU that holds one does not switch to
//!   another thread ([`assert_none_held`]).
//!
//! # Why not a fair lock
//! The lock is a flag that is set by compare and exchange: who waits takes it when it comes first, in no order. Taking and
//! giving back what is free is 4 instructions and 1, as with tickets. But locks that are handed on in order are fair only
//! where each CPU runs all the time. Measured with threads on two processors that others use, too: two threads get 15
//! times less done with tickets or a queue of waiters (MCS), eight 27 to 36 times less, and the slowest thread takes the
//! lock 5 times while the luckiest takes it 120 000 times, because it is handed to CPUs that the host has put aside. With
//! the flag they share by half. Our CPUs are QEMU's threads; on virtual CPUs Linux does the same (`virt_spin_lock`).
//!
//! # Locking
//! The order of all locks is that of [`Level`]'s variants, outermost first. In release builds the checker is compiled out.

mod checked;
mod spin_lock;

pub use checked::assert_none_held;
pub use spin_lock::{SpinGuard, SpinLock, SpinLockGuard};

pub use crate::lockdep::Level;
