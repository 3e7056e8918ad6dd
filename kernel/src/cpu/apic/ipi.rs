//! Interrupts for other CPUs.
//!
//! # Invariants
//! - P1: between the two writes that send through xAPIC nothing else of this CPU sends: interrupts are off, and an NMI's
//!   handler sends only when it ends the run.

use mm::acpi::ApicMode;
use mm::arch::IrqGuard;

use super::{Interrupt, LocalApic, Register};

/// Polls before a message that does not leave is given up: some milliseconds.
const MAX_POLLS: u32 = 100_000;

/// Why nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The machine's APICs are off.
    NoApic,
    /// The id needs x2APIC.
    NotAddressable,
    /// The message before it is stuck.
    Busy,
}

/// Sends to the CPU with this APIC id (Linux: `__default_send_IPI_dest_field`). Any context. Cost: some hundred ticks.
///
/// # Errors
/// See [`Error`].
pub fn send(apic_id: u32, interrupt: Interrupt) -> Result<(), Error> {
    let apic = LocalApic::get().ok_or(Error::NoApic)?;
    match apic.mode() {
        ApicMode::X2Apic => {
            // The write of an MSR of the x2APIC waits for nothing before it: what the other CPU is to find must be seen.
            core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
            // SAFETY: x2APIC is on, so the MSR exists; what is sent is the caller's business.
            unsafe { Register::InterruptCommand.msr().write(interrupt.x2apic(apic_id)) };
        }
        ApicMode::XApic => {
            let [high, low] = interrupt.xapic(apic_id).ok_or(Error::NotAddressable)?;
            let _irq = IrqGuard::new();
            wait_idle(apic)?;
            apic.write(Register::InterruptCommandHigh, high);
            apic.write(Register::InterruptCommand, low);
        }
    }
    Ok(())
}

/// Waits until the last message has left; through x2APIC it always has (Linux: `apic_wait_icr_idle`).
fn wait_idle(apic: LocalApic) -> Result<(), Error> {
    for _ in 0..MAX_POLLS {
        if apic.read(Register::InterruptCommand) & Interrupt::PENDING == 0 {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    Err(Error::Busy)
}
