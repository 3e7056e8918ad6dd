//! Allocations that fail on purpose, so that what handles failures is tested (Linux: `fail_page_alloc`,
//! `CONFIG_FAULT_INJECTION`).
//!
//! ```text
//! fail_page_alloc=INTERVAL,PROBABILITY,SPACE,TIMES[,min-order=N][,ignore-gfp-wait=Y|N][,ignore-gfp-highmem=Y|N]
//!   of the allocations that count, once SPACE pages were asked for, each INTERVAL-th fails with PROBABILITY %, at most
//!   TIMES times (-1: always)
//! ```
//! As in Linux, what counts are allocations of `min-order` 1 at least, without `__GFP_NOFAIL`, that may neither wait nor
//! come from high memory. Linux has the last three settings in debugfs; here they follow on the command line. Allocations
//! with `__GFP_NOWARN` fail without a word.
//!
//! # Invariants
//! - F1: an allocator with fault injection has no per-CPU short cut, so that every allocation asks here; one without it
//!   does not know that this exists.

use core::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::arch::{self, IrqGuard};
use crate::gfp::Gfp;
use crate::order::Order;

use super::PageAllocator;
use super::ratelimit::RateLimit;

/// Reports of failures are at least so far apart.
const REPORT_MILLISECONDS: u64 = 1000;

/// Flags whose allocations can be left out.
const IGNORABLE: Gfp = Gfp::DIRECT_RECLAIM.union(Gfp::HIGHMEM);

/// Which allocations fail (Linux: `struct fault_attr`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailSpec {
    /// Each n-th one; 0 and 1: all.
    pub interval: u64,
    /// In percent; 0: none but those that [`PageAllocator::set_fail_nth`] names.
    pub probability: u64,
    /// So many pages are allocated before.
    pub space: i64,
    /// So often; negative: without end.
    pub times: i64,
    /// Smaller blocks do not fail.
    pub min_order: Order,
    /// Allocations with one of these do not fail: `DIRECT_RECLAIM` and `HIGHMEM` can be named.
    pub ignored: Gfp,
}

impl Default for FailSpec {
    /// Nothing fails. What would is as Linux has it.
    fn default() -> Self {
        let min_order = Order::new(1).unwrap_or(Order::ZERO);
        Self { interval: 1, probability: 0, space: 0, times: 1, min_order, ignored: IGNORABLE }
    }
}

/// A text that is no [`FailSpec`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl FailSpec {
    /// What `fail_page_alloc=` says.
    ///
    /// # Errors
    /// [`Malformed`]: fewer than four numbers, something else than numbers, or something unknown behind them.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.split(',').map(str::trim);
        let mut spec = Self {
            interval: number(parts.next())?,
            probability: number(parts.next())?,
            space: number::<i32>(parts.next())?.into(),
            times: number::<i32>(parts.next())?.into(),
            ..Self::default()
        };
        for part in parts {
            match part.split_once('=').ok_or(Malformed)? {
                ("min-order", value) => {
                    spec.min_order = Order::new(number(Some(value))?).ok_or(Malformed)?;
                }
                ("ignore-gfp-wait", value) => spec.ignored.set(Gfp::DIRECT_RECLAIM, switch(value)?),
                ("ignore-gfp-highmem", value) => spec.ignored.set(Gfp::HIGHMEM, switch(value)?),
                _ => return Err(Malformed),
            }
        }
        Ok(spec)
    }
}

fn number<T: core::str::FromStr>(text: Option<&str>) -> Result<T, Malformed> {
    text.and_then(|text| text.parse().ok()).ok_or(Malformed)
}

fn switch(text: &str) -> Result<bool, Malformed> {
    match text {
        "Y" | "y" | "1" => Ok(true),
        "N" | "n" | "0" => Ok(false),
        _ => Err(Malformed),
    }
}

/// What fails, and what is left of it.
#[derive(Debug)]
pub(super) struct FaultInjection {
    interval: AtomicU64,
    probability: AtomicU64,
    space: AtomicI64,
    times: AtomicI64,
    min_order: AtomicU8,
    ignored: AtomicU32,
    count: AtomicU64,
    random: AtomicU64,
    reports: RateLimit,
}

