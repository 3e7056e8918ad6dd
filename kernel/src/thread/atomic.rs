//! Sleeping where that is not allowed: noticed, and reported as Linux does.
//!
//! Debug builds look whenever a function is entered that may sleep, whether it does so that time or not. Others do not.

use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::{current_id_and_name, preempt};
use crate::console::clock;
use crate::debug::backtrace;

/// Whether threads run, with interrupts on: before, nobody could wait for another.
static SLEEPING_STARTED: AtomicBool = AtomicBool::new(false);
static FOUND: AtomicU64 = AtomicU64::new(0);
/// When the last report was printed, in microseconds of uptime.
static LAST_US: AtomicU64 = AtomicU64::new(0);

/// From now on sleeping with interrupts off is a mistake.
pub(super) fn sleeping_has_started() {
    SLEEPING_STARTED.store(true, Relaxed);
}

/// Reports a caller that must not sleep: with interrupts or preemption off (Linux: `might_sleep`). Nothing without debug
/// assertions.
#[inline]
#[track_caller]
pub fn might_sleep() {
    if cfg!(debug_assertions) && !mm::arch::may_sleep() && SLEEPING_STARTED.load(Relaxed) {
        report(Location::caller());
    }
}

/// How many callers were found that must not have slept.
pub fn nr_found() -> u64 {
    FOUND.load(Relaxed)
}

/// At most one report a second, as in Linux.
#[cold]
fn report(at: &Location<'_>) {
    FOUND.fetch_add(1, Relaxed);
    let (irqs_off, count, now) = (!mm::arch::irqs_enabled(), preempt::count(), clock::uptime_us());
    let last = LAST_US.load(Relaxed);
    let due = last == 0 || now.saturating_sub(last) >= 1_000_000;
    if !due || LAST_US.compare_exchange(last, now, Relaxed, Relaxed).is_err() {
        return;
    }
    let (id, name) = current_id_and_name();
    log::error!("BUG: sleeping function called from invalid context at {}:{}", at.file(), at.line());
    log::error!(
        "in_atomic(): {}, irqs_disabled(): {}, non_block: 0, pid: {id}, name: {name}",
        u32::from(count != 0),
        u32::from(irqs_off)
    );
    log::error!("preempt_count: {count:x}, expected: 0");
    backtrace::print();
}
