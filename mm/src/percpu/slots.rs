//! Data that each CPU has of its own, reached without locks or atomic operations.
//!
//! ```text
//! base -> [ CPU 0's T | CPU 1's T | ... ]     each on cache lines of its own
//! ```
//!
//! # Invariants
//! - I1: `base` points to `nr_cpus` initialised slots that nobody else owns and that live as long as the `PerCpu`.
//! - I2: a slot is changed by its CPU only, with interrupts off, and not while it is being changed already. Others may look
//!   at it meanwhile, so what changes in a slot are atomics, which they may read, and cells, which they leave alone.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ptr::NonNull;

use crate::arch::{self, IrqGuard};
use crate::id::CpuId;

#[repr(align(64))]
struct Slot<T>(UnsafeCell<T>);

/// A `T` for each CPU.
#[derive(Debug)]
pub struct PerCpu<T> {
    base: NonNull<Slot<T>>,
    nr_cpus: u32,
}

// SAFETY: slots are reached only as I2 says, by which nothing but atomics is touched by two CPUs.
unsafe impl<T: Send> Send for PerCpu<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for PerCpu<T> {}

impl<T> PerCpu<T> {
    /// Memory for `nr_cpus` slots: size and alignment, `None` when the size overflows.
    pub fn layout(nr_cpus: u32) -> Option<Layout> {
        Layout::array::<Slot<T>>(nr_cpus as usize).ok()
    }

    /// Makes the slots in `memory` of [`layout`](Self::layout)'s size and alignment.
    ///
    /// # Safety
    /// `memory` is writable, of that layout, nobody else's, and lives as long as the result.
    pub unsafe fn init(memory: NonNull<u8>, nr_cpus: u32, mut make: impl FnMut(CpuId) -> T) -> Self {
        let base = memory.cast::<Slot<T>>();
        for cpu in 0..nr_cpus {
            // SAFETY: inside the caller's memory.
            unsafe { base.add(cpu as usize).write(Slot(UnsafeCell::new(make(CpuId(cpu))))) };
        }
        Self { base, nr_cpus }
    }

    /// The same slots once more.
    ///
    /// # Safety
    /// The slots outlive both, and I2 holds for both together.
    pub(crate) unsafe fn alias(&self) -> Self {
        Self { base: self.base, nr_cpus: self.nr_cpus }
    }

    /// How many CPUs have a slot.
    pub fn nr_cpus(&self) -> u32 {
        self.nr_cpus
    }

    /// This CPU's slot, for `f` to work on.
    ///
    /// # Safety
    /// `f` does not come back to this `PerCpu` (I2), which keeps its cells from being changed behind its back.
    #[inline(always)]
    pub(crate) unsafe fn with<R>(&self, _irq: &IrqGuard, f: impl FnOnce(&T) -> R) -> R {
        let cpu = arch::cpu_id();
        debug_assert!(cpu.0 < self.nr_cpus);
        // SAFETY: interrupts are off, so nobody else changes this CPU's slot until `f` returns (I1, I2), and `f` does not come back.
        f(unsafe { &*(*self.base.add(cpu.index()).as_ptr()).0.get() })
    }

    /// `cpu`'s slot, to read racily what its type makes safe to read so (atomics, through `addr_of!`).
    pub(crate) fn slot(&self, cpu: CpuId) -> *mut T {
        assert!(cpu.0 < self.nr_cpus, "no CPU {cpu} among {}", self.nr_cpus);
        // SAFETY: inside the slots (I1).
        unsafe { (*self.base.add(cpu.index()).as_ptr()).0.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use std::alloc::{alloc, dealloc};

    #[test]
    fn each_cpu_works_on_its_own_slot() {
        let layout = PerCpu::<Cell<u32>>::layout(3).unwrap();
        // SAFETY: the layout's size is not zero.
        let memory = NonNull::new(unsafe { alloc(layout) }).unwrap();
        // SAFETY: fresh memory of that layout.
        let counters = unsafe { PerCpu::init(memory, 3, |cpu| Cell::new(cpu.0 * 10)) };
        for cpu in [0, 1, 2, 1] {
            // SAFETY: the closure does not come back.
            arch::run_as_cpu(CpuId(cpu), || unsafe {
                counters.with(&IrqGuard::new(), |c| c.set(c.get() + 1))
            });
        }
        // SAFETY: no CPU is working on them any more.
        let values = [0, 1, 2].map(|cpu| unsafe { (*counters.slot(CpuId(cpu))).get() });
        assert_eq!(values, [1, 12, 21]);
        // SAFETY: allocated above with this layout.
        unsafe { dealloc(memory.as_ptr(), layout) };
    }
}
