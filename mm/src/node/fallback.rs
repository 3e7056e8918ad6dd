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

/// The state that lasts from one node's order to the next: `load` and `used` have an entry for each possible node.
#[derive(Debug)]
pub struct FallbackOrder<'a> {
    load: &'a mut [u32],
    used: &'a mut [bool],
}

impl<'a> FallbackOrder<'a> {
    /// Starts with the first node. Both slices are as long as there are possible nodes.
    pub fn new(load: &'a mut [u32], used: &'a mut [bool]) -> Self {
        load.fill(0);
        Self { load, used }
    }

    /// Gives `visit` the nodes that `local` tries, itself first, then those with memory (Linux: `build_zonelists`). To be
    /// called for each node in rising order. Takes time by the square of the number of nodes.
    pub fn build(&mut self, local: NodeId, topology: &impl Topology, mut visit: impl FnMut(NodeId)) {
        self.used.fill(false);
        let mut prev = local;
        let mut next = Some(local);
        while let Some(node) = next {
            self.used[node.index()] = true;
            if topology.distance(local, node) != topology.distance(local, prev) {
                self.load[node.index()] += 1;
            }
            visit(node);
            prev = node;
            next = self.nearest(local, topology);
        }
    }

    fn nearest(&self, local: NodeId, topology: &impl Topology) -> Option<NodeId> {
        (0..self.used.len())
            .map(|n| NodeId(n as u16))
            .filter(|n| !self.used[n.index()] && topology.has_memory(*n))
            .min_by_key(|&n| {
                let further = (n < local) as u64 + topology.has_cpus(n) as u64;
                (topology.distance(local, n) + further) * PENALTY_SCALE + self.load[n.index()] as u64
            })
    }
}
