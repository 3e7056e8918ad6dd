//! The simulated machine: RAM and vmemmap are lazily touched reservations, CPUs are threads.
//!
//! # Invariants
//! - I1: `ram` and `pages` of a [`Machine`] are the starts of its [`SimMachine`]'s reservations, which live at least as
//!   long as anything that uses the machine. This is the test's duty.
//! - I2: a thread is one CPU; [`run_as_cpu`] is the only way to be another than CPU 0.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::thread_local;

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, VirtAddr};
use crate::id::CpuId;
use crate::lockdep::HeldLocks;
use crate::pfn::PfnRange;
use crate::pgtable::Presence;

/// What a section's struct pages take.
const SECTION_VMEMMAP_BYTES: usize = 2 << 20;

/// A simulated machine: where its RAM and vmemmap are reserved.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    ram: *mut u8,
    pages: *mut u8,
}

// SAFETY: two addresses; what is behind them is guarded by whoever uses it.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

impl Machine {
    /// Where physical address `phys` is mapped.
    pub fn phys_to_virt(self, phys: PhysAddr) -> *mut u8 {
        self.ram.wrapping_add(phys.as_u64() as usize)
    }

    /// The physical address behind a pointer into the simulated RAM.
    pub fn virt_to_phys(self, virt: *const u8) -> PhysAddr {
        PhysAddr::new((virt as usize - self.ram as usize) as u64)
    }

    /// Where the struct page of frame 0 is mapped.
    pub(crate) fn vmemmap(self) -> *mut u8 {
        self.pages
    }
}

/// Owner of a simulated machine's reservations. Nothing is touched before somebody writes to it.
#[derive(Debug)]
pub struct SimMachine {
    machine: Machine,
    ram_bytes: usize,
    pages_bytes: usize,
}

impl SimMachine {
    /// A machine with physical addresses `0..end_bytes`, all reading as zero.
    ///
    /// # Panics
    /// When the host refuses the reservation.
    pub fn new(end_bytes: u64) -> Self {
        let ram_bytes = (end_bytes as usize).next_multiple_of(PAGE_SIZE);
        // Of whole sections, as the real one.
        let pages_bytes =
            ((ram_bytes >> PAGE_SHIFT) * super::STRUCT_PAGE_BYTES).next_multiple_of(SECTION_VMEMMAP_BYTES);
        let machine = Machine { ram: reserve(ram_bytes), pages: reserve(pages_bytes) };
        Self { machine, ram_bytes, pages_bytes }
    }

    /// The machine itself.
    pub fn machine(&self) -> Machine {
        self.machine
    }
}

impl Machine {
    /// Makes frames of its RAM accessible, or such that whoever touches them ends the process.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn set_presence(self, pages: PfnRange, presence: Presence) {
        let access = match presence {
            Presence::Present => libc::PROT_READ | libc::PROT_WRITE,
            Presence::Absent => libc::PROT_NONE,
        };
        let (at, size_bytes) = (self.phys_to_virt(pages.start.phys()), pages.nr_pages() as usize * PAGE_SIZE);
        // SAFETY: whole pages of this machine's own reservation; nobody but who is to be caught uses what becomes inaccessible.
        let done = unsafe { libc::mprotect(at.cast(), size_bytes, access) };
        assert_eq!(done, 0, "the host refused to make {pages:?} {presence:?}");
    }
}

impl Drop for SimMachine {
    fn drop(&mut self) {
        // SAFETY: our own reservations (I1), unmapped once.
        unsafe {
            libc::munmap(self.machine.ram.cast(), self.ram_bytes);
            libc::munmap(self.machine.pages.cast(), self.pages_bytes);
        }
    }
}

fn reserve(size_bytes: usize) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address of the host's choice.
    let at =
        unsafe { libc::mmap(ptr::null_mut(), size_bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED, "the host refused to reserve {size_bytes} bytes");
    at.cast()
}

thread_local! {
    static CPU: Cell<u32> = const { Cell::new(0) };
    static IRQS_OFF: Cell<u32> = const { Cell::new(0) };
    static HELD_LOCKS: HeldLocks = const { HeldLocks::new() };
}

/// Runs `f` with this thread being CPU `cpu`. The caller sees to it that no other thread is that CPU of the same machine
/// meanwhile.
pub fn run_as_cpu<R>(cpu: CpuId, f: impl FnOnce() -> R) -> R {
    let before = CPU.replace(cpu.0);
    let result = f();
    CPU.set(before);
    result
}

/// The CPU that this thread is.
pub fn cpu_id() -> CpuId {
    CpuId(CPU.get())
}

/// Who runs this, for reports.
pub fn process_name() -> &'static str {
    "host"
}

/// Whether a panic is taking this thread apart.
#[inline]
pub fn unwinding() -> bool {
    std::thread::panicking()
}

/// What this CPU holds, for `f` to look at and change. Meaningful while an [`IrqGuard`] is held.
pub fn with_held_locks<R>(f: impl FnOnce(&HeldLocks) -> R) -> R {
    HELD_LOCKS.with(f)
}

/// Stands for interrupts being off: a thread has none, so it only counts.
#[must_use = "interrupts are enabled again when this is dropped"]
#[derive(Debug)]
pub struct IrqGuard {
    /// How many there were before.
    depth: u32,
    _not_send: PhantomData<*mut ()>,
}

impl IrqGuard {
    /// Turns interrupts off, and back to what they were when dropped.
    pub fn new() -> Self {
        let depth = IRQS_OFF.get();
        #[cfg(test)]
        if depth == 0 {
            super::steps::tell(|scheduler| scheduler.interrupts_go_off());
        }
        IRQS_OFF.set(depth + 1);
        Self { depth, _not_send: PhantomData }
    }
}

impl Default for IrqGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for IrqGuard {
    fn drop(&mut self) {
        let depth = IRQS_OFF.get() - 1;
        IRQS_OFF.set(depth);
        debug_assert!(
            depth == self.depth || std::thread::panicking(),
            "interrupt guards dropped out of order"
        );
        #[cfg(test)]
        if depth == 0 {
            super::steps::tell(|scheduler| scheduler.interrupts_are_on());
        }
    }
}

/// Whether interrupts are on.
pub fn irqs_enabled() -> bool {
    IRQS_OFF.get() == 0
}

/// Whether who runs this may wait: no interrupt guard is held.
pub fn may_sleep() -> bool {
    irqs_enabled()
}

/// Zeroes the page at `page`.
///
/// # Safety
/// `page` is page-aligned, mapped writable, and the caller's.
pub unsafe fn clear_page(page: *mut u8) {
    // SAFETY: the caller's page.
    unsafe { page.write_bytes(0, PAGE_SIZE) };
}

/// Copies the page at `from` to the page at `to`.
///
/// # Safety
/// Both are page-aligned, mapped, distinct; `to` is the caller's to write, `from` does not change meanwhile.
pub unsafe fn copy_page(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's pages.
    unsafe { to.copy_from_nonoverlapping(from, PAGE_SIZE) };
}

/// Nothing to do: nobody walks simulated page tables but the code under test.
pub fn flush_tlb_page(_addr: VirtAddr) {}

/// Nothing to do, as [`flush_tlb_page`].
pub fn flush_tlb_all() {}

/// Nothing to do, as [`flush_tlb_page`].
pub fn flush_tlb_global() {}

/// A counter: each call is one tick later.
pub fn ticks() -> u64 {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    TICKS.fetch_add(1, Ordering::Relaxed)
}
