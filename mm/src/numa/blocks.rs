//! Ranges of memory with their nodes, as the SRAT gives them, made into ranges that nodes can be built from.
//!
//! # Invariants
//! - I1: the first `nr` slots are in use, none of them is empty.
//! - I2: after a successful `cleanup`, ranges of different nodes do not overlap, and each has memory.

use crate::addr::PhysRange;
use crate::id::{MAX_NUMNODES, NodeId};
use crate::memblock::Memblock;
use crate::numa::mask::NodeMask;
use crate::pfn::{Pfn, PfnRange};

/// A range and its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Block {
    pub(super) range: PhysRange,
    pub(super) node: NodeId,
}

impl Block {
    /// Fills slots that are not in use.
    pub(super) const NOTHING: Self =
        Self { range: crate::memblock::Region::EMPTY.range, node: NodeId::FIRST };
}

/// How many ranges there can be (Linux: `NR_NODE_MEMBLKS`).
pub(super) const MAX_BLOCKS: usize = 2 * MAX_NUMNODES;
/// How much memory may be in no node: firmware loses a few pages here and there.
const SLACK_PAGES: u64 = (1 << 20) / crate::PAGE_SIZE as u64;

/// The ranges (Linux: `struct numa_meminfo`).
#[derive(Debug)]
pub(super) struct Blocks<'s> {
    slots: &'s mut [Block],
    nr: usize,
}

impl<'s> Blocks<'s> {
    pub(super) fn new(slots: &'s mut [Block]) -> Self {
        Self { slots, nr: 0 }
    }

    /// Slots that are all in use; none is empty.
    pub(super) fn full(slots: &'s mut [Block]) -> Self {
        let nr = slots.len();
        Self { slots, nr }
    }

    pub(super) fn as_slice(&self) -> &[Block] {
        &self.slots[..self.nr]
    }

    /// Adds a range; an empty one, or one that wraps, is ignored (Linux: `numa_add_memblk`). `None` when all slots are
    /// in use.
    pub(super) fn add(&mut self, node: NodeId, base: u64, size_bytes: u64) -> Option<()> {
        if size_bytes == 0 {
            return Some(());
        }
        let Some(range) = PhysRange::from_size(base, size_bytes) else {
            let last = base.wrapping_add(size_bytes).wrapping_sub(1);
            log::warn!("Warning: invalid memblk node {node} [mem {base:#010x}-{last:#010x}]");
            return Some(());
        };
        self.push(Block { range, node })
    }

    /// Adds a block. `None` when all slots are in use.
    pub(super) fn push(&mut self, block: Block) -> Option<()> {
        *self.slots.get_mut(self.nr)? = block;
        self.nr += 1;
        Some(())
    }

    /// The first block of a node.
    pub(super) fn first_of(&self, node: NodeId) -> Option<usize> {
        self.as_slice().iter().position(|block| block.node == node)
    }

    /// Takes what is below `end` out of a block; an empty one goes.
    pub(super) fn cut_front(&mut self, i: usize, end: u64) {
        match PhysRange::new(end, self.slots[i].range.end()).filter(|left| !left.is_empty()) {
            Some(left) => self.slots[i].range = left,
            None => self.remove(i),
        }
    }

    fn remove(&mut self, i: usize) {
        self.slots.copy_within(i + 1..self.nr, i);
        self.nr -= 1;
    }

    /// The nodes that have a range.
    pub(super) fn nodes(&self) -> NodeMask {
        let mut nodes = NodeMask::EMPTY;
        self.as_slice().iter().for_each(|b| nodes.insert(b.node));
        nodes
    }

    /// Drops what is no memory, cuts what is above `end_of_ram`, merges (Linux: `numa_cleanup_meminfo`). `None` when
    /// ranges of two nodes overlap; the log says which.
    pub(super) fn cleanup(&mut self, memblock: &Memblock<'_>, end_of_ram: u64) -> Option<()> {
        let mut i = 0;
        while i < self.nr {
            let range = self.slots[i].range;
            let cut = PhysRange::new(range.start(), range.end().min(end_of_ram));
            match cut.filter(|r| !r.is_empty() && memblock.overlaps_memory(range)) {
                Some(range) => {
                    self.slots[i].range = range;
                    i += 1;
                }
                None => self.remove(i),
            }
        }
        let mut i = 0;
        while i < self.nr {
            self.merge_into(i)?;
            i += 1;
        }
        Some(())
    }

    /// Merges later ranges of the node into range `i`, unless memory of another node lies between.
    fn merge_into(&mut self, i: usize) -> Option<()> {
        let mut j = i + 1;
        while j < self.nr {
            let (a, b) = (self.slots[i], self.slots[j]);
            if a.range.overlaps(b.range) {
                if a.node != b.node {
                    log::error!("node {} {} overlaps with node {} {}", a.node, a.range, b.node, b.range);
                    return None;
                }
                log::warn!("Warning: node {} {} overlaps with itself {}", a.node, a.range, b.range);
            }
            match self.joined(a, b) {
                Some(both) => {
                    log::info!("NUMA: Node {} {} + {} -> {both}", a.node, a.range, b.range);
                    self.slots[i].range = both;
                    self.remove(j);
                }
                None => j += 1,
            }
        }
        Some(())
    }

    fn joined(&self, a: Block, b: Block) -> Option<PhysRange> {
        let start = a.range.start().min(b.range.start());
        let both = PhysRange::new(start, a.range.end().max(b.range.end())).filter(|_| a.node == b.node)?;
        let foreign = self.as_slice().iter().any(|c| c.node != a.node && c.range.overlaps(both));
        (!foreign).then_some(both)
    }

    /// Whether the nodes hold all memory below `max_pfn` but for a little; memblock knows the nodes by now (Linux:
    /// `numa_meminfo_cover_memory`).
    pub(super) fn cover(&self, memblock: &Memblock<'_>, max_pfn: Pfn) -> bool {
        let present = |node, within| present_pages(memblock, node, within);
        let blocks = self.as_slice().iter();
        let in_nodes: u64 = blocks
            .map(|b| {
                present(Some(b.node), PfnRange::new(Pfn::down(b.range.start()), Pfn::down(b.range.end())))
            })
            .sum();
        let in_all = present(None, PfnRange::new(Pfn::new(0), max_pfn));
        let covered = in_all.saturating_sub(in_nodes) < SLACK_PAGES;
        if !covered {
            let mib = |pages: u64| (pages * crate::PAGE_SIZE as u64) >> 20;
            let (some, all) = (mib(in_nodes), mib(in_all));
            log::error!("NUMA: nodes only cover {some}MB of your {all}MB e820 RAM. Not used.");
        }
        covered
    }
}

/// Frames of RAM in a range, on a node or on any (Linux: the opposite of `absent_pages_in_range`).
pub(super) fn present_pages(memblock: &Memblock<'_>, node: Option<NodeId>, within: PfnRange) -> u64 {
    memblock.memory_pfn_ranges(node).map(|(frames, _)| frames.intersect(within).nr_pages()).sum()
}
