//! What CPUs have counted for themselves is carried over into the sums, in time.
//!
//! ```text
//! tick         each second, or as often as vm.stat_interval says, on each CPU that runs    (Linux: vmstat_update)
//!              also: pages of other nodes go home from lists that are not in use any more
//! going_idle   before a CPU halts: nobody has to wake it for that   (quiet_vmstat)
//! refresh      now, on all CPUs                                     (/proc/sys/vm/stat_refresh)
//! ```
//! So a sum lacks what was counted within the last interval at most, and nothing that an idle CPU has counted.
//!
//! # Not here
//! The parts and the sums: `mm::counters`. When a CPU ticks and when it is idle: [`crate::thread`].

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Memory;
use crate::cpu::apic::timer::HZ;
use crate::cpu::call;
use crate::cpu::percpu::this_cpu;

/// How often sums are brought up to date.
#[derive(Debug)]
pub struct Interval(AtomicU64);

impl Interval {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(HZ))
    }

    /// Sets it, in seconds; 0: at each tick. A CPU follows when its current interval is over (Linux: `sysctl_stat_interval`).
    pub(super) fn set(&self, seconds: u32) {
        self.0.store(u64::from(seconds) * HZ, Relaxed);
    }
}

/// Tick number `now`, on the CPU that runs this, with interrupts off. A comparison; each interval a look at all counters.
pub(crate) fn tick(memory: &Memory, now: u64) {
    let due = &this_cpu().vmstat_due;
    if now >= due.load(Relaxed) {
        due.store(now + memory.stat_interval.0.load(Relaxed), Relaxed);
        memory.pages.nodes().refresh_cpu_vm_stats();
        memory.pages.expire_remote_lists();
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
