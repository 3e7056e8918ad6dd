//! What CPUs have counted for themselves is carried over into the sums, in time.
//!
//! ```text
//! tick         each second, on each CPU that has something to do    (Linux: vmstat_update by vm.stat_interval)
//! going_idle   before a CPU halts: nobody has to wake it for that   (quiet_vmstat)
//! refresh      now, on all CPUs                                     (/proc/sys/vm/stat_refresh)
//! ```
//! So a sum lacks what was counted within the last second at most, and nothing that an idle CPU has counted.
//!
//! # Not here
//! The parts and the sums: `mm::counters`. When a CPU ticks and when it is idle: [`crate::thread`].

use core::sync::atomic::Ordering::Relaxed;

use super::Memory;
use crate::cpu::apic::timer::HZ;
use crate::cpu::call;
use crate::cpu::percpu::this_cpu;

/// Ticks from one time to the next (Linux: `sysctl_stat_interval`, its default).
const INTERVAL_TICKS: u64 = HZ;

/// Tick number `now`, on the CPU that runs this, with interrupts off. A comparison; each second a look at all counters.
pub(crate) fn tick(memory: &Memory, now: u64) {
    let due = &this_cpu().vmstat_due;
    if now >= due.load(Relaxed) {
        due.store(now + INTERVAL_TICKS, Relaxed);
        memory.pages.nodes().refresh_cpu_vm_stats();
    }
}

/// The CPU that runs this has nothing to do, maybe for long. With interrupts off. A look at all counters.
pub(crate) fn going_idle(memory: &Memory) {
    memory.pages.nodes().quiet_vmstat();
}

/// Carries over what all CPUs have counted: then sums are exact where nothing changes. Interrupts all CPUs; context as
/// [`call::on_each`].
pub fn refresh(memory: &'static Memory) {
    call::on_all(&|| _ = memory.pages.nodes().refresh_cpu_vm_stats());
}
