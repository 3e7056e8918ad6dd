//! Where the MMU's page faults enter: from the trap to the address space that is in use.
//!
//! ```text
//! address in the user half, an address space in use,
//!   touched by user space or by `uaccess`              -> its areas decide
//! anything else                                        -> not ours: the exception table, or a bug
//! ```
//!
//! # Locking
//! Takes [`Memory::current`](super::Memory::current) and the address space's lock. Code that holds them may be wrong too,
//! and follow a null pointer: such an access is in no exception table, so it is reported before a lock is waited for.

use mm::arch::layout::USER_END;
use mm::counters::VmEvent;
use mm::fault::{Fault, FaultKind};

use super::space::backing;
use crate::trap::{PageFault, extable};

/// What became of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Served: the access is repeated.
    Handled,
    /// Not the memory subsystem's: the exception table decides, else it is a bug.
    NotHandled,
}

/// Serves a page fault (Linux: `do_user_addr_fault`). Called with interrupts off, on the stack of who faulted. A refused
/// access is reported in one line.
pub fn handle(fault: PageFault<'_>) -> Outcome {
    let addr = fault.address.as_u64();
    let Some(memory) = super::memory().filter(|_| addr < USER_END) else { return Outcome::NotHandled };
    if !fault.frame.from_user() && extable::search(fault.frame.rip).is_none() {
        return Outcome::NotHandled;
    }
    let Some(kind) = FaultKind::from_error_code(fault.error.bits()) else { return Outcome::NotHandled };
    let current = memory.current.lock();
    let Some(space) = &*current else { return Outcome::NotHandled };
    memory.pages.vm_events().count(VmEvent::PgFault);
    let result = space.lock().handle_fault(addr, kind, &mut backing(memory));
    drop(current);
    match result {
        Ok(_) => Outcome::Handled,
        Err(error) => {
            report(error, &fault);
            Outcome::NotHandled
        }
    }
}

/// Linux's line for a process that is about to get SIGSEGV.
fn report(error: Fault, fault: &PageFault<'_>) {
    let (addr, why) = match error {
        Fault::BadArea { addr, .. } => (addr, "no area (SEGV_MAPERR)"),
        Fault::BadAccess { addr, .. } => (addr, "against its protection (SEGV_ACCERR)"),
        Fault::Oom => (fault.address.as_u64(), "out of memory"),
    };
    let (id, name) = crate::thread::current_id_and_name();
    log::info!(
        "{name}[{id}]: segfault at {addr:x} ip {:016x} sp {:016x} error {:x}: {why}",
        fault.frame.rip,
        fault.frame.rsp,
        fault.error.bits()
    );
}
