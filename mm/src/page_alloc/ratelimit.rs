//! How often the same thing may be said in the log (Linux: `struct ratelimit_state` with a burst of one).

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Something said at most once in a while, by whichever CPU is first.
#[derive(Debug)]
pub(super) struct RateLimit {
    /// When it was last said, in ticks; 0: never.
    last: AtomicU64,
    /// Ticks that must have passed since; 0 as long as nobody has said how long a tick is: no limit then.
    interval: AtomicU64,
}

impl RateLimit {
    /// Never said, without a limit.
    pub(super) const fn new() -> Self {
        Self { last: AtomicU64::new(0), interval: AtomicU64::new(0) }
    }

    /// Sets how many ticks must pass from one time to the next.
    pub(super) fn set_interval(&self, ticks: u64) {
        self.interval.store(ticks, Relaxed);
    }

    /// Whether it may be said at `now`; it counts as said then. Clocks of CPUs may differ: one that is behind has to wait.
    pub(super) fn may_say(&self, now: u64) -> bool {
        let last = self.last.load(Relaxed);
        if last != 0 && now.saturating_sub(last) < self.interval.load(Relaxed) {
            return false;
        }
        self.last.compare_exchange(last, now.max(1), Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_an_interval_is_said_also_by_a_cpu_whose_clock_is_behind() {
        let limit = RateLimit::new();
        assert!(limit.may_say(1000) && limit.may_say(1001), "no limit without an interval");
        limit.set_interval(100);
        for (now, may) in
            [(1002, false), (990, false), (1100, false), (1101, true), (1200, false), (1201, true)]
        {
            assert_eq!(limit.may_say(now), may, "at {now}");
        }
    }
}
