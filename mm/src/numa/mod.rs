//! Which memory and CPUs are on which node, and how far nodes are apart.
//!
//! ```text
//! SRAT  ->  proximity domains numbered as nodes  ->  ranges by node, cleaned up  ->  memblock's regions by node
//! SLIT  ->  distances                                  | overlap, hole,   ^ numa=fake=: emulated nodes
//! MADT  ->  CPUs by APIC id                            v broken table     |
//!                                                    one node for all ----+
//! ```
//!
//! # Invariants
//! - I1: `with_memory` and `generic_initiators` are parts of `online`, which is a part of `possible`; there is at least
//!   one node with memory.
//! - I2: all memory below `max_pfn` but for a MiB is on a node in `possible`.
//!
//! # Not here
//! Finding the tables (the kernel does), the nodes' own data.

mod blocks;
mod emulation;
mod mask;
mod options;
mod parse;
mod slit;
pub mod srat;
#[cfg(test)]
#[allow(unsafe_code)]
mod tests;

use crate::acpi::NO_APIC;
pub use crate::acpi::madt::{self, ApicMode, Madt};
pub use mask::NodeMask;
pub use options::{Fake, Malformed, Mode, Options};
pub use slit::{Distances, LOCAL_DISTANCE, REMOTE_DISTANCE, Slit};
pub use srat::Srat;

use crate::addr::PhysRange;
use crate::id::{CpuId, NodeId};
use crate::memblock::{self, Direction, Flags, Memblock, OnNode};
use crate::pfn::Pfn;
use blocks::{Block, Blocks};
use parse::{Kept, Parsed};

/// The firmware's tables, as bytes; each may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tables<'t> {
    /// The SRAT.
    pub srat: Option<&'t [u8]>,
    /// The SLIT.
    pub slit: Option<&'t [u8]>,
    /// Which APIC ids count.
    pub apic_mode: ApicMode,
}

/// What does not depend on where the nodes come from.
struct Machine<'m> {
    /// APIC ids.
    cpus: &'m [u32],
    max_pfn: Pfn,
    fake: Option<Fake<'m>>,
}

/// The nodes of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Numa<'a> {
    possible: NodeMask,
    with_memory: NodeMask,
    online: NodeMask,
    generic_initiators: NodeMask,
    domains: &'a [u32],
    distances: Distances<'a>,
    cpu_nodes: &'a [NodeId],
    /// The physical node by emulated one; empty when none is emulated.
    physical: &'a [NodeId],
}

