//! The counters themselves: arrays indexed by an [`Item`].
//!
//! ```text
//! Counters   go up and down, shared           inside `split`    get() is exact when its writers are quiet
//! Events     only go up, one writer at a time  per CPU           the sum over CPUs is the value
//! ```
//!
//! # Invariants
//! - I1: a counter's value is the sum of all deltas added to it, as long as [`Counters::add_locked`] and
//!   [`Events::add`] have one caller at a time for each array. Two at once may lose a delta; nothing else breaks.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::items::{Item, VmEvent};

/// One CPU's counts of what happened.
pub type VmEvents = Events<VmEvent, { VmEvent::COUNT }>;

/// Counters that go up and down, one for each item.
pub struct Counters<I, const N: usize> {
    values: [AtomicI64; N],
    _items: PhantomData<I>,
}

impl<I: Item, const N: usize> Counters<I, N> {
    /// All zero.
    pub const fn new() -> Self {
        Self { values: [const { AtomicI64::new(0) }; N], _items: PhantomData }
    }

    /// The value; 0 when it is momentarily below, as a delta of one CPU may be seen before another's.
    #[inline(always)]
    pub fn get(&self, item: I) -> u64 {
        self.values[item.index()].load(Ordering::Relaxed).max(0) as u64
    }

    /// The value as it is, below 0 too.
    #[inline(always)]
    pub(super) fn signed(&self, item: I) -> i64 {
        self.values[item.index()].load(Ordering::Relaxed)
    }

    /// Adds `delta` under the lock that guards the item: a load and a store, no atomic read-modify-write.
    #[inline(always)]
    pub fn add_locked(&self, item: I, delta: i64) {
        let value = &self.values[item.index()];
        value.store(value.load(Ordering::Relaxed).wrapping_add(delta), Ordering::Relaxed);
    }

    /// Sets an item that the caller keeps count of itself, under the lock that guards it: a store.
    #[inline(always)]
    pub fn set_locked(&self, item: I, value: u64) {
        self.values[item.index()].store(value as i64, Ordering::Relaxed);
    }

    /// Adds `delta` from any context, without a lock: an atomic read-modify-write.
    #[inline]
    pub fn add(&self, item: I, delta: i64) {
        self.values[item.index()].fetch_add(delta, Ordering::Relaxed);
    }
}

/// Counts that only go up, one for each item, written by one CPU.
pub struct Events<I, const N: usize> {
    values: [AtomicU64; N],
    _items: PhantomData<I>,
}

impl<I: Item, const N: usize> Events<I, N> {
    /// All zero.
    pub const fn new() -> Self {
        Self { values: [const { AtomicU64::new(0) }; N], _items: PhantomData }
    }

    /// How often it happened.
    #[inline(always)]
    pub fn get(&self, item: I) -> u64 {
        self.values[item.index()].load(Ordering::Relaxed)
    }

    /// Counts one more, on the CPU that owns the counts, with interrupts off (Linux: `__count_vm_event`).
    #[inline(always)]
    pub fn inc(&self, item: I) {
        self.add(item, 1);
    }

    /// Counts `n` more, as [`inc`](Self::inc).
    #[inline(always)]
    pub fn add(&self, item: I, n: u64) {
        let value = &self.values[item.index()];
        value.store(value.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds all counts to `sums`, to total them over CPUs (Linux: `sum_vm_events`).
    pub fn add_to(&self, sums: &mut [u64; N]) {
        for (sum, value) in sums.iter_mut().zip(&self.values) {
            *sum = sum.wrapping_add(value.load(Ordering::Relaxed));
        }
    }
}

impl<I: Item, const N: usize> Default for Counters<I, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I: Item, const N: usize> Default for Events<I, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I: Item, const N: usize> fmt::Debug for Counters<I, N> {
    /// Only what is not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_non_zero(f, I::ALL.iter().map(|&i| (i, self.get(i))))
    }
}

impl<I: Item, const N: usize> fmt::Debug for Events<I, N> {
    /// Only what is not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_non_zero(f, I::ALL.iter().map(|&i| (i, self.get(i))))
    }
}

fn debug_non_zero<I: Item>(
    f: &mut fmt::Formatter<'_>,
    values: impl Iterator<Item = (I, u64)>,
) -> fmt::Result {
    f.debug_map().entries(values.filter(|&(_, v)| v != 0)).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{NodeStat, ZoneStat};

    #[test]
    fn a_counter_is_the_sum_of_its_deltas() {
        let counters = Counters::<ZoneStat, { ZoneStat::COUNT }>::new();
        counters.add_locked(ZoneStat::FreePages, 1024);
        counters.add(ZoneStat::FreePages, -24);
        assert_eq!(counters.get(ZoneStat::FreePages), 1000);
    }

    #[test]
    fn a_counter_below_zero_reads_as_zero() {
        let counters = Counters::<NodeStat, { NodeStat::COUNT }>::new();
        counters.add(NodeStat::PageTable, -1);
        assert_eq!(counters.get(NodeStat::PageTable), 0);
        counters.add(NodeStat::PageTable, 2);
        assert_eq!(counters.get(NodeStat::PageTable), 1);
    }

    #[test]
    fn events_add_up_over_cpus() {
        let cpus = [VmEvents::new(), VmEvents::new()];
        cpus[0].inc(VmEvent::PgFault);
        cpus[1].add(VmEvent::PgFault, 41);
        let mut sums = [0; VmEvent::COUNT];
        cpus.iter().for_each(|cpu| cpu.add_to(&mut sums));
        assert_eq!(sums[VmEvent::PgFault.index()], 42);
    }
}
