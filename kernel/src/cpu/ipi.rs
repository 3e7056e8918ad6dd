//! What CPUs tell each other by interrupts, besides calls: look at the run queue; stop.
//!
//! ```text
//! reschedule      RESCHEDULE -> the end of the interrupt, where the scheduler is asked
//! stop_others     NMI -> halted for good: a fatal report, or the end of the run
//! ```
//!
//! # Invariants
//! - S1: `STOPPER` is the CPU that stops the others, plus one, once there is one; it never changes then.
//! - S2: a CPU whose [`stopped`](super::percpu::PerCpuArea::stopped) is set does nothing any more, but for answering NMIs by
//!   setting it again: one that has stopped by itself gets the stopper's NMI, too.

use core::sync::atomic::{AtomicU32, Ordering};

use mm::CpuId;
use mm::arch::cpu_id;

use super::apic::{self, Interrupt};
use super::online;
use super::percpu::this_cpu;
use crate::console::clock;
use crate::trap::vector;

static STOPPER: AtomicU32 = AtomicU32::new(0);

/// How long to wait for CPUs to stop: they do at once, but for those that the host does not run (Linux: the same).
const STOP_TIMEOUT_US: u64 = 1_000_000;

/// Sends to a CPU by its number.
///
/// # Errors
/// Those of [`apic::ipi::send`].
pub(super) fn send(cpu: CpuId, interrupt: Interrupt) -> Result<(), apic::ipi::Error> {
    let id = online::apic_id(cpu).ok_or(apic::ipi::Error::NotAddressable)?;
    apic::ipi::send(id, interrupt)
}

/// Lets a CPU look for something better to run, at the end of the interrupt that it gets (Linux: `smp_send_reschedule`).
/// Nothing when it does not run. Any context.
pub fn reschedule(cpu: CpuId) {
    while online::is_online(cpu)
        && send(cpu, Interrupt::fixed(vector::RESCHEDULE)) == Err(apic::ipi::Error::Busy)
    {
        core::hint::spin_loop();
    }
}

/// Claims the right to end the run: the first CPU gets it, and may ask again. Others stop here, halted (Linux:
/// `panic_smp_self_stop`).
pub fn become_stopper() {
    let me = cpu_id().0 + 1;
    match STOPPER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(first) if first == me => {}
        Err(_) => stop_here(),
    }
}

/// Halts all other CPUs, whatever they do, and waits for it a moment (Linux: `smp_send_stop`). Only after [`become_stopper`].
pub fn stop_others() {
    let me = cpu_id();
    // Acquire pairs with the release in `stop_here`: what the CPU did has been done.
    let runs = |cpu: &CpuId| online::area(*cpu).is_some_and(|area| area.stopped.load(Ordering::Acquire) == 0);
    // A second time, and for CPUs that have stopped by themselves, nobody is left.
    let running = || online::all().filter(|&cpu| cpu != me).filter(runs);
    for cpu in running() {
        // One that cannot be sent to runs on: the report comes first.
        let _ = send(cpu, Interrupt::NMI);
    }
    let end = mm::arch::ticks().saturating_add(clock::tsc_khz() * STOP_TIMEOUT_US / 1000);
    while running().next().is_some() && mm::arch::ticks() < end {
        core::hint::spin_loop();
    }
}

/// Whether an NMI means that this CPU has to stop; then it does not come back.
pub(crate) fn nmi() {
    let stopper = STOPPER.load(Ordering::Acquire);
    if stopper != 0 && stopper != cpu_id().0 + 1 {
        stop_here();
    }
}

/// The last thing that this CPU does.
fn stop_here() -> ! {
    x86_64::instructions::interrupts::disable();
    // Release pairs with the acquire in `stop_others`.
    this_cpu().stopped.store(1, Ordering::Release);
    loop {
        x86_64::instructions::hlt();
    }
}
