//! How often the same thing may be said in the log (Linux: `struct ratelimit_state` with a burst of one).

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Something said at most once in a while, by whichever CPU is first.
#[derive(Debug)]
pub(super) struct RateLimit {
    /// When it was last said, in ticks; 0: never.
    last: AtomicU64,
    /// Ticks that must have passed since; 0 as long as nobody has said how long a tick is: no limit then.
    interval: AtomicU64,
    /// How often it was not said since.
    missed: AtomicU64,
}

impl RateLimit {
    /// Never said, without a limit.
    pub(super) const fn new() -> Self {
        Self { last: AtomicU64::new(0), interval: AtomicU64::new(0), missed: AtomicU64::new(0) }
    }

    /// Sets how many ticks must pass from one time to the next.
    pub(super) fn set_interval(&self, ticks: u64) {
        self.interval.store(ticks, Relaxed);
    }

    /// Whether it may be said at `now`, and how often it was not since the last time; it counts as said then. Clocks of
    /// CPUs may differ: one that is behind has to wait.
    pub(super) fn may_say(&self, now: u64) -> Option<u64> {
        let last = self.last.load(Relaxed);
        let waits = last != 0 && now.saturating_sub(last) < self.interval.load(Relaxed);
        if waits || self.last.compare_exchange(last, now.max(1), Relaxed, Relaxed).is_err() {
            self.missed.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.missed.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_an_interval_is_said_also_by_a_cpu_whose_clock_is_behind() {
        let limit = RateLimit::new();
        assert!(
            limit.may_say(1000) == Some(0) && limit.may_say(1001) == Some(0),
            "no limit without an interval"
        );
        limit.set_interval(100);
        for (now, may) in
            [(1002, None), (990, None), (1100, None), (1101, Some(3)), (1200, None), (1201, Some(1))]
        {
            assert_eq!(limit.may_say(now), may, "at {now}");
        }
    }
}
