//! In which order a node's allocations try the other nodes.
//!
//! Nodes in turn, nearest first. A node below the local one counts one further, so equal distances go upward and wrap
//! round; a node with CPUs counts one further, so memory without CPUs of its own is used first. The first node of every
//! group of equal distance gets a penalty that lasts for all later nodes' orders, but decides only between otherwise
//! equal ones: nodes that are equally near spread their overflow over different neighbours.

use crate::id::{MAX_NUMNODES, NodeId};

/// A penalty must never outweigh a distance (Linux: `MAX_NUMNODES` in `find_next_best_node`).
const PENALTY_SCALE: u64 = MAX_NUMNODES as u64;

/// What the order depends on.
pub trait Topology {
    /// Distance from one node to another, 10 to itself.
    fn distance(&self, from: NodeId, to: NodeId) -> u64;
    /// Whether the node has memory.
    fn has_memory(&self, node: NodeId) -> bool;
    /// Whether the node has CPUs that are known already: none has at boot, as in Linux.
    fn has_cpus(&self, node: NodeId) -> bool;
}

/// The state that lasts from one node's order to the next: `load` and `order` have an entry for each possible node.
#[derive(Debug)]
pub struct FallbackOrder<'a> {
    load: &'a mut [u32],
    /// The nodes after the local one, each behind how far it is.
    order: &'a mut [(u64, NodeId)],
}

impl<'a> FallbackOrder<'a> {
    /// Starts with the first node. Both slices are as long as there are possible nodes.
    pub fn new(load: &'a mut [u32], order: &'a mut [(u64, NodeId)]) -> Self {
        load.fill(0);
        Self { load, order }
    }

    /// Gives `visit` the nodes that `local` tries, itself first, then those with memory (Linux: `build_zonelists`). To be
    /// called for each node in rising order. O(n log n) for n nodes.
    pub fn build(&mut self, local: NodeId, topology: &impl Topology, mut visit: impl FnMut(NodeId)) {
        let mut nr = 0;
        let all = (0..self.load.len()).map(|n| NodeId(n as u16));
        for (slot, node) in self.order.iter_mut().zip(all.filter(|&n| n != local && topology.has_memory(n))) {
            let further = (node < local) as u64 + topology.has_cpus(node) as u64;
            let load = self.load[node.index()] as u64;
            *slot = ((topology.distance(local, node) + further) * PENALTY_SCALE + load, node);
            nr += 1;
        }
        // Only nodes that are taken already get more load, so all can be ordered at once.
        self.order[..nr].sort_unstable();
        let mut last_distance = topology.distance(local, local);
        for node in core::iter::once(local).chain(self.order[..nr].iter().map(|&(_, node)| node)) {
            let distance = topology.distance(local, node);
            self.load[node.index()] += u32::from(distance != last_distance);
            last_distance = distance;
            visit(node);
        }
    }
}
