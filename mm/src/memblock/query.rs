//! Questions about memory and reservations; and how memblock ends.

use core::panic::Location;

use super::regions::Regions;
use super::{Direction, Flags, Memblock, NR_ARRAYS, Region};
use crate::addr::PhysRange;
use crate::id::NodeId;
use crate::pfn::{Pfn, PfnRange};

impl Memblock<'_> {
    /// Whether `addr` is memory (Linux: `memblock_is_memory`). O(log n), as all look-ups.
    pub fn is_memory(&self, addr: u64) -> bool {
        self.memory.search(addr).is_some()
    }

    /// Whether `addr` is memory in the direct map (Linux: `memblock_is_map_memory`).
    pub fn is_map_memory(&self, addr: u64) -> bool {
        self.memory.search(addr).is_some_and(|r| !r.flags.contains(Flags::NOMAP))
    }

    /// Whether `addr` is reserved (Linux: `memblock_is_reserved`).
    pub fn is_reserved(&self, addr: u64) -> bool {
        self.reserved.search(addr).is_some()
    }

    /// Whether all of `range` lies in one region of memory (Linux: `memblock_is_region_memory`).
    pub fn is_region_memory(&self, range: PhysRange) -> bool {
        self.memory.covers(range)
    }

    /// Whether a byte of `range` is reserved (Linux: `memblock_is_region_reserved`).
    pub fn is_region_reserved(&self, range: PhysRange) -> bool {
        self.reserved.overlaps(range)
    }

    /// Whether a byte of `range` is memory (Linux: `memblock_overlaps_region` on `memblock.memory`).
    pub fn overlaps_memory(&self, range: PhysRange) -> bool {
        self.memory.overlaps(range)
    }

    /// The node of the memory at `addr`, once it is known (Linux: `memblock_search_pfn_nid`).
    pub fn node_of(&self, addr: u64) -> Option<NodeId> {
        self.memory.search(addr)?.node
    }

    /// The frames of the region of memory that the first byte of frame `pfn` is in, rounded down at both ends, and the
    /// region's node (Linux: `memblock_search_pfn_nid`).
    pub fn search_pfn(&self, pfn: Pfn) -> Option<(PfnRange, Option<NodeId>)> {
        let Region { range, node, .. } = *self.memory.search(pfn.byte())?;
        Some((PfnRange::new(Pfn::down(range.start()), Pfn::down(range.end())), node))
    }

    /// Whether some memory was marked as mirrored, so that allocations prefer it (Linux: `memblock_has_mirror`).
    pub fn has_mirror(&self) -> bool {
        self.has_mirror
    }

    /// Below which address allocations end (Linux: `memblock_get_current_limit`).
    pub fn current_limit(&self) -> u64 {
        self.limit
    }

    /// From where allocations are taken (Linux: `memblock_bottom_up`).
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The regions of memory, ascending.
    pub fn memory(&self) -> &[Region] {
        self.memory.as_slice()
    }

    /// The reserved regions, ascending.
    pub fn reserved(&self) -> &[Region] {
        self.reserved.as_slice()
    }

    /// What the firmware called memory, ascending, whatever limits made of it since; empty unless
    /// [`keep_physmem`](Self::keep_physmem) asked for it (Linux: `physmem`).
    pub fn physmem(&self) -> &[Region] {
        self.physmem.as_ref().map_or(&[], Regions::as_slice)
    }

    /// Bytes of memory, less than Linux's `memblock_phys_mem_size` by what [`trim_memory`](Self::trim_memory) cut off.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Bytes reserved (Linux: `memblock_reserved_size`).
    pub fn reserved_bytes(&self) -> u64 {
        self.reserved.bytes()
    }

    /// First byte of memory, 0 when there is none (Linux: `memblock_start_of_DRAM`).
    pub fn start_of_dram(&self) -> u64 {
        self.memory().first().map_or(0, |r| r.range.start())
    }

    /// One past the last byte of memory, 0 when there is none (Linux: `memblock_end_of_DRAM`).
    pub fn end_of_dram(&self) -> u64 {
        self.memory().last().map_or(0, |r| r.range.end())
    }

    /// Where arrays sit that were allocated from memblock itself. They are reserved.
    pub fn own_arrays(&self) -> impl Iterator<Item = PhysRange> {
        let physmem = self.physmem.as_ref().and_then(|p| p.own);
        [self.memory.own, self.reserved.own, physmem].into_iter().flatten()
    }

    /// Ends memblock, and returns where its arrays were, as far as that is memory which
    /// the page allocator is given: reserved still, but nobody's (Linux:
    /// `memblock_discard`). The caller is to hand them over.
    #[track_caller]
    pub fn discard(self) -> impl Iterator<Item = PhysRange> {
        let caller = Location::caller();
        let mapped = |range| self.memory_in(range).filter(|r| !r.flags.intersects(Flags::NEVER_GIVEN));
        let is_given =
            |range: PhysRange| mapped(range).map(|r| r.range.len_bytes()).sum::<u64>() == range.len_bytes();
        let mut ranges = [None; NR_ARRAYS];
        for (slot, range) in ranges.iter_mut().zip(self.own_arrays().filter(|&r| is_given(r))) {
            self.trace("memblock_free_late", range, caller);
            *slot = Some(range);
        }
        ranges.into_iter().flatten()
    }
}
