//! What of a zone's NUMA events is not shown, because it happened before they were counted (`vm.numa_stat`).

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{NumaEvent, NumaValues};

/// The values when counting began.
#[derive(Debug)]
pub(crate) struct NumaBase([AtomicU64; NumaEvent::COUNT]);

impl NumaBase {
    /// Counting began with the system.
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; NumaEvent::COUNT])
    }

    /// Counting begins now, with those values.
    pub(crate) fn begin(&self, now: NumaValues) {
        self.0.iter().zip(now).for_each(|(base, now)| base.store(now, Relaxed));
    }

    /// What was counted, of those values.
    pub(crate) fn since(&self, now: NumaValues) -> NumaValues {
        core::array::from_fn(|n| now[n].saturating_sub(self.0[n].load(Relaxed)))
    }
}
