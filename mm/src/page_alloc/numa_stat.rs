//! Where allocations found their pages, as shown: `vm.numa_stat` says whether that is counted.
//!
//! CPUs count all the same, since what they count is also what tells how many pages were allocated: it costs nothing to
//! leave out. Only what happened since `numa_stat` was last turned on is shown, and nothing while it is off: what Linux
//! shows that way.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::PageAllocator;
use crate::counters::{Item, NumaEvent, NumaValues};
use crate::zone::Zone;

/// Whether NUMA events are counted (Linux: `vm.numa_stat`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NumaStat {
    /// From when it was turned on.
    On,
    /// None are shown.
    Off,
}

/// Of the allocator: whether they are counted.
#[derive(Debug)]
pub(super) struct NumaCounting {
    off: AtomicBool,
}

impl NumaCounting {
    pub(super) const fn new() -> Self {
        Self { off: AtomicBool::new(false) }
    }
}

impl PageAllocator {
    /// Where allocations from a zone and those that wanted it found their pages, for all CPUs, in the order of [`NumaEvent`].
    pub fn numa_events(&self, zone: &Zone) -> NumaValues {
        if self.numa_counting.off.load(Relaxed) {
            return [0; NumaEvent::COUNT];
        }
        zone.numa_base().since(self.all_numa_events(zone))
    }

    fn all_numa_events(&self, zone: &Zone) -> NumaValues {
        let events = self.events(zone);
        let mut values = [0; NumaEvent::COUNT];
        for event in NumaEvent::ALL {
            values[event.index()] = match event {
                NumaEvent::Hit => events.numa_hit(),
                NumaEvent::Miss => events.numa_miss,
                NumaEvent::Foreign => events.numa_foreign,
                NumaEvent::Interleave => events.numa_interleave,
                NumaEvent::Local => events.numa_local(),
                NumaEvent::Other => events.numa_other,
            };
        }
        values
    }

    /// Turns counting on, from zero, or off (Linux: `sysctl_vm_numa_stat_handler`). One caller at a time; what is allocated
    /// meanwhile may count or not.
    pub fn set_numa_stat(&self, to: NumaStat) {
        let off = to == NumaStat::Off;
        if self.numa_counting.off.load(Relaxed) == off {
            return;
        }
        if off {
            log::info!("disable numa statistics, and clear numa counters");
        } else {
            log::info!("enable numa statistics");
            for zone in self.nodes().populated_zones() {
                zone.numa_base().begin(self.all_numa_events(zone));
            }
        }
        self.numa_counting.off.store(off, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gfp::Gfp;
    use crate::order::Order;
    use crate::testing::TestMachine;

    fn sums(m: &TestMachine) -> NumaValues {
        let zones = m.pages.nodes().populated_zones().map(|zone| m.pages.numa_events(zone));
        zones.fold([0; NumaEvent::COUNT], |sum, more| core::array::from_fn(|n| sum[n] + more[n]))
    }

    #[test]
    fn what_happens_while_numa_events_are_not_counted_never_shows() {
        let m = TestMachine::with(128, 2, 2);
        let allocate = |nr| {
            for _ in 0..nr {
                m.pages.free_pages(m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap());
            }
        };
        let [hit, local] = [NumaEvent::Hit, NumaEvent::Local].map(NumaEvent::index);
        allocate(3);
        assert_eq!((sums(&m)[hit], sums(&m)[local]), (3, 3));
        m.pages.set_numa_stat(NumaStat::Off);
        allocate(5);
        assert_eq!(sums(&m), [0; NumaEvent::COUNT]);
        m.pages.set_numa_stat(NumaStat::On);
        assert_eq!(sums(&m), [0; NumaEvent::COUNT]);
        allocate(2);
        m.pages.set_numa_stat(NumaStat::On);
        assert_eq!((sums(&m)[hit], sums(&m)[local]), (2, 2));
        let pages: u64 = m.pages.nodes().populated_zones().map(|z| m.pages.events(z).pages_allocated()).sum();
        assert_eq!(pages, 10, "how many pages were allocated is counted in any case");
    }
}