impl<'a> Numa<'a> {
    /// Finds the nodes, and tells memblock on which its memory is (Linux: `x86_numa_init`, then `init_cpu_to_node`).
    ///
    /// `cpus` are the APIC ids of the possible CPUs by [`CpuId`] ([`Madt::possible`]), running or not; `max_pfn` is one
    /// past the last frame of memory. Tables that are broken, overlap or leave memory out are reported, and one node is used.
    ///
    /// # Errors
    /// Those of memblock, which must be able to hand out slices.
    pub fn init<'o>(
        tables: &Tables<'_>,
        options: impl Into<Options<'o>>,
        cpus: &[u32],
        memblock: &mut Memblock<'a>,
        max_pfn: Pfn,
    ) -> Result<Self, memblock::Error> {
        let options = options.into();
        let machine = Machine { cpus, max_pfn, fake: options.fake };
        if options.mode == Mode::On
            && let Some(found) = Self::from_tables(tables, &machine, memblock)?
        {
            return Ok(found);
        }
        let off = options.mode == Mode::Off;
        log::info!("{}", if off { "NUMA turned off" } else { "No NUMA configuration found" });
        Self::one_node(&machine, memblock)
    }

    fn from_tables(
        tables: &Tables<'_>,
        machine: &Machine<'_>,
        memblock: &mut Memblock<'a>,
    ) -> Result<Option<Self>, memblock::Error> {
        forget_nodes(memblock)?;
        let parsed = Parsed::new(tables, memblock)?;
        // It may have been bottom-up until it was known what can be unplugged.
        memblock.set_direction(Direction::TopDown);
        let Some(parsed) = parsed else { return Ok(None) };
        Self::register(parsed, machine, memblock)
    }

    /// (Linux: `dummy_numa_init`.)
    fn one_node(machine: &Machine<'_>, memblock: &mut Memblock<'a>) -> Result<Self, memblock::Error> {
        let end = machine.max_pfn.byte();
        log::info!("Faking a node at [mem {:#018x}-{:#018x}]", 0, end.wrapping_sub(1));
        forget_nodes(memblock)?;
        memblock.set_direction(Direction::TopDown);
        let range = PhysRange::new(0, end).ok_or(memblock::Error::BadRequest)?;
        let parsed = Parsed::one_node(range, memblock)?;
        Self::register(parsed, machine, memblock)?.ok_or(memblock::Error::BadRequest)
    }

    /// Gives the ranges to memblock; `None` when they do not make nodes (Linux: `numa_init`, `numa_register_memblks`).
    fn register(
        mut parsed: Parsed<'a>,
        machine: &Machine<'_>,
        memblock: &mut Memblock<'a>,
    ) -> Result<Option<Self>, memblock::Error> {
        let end_of_ram = machine.max_pfn.byte();
        let clean = parsed.blocks.cleanup(memblock, end_of_ram).is_some();
        if clean
            && let Some(fake) = &machine.fake
            && parsed.emulate(fake, memblock, end_of_ram).is_err()
        {
            // All memory may be called pluggable and be avoided for it.
            log::warn!("NUMA: Warning: no memory for emulated nodes, disabling emulation");
        }
        let with_memory = parsed.blocks.nodes();
        if !clean || !set_nodes(&parsed.blocks, memblock, machine.max_pfn)? || with_memory.is_empty() {
            parsed.release(memblock)?;
            return Ok(None);
        }
        memblock.dump_all();
        let possible = parsed.nodes.union(&with_memory);
        let cpu_nodes = memblock.alloc_slice(machine.cpus.len(), NodeId::FIRST, OnNode::Any)?;
        // A CPU that no table names gets the next node with memory in turn.
        let turns = with_memory.iter().cycle();
        for ((slot, &apic_id), turn) in cpu_nodes.iter_mut().zip(machine.cpus).zip(turns) {
            let named = if apic_id == NO_APIC { None } else { parsed.node_of_apic(apic_id) };
            *slot = named.unwrap_or(turn);
        }
        let generic_initiators = parsed.generic_initiators.intersection(&possible);
        let mut online = with_memory.union(&generic_initiators);
        cpu_nodes.iter().for_each(|&n| online.insert(n));
        let Kept { domains, distances, physical } = parsed.keep(memblock)?;
        Ok(Some(Self {
            possible,
            with_memory,
            online,
            generic_initiators,
            domains,
            distances,
            cpu_nodes,
            physical,
        }))
    }

    /// Nodes that the tables name (Linux: `node_possible_map`).
    pub fn possible(&self) -> &NodeMask {
        &self.possible
    }

    /// Nodes with memory: those that get node data and zones (Linux: `node_online_map` when nodes are registered).
    pub fn with_memory(&self) -> &NodeMask {
        &self.with_memory
    }

    /// Nodes with memory, a possible CPU or a generic initiator (Linux: `node_online_map` after `init_gi_nodes`).
    pub fn online(&self) -> &NodeMask {
        &self.online
    }

    /// Nodes with a device that accesses memory by itself (Linux: `N_GENERIC_INITIATOR`).
    pub fn generic_initiators(&self) -> &NodeMask {
        &self.generic_initiators
    }

    /// One past the highest possible node (Linux: `nr_node_ids`).
    pub fn nr_node_ids(&self) -> usize {
        self.possible.last().map_or(1, |n| n.index() + 1)
    }

    /// The distance between two nodes, 10 to itself (Linux: `node_distance`).
    pub fn distance(&self, from: NodeId, to: NodeId) -> u8 {
        self.distances.get(from, to)
    }

    /// The distances, to keep.
    pub fn distances(&self) -> Distances<'a> {
        self.distances
    }

    /// The node of a CPU, the first for one that is not there (Linux: `early_cpu_to_node`).
    pub fn node_of_cpu(&self, cpu: CpuId) -> NodeId {
        self.cpu_nodes.get(cpu.index()).copied().unwrap_or(NodeId::FIRST)
    }

    /// The nodes by possible CPU. Which CPUs run is not known here.
    pub fn cpu_nodes(&self) -> &'a [NodeId] {
        self.cpu_nodes
    }

    /// One past the highest possible CPU (Linux: `nr_cpu_ids`).
    pub fn nr_cpu_ids(&self) -> u32 {
        self.cpu_nodes.len() as u32
    }

    /// Whether the CPU counts as one of that node's: emulated nodes share the CPUs of their physical one (Linux:
    /// `cpumask_of_node`, for CPUs that run).
    pub fn is_cpu_on(&self, cpu: CpuId, node: NodeId) -> bool {
        let physical = |node: NodeId| self.physical.get(node.index()).copied().unwrap_or(node);
        self.online.contains(node)
            && self.cpu_nodes.get(cpu.index()).is_some_and(|&near| physical(near) == physical(node))
    }

    /// The proximity domain of a node, `None` when no table was used (Linux: `node_to_pxm`).
    pub fn domain_of(&self, node: NodeId) -> Option<u32> {
        self.domains.get(node.index()).copied()
    }

    /// Panics when an invariant does not hold.
    pub fn validate(&self, memblock: &Memblock<'_>) {
        assert!(!self.with_memory.is_empty(), "I1");
        assert!(self.online.is_subset(&self.possible) && self.with_memory.is_subset(&self.online), "I1");
        assert!(self.generic_initiators.is_subset(&self.online), "I1");
        for region in memblock.memory() {
            assert!(region.node.is_none_or(|n| self.possible.contains(n)), "I2: {region:?}");
        }
    }
}

