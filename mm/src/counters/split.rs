//! Counters with a part for each CPU: changed without touching what others touch, until a part grows too large (Linux:
//! `vm_stat` with `per_cpu_zonestats` and `per_cpu_nodestats`).
//!
//! ```text
//!   shared[item]  +  part of CPU 0 [item]  +  part of CPU 1 [item]  + ...  =  the value
//!   i64, atomic      i8, |part| <= threshold
//!
//!   get()    reads `shared`: off by at most CPUs * threshold
//!   exact()  reads all of it
//! ```
//! A change that takes a part over its threshold carries the part into `shared`. One that counts by ones carries half a
//! threshold more, so that a counter that goes up and down around the threshold is not carried each time.
//!
//! `NR_FREE_PAGES` has no parts: it changes only with its zone locked, where a load and a store of `shared` are cheaper
//! than looking for the CPU's part, and so the watermarks are compared with the truth. Linux keeps parts of it, too, and
//! needs `percpu_drift_mark` and `zone_page_state_snapshot` to look closer when little is free; here nothing has to.
//! Pages on per-CPU lists are in no counter: allocating and freeing there costs none.
//!
//! # Invariants
//! - S1: a part is changed by its CPU only, with interrupts off; when the CPU does not run any more, by who folds it.
//! - S2: parts are only ever reached by shared references: all of them is atomics.
//! - S3: the value of an item changes by exactly the deltas that were added; those that are under way may be seen late.

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicI8, AtomicU8, Ordering::Relaxed};

use super::cells::Counters;
use super::items::Item;
use crate::arch::{self, IrqGuard};
use crate::id::CpuId;
use crate::percpu::PerCpu;

/// The largest threshold: with it and one more, a part still fits its byte (Linux: 125 of an `s8`).
pub const MAX_THRESHOLD: u32 = 125;

/// A CPU's part of each counter.
#[derive(Debug)]
struct Part<const N: usize>([AtomicI8; N]);

impl<const N: usize> Part<N> {
    const fn new() -> Self {
        Self([const { AtomicI8::new(0) }; N])
    }
}

/// What a change that is carried into the shared counter takes along beyond the part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Carry {
    /// Nothing (Linux: `mod_zone_page_state`).
    Part,
    /// Half a threshold more in the direction of the change (Linux: `inc_zone_page_state`, `dec_zone_page_state`).
    Further,
}

/// A part and a change of it: the new part, and what goes to the shared counter.
#[inline(always)]
fn step(part: i8, delta: i64, threshold: u8, carry: Carry) -> (i8, i64) {
    let sum = i64::from(part) + delta;
    if sum.unsigned_abs() <= u64::from(threshold) {
        return (sum as i8, 0);
    }
    let further = match carry {
        Carry::Part => 0,
        Carry::Further => delta.signum() * i64::from(threshold >> 1),
    };
    (-further as i8, sum + further)
}

/// Counters that go up and down, one for each item, with a part for each CPU.
pub struct SplitCounters<I, const N: usize> {
    shared: Counters<I, N>,
    threshold: AtomicU8,
    parts: PerCpu<Part<N>>,
}

impl<I: Item, const N: usize> SplitCounters<I, N> {
    /// Memory that [`new`](Self::new) needs for that many CPUs; `None` when its size overflows.
    pub fn layout(nr_cpus: u32) -> Option<Layout> {
        PerCpu::<Part<N>>::layout(nr_cpus)
    }

    /// All zero, for CPUs `0..nr_cpus`; with 0, all changes go to the shared counters. So they do until a threshold is set.
    ///
    /// # Safety
    /// `memory` is writable, of [`layout`](Self::layout)'s size and alignment, nobody else's, and lives as long as the
    /// result.
    pub unsafe fn new(memory: NonNull<u8>, nr_cpus: u32) -> Self {
        // SAFETY: the caller's memory.
        let parts = unsafe { PerCpu::init(memory, nr_cpus, |_| Part::new()) };
        Self { shared: Counters::new(), threshold: AtomicU8::new(0), parts }
    }

