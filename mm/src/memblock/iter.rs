//! Walks over memory by node and flags, and over what is free: memory less reserved.
//!
//! ```text
//! memory     |=======|      |==========|  |====|
//! reserved       |r0|          |r1|
//! gaps       0---|  |1---------|  |2------------...        gap j ends where region j starts
//! ```
//! A walk goes over memory and gaps side by side, like a merge; whichever ends first is left behind. What lies outside of
//! a window, or under memory that is not asked for, is skipped by binary search.

use super::{ALL, Flags, Memblock, Region};
use crate::addr::{PHYS_LIMIT, PhysRange};
use crate::id::NodeId;
use crate::pfn::PfnRange;

/// A free range: what lies in one region of memory and between two reserved ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeRange {
    /// Where.
    pub range: PhysRange,
    /// The node of the memory.
    pub node: Option<NodeId>,
    /// The flags of the memory.
    pub flags: Flags,
}

/// Which regions of memory a walk looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    /// Only those of this node.
    node: Option<NodeId>,
    /// Only those with all of these flags.
    needs: Flags,
    /// Only those with none of these flags.
    avoids: Flags,
}

impl Filter {
    const ALL: Self = Self { node: None, needs: Flags::empty(), avoids: Flags::empty() };

    fn takes(&self, region: &Region) -> bool {
        self.node.is_none_or(|n| region.node == Some(n))
            && region.flags.contains(self.needs)
            && !region.flags.intersects(self.avoids)
    }
}

#[derive(Clone, Copy, Debug)]
struct View<'m> {
    memory: &'m [Region],
    taken: &'m [Region],
    filter: Filter,
    window: PhysRange,
}

impl<'m> View<'m> {
    /// The part of a region that the walk looks at.
    fn part(&self, region: &Region) -> Option<PhysRange> {
        region.range.intersect(self.window).filter(|_| self.filter.takes(region))
    }

    fn gap(&self, j: usize) -> (u64, u64) {
        let start = if j == 0 { 0 } else { self.taken[j - 1].range.end() };
        (start, self.taken.get(j).map_or(PHYS_LIMIT, |r| r.range.start()))
    }

    fn up(self) -> FreeRangesUp<'m> {
        let region = self.memory.partition_point(|r| r.range.end() <= self.window.start());
        FreeRangesUp { view: self, region, gap: 0 }
    }

    fn down(self) -> FreeRangesDown<'m> {
        let region = self.memory.partition_point(|r| r.range.start() < self.window.end());
        FreeRangesDown { view: self, region, gap: self.taken.len() }
    }
}

fn both(region: &Region, part: PhysRange, gap: (u64, u64)) -> Option<FreeRange> {
    let range = part.intersect(PhysRange::new(gap.0, gap.1)?)?;
    Some(FreeRange { range, node: region.node, flags: region.flags })
}

/// Free ranges, lowest first (Linux: `for_each_free_mem_range`).
#[derive(Clone, Debug)]
pub struct FreeRangesUp<'m> {
    view: View<'m>,
    region: usize,
    gap: usize,
}

impl Iterator for FreeRangesUp<'_> {
    type Item = FreeRange;

    fn next(&mut self) -> Option<FreeRange> {
        let View { memory, taken, window, .. } = self.view;
        while let Some(region) = memory.get(self.region).filter(|r| r.range.start() < window.end()) {
            let Some(part) = self.view.part(region) else {
                self.region += 1;
                continue;
            };
            if self.view.gap(self.gap).1 <= part.start() {
                self.gap = taken.partition_point(|r| r.range.start() <= part.start());
            }
            let gap = self.view.gap(self.gap);
            if part.end() <= gap.1 {
                self.region += 1;
            } else {
                self.gap += 1;
            }
            if let Some(free) = both(region, part, gap) {
                return Some(free);
            }
        }
        None
    }
}

/// Free ranges, highest first (Linux: `for_each_free_mem_range_reverse`).
#[derive(Clone, Debug)]
pub struct FreeRangesDown<'m> {
    view: View<'m>,
    /// One past the region that is next.
    region: usize,
    gap: usize,
}

impl Iterator for FreeRangesDown<'_> {
    type Item = FreeRange;

    fn next(&mut self) -> Option<FreeRange> {
        let View { memory, taken, window, .. } = self.view;
        while let Some(region) = memory[..self.region].last().filter(|r| r.range.end() > window.start()) {
            let Some(part) = self.view.part(region) else {
                self.region -= 1;
                continue;
            };
            if self.view.gap(self.gap).0 >= part.end() {
                self.gap = taken.partition_point(|r| r.range.end() < part.end());
            }
            let gap = self.view.gap(self.gap);
            if part.start() >= gap.0 {
                self.region -= 1;
            } else {
                self.gap -= 1;
            }
            if let Some(free) = both(region, part, gap) {
                return Some(free);
            }
        }
        None
    }
}