impl FaultInjection {
    fn new(spec: FailSpec) -> Self {
        let this = Self {
            interval: AtomicU64::new(0),
            probability: AtomicU64::new(0),
            space: AtomicI64::new(0),
            times: AtomicI64::new(0),
            min_order: AtomicU8::new(0),
            ignored: AtomicU32::new(0),
            count: AtomicU64::new(0),
            random: AtomicU64::new(arch::ticks() | 1),
            reports: RateLimit::new(),
        };
        this.set(spec);
        this
    }

    fn set(&self, spec: FailSpec) {
        self.interval.store(spec.interval, Relaxed);
        self.probability.store(spec.probability, Relaxed);
        self.space.store(spec.space, Relaxed);
        self.times.store(spec.times, Relaxed);
        self.min_order.store(spec.min_order.get(), Relaxed);
        self.ignored.store(spec.ignored.bits(), Relaxed);
        self.count.store(0, Relaxed);
    }

    /// Whether an allocation is of those that may fail.
    fn counts(&self, gfp: Gfp, order: Order) -> bool {
        let ignored = Gfp::NOFAIL | Gfp::from_bits_truncate(self.ignored.load(Relaxed));
        order.get() >= self.min_order.load(Relaxed) && !gfp.intersects(ignored)
    }

    /// Whether it is this one's turn (Linux: `should_fail_ex`).
    fn is_due(&self, order: Order) -> bool {
        let (probability, size) = (self.probability.load(Relaxed), order.nr_pages() as i64);
        if probability == 0 || self.times.load(Relaxed) == 0 {
            return false;
        }
        if self.space.load(Relaxed) > size {
            self.space.fetch_sub(size, Relaxed);
            return false;
        }
        let interval = self.interval.load(Relaxed);
        if interval > 1 && !(self.count.fetch_add(1, Relaxed) + 1).is_multiple_of(interval) {
            return false;
        }
        self.dice() < probability
    }

    /// 0 to 99 (xorshift64*). CPUs that roll at once may get the same number, which hurts nobody.
    fn dice(&self) -> u64 {
        let mut random = self.random.load(Relaxed);
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        self.random.store(random, Relaxed);
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % 100
    }

    fn use_up_a_time(&self) {
        let _ = self.times.fetch_update(Relaxed, Relaxed, |times| (times > 0).then(|| times - 1));
    }
}

impl PageAllocator {
    /// Makes allocations fail from now on, and every allocation ask whether it does (F1).
    pub fn inject_faults(&mut self, spec: FailSpec, tick_khz: u64) {
        let injection = FaultInjection::new(spec);
        injection.reports.set_interval(tick_khz.saturating_mul(REPORT_MILLISECONDS));
        self.injection = Some(injection);
        self.forget_lists();
    }

    /// Changes what fails, on an allocator with fault injection; whether it is one.
    pub fn set_fail_spec(&self, spec: FailSpec) -> bool {
        self.injection.as_ref().inspect(|injection| injection.set(spec)).is_some()
    }

    /// Makes the `n`-th allocation of this CPU from now on fail that counts, whatever the probability; 0: none (Linux:
    /// `/proc/PID/fail-nth`). Without fault injection nothing fails.
    pub fn set_fail_nth(&self, n: u32) {
        self.with_fail_nth(&IrqGuard::new(), |left| left.set(n));
    }

    /// Whether an allocation fails on purpose (Linux: `should_fail_alloc_page`).
    #[inline(always)]
    pub(super) fn should_fail(&self, gfp: Gfp, order: Order) -> bool {
        match &self.injection {
            None => false,
            Some(injection) => self.fails(injection, gfp, order),
        }
    }

    #[cold]
    fn fails(&self, injection: &FaultInjection, gfp: Gfp, order: Order) -> bool {
        if !injection.counts(gfp, order) {
            return false;
        }
        let nth = self.hooks.context().in_task().then(|| {
            self.with_fail_nth(&IrqGuard::new(), |left| {
                let before = left.get();
                left.set(before.saturating_sub(1));
                before
            })
        });
        let fails = match nth {
            Some(1) => true,
            Some(2..) => false,
            _ => injection.is_due(order),
        };
        if fails {
            if !gfp.contains(Gfp::NOWARN) {
                self.report_injection(injection);
            }
            injection.use_up_a_time();
        }
        fails
    }

