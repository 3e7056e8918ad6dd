//! `numa=fake=`: nodes split into emulated ones, to try out on a small machine what a large one does.
//!
//! ```text
//! physical   |        0        |  hole  |        1        |
//! `left`                 [ 0  ]          [      1         ]    what is not given away yet
//! `made`     [0 ][2 ][4  ]               [1 ]                  emulated nodes, taken from the front in turn
//! `physical`  0   0   0                   1                    which physical node each is on
//! ```
//!
//! # Invariants
//! - E1: `made` and `left` together are the physical ranges; none of `made` crosses the end of a physical one.
//! - E2: `physical` has an entry for each emulated node.

use super::blocks::{Block, Blocks, MAX_BLOCKS, present_pages};
use super::mask::NodeMask;
use super::options::{Fake, Split};
use crate::PAGE_SIZE;
use crate::addr::{PhysRange, align_down, align_up};
use crate::id::{MAX_NUMNODES, NodeId};
use crate::memblock::{self, Memblock, OnNode};
use crate::pfn::{Pfn, PfnRange};

/// Sizes of emulated nodes are multiples of this (Linux: `FAKE_NODE_MIN_SIZE`).
const GRAIN: u64 = 32 << 20;
/// Where memory for devices with 32 address bits ends.
const DMA32_END: u64 = 1 << 32;

/// Emulated nodes, in memory of memblock.
#[derive(Debug)]
pub(super) struct Emulated<'a> {
    pub(super) blocks: Blocks<'a>,
    /// The physical node by emulated one; as long as there can be nodes.
    physical: &'a mut [Option<NodeId>],
    /// Where both are.
    pub(super) scratch: [Option<PhysRange>; 2],
}

impl<'a> Emulated<'a> {
    /// Splits `nodes` with their cleaned up ranges. `None` when that cannot be done; the log says why (Linux:
    /// `numa_emulation`).
    pub(super) fn new(
        fake: &Fake<'_>,
        nodes: &NodeMask,
        ranges: &Blocks<'_>,
        memblock: &mut Memblock<'a>,
        end_of_ram: u64,
    ) -> Result<Option<Self>, memblock::Error> {
        // The largest first: where it fits, the others will.
        let made = memblock.alloc_slice(MAX_BLOCKS, Block::NOTHING, OnNode::Any)?;
        let left = memblock.alloc_slice(ranges.as_slice().len(), Block::NOTHING, OnNode::Any)?;
        left.copy_from_slice(ranges.as_slice());
        let physical = memblock.alloc_slice(MAX_NUMNODES, None, OnNode::Any)?;
        let scratch = [memblock.range_of(made), memblock.range_of(physical)];
        let of_left = memblock.range_of(left);
        let (left, made) = (Blocks::full(left), Blocks::new(made));
        let mut splitter = Splitter { memblock, nodes: *nodes, left, made, physical };
        let split = splitter.split(fake.split, end_of_ram);
        let Splitter { made: mut blocks, physical, .. } = splitter;
        let clean = split.and_then(|()| {
            let clean = blocks.cleanup(memblock, end_of_ram);
            if clean.is_none() {
                log::warn!("NUMA: Warning: constructed meminfo invalid, disabling emulation");
            }
            clean
        });
        free_all(of_left, memblock)?;
        if clean.is_none() {
            free_all(scratch.into_iter().flatten(), memblock)?;
            return Ok(None);
        }
        Ok(Some(Self { blocks, physical, scratch }))
    }

    /// One past the highest emulated node that was begun.
    pub(super) fn nr_ids(&self) -> usize {
        self.physical.iter().rposition(Option::is_some).map_or(0, |last| last + 1)
    }

    /// The physical node of an emulated one, that of the first for one that was not made.
    pub(super) fn physical(&self, node: usize) -> NodeId {
        let of_node = self.physical.get(node).copied().flatten();
        of_node.or(self.physical.iter().copied().flatten().next()).unwrap_or(NodeId::FIRST)
    }

    /// The first node emulated on a physical one, node 0 for one without memory.
    pub(super) fn first_on(&self, physical: NodeId) -> NodeId {
        NodeId(self.physical.iter().position(|on| *on == Some(physical)).unwrap_or(0) as u16)
    }
}

fn free_all(
    ranges: impl IntoIterator<Item = PhysRange>,
    memblock: &mut Memblock<'_>,
) -> Result<(), memblock::Error> {
    ranges.into_iter().filter(|range| !range.is_empty()).try_for_each(|range| memblock.free(range))
}

/// Nodes being split.
struct Splitter<'m, 'mb, 's> {
    memblock: &'m Memblock<'mb>,
    /// The physical nodes (Linux: `numa_nodes_parsed`).
    nodes: NodeMask,
    left: Blocks<'s>,
    made: Blocks<'s>,
    physical: &'s mut [Option<NodeId>],
}

/// How large the next emulated node shall be.
#[derive(Clone, Copy)]
struct Size {
    bytes: u64,
    /// So many nodes, from the first on, are a grain larger.
    nr_larger: usize,
    measure: Measure,
}

/// What a node's size is measured by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// RAM: holes do not count.
    Ram,
    /// From its start to its end.
    Span,
}