#[cfg(test)]
impl Numa<'static> {
    /// Nodes `0..nr_nodes`, all with memory, and possible CPUs on nodes.
    pub(crate) fn of(nr_nodes: u16, cpu_nodes: &'static [NodeId]) -> Self {
        let all: NodeMask = (0..nr_nodes).map(NodeId).collect();
        Self {
            possible: all,
            with_memory: all,
            online: all,
            generic_initiators: NodeMask::EMPTY,
            domains: &[],
            distances: Distances::default(),
            cpu_nodes,
            physical: &[],
        }
    }
}

/// Undoes what an earlier try told memblock.
fn forget_nodes(memblock: &mut Memblock<'_>) -> Result<(), memblock::Error> {
    memblock.set_node(memblock::ALL, None)?;
    memblock.set_reserved_node(memblock::ALL, None)?;
    memblock.clear(memblock::ALL, Flags::HOTPLUG)
}

/// Tells memblock the nodes of its memory. Memory of a node where something is reserved already cannot be unplugged
/// (Linux: `numa_clear_kernel_node_hotplug`). False when memory is left over.
fn set_nodes(
    blocks: &Blocks<'_>,
    memblock: &mut Memblock<'_>,
    max_pfn: Pfn,
) -> Result<bool, memblock::Error> {
    for &Block { range, node } in blocks.as_slice() {
        memblock.set_node(range, Some(node))?;
    }
    for &Block { range, node } in blocks.as_slice() {
        memblock.set_reserved_node(range, Some(node))?;
    }
    let mut in_use = NodeMask::EMPTY;
    memblock.reserved().iter().filter_map(|r| r.node).for_each(|n| in_use.insert(n));
    for &Block { range, .. } in blocks.as_slice().iter().filter(|b| in_use.contains(b.node)) {
        memblock.clear(range, Flags::HOTPLUG)?;
    }
    Ok(blocks.cover(memblock, max_pfn))
}