    /// Linux: `fail_dump`.
    fn report_injection(&self, injection: &FaultInjection) {
        if injection.reports.may_say(arch::ticks()).is_none() {
            return;
        }
        log::info!("FAULT_INJECTION: forcing a failure.");
        log::info!(
            "name fail_page_alloc, interval {}, probability {}, space {}, times {}",
            injection.interval.load(Relaxed),
            injection.probability.load(Relaxed),
            injection.space.load(Relaxed),
            injection.times.load(Relaxed)
        );
        self.hooks.context().dump_stack();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestMachine;
    use proptest::prelude::*;
    use std::vec::Vec;

    const SMALL: Gfp = Gfp::NOWAIT.union(Gfp::NOWARN);

    fn machine(text: &str) -> TestMachine {
        let mut m = TestMachine::new(64);
        m.pages.inject_faults(FailSpec::parse(text).unwrap(), 0);
        m
    }

    /// Which of so many allocations succeed.
    fn results(m: &TestMachine, gfp: Gfp, order: u8, nr: usize) -> Vec<bool> {
        let order = Order::new(order).unwrap();
        let alloc = |_| m.pages.alloc_pages(gfp, order).map(|block| m.pages.free_pages(block)).is_ok();
        (0..nr).map(alloc).collect()
    }

    #[test]
    fn each_nth_fails_so_many_times_after_so_many_pages() {
        assert_eq!(results(&machine("1,100,0,2"), SMALL, 1, 4), [false, false, true, true]);
        assert_eq!(results(&machine("3,100,0,-1"), SMALL, 1, 6), [true, true, false, true, true, false]);
        // Four pages before: two blocks of two, the second of which leaves two, which is not more than the third's.
        assert_eq!(results(&machine("1,100,6,-1"), SMALL, 1, 4), [true, true, false, false]);
        assert_eq!(results(&machine("1,0,0,-1"), SMALL, 1, 2), [true, true]);
        assert_eq!(results(&machine("1,100,0,0"), SMALL, 1, 2), [true, true]);
    }

    #[test]
    fn some_allocations_do_not_count() {
        let text = "1,100,0,-1";
        assert_eq!(results(&machine(text), SMALL, 0, 2), [true, true]);
        assert_eq!(results(&machine(text), Gfp::KERNEL, 1, 1), [true]);
        assert_eq!(results(&machine(text), SMALL | Gfp::HIGHMEM, 1, 1), [true]);
        assert_eq!(results(&machine(text), SMALL | Gfp::NOFAIL, 1, 1), [true]);
        let all = "1,100,0,-1,min-order=0,ignore-gfp-wait=N,ignore-gfp-highmem=0";
        assert_eq!(results(&machine(all), Gfp::HIGHUSER_MOVABLE | Gfp::NOWARN, 0, 2), [false, false]);
    }

    #[test]
    fn the_nth_of_a_cpu_fails_whatever_the_probability() {
        let m = machine("1,0,0,-1");
        m.pages.set_fail_nth(3);
        assert_eq!(results(&m, SMALL, 1, 5), [true, true, false, true, true]);
        let (result, lines) = crate::testlog::capture(|| {
            m.pages.set_fail_nth(1);
            results(&m, Gfp::NOWAIT, 1, 1)
        });
        assert_eq!(result, [false]);
        assert_eq!(
            lines,
            [
                "FAULT_INJECTION: forcing a failure.",
                "name fail_page_alloc, interval 1, probability 0, space 0, times -1"
            ]
        );
    }

    #[test]
    fn half_of_them_are_about_half() {
        let failed = results(&machine("1,50,0,-1"), SMALL, 1, 1000).iter().filter(|ok| !**ok).count();
        assert!((400..600).contains(&failed), "{failed} of 1000");
    }

    #[test]
    fn what_is_no_specification_is_refused() {
        for text in
            ["", "1", "1,2,3", "1,2,3,x", "1,-2,3,4", "1,2,3,4,5", "1,2,3,4,min-order=11", "1,2,3,4,x=1"]
        {
            assert_eq!(FailSpec::parse(text), Err(Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[-0-9a-z,=YN ]{0,40}") {
            let _ = FailSpec::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(interval: u64, probability in 0u64..=100, space: i32, times: i32, order in 0u8..=10) {
            let text = std::format!("{interval},{probability},{space},{times},min-order={order},ignore-gfp-wait=N");
            let wanted = FailSpec {
                interval, probability, space: space.into(), times: times.into(),
                min_order: Order::new(order).unwrap(), ignored: Gfp::HIGHMEM,
            };
            prop_assert_eq!(FailSpec::parse(&text), Ok(wanted));
        }
    }
}
