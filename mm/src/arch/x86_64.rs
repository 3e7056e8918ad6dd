//! The real machine: x86_64 in long mode, our own page tables or the boot loader's with the same direct map.
//!
//! # Invariants
//! - I1: all RAM is mapped at [`layout::DIRECT_MAP`] before any of `mm` runs, and stays so, but for free pages with
//!   `debug_pagealloc=on`, which are mapped again before they are used.
//! - I2: the GS base points to the CPU's own area, laid out as [`GS_CPU_ID`], [`GS_PREEMPT_COUNT`], [`GS_HELD_LOCKS`]
//!   and [`GS_CURRENT`] say, before any of `mm` runs on that CPU.
//! - I3: `mm` runs in ring 0.

use core::arch::asm;
use core::marker::PhantomData;

use x86_64::registers::control::{Cr4, Cr4Flags};

use super::layout;
use crate::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use crate::id::CpuId;
use crate::lockdep::HeldLocks;

/// Offset of the CPU's number, a `u32`, in its area.
const GS_CPU_ID: usize = 8;
/// Offset of the `u32` that counts why preemption is off, in the CPU's area.
const GS_PREEMPT_COUNT: usize = 12;
/// Offset of the address of the CPU's [`HeldLocks`] in its area.
const GS_HELD_LOCKS: usize = 16;
/// Offset of the pointer to the record of the thread that runs, in the CPU's area; null before there are threads.
const GS_CURRENT: usize = 24;
/// Offset of the thread's name, a `&'static str`, in its record.
const THREAD_NAME: usize = 16;

/// The real machine: everything is where [`layout`] says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Machine {
    /// Where physical address `phys` is mapped (Linux: `__va`).
    #[inline(always)]
    pub const fn phys_to_virt(self, phys: PhysAddr) -> *mut u8 {
        (layout::DIRECT_MAP + phys.as_u64()) as *mut u8
    }

    /// The physical address behind a pointer into the direct map (Linux: `__pa`).
    #[inline(always)]
    pub fn virt_to_phys(self, virt: *const u8) -> PhysAddr {
        debug_assert!((layout::DIRECT_MAP..layout::DIRECT_MAP_END).contains(&(virt as u64)));
        PhysAddr::new_truncate(virt as u64 - layout::DIRECT_MAP)
    }

    /// Where the struct page of frame 0 would be mapped.
    #[inline(always)]
    pub(crate) const fn vmemmap(self) -> *mut u8 {
        layout::VMEMMAP as *mut u8
    }
}

/// The CPU that runs this.
#[inline(always)]
pub fn cpu_id() -> CpuId {
    let id: u32;
    // SAFETY: by I2, GS:[8] is the CPU's number.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) id, const GS_CPU_ID, options(nostack, preserves_flags, readonly));
    }
    CpuId(id)
}

/// Whether who runs this may wait for something that takes another thread to happen: interrupts are on, and nothing keeps
/// the thread on its CPU (Linux: `!in_atomic() && !irqs_disabled()`).
#[inline]
pub fn may_sleep() -> bool {
    let count: u32;
    // SAFETY: by I2, GS:[12] is the count. A thread that moves to another CPU between this and the next has 0 on both.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) count, const GS_PREEMPT_COUNT, options(nostack, preserves_flags, readonly));
    }
    count == 0 && irqs_enabled()
}

/// Name of the thread that runs this, for reports.
pub fn process_name() -> &'static str {
    let thread: *const u8;
    // SAFETY: by I2, GS:[24] is the thread's record, or null; it stays as long as the thread runs, which is what runs this.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) thread, const GS_CURRENT, options(nostack, preserves_flags, readonly));
        if thread.is_null() { "swapper" } else { thread.add(THREAD_NAME).cast::<&'static str>().read() }
    }
}

/// Whether a panic is taking this thread apart: never, since panics end the machine.
#[inline(always)]
pub fn unwinding() -> bool {
    false
}

/// What this CPU holds, for `f` to look at and change. Meaningful while an [`IrqGuard`] is held.
#[inline]
pub fn with_held_locks<R>(f: impl FnOnce(&HeldLocks) -> R) -> R {
    let held: *const HeldLocks;
    // SAFETY: by I2, GS:[16] is the record's address.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) held, const GS_HELD_LOCKS, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: I2: it lives as long as the CPU's area, which is never freed; all of it is atomics.
    f(unsafe { &*held })
}

/// Interrupts are off on this CPU as long as this lives (Linux: `local_irq_save`).
#[must_use = "interrupts are enabled again when this is dropped"]
#[derive(Debug)]
pub struct IrqGuard {
    was_enabled: bool,
    /// Belongs to the CPU it was made on.
    _not_send: PhantomData<*mut ()>,
}

impl IrqGuard {
    /// Turns interrupts off, and back to what they were when dropped.
    #[inline(always)]
    pub fn new() -> Self {
        let was_enabled = irqs_enabled();
        if was_enabled {
            // SAFETY: ring 0 (I3); turning interrupts off breaks nobody's assumptions. Not `nomem`: what follows stays
            // behind it.
            unsafe { asm!("cli", options(nostack)) };
        }
        Self { was_enabled, _not_send: PhantomData }
    }
}

impl Default for IrqGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for IrqGuard {
    #[inline(always)]
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: ring 0 (I3); they were on when the guard was made.
            unsafe { asm!("sti", options(nostack)) };
        } else {
            debug_assert!(!irqs_enabled(), "interrupt guards dropped out of order");
        }
    }
}

/// Whether interrupts are on.
#[inline(always)]
pub fn irqs_enabled() -> bool {
    let flags: u64;
    // SAFETY: reads RFLAGS through the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags & (1 << 9) != 0
}

/// Zeroes the page at `page`.
///
/// # Safety
/// `page` is page-aligned, mapped writable, and the caller's.
#[inline]
pub unsafe fn clear_page(page: *mut u8) {
    // SAFETY: the caller's page; `rep stosq` writes its 512 words. The direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosq", inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") page => _, in("rax") 0u64,
             options(nostack, preserves_flags));
    }
}

/// Copies the page at `from` to the page at `to`.
///
/// # Safety
/// Both are page-aligned, mapped, distinct; `to` is the caller's to write, `from` does not change meanwhile.
#[inline]
pub unsafe fn copy_page(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's pages; `rep movsq` copies their 512 words.
    unsafe {
        asm!("rep movsq", inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
}

/// Drops `addr`'s translation from this CPU's TLB.
#[inline]
pub fn flush_tlb_page(addr: VirtAddr) {
    x86_64::instructions::tlb::flush(addr);
}

/// Drops all translations but global ones from this CPU's TLB.
#[inline]
pub fn flush_tlb_all() {
    x86_64::instructions::tlb::flush_all();
}

/// Drops all translations, global ones too, from this CPU's TLB (Linux: `native_flush_tlb_global`).
pub fn flush_tlb_global() {
    let _irq = IrqGuard::new();
    // SAFETY: ring 0 (I3); global pages off and on again, which is what drops them, and nothing else changes.
    unsafe {
        let cr4 = Cr4::read();
        Cr4::write(cr4 ^ Cr4Flags::PAGE_GLOBAL);
        Cr4::write(cr4);
    }
}

/// The time stamp counter.
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: every x86_64 CPU has RDTSC, and ring 0 may always use it (I3).
    unsafe { core::arch::x86_64::_rdtsc() }
}
