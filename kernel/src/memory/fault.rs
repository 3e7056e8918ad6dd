//! Where the MMU's page faults enter: from the trap to the address space that is in use.
//!
//! ```text
//! address in the user half, an address space in use,
//!   touched by user space or by `uaccess`              -> its areas decide
//! anything else                                        -> not ours: the exception table, or a bug
//! ```
//!
//! # Locking
//! Takes the address space's lock, which sleeps: interrupts go on in the handler, if they were on where the fault happened,
//! and a fault where nobody may sleep is not served (Linux: `faulthandler_disabled`). Code that holds the lock may be wrong,
//! too, and follow a null pointer: such an access is in no exception table, so it is reported before a lock is waited for.

use mm::arch::layout::USER_END;
use mm::counters::VmEvent;
use mm::fault::{Fault, FaultKind};

use super::space::backing;
use crate::thread;
use crate::trap::{PageFault, extable};

/// RFLAGS: interrupts are on.
const INTERRUPTS_ON: u64 = 1 << 9;

/// What became of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Served: the access is repeated.
    Handled,
    /// Not the memory subsystem's: the exception table decides, else it is a bug.
    NotHandled,
}

/// Serves a page fault (Linux: `do_user_addr_fault`). Called with interrupts off, on the stack of who faulted; sleeps with
/// interrupts on if that was allowed there. A refused access is reported in one line.
pub fn handle(fault: PageFault<'_>) -> Outcome {
    let addr = fault.address.as_u64();
    let Some(memory) = super::memory().filter(|_| addr < USER_END) else { return Outcome::NotHandled };
    if !fault.frame.from_user() && extable::search(fault.frame.rip).is_none() {
        return Outcome::NotHandled;
    }
    let Some(kind) = FaultKind::from_error_code(fault.error.bits()) else { return Outcome::NotHandled };
    let Some(space) = thread::space() else { return Outcome::NotHandled };
    if fault.frame.rflags & INTERRUPTS_ON == 0 || thread::preempt::count() != 0 {
        return Outcome::NotHandled;
    }
    // As they were where the fault happened.
    x86_64::instructions::interrupts::enable();
    memory.pages.vm_events().count(VmEvent::PgFault);
    let result = space.lock().handle_fault(addr, kind, &mut backing(memory));
    if let Err(error) = result {
        report(error, &fault);
    }
    x86_64::instructions::interrupts::disable();
    if result.is_ok() { Outcome::Handled } else { Outcome::NotHandled }
}

/// Linux's line for a process that is about to get SIGSEGV.
fn report(error: Fault, fault: &PageFault<'_>) {
    let (addr, why) = match error {
        Fault::BadArea { addr, .. } => (addr, "no area (SEGV_MAPERR)"),
        Fault::BadAccess { addr, .. } => (addr, "against its protection (SEGV_ACCERR)"),
        Fault::Oom => (fault.address.as_u64(), "out of memory"),
    };
    let (id, name) = thread::current_id_and_name();
    log::info!(
        "{name}[{id}]: segfault at {addr:x} ip {:016x} sp {:016x} error {:x}: {why}",
        fault.frame.rip,
        fault.frame.rsp,
        fault.error.bits()
    );
}
