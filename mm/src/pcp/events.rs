//! What each CPU did with each zone, counted so that a fast path costs one counter.
//!
//! # Invariants
//! - E1: only the CPU of the slot changes its counters, with interrupts off, so no counting is lost without atomic
//!   read-modify-writes; others read them at any time.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::order::Order;

/// Orders, and some more, so that an order is a mask away from being inside.
const SLOTS: usize = Order::COUNT.next_power_of_two();

/// One CPU's events with one zone. All of `/proc/vmstat`'s page-allocator events follow from these.
#[derive(Debug, Default)]
pub struct Events {
    allocs: [AtomicU64; SLOTS],
    frees: [AtomicU64; SLOTS],
    numa_miss: AtomicU64,
    numa_foreign: AtomicU64,
    numa_interleave: AtomicU64,
}

#[inline(always)]
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

impl Events {
    pub(super) const fn new() -> Self {
        Self {
            allocs: [const { AtomicU64::new(0) }; SLOTS],
            frees: [const { AtomicU64::new(0) }; SLOTS],
            numa_miss: AtomicU64::new(0),
            numa_foreign: AtomicU64::new(0),
            numa_interleave: AtomicU64::new(0),
        }
    }

    /// A block of `order` was allocated.
    #[inline(always)]
    pub(crate) fn allocated(&self, order: Order) {
        bump(&self.allocs[order.index() % SLOTS]);
    }

    /// So many blocks of `order` were allocated.
    #[inline]
    pub(crate) fn allocated_many(&self, order: Order, nr: u32) {
        let counter = &self.allocs[order.index() % SLOTS];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(u64::from(nr)), Ordering::Relaxed);
    }

    /// A block of `order` was freed.
    #[inline(always)]
    pub(crate) fn freed(&self, order: Order) {
        bump(&self.frees[order.index() % SLOTS]);
    }

    /// The allocation wanted another node.
    pub(crate) fn missed(&self) {
        bump(&self.numa_miss);
    }

    /// An allocation that wanted this zone got one of another node.
    pub(crate) fn went_abroad(&self) {
        bump(&self.numa_foreign);
    }

    /// An interleaved allocation got this node as wanted.
    pub(crate) fn interleaved(&self) {
        bump(&self.numa_interleave);
    }

    /// The numbers as they are now. `numa_other` is 0: whose CPU this is is not known here.
    pub fn counts(&self) -> EventCounts {
        let read = |counters: &[AtomicU64; SLOTS]| {
            core::array::from_fn(|order| counters[order].load(Ordering::Relaxed))
        };
        EventCounts {
            allocs: read(&self.allocs),
            frees: read(&self.frees),
            numa_miss: self.numa_miss.load(Ordering::Relaxed),
            numa_foreign: self.numa_foreign.load(Ordering::Relaxed),
            numa_interleave: self.numa_interleave.load(Ordering::Relaxed),
            numa_other: 0,
        }
    }
}

/// Events of one or more CPUs with one or more zones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventCounts {
    /// Allocations from the zone, by order.
    pub allocs: [u64; Order::COUNT],
    /// Frees to the zone, by order.
    pub frees: [u64; Order::COUNT],
    /// Allocations from here that wanted another node (Linux: `numa_miss`).
    pub numa_miss: u64,
    /// Allocations that wanted this zone but got another node's (Linux: `numa_foreign`).
    pub numa_foreign: u64,
    /// Interleaved allocations that got this node as wanted (Linux: `numa_interleave`).
    pub numa_interleave: u64,
    /// Allocations from here by CPUs of other nodes (Linux: `numa_other`).
    pub numa_other: u64,
}

impl EventCounts {
    /// Allocations of any order.
    pub fn nr_allocs(&self) -> u64 {
        self.allocs.iter().sum()
    }

    /// Allocations that got the node they wanted (Linux: `numa_hit`).
    pub fn numa_hit(&self) -> u64 {
        self.nr_allocs().saturating_sub(self.numa_miss)
    }

    /// Allocations by CPUs of the zone's own node (Linux: `numa_local`).
    pub fn numa_local(&self) -> u64 {
        self.nr_allocs().saturating_sub(self.numa_other)
    }

    /// Pages allocated (Linux: `pgalloc_ZONE`).
    pub fn pages_allocated(&self) -> u64 {
        self.allocs.iter().enumerate().map(|(order, n)| n << order).sum()
    }

    /// Pages freed (Linux: `pgfree`).
    pub fn pages_freed(&self) -> u64 {
        self.frees.iter().enumerate().map(|(order, n)| n << order).sum()
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for order in 0..Order::COUNT {
            self.allocs[order] += other.allocs[order];
            self.frees[order] += other.frees[order];
        }
        self.numa_miss += other.numa_miss;
        self.numa_foreign += other.numa_foreign;
        self.numa_interleave += other.numa_interleave;
        self.numa_other += other.numa_other;
    }
}
