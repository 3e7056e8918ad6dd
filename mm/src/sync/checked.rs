//! Locks and [`crate::lockdep`]: what is told to it, and what happens when it finds something. Nothing, in release builds.
//!
//! # Invariants
//! - C1: each [`Taken`] stands for one entry of its CPU's record, from when the lock is about to be taken until it has been
//!   given back.

#[cfg(debug_assertions)]
use core::panic::Location;

use crate::lockdep::Level;
#[cfg(debug_assertions)]
use crate::{
    arch,
    lockdep::{self, Full, Held, Orders, Report, Subject, Violation},
};

/// What was seen on this machine.
#[cfg(debug_assertions)]
static ORDERS: Orders = Orders::new();

/// A lock is held, or about to be, by this CPU. Its drop takes the note back.
#[derive(Debug)]
pub(super) struct Taken {
    #[cfg(debug_assertions)]
    held: Held,
}

#[cfg(not(debug_assertions))]
impl Taken {
    /// Nothing.
    #[inline(always)]
    pub(super) fn waiting<T>(_lock: *const T, _level: Level) -> Self {
        Self {}
    }

    /// Nothing.
    #[inline(always)]
    pub(super) fn without_waiting<T>(_lock: *const T, _level: Level) -> Self {
        Self {}
    }
}

/// Nothing, without debug assertions: reports locks that this CPU holds and stops the machine.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn assert_none_held(_place: &str) {}

#[cfg(debug_assertions)]
impl Taken {
    /// The lock is going to be waited for: checks that it may be.
    #[track_caller]
    pub(super) fn waiting<T>(lock: *const T, level: Level) -> Self {
        let wanted = Held { lock: lock.addr(), level, at: Location::caller() };
        let subject = Subject::Lock(wanted);
        if arch::irqs_enabled() {
            stop(Violation::InterruptsOn, subject, None);
        }
        let checked = arch::with_held_locks(|held| {
            lockdep::check(held, wanted)?;
            held.iter().for_each(|outer| ORDERS.note(outer, wanted));
            Ok(())
        });
        if let Err((violation, against)) = checked {
            stop(violation, subject, Some(against));
        }
        #[cfg(test)]
        arch::steps::tell(|scheduler| scheduler.wants_lock(lock.addr()));
        Self::note(wanted)
    }

    /// The lock has been taken without waiting: in whichever order that was, nobody waits for anybody.
    #[track_caller]
    pub(super) fn without_waiting<T>(lock: *const T, level: Level) -> Self {
        Self::note(Held { lock: lock.addr(), level, at: Location::caller() })
    }

    fn note(held: Held) -> Self {
        if let Err(Full) = arch::with_held_locks(|locks| locks.push(held)) {
            stop(Violation::TooMany, Subject::Lock(held), None);
        }
        Self { held }
    }
}

#[cfg(debug_assertions)]
impl Drop for Taken {
    fn drop(&mut self) {
        if arch::with_held_locks(|held| held.remove(self.held.lock)).is_none() {
            stop(Violation::NotHeld, Subject::Lock(self.held), None);
        }
        #[cfg(test)]
        arch::steps::tell(|scheduler| scheduler.gave_lock_back(self.held.lock));
    }
}

/// Reports locks that this CPU holds and stops the machine: for places where none may be, named as in "when a thread
/// sleeps" (Linux: `debug_check_no_locks_held`, `lockdep_sys_exit`). Interrupts are off, or the thread stays on its CPU.
/// Nothing, without debug assertions.
#[cfg(debug_assertions)]
pub fn assert_none_held(place: &str) {
    if !arch::with_held_locks(|held| held.is_empty()) {
        stop(Violation::StillHeld, Subject::Place(place), None);
    }
}

/// Prints the report and ends the run.
#[cfg(debug_assertions)]
#[cold]
#[inline(never)]
#[track_caller]
fn stop(violation: Violation, subject: Subject<'_>, against: Option<Held>) -> ! {
    arch::with_held_locks(|held| {
        let report = Report { violation, cpu: arch::cpu_id(), subject, against, held, orders: &ORDERS };
        report.write(&mut |line| log::error!("{line}"));
        panic!("{}", report.summary());
    })
}
