//! A sorted array of ranges of memory with a node and flags each.
//!
//! ```text
//! before        |==a==|        |==b==|                      add: a and b keep node and flags, gaps are filled,
//! add       |-------------------------------|               and what touches and agrees is merged
//! after     |new|==a==|  new   |==b==|  new |
//! ```
//! Every change finds what it touches by binary search and moves the regions behind once.
//!
//! # Invariants
//! - I1: the first `cnt` slots are in use: sorted, disjoint, not empty.
//! - I2: two that touch differ in node or flags; else they would have been merged.
//! - I3: `total_bytes` is the sum of their sizes plus `trimmed_bytes`.

use crate::addr::{PhysRange, align_down, align_up};
use crate::id::NodeId;

bitflags::bitflags! {
    /// What is special about a range of memory. Bits are Linux's.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Flags: u32 {
        /// Can be unplugged (Linux: `memblock_is_hotpluggable`).
        const HOTPLUG = 0x1;
        /// Mirrored by the hardware (Linux: `memblock_is_mirror`).
        const MIRROR = 0x2;
        /// Not in the direct map (Linux: `memblock_is_nomap`).
        const NOMAP = 0x4;
        /// Found and managed by a driver (Linux: `memblock_is_driver_managed`).
        const DRIVER_MANAGED = 0x8;
    }
}

impl Flags {
    /// Memory with one of these stays out of the page allocator.
    pub const NEVER_GIVEN: Self = Self::NOMAP.union(Self::DRIVER_MANAGED);
}

/// A range of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Where; not empty in an array.
    pub range: PhysRange,
    /// On which node, once that is known.
    pub node: Option<NodeId>,
    /// What is special about it.
    pub flags: Flags,
}

impl Region {
    /// A filler for storage that is handed to [`Memblock::new`](super::Memblock::new).
    pub const EMPTY: Self = Self {
        range: match PhysRange::new(0, 0) {
            Some(r) => r,
            None => unreachable!(),
        },
        node: None,
        flags: Flags::empty(),
    };

    /// What both cover, if they touch and agree in node and flags.
    fn joined_with(&self, next: &Self) -> Option<PhysRange> {
        let agree = self.node == next.node && self.flags == next.flags;
        (agree && self.range.end() == next.range.start())
            .then(|| PhysRange::new(self.range.start(), next.range.end()))?
    }
}

/// The array. Whoever inserts makes sure of the room first: see [`Regions::has_room`].
#[derive(Debug)]
pub(super) struct Regions<'a> {
    slots: &'a mut [Region],
    cnt: usize,
    total_bytes: u64,
    trimmed_bytes: u64,
    /// Where the slots are, when they were allocated from memblock itself.
    pub(super) own: Option<PhysRange>,
}

impl<'a> Regions<'a> {
    pub(super) fn new(slots: &'a mut [Region]) -> Self {
        Self { slots, cnt: 0, total_bytes: 0, trimmed_bytes: 0, own: None }
    }

    pub(super) fn as_slice(&self) -> &[Region] {
        &self.slots[..self.cnt]
    }

