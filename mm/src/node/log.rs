//! What boot logs of nodes and zones, in Linux's words.

use core::fmt;

use super::{Node, Nodes, ZonelistKind};
use crate::id::{NodeId, ZoneIdx};
use crate::order::PAGEBLOCK_NR_PAGES;
use crate::pfn::{Pfn, PfnRange};
use crate::zone::{NodeRam, Span, ZoneLimits, estimated_managed};

/// `[mem 0x0000000000001000-0x0000000000ffffff]`: all digits, as Linux prints zones.
struct Wide(PfnRange);

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[mem {:#018x}-{:#018x}]", self.0.start.byte(), self.0.end.byte().wrapping_sub(1))
    }
}

/// How many migratetypes Debian's Linux has, which is built without contiguous-memory areas: with fewer pageblocks pages
/// are not grouped by type.
const GROUPED_TYPES: u64 = 5;

pub(super) fn zone_ranges(limits: &ZoneLimits, movable: &[Option<Pfn>], ram: impl Iterator<Item = NodeRam>) {
    log::info!("Zone ranges:");
    for zone in ZoneIdx::ALL.into_iter().filter(|z| *z != ZoneIdx::Movable) {
        match limits.get(zone) {
            range if range.is_empty() => log::info!("  {:<8} empty", zone.name()),
            range => log::info!("  {:<8} {}", zone.name(), Wide(range)),
        }
    }
    log::info!("Movable zone start for each node");
    for (node, start) in movable.iter().enumerate() {
        if let Some(start) = start {
            log::info!("  Node {node}: {:#018x}", start.byte());
        }
    }
    log::info!("Early memory node ranges");
    for range in ram {
        log::info!("  node {:3}: {}", range.node, Wide(range.pages));
    }
}

pub(super) fn initmem(node: NodeId, span: PfnRange) {
    if span.is_empty() {
        log::info!("Initializing node {node} as memoryless");
        log::info!("Initmem setup node {node} as memoryless");
    } else {
        log::info!("Initmem setup node {node} {}", Wide(span));
    }
}

/// A node's fallback order, read back from its zonelist.
struct Order<'a>(&'a Node);

impl fmt::Display for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.id();
        write!(f, "{last} ")?;
        for entry in self.0.zonelist(ZonelistKind::Fallback).entries() {
            if entry.node() != last {
                last = entry.node();
                write!(f, "{last} ")?;
            }
        }
        Ok(())
    }
}

/// `online`: how many nodes are.
pub(super) fn zonelists(nodes: &Nodes, online: usize, dma_reserved: u64) {
    let zones = || nodes.populated_zones();
    let total: u64 = zones()
        .map(|z| estimated_managed(z.idx(), Span { pages: z.span(), present: z.present() }, dma_reserved))
        .sum();
    for node in nodes.iter() {
        log::info!("Fallback order for Node {}: {}", node.id(), Order(node));
    }
    // With less than a pageblock of each type, grouping would only waste memory.
    let grouping = if total < PAGEBLOCK_NR_PAGES * GROUPED_TYPES { "off" } else { "on" };
    log::info!("Built {online} zonelists, mobility grouping {grouping}.  Total pages: {total}");
    if let Some(zone) = zones().map(|z| z.idx()).filter(|z| *z != ZoneIdx::Movable).max() {
        log::info!("Policy zone: {}", zone.name());
    }
}

/// The zones that an allocation up to `highest` tries.
struct Tried<'a>(&'a Node, ZonelistKind, ZoneIdx);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut zones = self.0.zonelist(self.1).zones(self.2);
        zones.try_for_each(|zone| write!(f, "{}:{} ", zone.node(), zone.idx().name()))
    }
}

impl Nodes {
    /// Logs what allocations of each zone of each node try (Linux: `mminit_verify_zonelist`).
    pub fn log_zonelists(&self) {
        for node in self.iter() {
            for (kind, name) in [(ZonelistKind::Fallback, "general"), (ZonelistKind::ThisNode, "thisnode")] {
                for zone in node.populated_zones().map(|z| z.idx()) {
                    let tried = Tried(node, kind, zone);
                    log::debug!("mminit::zonelist {name} {}:{} = {tried}", node.id(), zone.name());
                }
            }
        }
    }
}

/// Sizes of the kernel image's parts, in bytes, for [`memory`].
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelSizes {
    /// Code.
    pub code: u64,
    /// Writable data.
    pub rwdata: u64,
    /// Constants.
    pub rodata: u64,
    /// What is given back after boot.
    pub init: u64,
    /// Zeroed data.
    pub bss: u64,
    /// Set aside for a contiguous-memory area, which is not activated yet.
    pub cma: u64,
}

/// Logs how much memory there is (Linux: `mem_init_print_info`), after the hand-over.
pub fn memory(nodes: &Nodes, kernel: KernelSizes) {
    let kib = |pages: u64| pages * (crate::PAGE_SIZE as u64 >> 10);
    let present: u64 = nodes.populated_zones().map(|z| z.present()).sum();
    let managed: u64 = nodes.populated_zones().map(|z| z.managed()).sum();
    let free: u64 = nodes.populated_zones().map(|z| z.nr_free()).sum();
    log::info!(
        "Memory: {}K/{}K available ({}K kernel code, {}K rwdata, {}K rodata, {}K init, {}K bss, {}K reserved, {}K cma-reserved)",
        kib(free),
        kib(present),
        kernel.code >> 10,
        kernel.rwdata >> 10,
        kernel.rodata >> 10,
        kernel.init >> 10,
        kernel.bss >> 10,
        kib(present - managed).saturating_sub(kernel.cma >> 10),
        kernel.cma >> 10
    );
}