impl Splitter<'_, '_, '_> {
    /// Splits all nodes; `end_of_ram` is one past the last byte of memory.
    fn split(&mut self, split: Split, end_of_ram: u64) -> Option<()> {
        match split {
            Split::Into(nr) => self.split_evenly(nr, end_of_ram),
            Split::EachInto(nr) => self.split_each(nr),
            Split::Sized(bytes) => self.split_by_size(bytes, end_of_ram),
        }
    }

    /// (Linux: `split_nodes_interleave`.)
    fn split_evenly(&mut self, nr: u64, end_of_ram: u64) -> Option<()> {
        let max = MAX_NUMNODES as u64;
        if nr > max {
            log::info!("numa=fake={nr} too large, reducing to {max}");
        }
        let nr = nr.min(max);
        let pages = self.ram(0, end_of_ram) / PAGE_SIZE as u64 / nr;
        let wanted = pages * PAGE_SIZE as u64;
        // What rounding takes from all is given to the first ones.
        let nr_larger = ((wanted % GRAIN) * nr / GRAIN) as usize;
        let bytes = align_down(wanted, GRAIN);
        if bytes == 0 {
            log::error!("Not enough memory for each node.  NUMA emulation disabled.");
            return None;
        }
        let size = Size { bytes, nr_larger, measure: Measure::Ram };
        self.fill(self.nodes, size, 0, nr as usize).map(drop)
    }

    /// (Linux: `split_nodes_size_interleave`.)
    fn split_by_size(&mut self, bytes: u64, end_of_ram: u64) -> Option<()> {
        // As large as it must be for all memory to fit into the nodes that there can be.
        let pages = self.ram(0, end_of_ram) / PAGE_SIZE as u64 / MAX_NUMNODES as u64;
        let bytes = at_least(bytes, pages)?;
        let size = Size { bytes, nr_larger: 0, measure: Measure::Ram };
        self.fill(self.nodes, size, 0, MAX_NUMNODES).map(drop)
    }

    /// Splits one physical node after the other. Each is measured by its first range.
    fn split_each(&mut self, nr: u64) -> Option<()> {
        let (nodes, mut next) = (self.nodes, 0);
        for node in nodes.iter() {
            // None is left to look at for a node without memory that comes last: it makes none.
            let first = self.left.as_slice().first().copied();
            let pages = first
                .map_or(0, |block| Pfn::down(block.range.end()).get() - Pfn::down(block.range.start()).get());
            let bytes = at_least(pages / nr * PAGE_SIZE as u64, pages / nr)?;
            let size = Size { bytes, nr_larger: 0, measure: Measure::Span };
            let after =
                self.fill(first.map(|block| block.node).into_iter().collect(), size, next, MAX_NUMNODES)?;
            let made = after - next;
            if made > 0 && (made as u64) < nr {
                log::info!("numa_emulation: phys: {node} only got {made} of {nr} nodes, failing");
                return None;
            }
            next = after;
        }
        Some(())
    }

    /// Gives emulated nodes, from `next` on and round at `wrap`, memory of the physical `nodes` in turn until nothing is
    /// left of these. Returns the number after the last one.
    fn fill(&mut self, mut nodes: NodeMask, size: Size, mut next: usize, wrap: usize) -> Option<usize> {
        while !nodes.is_empty() {
            let turn = nodes;
            for node in turn.iter() {
                match self.left.first_of(node) {
                    None => nodes.remove(node),
                    Some(i) => {
                        let end = self.end_of(self.left.as_slice()[i].range, size, next);
                        self.give(NodeId((next % wrap) as u16), i, end)?;
                        next += 1;
                    }
                }
            }
        }
        Some(next)
    }

    /// Where an emulated node ends that starts with `range` and may not leave it.
    fn end_of(&self, range: PhysRange, size: Size, nr: usize) -> u64 {
        let (start, limit) = (range.start(), range.end());
        let more = if nr < size.nr_larger { GRAIN } else { 0 };
        let mut end = start.saturating_add(size.bytes).saturating_add(more);
        while size.measure == Measure::Ram && self.ram(start, end) < size.bytes {
            end = end.saturating_add(GRAIN);
            if end > limit {
                end = limit;
                break;
            }
        }
        // Not a grain of ZONE_DMA32 would be left for the next one: so this one takes the rest.
        if end < DMA32_END && self.ram(end, DMA32_END) < GRAIN {
            end = DMA32_END;
        }
        // The same with the physical range.
        if size.measure == Measure::Ram && end < limit && self.ram(end, limit) < size.bytes {
            end = limit;
        }
        end.min(limit)
    }

    /// (Linux: `emu_setup_memblk`.)
    fn give(&mut self, node: NodeId, i: usize, end: u64) -> Option<()> {
        let from = self.left.as_slice()[i];
        let range = PhysRange::new(from.range.start(), end)?;
        if self.made.push(Block { range, node }).is_none() {
            log::error!("NUMA: Too many emulated memblks, failing emulation");
            return None;
        }
        self.physical.get_mut(node.index())?.get_or_insert(from.node);
        self.left.cut_front(i, end);
        let (start, last, mib) = (range.start(), range.end() - 1, range.len_bytes() >> 20);
        log::info!("Faking node {node} at [mem {start:#018x}-{last:#018x}] ({mib}MB)");
        Some(())
    }

    /// Bytes between two addresses that no hole has; only whole frames are holes (Linux: less `mem_hole_size`).
    fn ram(&self, start: u64, end: u64) -> u64 {
        let frames = PfnRange::new(Pfn::up(start), Pfn::down(end));
        let absent = frames.nr_pages() - present_pages(self.memblock, None, frames);
        (end - start) - absent * PAGE_SIZE as u64
    }
}

/// A size of whole grains, not below that of `min_pages`; none that does not fit 64 bits.
fn at_least(bytes: u64, min_pages: u64) -> Option<u64> {
    let min = align_up((min_pages * PAGE_SIZE as u64).max(GRAIN), GRAIN)?;
    if bytes < min {
        log::error!("Fake node size {}MB too small, increasing to {}MB", bytes >> 20, min >> 20);
    }
    Some(align_down(bytes.max(min), GRAIN))
}
