//! Walks over memory by node, and over what is free: memory less reserved.
//!
//! The reserved regions leave gaps, numbered from 0: gap `j` ends where region `j` starts. A walk goes over memory and
//! gaps side by side, like a merge; whichever ends first is left behind.

use super::{Flags, Memblock, Region};
use crate::addr::{PHYS_LIMIT, PhysRange};
use crate::id::NodeId;
use crate::pfn::PfnRange;

/// A free range.
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
    pub(super) node: Option<NodeId>,
    /// Only those with all of these flags.
    pub(super) needs: Flags,
    /// Only those with none of these flags.
    pub(super) avoids: Flags,
}

impl Filter {
    fn takes(&self, region: &Region) -> bool {
        self.node.is_none_or(|n| region.node == Some(n))
            && region.flags.contains(self.needs)
            && !region.flags.intersects(self.avoids)
    }
}

#[derive(Clone, Copy, Debug)]
struct View<'m> {
    memory: &'m [Region],
    reserved: &'m [Region],
    filter: Filter,
}

impl View<'_> {
    fn gap(&self, j: usize) -> (u64, u64) {
        let start = if j == 0 { 0 } else { self.reserved[j - 1].range.end() };
        (start, self.reserved.get(j).map_or(PHYS_LIMIT, |r| r.range.start()))
    }

    fn both(&self, region: &Region, gap: (u64, u64)) -> Option<FreeRange> {
        let gap = PhysRange::new(gap.0, gap.1)?;
        let range = region.range.intersect(gap).filter(|_| self.filter.takes(region))?;
        Some(FreeRange { range, node: region.node, flags: region.flags })
    }
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
        while let Some(region) = self.view.memory.get(self.region) {
            let gap = self.view.gap(self.gap);
            if region.range.end() <= gap.1 {
                self.region += 1;
            } else {
                self.gap += 1;
            }
            if let Some(free) = self.view.both(region, gap) {
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
        while let Some(region) = self.region.checked_sub(1).map(|i| &self.view.memory[i]) {
            let gap = self.view.gap(self.gap);
            if region.range.start() >= gap.0 {
                self.region -= 1;
            } else {
                self.gap -= 1;
            }
            if let Some(free) = self.view.both(region, gap) {
                return Some(free);
            }
        }
        None
    }
}

impl Memblock<'_> {
    fn view(&self, filter: Filter) -> View<'_> {
        View { memory: self.memory.as_slice(), reserved: self.reserved.as_slice(), filter }
    }

    pub(super) fn filter_for(&self, node: Option<NodeId>) -> Filter {
        let needs = if self.has_mirror { Flags::MIRROR } else { Flags::empty() };
        Filter { node, needs, avoids: self.avoid }
    }

    pub(super) fn free_up(&self, filter: Filter) -> FreeRangesUp<'_> {
        FreeRangesUp { view: self.view(filter), region: 0, gap: 0 }
    }

    pub(super) fn free_down(&self, filter: Filter) -> FreeRangesDown<'_> {
        let view = self.view(filter);
        FreeRangesDown { view, region: view.memory.len(), gap: view.reserved.len() }
    }

    /// What is free, on `node` or anywhere, lowest first, without memory that is not to be mapped: what the page
    /// allocator is given (Linux: `for_each_free_mem_range` with `MEMBLOCK_NONE`).
    pub fn free_ranges(&self, node: Option<NodeId>) -> FreeRangesUp<'_> {
        self.free_up(Filter { node, needs: Flags::empty(), avoids: Flags::NOMAP | Flags::DRIVER_MANAGED })
    }

    /// The same, highest first.
    pub fn free_ranges_down(&self, node: Option<NodeId>) -> FreeRangesDown<'_> {
        self.free_down(Filter { node, needs: Flags::empty(), avoids: Flags::NOMAP | Flags::DRIVER_MANAGED })
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