impl Memblock<'_> {
    /// What a walk with Linux's `flags` looks at: only mirrored memory if they say so; memory that is not mapped, a
    /// driver's, or pluggable when that is to be avoided, only if they say so.
    pub(super) fn filter(&self, node: Option<NodeId>, flags: Flags) -> Filter {
        Filter { node, needs: flags & Flags::MIRROR, avoids: self.avoid - flags }
    }

    fn view(&self, filter: Filter, window: PhysRange) -> View<'_> {
        View { memory: self.memory.as_slice(), taken: self.reserved.as_slice(), filter, window }
    }

    pub(super) fn free_up(&self, filter: Filter, window: PhysRange) -> FreeRangesUp<'_> {
        self.view(filter, window).up()
    }

    pub(super) fn free_down(&self, filter: Filter, window: PhysRange) -> FreeRangesDown<'_> {
        self.view(filter, window).down()
    }

    /// What is free, on `node` or anywhere, lowest first, of the memory that Linux's `flags` admit (Linux:
    /// `for_each_free_mem_range`): [`MIRROR`](Flags::MIRROR) only mirrored memory;
    /// [`NOMAP`](Flags::NOMAP), [`DRIVER_MANAGED`](Flags::DRIVER_MANAGED) such memory, too; and
    /// [`HOTPLUG`](Flags::HOTPLUG) pluggable memory, even after [`avoid_hotplug`](Self::avoid_hotplug).
    pub fn free_ranges_with(&self, node: Option<NodeId>, flags: Flags) -> FreeRangesUp<'_> {
        self.free_up(self.filter(node, flags), ALL)
    }

    /// The same, highest first (Linux: `for_each_free_mem_range_reverse`).
    pub fn free_ranges_down_with(&self, node: Option<NodeId>, flags: Flags) -> FreeRangesDown<'_> {
        self.free_down(self.filter(node, flags), ALL)
    }

    /// What the page allocator is given: all that is free, on `node` or anywhere, lowest first, but what is not to be
    /// mapped.
    pub fn free_ranges(&self, node: Option<NodeId>) -> FreeRangesUp<'_> {
        self.free_ranges_with(node, Flags::HOTPLUG)
    }

    /// The same, highest first.
    pub fn free_ranges_down(&self, node: Option<NodeId>) -> FreeRangesDown<'_> {
        self.free_ranges_down_with(node, Flags::HOTPLUG)
    }

    /// Memory, reserved or not, on `node` or anywhere, that `flags` admit, as
    /// [`free_ranges_with`](Self::free_ranges_with) has it (Linux: `__for_each_mem_range`; reversed,
    /// `for_each_mem_range_rev`).
    pub fn memory_ranges(
        &self,
        node: Option<NodeId>,
        flags: Flags,
    ) -> impl DoubleEndedIterator<Item = Region> + Clone + '_ {
        let filter = self.filter(node, flags);
        self.memory().iter().filter(move |r| filter.takes(r)).copied()
    }

    /// The reserved ranges of `node`, or all (Linux: `for_each_reserved_mem_range`).
    pub fn reserved_ranges(
        &self,
        node: Option<NodeId>,
    ) -> impl DoubleEndedIterator<Item = Region> + Clone + '_ {
        let filter = Filter { node, ..Filter::ALL };
        self.reserved().iter().filter(move |r| filter.takes(r)).copied()
    }

    /// What the firmware called memory and is in none of `taken`, ascending: of [`memory`](Self::memory) for what limits
    /// cut off, of [`reserved`](Self::reserved), or of nothing (Linux: `for_each_physmem_range`).
    pub fn physmem_ranges<'m>(&'m self, taken: &'m [Region]) -> FreeRangesUp<'m> {
        View { memory: self.physmem(), taken, filter: Filter::ALL, window: ALL }.up()
    }

    /// The whole frames of each region of memory on `node`, or of all, with the region's node, lowest first (Linux:
    /// `for_each_mem_pfn_range`).
    pub fn memory_pfn_ranges(
        &self,
        node: Option<NodeId>,
    ) -> impl DoubleEndedIterator<Item = (PfnRange, Option<NodeId>)> + Clone + '_ {
        let wanted = self.memory().iter().filter(move |r| node.is_none_or(|n| r.node == Some(n)));
        wanted.map(|r| (PfnRange::inside(r.range), r.node)).filter(|(frames, _)| !frames.is_empty())
    }

    /// The parts of `range` that are memory, lowest first.
    pub fn memory_in(&self, range: PhysRange) -> impl DoubleEndedIterator<Item = Region> + '_ {
        let touched = self.memory.touched_by(range);
        self.memory()[touched]
            .iter()
            .filter_map(move |r| Some(Region { range: r.range.intersect(range)?, ..*r }))
    }

    /// Frames in `range` that are not memory (Linux: `absent_pages_in_range`).
    pub fn absent_pages_in(&self, range: PfnRange) -> u64 {
        let present = self.memory_pfn_ranges(None).map(|(frames, _)| frames.intersect(range).nr_pages());
        range.nr_pages() - present.sum::<u64>()
    }
}
