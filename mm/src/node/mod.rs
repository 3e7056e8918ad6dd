//! Nodes: memory that is near to the same CPUs, its zones, and in which order zones are tried.
//!
//! ```text
//! Nodes.table:  [ node 0 | null | node 2 | ... ]      by node number, up to the highest possible one
//!                   |
//!                 Node { zones[5], zonelists: fallback  -> [0:Normal 0:DMA32 0:DMA 2:Normal]
//!                                             this node -> [0:Normal 0:DMA32 0:DMA]          }
//! ```
//!
//! # Invariants
//! - I1: `table` points to `len` words, each null or pointing to a [`Node`]; nodes and the zonelists' entries are boot
//!   memory that lives as long as the machine. Nodes are shared as soon as they are in the table: only atomics and locks
//!   change.
//! - I2: a zonelist holds populated zones only, the nodes in fallback order, each node's zones highest first.
//! - I3: `Zonelist::first[z]` is the first entry whose zone is at most `z`, or the length.
//!
//! # Not here
//! Which memory is on which node: [`crate::numa`].

mod dirty;
mod fallback;
mod log;
mod setup;
mod states;
mod tune;
mod vmstat;
mod zonelist;

#[cfg(test)]
mod tests;

pub use dirty::VM_DIRTY_RATIO;
pub use fallback::{FallbackOrder, Topology};
pub use log::{KernelSizes, memory as log_memory};
pub use setup::{Error, NodeData, NodeMap, OneNode, Setup, ram};
pub use states::{NodeState, NodeStates};
pub use tune::{Cpus, HugePages};
pub use zonelist::{ZoneRef, Zonelist, ZonelistKind};

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::counters::NodeCounters;
use crate::id::{NodeId, ZoneIdx};
use crate::page::Page;
use crate::pfn::{Pfn, PfnRange};
use crate::sparse::Sparse;
use crate::zone::Zone;

/// A node (Linux: `pg_data_t`). Nodes without memory have one too.
#[repr(C)]
pub struct Node {
    zones: [Zone; ZoneIdx::COUNT],
    zonelists: [Zonelist; 2],
    id: NodeId,
    span: PfnRange,
    present: u64,
    counters: NodeCounters,
}

impl Node {
    /// Its number.
    #[inline]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// A zone of it, populated or not.
    #[inline]
    pub fn zone(&self, idx: ZoneIdx) -> &Zone {
        &self.zones[idx.index()]
    }

    /// All its zones, lowest first, the empty ones too.
    pub fn zones(&self) -> &[Zone; ZoneIdx::COUNT] {
        &self.zones
    }

    /// Its zones that have RAM, lowest first.
    pub fn populated_zones(&self) -> impl DoubleEndedIterator<Item = &Zone> {
        self.zones.iter().filter(|z| z.is_populated())
    }

    /// The zones that an allocation on this node tries, in that order (Linux: `node_zonelist`).
    #[inline]
    pub fn zonelist(&self, kind: ZonelistKind) -> &Zonelist {
        &self.zonelists[kind as usize]
    }

    /// First frame, 0 without memory (Linux: `node_start_pfn`).
    pub fn start_pfn(&self) -> Pfn {
        self.span.start
    }

    /// From the first frame of RAM to the last, holes and other nodes' memory between included.
    pub fn span(&self) -> PfnRange {
        self.span
    }

    /// What the node counts (Linux: `node_page_state`).
    #[inline]
    pub fn counters(&self) -> &NodeCounters {
        &self.counters
    }

    /// Pages of RAM (Linux: `node_present_pages`).
    pub fn present(&self) -> u64 {
        self.present
    }

    /// Whether it has RAM (Linux: in `N_MEMORY`).
    pub fn has_memory(&self) -> bool {
        self.present != 0
    }

    /// One past the highest zone that has RAM (Linux: `nr_zones`).
    pub fn nr_zones(&self) -> usize {
        self.zones.iter().rposition(Zone::is_populated).map_or(0, |i| i + 1)
    }
}

impl Node {
    /// Checks the node, its zones and zonelists, but for what only the page allocator knows.
    ///
    /// # Panics
    /// When an invariant does not hold.
    pub fn validate(&self) {
        for (zone, idx) in self.zones.iter().zip(ZoneIdx::ALL) {
            assert_eq!((zone.node(), zone.idx()), (self.id, idx));
            let inside = zone.spanned() == 0 || zone.span().intersect(self.span) == zone.span();
            assert!(inside, "{zone:?} leaves {self:?}");
            zone.validate();
        }
        assert_eq!(
            self.present,
            self.zones.iter().map(Zone::present).sum::<u64>(),
            "present pages of {self:?}"
        );
        for kind in [ZonelistKind::Fallback, ZonelistKind::ThisNode] {
            self.zonelist(kind).validate(kind, self.id);
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.id).field("span", &self.span).finish_non_exhaustive()
    }
}

/// All nodes of a machine: a handle, copied to whoever looks up zones.
#[derive(Clone, Copy, Debug)]
pub struct Nodes {
    table: NonNull<AtomicPtr<Node>>,
    len: usize,
    sparse: Sparse,
}

// SAFETY: what `table` leads to is shared by atomics and locks only (I1).
unsafe impl Send for Nodes {}
// SAFETY: as above.
unsafe impl Sync for Nodes {}

impl Nodes {
    /// One past the highest possible node number (Linux: `nr_node_ids`).
    #[inline]
    pub fn nr_ids(&self) -> usize {
        self.len
    }

    /// The section tables.
    #[inline]
    pub fn sparse(&self) -> &Sparse {
        &self.sparse
    }

    /// The node with that number, when it is online (Linux: `NODE_DATA`).
    #[inline]
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        if id.index() >= self.len {
            return None;
        }
        // SAFETY: inside the table, whose words are null or lead to a node (I1). Acquire: pairs with the release that
        // publishes the node.
        unsafe { (*self.table.as_ptr().add(id.index())).load(Ordering::Acquire).as_ref() }
    }

    /// Online nodes, lowest first (Linux: `for_each_online_pgdat`).
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Node> {
        (0..self.len).filter_map(|id| self.get(NodeId(id as u16)))
    }

    /// Zones that have RAM, node by node, lowest first (Linux: `for_each_populated_zone`).
    pub fn populated_zones(&self) -> impl DoubleEndedIterator<Item = &Zone> {
        self.iter().flat_map(Node::populated_zones)
    }

    /// A node's zones that have RAM, lowest first; none when it is not online.
    pub fn zones_of(&self, id: NodeId) -> impl Iterator<Item = &Zone> {
        self.get(id).into_iter().flat_map(Node::populated_zones)
    }

    /// The zone that a page belongs to (Linux: `page_zone`).
    ///
    /// # Panics
    /// When the page's node is not online: the page is not initialised.
    #[inline]
    pub fn zone_of(&self, page: &Page) -> &Zone {
        let node = self.get(page.node()).expect("a page's node is online");
        node.zone(page.zone())
    }

    /// Checks all nodes, and that every fallback zonelist has every populated zone.
    ///
    /// # Panics
    /// When an invariant does not hold.
    pub fn validate(&self) {
        let zones = self.populated_zones().count();
        for node in self.iter() {
            node.validate();
            assert_eq!(node.zonelist(ZonelistKind::Fallback).entries().len(), zones, "zonelist of {node:?}");
        }
    }
}
