//! Sections that stay on their CPU: the preemption count (Linux: `preempt_disable`, `preempt_enable`).
//!
//! # Invariants
//! - I1: `PerCpuArea::preempt_count` is the number of [`Guard`]s that live on the CPU. It is 0 whenever threads change, so
//!   it belongs to the CPU and to the thread alike.

use core::arch::asm;
use core::marker::PhantomData;
use core::mem::offset_of;

use super::sched;
use crate::cpu::percpu::PerCpuArea;

/// The thread stays on its CPU, and is not pre-empted there, as long as this lives. Interrupts still come.
#[must_use = "preemption is on again when this is dropped"]
#[derive(Debug)]
pub struct Guard {
    /// Belongs to the CPU it was made on.
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: the thread stays on its CPU while it lives, and it is not `Send`.
unsafe impl mm::percpu::OnThisCpu for Guard {}

/// Forbids preemption until the guard is dropped; nests. Any context. One instruction.
#[inline(always)]
pub fn disable() -> Guard {
    // SAFETY: the CPU's own count (I1), in one instruction: between two, this thread could move to another CPU.
    unsafe { asm!("inc dword ptr gs:[{}]", const offset_of!(PerCpuArea, preempt_count), options(nostack)) };
    Guard { _not_send: PhantomData }
}

/// Why preemption is off here, counted; 0 when it is on.
#[inline]
pub fn count() -> u32 {
    let count: u32;
    // SAFETY: reads the CPU's count (I1). Where a thread can move, it is 0 on both CPUs.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) count, const offset_of!(PerCpuArea, preempt_count),
             options(nostack, preserves_flags, readonly));
    }
    count
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `disable`; the guard has added one.
        unsafe {
            asm!("dec dword ptr gs:[{}]", const offset_of!(PerCpuArea, preempt_count), options(nostack))
        };
        if count() == 0 {
            sched::preempt_if_due();
        }
    }
}
