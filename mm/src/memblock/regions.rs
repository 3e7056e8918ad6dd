//! A sorted array of ranges of memory with a node and flags each.
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
        /// Can be unplugged.
        const HOTPLUG = 0x1;
        /// Mirrored by the hardware.
        const MIRROR = 0x2;
        /// Not in the direct map.
        const NOMAP = 0x4;
        /// Found and managed by a driver.
        const DRIVER_MANAGED = 0x8;
    }
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

    fn insert(&mut self, at: usize, region: Region) {
        self.slots.copy_within(at..self.cnt, at + 1);
        self.slots[at] = region;
        self.cnt += 1;
        self.total_bytes += region.range.len_bytes();
    }

    fn remove(&mut self, at: core::ops::Range<usize>) {
        self.total_bytes -= self.slots[at.clone()].iter().map(|r| r.range.len_bytes()).sum::<u64>();
        self.slots.copy_within(at.end..self.cnt, at.start);
        self.cnt -= at.len();
    }

    /// The parts of `range` that no region covers, each with the index at which it belongs.
    fn gaps(&self, range: PhysRange) -> impl Iterator<Item = (usize, PhysRange)> + '_ {
        let touched = self.touched_by(range);
        let ends = touched.clone().map(|i| self.slots[i].range);
        let starts = core::iter::once(range.start()).chain(ends.clone().map(PhysRange::end));
        let stops = ends.map(PhysRange::start).chain(core::iter::once(range.end()));
        starts.zip(stops).enumerate().filter_map(move |(n, (start, end))| {
            Some((touched.start + n, PhysRange::new(start, end).filter(|r| !r.is_empty())?))
        })
    }

    /// How many regions [`add`](Self::add) would insert.
    pub(super) fn nr_gaps(&self, range: PhysRange) -> usize {
        if range.is_empty() { 0 } else { self.gaps(range).count() }
    }

    /// Covers what is not covered of `range`; what is keeps its node and flags (Linux: `memblock_add_range`).
    pub(super) fn add(&mut self, range: PhysRange, node: Option<NodeId>, flags: Flags) {
        if range.is_empty() {
            return;
        }
        let mut left = range;
        let mut first = None;
        let mut last = 0;
        // One gap at a time, because inserting moves the indices; the rest starts behind the gap that was filled.
        loop {
            let next = self.gaps(left).next();
            let Some((at, gap)) = next else { break };
            self.insert(at, Region { range: gap, node, flags });
            first.get_or_insert(at);
            last = at;
            match PhysRange::new(gap.end(), range.end()).filter(|r| !r.is_empty()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        if let Some(first) = first {
            self.merge(first..last + 1);
        }
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
        let Some(&region) = self.as_slice().get(at) else { return };
        let parts = (PhysRange::new(region.range.start(), addr), PhysRange::new(addr, region.range.end()));
        if let (Some(below), Some(above)) = parts
            && !below.is_empty()
        {
            self.slots[at].range = above;
            self.total_bytes -= below.len_bytes();
            self.insert(at, Region { range: below, ..region });
        }
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

    /// Merges the regions `at` with each other and their neighbours, where I2 asks for it.
    fn merge(&mut self, at: core::ops::Range<usize>) {
        let mut i = at.start.saturating_sub(1);
        let mut end = (at.end + 1).min(self.cnt);
        while i + 1 < end {
            let (this, next) = (self.slots[i], self.slots[i + 1]);
            let same = this.node == next.node && this.flags == next.flags;
            match PhysRange::new(this.range.start(), next.range.end()) {
                Some(both) if same && this.range.end() == next.range.start() => {
                    self.slots[i].range = both;
                    self.slots.copy_within(i + 2..self.cnt, i + 1);
                    self.cnt -= 1;
                    end -= 1;
                }
                _ => i += 1,
            }
        }
    }

    /// Shrinks each region to whole multiples of `align` (Linux: `memblock_trim_memory`).
    pub(super) fn trim(&mut self, align: u64) {
        let mut i = 0;
        while i < self.cnt {
            let range = self.slots[i].range;
            let end = align_down(range.end(), align);
            match align_up(range.start(), align)
                .and_then(|s| PhysRange::new(s, end))
                .filter(|r| !r.is_empty())
            {
                Some(whole) => {
                    self.trimmed_bytes += range.len_bytes() - whole.len_bytes();
                    self.slots[i].range = whole;
                    i += 1;
                }
                None => self.remove(i..i + 1),
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
