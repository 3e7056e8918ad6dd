//! Counts of events that each CPU keeps of its own.
//!
//! # Invariants
//! - C1: a slot's counts are changed by its CPU only, with interrupts off, by code that does not come back here.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::VmEventValues;
use super::cells::VmEvents;
use super::items::VmEvent;
use crate::arch::IrqGuard;
use crate::id::CpuId;
use crate::percpu::PerCpu;

/// What happened on each CPU (Linux: `vm_event_states`). What the page allocator counts itself is not in it.
#[derive(Debug)]
pub struct CpuEvents {
    cpus: PerCpu<VmEvents>,
}

impl CpuEvents {
    /// Memory that [`new`](Self::new) needs for that many CPUs; `None` when its size overflows.
    pub fn layout(nr_cpus: u32) -> Option<Layout> {
        PerCpu::<VmEvents>::layout(nr_cpus)
    }

    /// All zero, for CPUs `0..nr_cpus`.
    ///
    /// # Safety
    /// `memory` is writable, of [`layout`](Self::layout)'s size and alignment, nobody else's, and lives as long as the
    /// result.
    pub unsafe fn new(memory: NonNull<u8>, nr_cpus: u32) -> Self {
        // SAFETY: the caller's memory.
        Self { cpus: unsafe { PerCpu::init(memory, nr_cpus, |_| VmEvents::new()) } }
    }

    /// Counts one more event on this CPU (Linux: `count_vm_event`). Any context.
    #[inline]
    pub fn count(&self, event: VmEvent) {
        self.count_many(event, 1);
    }

    /// Counts `n` more events on this CPU (Linux: `count_vm_events`). Any context.
    #[inline]
    pub fn count_many(&self, event: VmEvent, n: u64) {
        let irq = IrqGuard::new();
        // SAFETY: the closure only adds (C1).
        unsafe { self.cpus.with(&irq, |events| events.add(event, n)) };
    }

    /// All CPUs' counts, added (Linux: `all_vm_events`).
    pub fn sums(&self) -> VmEventValues {
        let mut sums = [0; VmEvent::COUNT];
        for cpu in 0..self.cpus.nr_cpus() {
            // SAFETY: a slot of ours, shared: its counts are atomics, and no method needs it exclusively (C1).
            unsafe { (*self.cpus.slot(CpuId(cpu))).add_to(&mut sums) };
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::run_as_cpu;
    use crate::counters::Item;
    use std::alloc::{alloc, dealloc};

    #[test]
    fn events_of_all_cpus_are_added() {
        let layout = CpuEvents::layout(3).unwrap();
        // SAFETY: the layout's size is not zero.
        let memory = NonNull::new(unsafe { alloc(layout) }).unwrap();
        // SAFETY: fresh memory of that layout, freed after the last use.
        let events = unsafe { CpuEvents::new(memory, 3) };
        for cpu in [0, 2, 2] {
            run_as_cpu(CpuId(cpu), || events.count(VmEvent::PgFault));
        }
        run_as_cpu(CpuId(1), || events.count_many(VmEvent::PgReuse, 7));
        let sums = events.sums();
        assert_eq!((sums[VmEvent::PgFault.index()], sums[VmEvent::PgReuse.index()]), (3, 7));
        assert_eq!(sums.iter().sum::<u64>(), 10);
        // SAFETY: allocated above with this layout.
        unsafe { dealloc(memory.as_ptr(), layout) };
    }
}
