//! The lock-order checker of debug builds (Linux: `lockdep`): what each CPU holds, which order was first seen where, and
//! the report when a lock is taken that must not be.
//!
//! ```text
//! SpinLock::lock --> check(what this CPU holds, what it wants) --> fine: the pairs held -> wanted are noted
//!                                                              --> a Violation: Report, and the machine stops
//! level     the declared order of all locks
//! held      a CPU's stack of held locks       HeldLocks, in the CPU's own area (mm::arch)
//! orders    pairs that were seen              Orders, one for the machine
//! check     the rules
//! report    the text: both chains
//! ```
//! Linux learns the order of locks as they are taken and complains when an order closes a circle. Here the order is
//! declared, by [`Level`], so that the first wrong order is found, not only the second of two contrary ones. The pairs
//! that were seen are what the report shows as the other chain.
//!
//! # Invariants
//! - I1: a CPU holds locks of rising levels, those apart that it took without waiting (`try_lock`).
//! - I2: [`HeldLocks`] is changed by its CPU only, with interrupts off. An NMI may come between two steps; it leaves the
//!   stack as deep as it found it.
//!
//! # Not here
//! The locks: [`crate::sync`].

#![deny(unsafe_code)]

mod check;
mod held;
mod level;
mod orders;
#[allow(unsafe_code, reason = "keeps references in atomics")]
mod place;
mod report;

pub use check::{Violation, check};
pub use held::{Full, Held, HeldLocks, MAX_LOCK_DEPTH};
pub use level::Level;
pub use orders::Orders;
pub use report::{Report, Subject};
