//! Where a test's scheduler may stop one CPU of the simulated machine and let another go on. In tests only; nothing happens
//! on a thread that has no scheduler.
//!
//! ```text
//! IrqGuard::new   interrupts_go_off      SpinLock::lock    wants_lock: returns when the lock is free
//! its drop        interrupts_are_on      its guard's drop  gave_lock_back
//! ```

use core::cell::RefCell;
use std::rc::Rc;
use std::thread_local;

use crate::id::CpuId;

/// Decides which CPU goes on.
pub(crate) trait Scheduler {
    /// This CPU turns interrupts off. Called before.
    fn interrupts_go_off(&self);
    /// Interrupts are on again.
    fn interrupts_are_on(&self);
    /// This CPU takes the lock at that address as soon as it may. Only this CPU runs until it has it.
    fn wants_lock(&self, lock: usize);
    /// The lock is free again.
    fn gave_lock_back(&self, lock: usize);
    /// See [`CallCpus::on_each`](crate::smp::CallCpus::on_each).
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync));
}

thread_local! {
    static SCHEDULER: RefCell<Option<Rc<dyn Scheduler>>> = const { RefCell::new(None) };
}

/// Runs `f` with this thread under a scheduler.
pub(crate) fn under<R>(scheduler: Rc<dyn Scheduler>, f: impl FnOnce() -> R) -> R {
    let before = SCHEDULER.replace(Some(scheduler));
    let result = f();
    SCHEDULER.set(before);
    result
}

/// This thread's scheduler.
pub(crate) fn scheduler() -> Option<Rc<dyn Scheduler>> {
    SCHEDULER.with_borrow(Clone::clone)
}

/// Tells the scheduler, if there is one.
#[inline]
pub(crate) fn tell(f: impl FnOnce(&dyn Scheduler)) {
    if let Some(scheduler) = scheduler() {
        f(&*scheduler);
    }
}