    /// How far a part may be from zero.
    #[inline]
    pub fn threshold(&self) -> u32 {
        u32::from(self.threshold.load(Relaxed))
    }

    /// Sets it, to [`MAX_THRESHOLD`] at most. Parts that are beyond stay so until they change.
    pub fn set_threshold(&self, threshold: u32) {
        self.threshold.store(threshold.min(MAX_THRESHOLD) as u8, Relaxed);
    }

    /// The value but for what CPUs have not carried over, at least 0 (Linux: `zone_page_state`). Any context; one load.
    #[inline(always)]
    pub fn get(&self, item: I) -> u64 {
        self.shared.get(item)
    }

    /// The value with all parts, at least 0 (Linux: `zone_page_state_snapshot`). Any context; a load for each CPU.
    pub fn exact(&self, item: I) -> u64 {
        let parts = (0..self.parts.nr_cpus()).map(|cpu| &self.part(CpuId(cpu)).0[item.index()]);
        let sum = parts.fold(self.shared.signed(item), |sum, part| sum + i64::from(part.load(Relaxed)));
        sum.max(0) as u64
    }

    /// All values as [`exact`](Self::exact), in the items' order.
    pub fn snapshot(&self) -> [u64; N] {
        core::array::from_fn(|n| self.exact(I::ALL[n]))
    }

    /// Adds `delta` (Linux: `mod_zone_page_state`). Any context.
    #[inline]
    pub fn add(&self, item: I, delta: i64) {
        self.change(item, delta, Carry::Part);
    }

    /// Adds 1 (Linux: `inc_zone_page_state`). Any context.
    #[inline]
    pub fn inc(&self, item: I) {
        self.change(item, 1, Carry::Further);
    }

    /// Takes 1 away (Linux: `dec_zone_page_state`). Any context.
    #[inline]
    pub fn dec(&self, item: I) {
        self.change(item, -1, Carry::Further);
    }

    /// Adds `delta` to an item that is never changed in another way, under the lock that guards it: a load and a store.
    #[inline(always)]
    pub fn add_locked(&self, item: I, delta: i64) {
        self.shared.add_locked(item, delta);
    }

    /// Sets an item that is never changed in another way and whose value the caller keeps, under the lock that guards it.
    #[inline(always)]
    pub fn set_locked(&self, item: I, value: u64) {
        self.shared.set_locked(item, value);
    }

    /// Carries all of this CPU's parts over; returns how many there were (Linux: `refresh_cpu_vm_stats`).
    pub fn fold_here(&self, _irq: &IrqGuard) -> u32 {
        self.fold(arch::cpu_id())
    }

    /// Carries all of a CPU's parts over. That CPU does not run any more, or what it counts meanwhile may be lost (Linux:
    /// `cpu_vm_stats_fold`).
    pub fn fold_dead(&self, cpu: CpuId) -> u32 {
        self.fold(cpu)
    }

    /// Whether a CPU has something to carry over (Linux: `need_update`).
    pub fn is_pending(&self, cpu: CpuId) -> bool {
        cpu.0 < self.parts.nr_cpus() && self.part(cpu).0.iter().any(|part| part.load(Relaxed) != 0)
    }

    fn fold(&self, cpu: CpuId) -> u32 {
        if cpu.0 >= self.parts.nr_cpus() {
            return 0;
        }
        let mut changed = 0;
        for (&item, part) in I::ALL.iter().zip(&self.part(cpu).0) {
            let delta = part.load(Relaxed);
            if delta != 0 {
                part.store(0, Relaxed);
                self.shared.add(item, i64::from(delta));
                changed += 1;
            }
        }
        changed
    }

    #[inline]
    fn change(&self, item: I, delta: i64, carry: Carry) {
        if self.parts.nr_cpus() == 0 {
            return self.shared.add(item, delta);
        }
        let _irq = IrqGuard::new();
        let part = &self.part(arch::cpu_id()).0[item.index()];
        let (new, carried) = step(part.load(Relaxed), delta, self.threshold.load(Relaxed), carry);
        // Interrupts are off: nobody changes it in between (S1).
        part.store(new, Relaxed);
        if carried != 0 {
            self.shared.add(item, carried);
        }
    }

