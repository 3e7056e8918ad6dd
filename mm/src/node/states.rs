//! Which nodes are in which state.
//!
//! ```text
//! possible  >=  online  >=  has_memory  >=  has_normal_memory
//!                       >=  has_cpu
//!                       >=  has_generic_initiator
//! ```
//!
//! # Invariants
//! - T1: each mask is a part of those that the picture shows to its left; there is a node with memory.

use crate::id::{CpuId, NodeId, ZoneIdx};
use crate::node::{Node, Nodes};
use crate::numa::{NodeMask, Numa};

/// A state that a node can be in (Linux: `enum node_states`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// It could come online.
    Possible,
    /// It has memory, a possible CPU or a generic initiator.
    Online,
    /// It has memory that all can use, not only the owners of movable pages.
    HasNormalMemory,
    /// It has memory.
    HasMemory,
    /// It has a CPU that runs.
    HasCpu,
    /// It has a device that accesses memory by itself.
    HasGenericInitiator,
}

impl NodeState {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// All of them, in Linux's order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Possible,
        Self::Online,
        Self::HasNormalMemory,
        Self::HasMemory,
        Self::HasCpu,
        Self::HasGenericInitiator,
    ];

    /// The name of its file in `/sys/devices/system/node`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Online => "online",
            Self::HasNormalMemory => "has_normal_memory",
            Self::HasMemory => "has_memory",
            Self::HasCpu => "has_cpu",
            Self::HasGenericInitiator => "has_generic_initiator",
        }
    }
}

/// The nodes in each state (Linux: `node_states`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeStates {
    masks: [NodeMask; NodeState::COUNT],
}

impl NodeStates {
    /// The states now, of a machine whose nodes have their zones. `is_online`: which of the possible CPUs run.
    pub fn new(numa: &Numa<'_>, nodes: &Nodes, is_online: impl Fn(CpuId) -> bool) -> Self {
        let with = |state: NodeState| -> NodeMask {
            let in_state = |node: &NodeId| match state {
                NodeState::Possible => numa.possible().contains(*node),
                NodeState::Online => numa.online().contains(*node),
                NodeState::HasNormalMemory => nodes.get(*node).is_some_and(has_normal_memory),
                NodeState::HasMemory => nodes.get(*node).is_some_and(Node::has_memory),
                NodeState::HasCpu => {
                    let mut cpus = (0..numa.nr_cpu_ids()).map(CpuId);
                    cpus.any(|cpu| is_online(cpu) && numa.is_cpu_on(cpu, *node))
                }
                NodeState::HasGenericInitiator => numa.generic_initiators().contains(*node),
            };
            numa.possible().iter().filter(in_state).collect()
        };
        Self { masks: NodeState::ALL.map(with) }
    }

    /// The nodes in a state.
    pub fn get(&self, state: NodeState) -> &NodeMask {
        &self.masks[state as usize]
    }

    /// Panics when the invariant does not hold.
    pub fn validate(&self) {
        let within = |part: NodeState, whole: NodeState| {
            assert!(self.get(part).is_subset(self.get(whole)), "T1: {part:?} in {whole:?}: {self:?}");
        };
        within(NodeState::Online, NodeState::Possible);
        within(NodeState::HasMemory, NodeState::Online);
        within(NodeState::HasNormalMemory, NodeState::HasMemory);
        within(NodeState::HasCpu, NodeState::Online);
        within(NodeState::HasGenericInitiator, NodeState::Online);
        assert!(!self.get(NodeState::HasMemory).is_empty(), "T1: {self:?}");
    }
}

fn has_normal_memory(node: &Node) -> bool {
    node.populated_zones().any(|zone| zone.idx() <= ZoneIdx::Normal)
}
