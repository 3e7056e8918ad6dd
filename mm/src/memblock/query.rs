//! Questions about memory and reservations; none changes anything.

use super::{Flags, Memblock, Region};
use crate::addr::PhysRange;
use crate::id::NodeId;

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
        self.memory.search(range.start()).is_some_and(|r| r.range.end() >= range.end())
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

    /// The regions of memory, ascending.
    pub fn memory(&self) -> &[Region] {
        self.memory.as_slice()
    }

    /// The reserved regions, ascending.
    pub fn reserved(&self) -> &[Region] {
        self.reserved.as_slice()
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

    /// Where arrays sit that were allocated from memblock itself: to be freed after the hand-over (Linux:
    /// `memblock_discard`).
    pub fn own_arrays(&self) -> impl Iterator<Item = PhysRange> {
        [self.memory.own, self.reserved.own].into_iter().flatten()
    }
}
