//! Whether what runs is an interrupt's handler, or a thread (Linux: `in_task`).
//!
//! ```text
//! thread -> interrupt: depth 1 -> NMI: depth 2 -> back: 1 -> back: 0, then the thread may leave its CPU
//! ```
//! A function that another CPU asks for counts as one, too: it runs in the midst of whatever its CPU does, be it in the
//! interrupt for it or where its CPU waits for others. Exceptions do not: they belong to the thread that causes them.
//!
//! # Invariants
//! - Q1: `PerCpuArea::irq_depth` is the number of [`Handler`]s that live on the CPU. It is 0 whenever threads change.

use core::arch::asm;
use core::marker::PhantomData;
use core::mem::offset_of;

use super::percpu::PerCpuArea;

/// A handler is under way on this CPU as long as this lives.
#[must_use = "the handler ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Handler {
    /// Belongs to the CPU it was made on.
    _not_send: PhantomData<*mut ()>,
}

/// A handler begins (Linux: `irq_enter_rcu`, `nmi_enter`). With interrupts off, until the result is dropped.
#[inline]
pub(crate) fn enter() -> Handler {
    // SAFETY: the CPU's own count (Q1). An NMI in between leaves it as it was.
    unsafe { asm!("inc dword ptr gs:[{}]", const offset_of!(PerCpuArea, irq_depth), options(nostack)) };
    Handler { _not_send: PhantomData }
}

impl Drop for Handler {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `enter`, which has added one.
        unsafe { asm!("dec dword ptr gs:[{}]", const offset_of!(PerCpuArea, irq_depth), options(nostack)) };
    }
}

/// Whether this is no thread but a handler of an interrupt, an NMI or another CPU's call. Any context. One instruction: between
/// two, a thread could move to another CPU, and get the answer for who runs here.
#[inline]
pub fn in_handler() -> bool {
    let depth: u32;
    // SAFETY: reads the CPU's count (Q1). Where a thread can move, it is 0 on both CPUs.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) depth, const offset_of!(PerCpuArea, irq_depth),
             options(nostack, preserves_flags, readonly));
    }
    depth != 0
}
