//! What a CPU runs that has nothing to run: it halts until an interrupt comes.
//!
//! # Invariants
//! - I1: between the last look for work and the halt no interrupt is taken: they are off until STI, and STI lets none in
//!   before the instruction behind it has begun. So no wake-up is slept through.

use core::arch::asm;

use mm::arch::IrqGuard;

use super::cpu::{Cpu, Scheduler};
use super::{sched, timer};
use crate::memory::vmstat;

/// Runs other threads for good (Linux: `do_idle`). On a CPU whose idle thread this is.
pub fn idle() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        if !reschedule() {
            halt();
        }
        x86_64::instructions::interrupts::enable();
    }
}

/// Whether another thread has run.
fn reschedule() -> bool {
    let _irq = IrqGuard::new();
    sched::reschedule()
}

/// Waits for an interrupt, unless there is something to do already. With interrupts off; they are on afterwards.
fn halt() {
    let (Some(scheduler), Some(cpu)) = (Scheduler::get(), Cpu::this()) else { return };
    if cpu.needs_resched() {
        return;
    }
    vmstat::going_idle(scheduler.memory);
    timer::pause_tick(cpu);
    // SAFETY: ring 0, and nothing is held: I1.
    unsafe { asm!("sti", "hlt", options(nostack)) };
}