    #[inline]
    fn part(&self, cpu: CpuId) -> &Part<N> {
        // SAFETY: a slot that lives as long as `self.parts`; nobody has it exclusively (S2).
        unsafe { &*self.parts.slot(cpu) }
    }
}

impl<I: Item, const N: usize> fmt::Debug for SplitCounters<I, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitCounters").field("shared", &self.shared).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::run_as_cpu;
    use crate::counters::{NodeStat, ZoneStat};
    use proptest::prelude::*;
    use std::alloc::{alloc, dealloc};
    use std::vec;

    type Zone = SplitCounters<ZoneStat, { ZoneStat::COUNT }>;
    const ITEM: ZoneStat = ZoneStat::Mlock;

    /// Counters in memory of their own.
    struct Fixture {
        counters: Zone,
        memory: NonNull<u8>,
        layout: Layout,
    }

    impl Fixture {
        fn new(nr_cpus: u32, threshold: u32) -> Self {
            let layout = Zone::layout(nr_cpus).unwrap();
            // SAFETY: the layout's size is not zero.
            let memory = NonNull::new(unsafe { alloc(layout) }).unwrap();
            // SAFETY: fresh memory of that layout, freed after the last use.
            let counters = unsafe { Zone::new(memory, nr_cpus) };
            counters.set_threshold(threshold);
            Self { counters, memory, layout }
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            // SAFETY: allocated in `new` with that layout; parts have no drop.
            unsafe { dealloc(self.memory.as_ptr(), self.layout) };
        }
    }

    #[test]
    fn a_part_is_carried_over_when_it_exceeds_the_threshold() {
        let f = Fixture::new(2, 10);
        f.counters.add(ITEM, 10);
        assert_eq!((f.counters.get(ITEM), f.counters.exact(ITEM)), (0, 10));
        f.counters.add(ITEM, 1);
        assert_eq!((f.counters.get(ITEM), f.counters.exact(ITEM)), (11, 11));
        assert!(!f.counters.is_pending(CpuId(0)));
        run_as_cpu(CpuId(1), || f.counters.add(ITEM, -10));
        assert_eq!((f.counters.get(ITEM), f.counters.exact(ITEM)), (11, 1));
        assert!(f.counters.is_pending(CpuId(1)));
    }

    #[test]
    fn counting_by_ones_carries_half_a_threshold_more() {
        let f = Fixture::new(1, 10);
        (0..11).for_each(|_| f.counters.inc(ITEM));
        assert_eq!((f.counters.get(ITEM), f.counters.exact(ITEM)), (16, 11));
        // Around the threshold nothing is carried any more.
        (0..4).for_each(|_| {
            f.counters.dec(ITEM);
            f.counters.inc(ITEM);
        });
        assert_eq!((f.counters.get(ITEM), f.counters.exact(ITEM)), (16, 11));
        (0..11).for_each(|_| f.counters.dec(ITEM));
        assert_eq!(f.counters.exact(ITEM), 0);
    }

    #[test]
    fn without_a_threshold_or_a_part_all_changes_are_shared_at_once() {
        let f = Fixture::new(1, 0);
        f.counters.inc(ITEM);
        f.counters.add(ITEM, 5);
        assert_eq!(f.counters.get(ITEM), 6);
        // SAFETY: no CPUs, no memory.
        let none = unsafe { Zone::new(NonNull::dangling(), 0) };
        none.set_threshold(10);
        none.inc(ITEM);
        assert_eq!((none.get(ITEM), none.exact(ITEM), none.fold_dead(CpuId(0))), (1, 1, 0));
    }

    #[test]
    fn folding_leaves_nothing_behind_and_loses_nothing() {
        let f = Fixture::new(2, 100);
        for cpu in [0, 1] {
            run_as_cpu(CpuId(cpu), || {
                f.counters.add(ITEM, 30);
                f.counters.inc(ZoneStat::Bounce);
            });
        }
        assert_eq!(run_as_cpu(CpuId(1), || f.counters.fold_here(&IrqGuard::new())), 2);
        assert_eq!((f.counters.get(ITEM), f.counters.get(ZoneStat::Bounce)), (30, 1));
        assert_eq!(f.counters.fold_dead(CpuId(0)), 2);
        assert_eq!((f.counters.get(ITEM), f.counters.get(ZoneStat::Bounce)), (60, 2));
        assert_eq!(f.counters.fold_dead(CpuId(0)), 0);
    }

    #[test]
    fn deltas_of_cpus_at_once_fold_to_the_exact_sum() {
        const CPUS: u32 = 4;
        const ROUNDS: i64 = 20_000;
        let f = Fixture::new(CPUS, 32);
        let counters = &f.counters;
        std::thread::scope(|scope| {
            for cpu in 0..CPUS {
                scope.spawn(move || {
                    run_as_cpu(CpuId(cpu), || {
                        for round in 0..ROUNDS {
                            counters.inc(ITEM);
                            counters.add(ZoneStat::Bounce, round % 7 - 2);
                            if round % 3 == 0 {
                                counters.dec(ITEM);
                            }
                            if round % 1000 == 0 {
                                counters.fold_here(&IrqGuard::new());
                            }
                        }
                    });
                });
            }
        });
        let cpus = u64::from(CPUS);
        let wanted = [
            (ITEM, cpus * (ROUNDS - (ROUNDS + 2) / 3) as u64),
            (ZoneStat::Bounce, cpus * (0..ROUNDS).map(|round| round % 7 - 2).sum::<i64>() as u64),
        ];
        for (item, value) in wanted {
            assert_eq!(counters.exact(item), value, "{item:?}");
        }
        (0..CPUS).for_each(|cpu| _ = counters.fold_dead(CpuId(cpu)));
        for (item, value) in wanted {
            assert_eq!(counters.get(item), value, "{item:?}, folded");
        }
    }

    #[test]
    fn a_nodes_parts_fit_a_cache_line() {
        assert!(size_of::<Part<{ NodeStat::COUNT }>>() <= 64);
        assert_eq!(PerCpu::<Part<{ NodeStat::COUNT }>>::layout(2).unwrap().size(), 128);
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Add(i64),
        Inc,
        Dec,
        Fold,
        Threshold(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            2 => (-300..300i64).prop_map(Op::Add),
            6 => Just(Op::Inc),
            6 => Just(Op::Dec),
            1 => Just(Op::Fold),
            1 => (0..300u32).prop_map(Op::Threshold),
        ]
    }

    proptest! {
        /// Against Linux's rules, written down naively: the shared value, not only the sum, is equal after each change.
        #[test]
        fn thresholds_are_linuxs(ops in prop::collection::vec((0..3u32, op()), 0..300)) {
            let f = Fixture::new(3, 20);
            let (mut threshold, mut shared, mut parts) = (20i64, 0i64, vec![0i64; 3]);
            for (cpu, op) in ops {
                run_as_cpu(CpuId(cpu), || match op {
                    Op::Add(delta) => f.counters.add(ITEM, delta),
                    Op::Inc => f.counters.inc(ITEM),
                    Op::Dec => f.counters.dec(ITEM),
                    Op::Fold => _ = f.counters.fold_here(&IrqGuard::new()),
                    Op::Threshold(threshold) => f.counters.set_threshold(threshold),
                });
                let part = &mut parts[cpu as usize];
                let mut over = 0;
                match op {
                    Op::Add(delta) => {
                        *part += delta;
                    }
                    Op::Inc => {
                        *part += 1;
                        over = threshold / 2;
                    }
                    Op::Dec => {
                        *part -= 1;
                        over = -(threshold / 2);
                    }
                    Op::Fold => {
                        shared += *part;
                        *part = 0;
                    }
                    Op::Threshold(new) => threshold = i64::from(new.min(125)),
                }
                if !matches!(op, Op::Threshold(_)) && part.abs() > threshold {
                    shared += *part + over;
                    *part = -over;
                }
                prop_assert_eq!(f.counters.get(ITEM), shared.max(0) as u64);
                prop_assert_eq!(f.counters.exact(ITEM), (shared + parts.iter().sum::<i64>()).max(0) as u64);
            }
        }
    }
}
