//! Where page faults enter the memory subsystem.

use crate::trap::PageFault;

/// What became of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Served: the access is repeated.
    Handled,
    /// Not the memory subsystem's: the exception table decides, else it is a bug.
    NotHandled,
}

/// Serves a page fault. Called with interrupts off, on the stack of who faulted.
pub fn handle(_fault: PageFault<'_>) -> Outcome {
    Outcome::NotHandled
}