    pub(super) fn max(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn has_room(&self, more: usize) -> bool {
        self.slots.len() - self.cnt >= more
    }

    /// Bytes as Linux counts them: what trimming cut off stays counted.
    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(super) fn bytes(&self) -> u64 {
        self.total_bytes - self.trimmed_bytes
    }

    /// Moves the entries to other, larger storage; returns the old one.
    pub(super) fn move_to(&mut self, slots: &'a mut [Region]) -> &'a mut [Region] {
        slots[..self.cnt].copy_from_slice(self.as_slice());
        core::mem::replace(&mut self.slots, slots)
    }

    /// Index of the first region that ends above `addr`.
    fn first_ending_above(&self, addr: u64) -> usize {
        self.as_slice().partition_point(|r| r.range.end() <= addr)
    }

    /// The regions that have a byte of `range`, as indices.
    pub(super) fn touched_by(&self, range: PhysRange) -> core::ops::Range<usize> {
        let start = self.first_ending_above(range.start());
        let end = self.as_slice().partition_point(|r| r.range.start() < range.end());
        start..end.max(start)
    }

    /// The region that holds `addr` (Linux: `memblock_search`).
    pub(super) fn search(&self, addr: u64) -> Option<&Region> {
        self.as_slice().get(self.first_ending_above(addr)).filter(|r| r.range.contains(addr))
    }

    pub(super) fn overlaps(&self, range: PhysRange) -> bool {
        !range.is_empty() && !self.touched_by(range).is_empty()
    }

    /// Whether one region has all of `range`.
    pub(super) fn covers(&self, range: PhysRange) -> bool {
        self.search(range.start()).is_some_and(|r| r.range.end() >= range.end())
    }

    fn remove(&mut self, at: core::ops::Range<usize>) {
        self.total_bytes -= self.slots[at.clone()].iter().map(|r| r.range.len_bytes()).sum::<u64>();
        self.slots.copy_within(at.end..self.cnt, at.start);
        self.cnt -= at.len();
    }

    /// How many regions [`add`](Self::add) would insert: the parts of `range` that no region covers.
    pub(super) fn nr_gaps(&self, range: PhysRange) -> usize {
        let mut covered_to = range.start();
        let mut gaps = 0;
        for region in &self.slots[self.touched_by(range)] {
            gaps += usize::from(covered_to < region.range.start());
            covered_to = region.range.end();
        }
        gaps + usize::from(covered_to < range.end())
    }

    /// Covers what is not covered of `range`; what is keeps its node and flags (Linux: `memblock_add_range`). Moves each
    /// region once, however many gaps there are.
    pub(super) fn add(&mut self, range: PhysRange, node: Option<NodeId>, flags: Flags) {
        let nr_new = self.nr_gaps(range);
        if nr_new == 0 {
            return;
        }
        let touched = self.touched_by(range);
        self.slots.copy_within(touched.end..self.cnt, touched.end + nr_new);
        self.cnt += nr_new;
        // From the top: regions move up by the gaps below them, and each gap goes where they made room.
        let mut slot = touched.end + nr_new;
        let mut uncovered_to = range.end();
        let mut fill = |slots: &mut [Region], slot: &mut usize, start: u64, end: u64| {
            if let Some(gap) = PhysRange::new(start, end).filter(|gap| !gap.is_empty()) {
                *slot -= 1;
                slots[*slot] = Region { range: gap, node, flags };
                self.total_bytes += gap.len_bytes();
            }
        };
        for i in touched.clone().rev() {
            let region = self.slots[i];
            fill(self.slots, &mut slot, region.range.end(), uncovered_to);
            slot -= 1;
            self.slots[slot] = region;
            uncovered_to = region.range.start();
        }
        fill(self.slots, &mut slot, range.start(), uncovered_to);
        debug_assert_eq!(slot, touched.start);
        self.merge(touched.start..touched.end + nr_new);
    }

    /// How many regions [`isolate`](Self::isolate) would insert.
    pub(super) fn nr_cuts(&self, range: PhysRange) -> usize {
        let cut = |addr| self.search(addr).is_some_and(|r| r.range.start() != addr) as usize;
        if range.is_empty() { 0 } else { cut(range.start()) + cut(range.end()) }
    }

    /// Cuts regions at both ends of `range`; returns those inside (Linux: `memblock_isolate_range`).
    pub(super) fn isolate(&mut self, range: PhysRange) -> core::ops::Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        self.cut(range.start());
        self.cut(range.end());
        self.touched_by(range)
    }

    fn cut(&mut self, addr: u64) {
        let at = self.first_ending_above(addr);
        let Some(&region) = self.as_slice().get(at).filter(|r| r.range.start() < addr) else { return };
        let parts = (PhysRange::new(region.range.start(), addr), PhysRange::new(addr, region.range.end()));
        let (Some(below), Some(above)) = parts else { return };
        self.slots.copy_within(at..self.cnt, at + 1);
        self.cnt += 1;
        self.slots[at].range = below;
        self.slots[at + 1].range = above;
    }

    /// Takes `range` out (Linux: `memblock_remove_range`).
    pub(super) fn remove_range(&mut self, range: PhysRange) {
        let inside = self.isolate(range);
        self.remove(inside);
    }

    /// Changes the node or flags of what is in `range`.
    pub(super) fn change(&mut self, range: PhysRange, mut f: impl FnMut(&mut Region)) {
        let inside = self.isolate(range);
        self.slots[inside.clone()].iter_mut().for_each(&mut f);
        self.merge(inside);
    }

    /// Merges the regions `at` with each other and their neighbours, where I2 asks for it. Moves each region once.
    fn merge(&mut self, at: core::ops::Range<usize>) {
        let start = at.start.saturating_sub(1);
        let end = (at.end + 1).min(self.cnt);
        let mut kept = start;
        for i in start + 1..end {
            let (this, next) = (self.slots[kept], self.slots[i]);
            match this.joined_with(&next) {
                Some(both) => self.slots[kept].range = both,
                None => {
                    kept += 1;
                    self.slots[kept] = next;
                }
            }
        }
        if kept + 1 < end {
            self.slots.copy_within(end..self.cnt, kept + 1);
            self.cnt -= end - (kept + 1);
        }
    }

    /// Keeps the regions of which `keep` says so; what touches then is merged.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Region) -> bool) {
        let mut kept = 0;
        for i in 0..self.cnt {
            let region = self.slots[i];
            if keep(&region) {
                self.slots[kept] = region;
                kept += 1;
            } else {
                self.total_bytes -= region.range.len_bytes();
            }
        }
        self.cnt = kept;
        self.merge(0..kept);
    }

    /// Shrinks each region to whole multiples of `align` (Linux: `memblock_trim_memory`).
    pub(super) fn trim(&mut self, align: u64) {
        let whole = |r: PhysRange| PhysRange::new(align_up(r.start(), align)?, align_down(r.end(), align));
        self.retain(|region| whole(region.range).is_some_and(|r| !r.is_empty()));
        for region in &mut self.slots[..self.cnt] {
            if let Some(shrunk) = whole(region.range) {
                self.trimmed_bytes += region.range.len_bytes() - shrunk.len_bytes();
                region.range = shrunk;
            }
        }
    }

    pub(super) fn validate(&self) {
        assert!(self.cnt <= self.slots.len());
        assert!(self.as_slice().iter().all(|r| !r.range.is_empty()), "I1: an empty region");
        for pair in self.as_slice().windows(2) {
            let (a, b) = (pair[0], pair[1]);
            assert!(a.range.end() <= b.range.start(), "I1: {a:?} overlaps {b:?}");
            let differ = a.node != b.node || a.flags != b.flags;
            assert!(differ || a.range.end() < b.range.start(), "I2: {a:?} not merged with {b:?}");
        }
        let sum: u64 = self.as_slice().iter().map(|r| r.range.len_bytes()).sum();
        assert_eq!(self.total_bytes, sum + self.trimmed_bytes, "I3");
    }
}
