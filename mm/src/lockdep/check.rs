//! The rules: when a lock must not be taken or given back.

use super::{Held, HeldLocks};

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// The CPU holds a lock of a later level.
    Order,
    /// The CPU holds another lock of the same level: nothing says which of the two comes first.
    SameLevel,
    /// The CPU holds this very lock, and would wait for itself.
    Recursion,
    /// Interrupts are on: a handler that takes the lock on this CPU would wait forever.
    InterruptsOn,
    /// The CPU holds as many locks as can be noted.
    TooMany,
    /// The lock is given back by a CPU that does not hold it.
    NotHeld,
    /// Locks are held where none may be.
    StillHeld,
}

/// Whether a CPU that holds `held` may wait for `wanted` (Linux: `validate_chain`).
///
/// # Errors
/// What is wrong, and the lock that is in the way.
pub fn check(held: &HeldLocks, wanted: Held) -> Result<(), (Violation, Held)> {
    if let Some(same) = held.iter().find(|held| held.lock == wanted.lock) {
        return Err((Violation::Recursion, same));
    }
    // The innermost of those in the way: its order against what is wanted is the plainest.
    match held.iter().rev().find(|held| held.level >= wanted.level) {
        Some(same) if same.level == wanted.level => Err((Violation::SameLevel, same)),
        Some(later) => Err((Violation::Order, later)),
        None => Ok(()),
    }
}
