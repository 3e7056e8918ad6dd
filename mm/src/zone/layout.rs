//! Which frames each zone of each node spans, from where RAM is.
//!
//! ```text
//! frame   first RAM    16 MiB      4 GiB        last RAM
//!           |--- DMA ---|-- DMA32 --|-- Normal --|           limits: fixed borders, cut to the RAM of all nodes
//! node 0    |======================|                         its span: first to last RAM, holes included
//! node 1                  |=====================|
//!                              |=== Movable ====|            from where kernelcore= and its like say, to the node's end
//! ```
//!
//! A zone of a node spans the node's part of the limits; what of it is RAM is present.

use super::Span;
use crate::id::{NodeId, ZoneIdx};
use crate::pfn::{Pfn, PfnRange};
use crate::{PAGE_SIZE, page::Page};

/// A range of RAM and its node. Lists of them are in address order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeRam {
    /// The node.
    pub node: NodeId,
    /// Whole frames of RAM.
    pub pages: PfnRange,
}

/// One past the last frame of 24-bit devices (Linux: `MAX_DMA_PFN`).
pub const MAX_DMA_PFN: Pfn = Pfn::new(1 << (24 - crate::PAGE_SHIFT));
/// One past the last frame of 32-bit devices (Linux: `MAX_DMA32_PFN`).
pub const MAX_DMA32_PFN: Pfn = Pfn::new(1 << (32 - crate::PAGE_SHIFT));

/// Where zones begin and end, for all nodes (Linux: `arch_zone_lowest_possible_pfn`, `..._highest_...`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneLimits([PfnRange; ZoneIdx::COUNT]);

impl ZoneLimits {
    /// The limits for that RAM, `None` when there is none.
    pub fn new(ram: impl Iterator<Item = NodeRam> + Clone) -> Option<Self> {
        let first = ram.clone().map(|r| r.pages.start).min()?;
        let last = ram.map(|r| r.pages.end).max()?;
        let mut limits = [PfnRange::default(); ZoneIdx::COUNT];
        let mut start = first;
        for (zone, border) in
            [(ZoneIdx::Dma, MAX_DMA_PFN), (ZoneIdx::Dma32, MAX_DMA32_PFN), (ZoneIdx::Normal, last)]
        {
            let end = border.min(last).max(start);
            limits[zone.index()] = PfnRange::new(start, end);
            start = end;
        }
        Some(Self(limits))
    }

    /// A zone's limits; empty for `Movable`, which each node has its own of, and `Device`.
    pub fn get(&self, zone: ZoneIdx) -> PfnRange {
        self.0[zone.index()]
    }

    /// The highest zone that is not empty: the one that `Movable` is carved from.
    pub fn highest(&self) -> ZoneIdx {
        ZoneIdx::ALL.into_iter().rfind(|z| !self.get(*z).is_empty()).unwrap_or(ZoneIdx::Dma)
    }

    /// Span and present pages of a zone of a node (Linux: `zone_spanned_pages_in_node`, `zone_absent_pages_in_node`).
    /// `movable` is where the node's movable zone begins. Takes time by the number of RAM ranges.
    pub fn zone_span(
        &self,
        ram: impl Iterator<Item = NodeRam> + Clone,
        node: NodeId,
        zone: ZoneIdx,
        movable: Option<Pfn>,
    ) -> Span {
        let node_span = node_span(ram.clone(), node);
        let pages = match (zone, movable) {
            (ZoneIdx::Movable, None) | (ZoneIdx::Device, _) => PfnRange::default(),
            (ZoneIdx::Movable, Some(from)) => {
                PfnRange::new(from, node_span.end.min(self.get(self.highest()).end))
            }
            (_, from) => {
                let pages = self.get(zone).intersect(node_span);
                match from {
                    Some(from) => PfnRange::new(pages.start, pages.end.min(from)),
                    None => pages,
                }
            }
        };
        if pages.is_empty() {
            return Span::default();
        }
        let own = ram.filter(|r| r.node == node);
        Span { pages, present: own.map(|r| r.pages.intersect(pages).nr_pages()).sum() }
    }
}

/// From a node's first RAM to its last, `0..0` without any (Linux: `get_pfn_range_for_nid`).
pub fn node_span(ram: impl Iterator<Item = NodeRam>, node: NodeId) -> PfnRange {
    ram.filter(|r| r.node == node)
        .map(|r| r.pages)
        .reduce(|a, b| PfnRange::new(a.start.min(b.start), a.end.max(b.end)))
        .unwrap_or_default()
}

/// What a zone is taken to manage before anything is handed over: its RAM less its own struct pages, and for the DMA zone
/// less what boot has reserved below 16 MiB by then. The sum over zones is what the zonelists' line in the boot log says.
/// (Linux: `calc_memmap_size`, `free_area_init_core`.)
pub fn estimated_managed(zone: ZoneIdx, span: Span, dma_reserved: u64) -> u64 {
    let spanned = span.pages.nr_pages();
    // Nearly no holes: the struct pages of all of the span; else the holes are likely to have none.
    let described = if spanned > span.present + (span.present >> 4) { span.present } else { spanned };
    let memmap = (described * size_of::<Page>() as u64).div_ceil(PAGE_SIZE as u64);
    let left = span.present.checked_sub(memmap).unwrap_or(span.present);
    match zone {
        ZoneIdx::Dma if left > dma_reserved => left - dma_reserved,
        _ => left,
    }
}
