//! What one CPU asks of the others.

use crate::id::CpuId;

/// Runs functions on other CPUs (Linux: `on_each_cpu_cond`). The kernel does it by interrupts.
pub trait CallCpus: Sync {
    /// Calls `f` on each running CPU that `wanted` names, this one included, with interrupts off there, and returns when
    /// all have done so. Any context that holds no lock which `f`, or a handler on another CPU, may take.
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync));
}

/// A machine on which only the CPU that asks runs: boot, until the others are started.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnlyThisCpu;

impl CallCpus for OnlyThisCpu {
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
        let _irq = crate::arch::IrqGuard::new();
        if wanted(crate::arch::cpu_id()) {
            f();
        }
    }
}
