//! What a CPU did.

use mm::Order;

/// Operations, and what they came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Operations.
    pub(super) operations: u64,
    /// Blocks allocated, by order.
    pub(super) allocs: [u64; Order::COUNT],
    /// Allocations that failed.
    pub(super) failed: u64,
    /// Pages freed.
    pub(super) pages_freed: u64,
    /// Blocks taken out of another CPU's slots.
    pub(super) handed_over: u64,
    /// Ranges at a given place, and their pages; ranges that could not be had.
    pub(super) ranges: u64,
    pub(super) range_pages: u64,
    pub(super) ranges_failed: u64,
    /// Blocks split in pages.
    pub(super) splits: u64,
    /// Blocks that had a second user.
    pub(super) shared: u64,
    /// Calls to give back what lists hold.
    pub(super) drains: u64,
    /// Allocations in another CPU's interrupts.
    pub(super) interrupts: u64,
}

impl Tally {
    /// Pages allocated as blocks.
    pub(super) fn pages_allocated(&self) -> u64 {
        self.allocs.iter().enumerate().map(|(order, nr)| nr << order).sum()
    }

    /// Adds another CPU's.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, nr) in self.allocs.iter_mut().zip(other.allocs) {
            *sum += nr;
        }
        self.operations += other.operations;
        self.failed += other.failed;
        self.pages_freed += other.pages_freed;
        self.handed_over += other.handed_over;
        self.ranges += other.ranges;
        self.range_pages += other.range_pages;
        self.ranges_failed += other.ranges_failed;
        self.splits += other.splits;
        self.shared += other.shared;
        self.drains += other.drains;
        self.interrupts += other.interrupts;
    }
}
