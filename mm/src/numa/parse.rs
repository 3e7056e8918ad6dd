//! From SRAT and SLIT to ranges, CPUs and distances by node, in the order in which Linux reads them: CPUs first, then
//! memory, then distances. Nodes are numbered by the first mention of their domains in that order.

use super::Tables;
use super::blocks::{Block, Blocks, MAX_BLOCKS};
use super::emulation::Emulated;
use super::mask::NodeMask;
use super::options::Fake;
use super::slit::{self, Distances, Slit, default_distance};
use super::srat::{Affinity, MEMORY, MemoryFlags, Srat};
use crate::acpi::ApicMode;
use crate::acpi::TableError;
use crate::addr::PhysRange;
use crate::id::{MAX_NUMNODES, NodeId};
use crate::memblock::{self, Flags, Memblock, OnNode};

/// Domains have lower numbers than this (Linux: `MAX_PXM_DOMAINS`).
const MAX_DOMAINS: u32 = MAX_NUMNODES as u32;
/// APIC ids are lower than this (Linux: `MAX_LOCAL_APIC`).
const MAX_APIC_ID: u32 = 32768;

/// What the tables say.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    pub(super) blocks: Blocks<'a>,
    /// Nodes with an entry that counts (Linux: `numa_nodes_parsed`).
    pub(super) nodes: NodeMask,
    /// Nodes with a generic initiator.
    pub(super) generic_initiators: NodeMask,
    cpus: &'a mut [(u32, NodeId)],
    nr_cpus: usize,
    /// Domains by node.
    domains: &'a mut [u32],
    nr_domains: usize,
    distances: Distances<'a>,
    /// The physical node by emulated one; empty without emulation.
    physical: &'a [NodeId],
    /// Where the lists are that are not needed for good.
    scratch: [Option<PhysRange>; 4],
    /// Where the others are: domains, distances, physical nodes.
    kept: [Option<PhysRange>; 3],
}

/// What is kept for good.
pub(super) struct Kept<'a> {
    pub(super) domains: &'a [u32],
    pub(super) distances: Distances<'a>,
    pub(super) physical: &'a [NodeId],
}

/// Why the SRAT is not used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unused {
    /// It makes no sense; the log says why.
    Refused,
    /// It has no memory, or its end cannot be found.
    Incomplete,
}

impl<'a> Parsed<'a> {
    /// Reads the tables; `None` when there is no SRAT or it cannot be used. The SLIT is judged in any case (Linux:
    /// `acpi_numa_init`).
    pub(super) fn new(
        tables: &Tables<'_>,
        memblock: &mut Memblock<'a>,
    ) -> Result<Option<Self>, memblock::Error> {
        let srat = tables.srat.map(Srat::new);
        if let Some(Err(error)) = &srat {
            log::error!("ACPI: SRAT: {error}");
            log::error!("ACPI: SRAT: SRAT not used.");
        }
        let Some(Ok(srat)) = srat else {
            tables.slit.and_then(read_slit);
            return Ok(None);
        };
        let mut parsed = Self::with_room_for(&srat, memblock)?;
        let read =
            parsed.read_cpus(&srat, tables.apic_mode).and_then(|()| parsed.read_memory(&srat, memblock));
        if read == Err(Unused::Refused) {
            log::error!("ACPI: SRAT: SRAT not used.");
        }
        if let Some(slit) = tables.slit.and_then(read_slit) {
            parsed.set_distances(&slit, memblock);
        }
        if read.is_err() {
            parsed.release(memblock)?;
            return Ok(None);
        }
        Ok(Some(parsed))
    }

    /// One node with one range (Linux: `dummy_numa_init`).
    pub(super) fn one_node(range: PhysRange, memblock: &mut Memblock<'a>) -> Result<Self, memblock::Error> {
        let mut parsed = Self::with_room(0, 0, 1, memblock)?;
        parsed.blocks.push(Block { range, node: NodeId::FIRST }).ok_or(memblock::Error::BadRequest)?;
        parsed.nodes.insert(NodeId::FIRST);
        Ok(parsed)
    }

    fn with_room_for(srat: &Srat<'_>, memblock: &mut Memblock<'a>) -> Result<Self, memblock::Error> {
        let all = || srat.affinities().flatten();
        let nr_memory = all().filter(|a| matches!(a, Affinity::Memory { .. })).count();
        let nr_cpus = all().filter(|a| matches!(a, Affinity::Cpu { .. })).count();
        Self::with_room(all().count().min(MAX_NUMNODES), nr_cpus, nr_memory.min(MAX_BLOCKS), memblock)
    }

    fn with_room(
        nr_domains: usize,
        nr_cpus: usize,
        nr_blocks: usize,
        memblock: &mut Memblock<'a>,
    ) -> Result<Self, memblock::Error> {
        let domains = memblock.alloc_slice(nr_domains, 0, OnNode::Any)?;
        let cpus = memblock.alloc_slice(nr_cpus, (0, NodeId::FIRST), OnNode::Any)?;
        let blocks = memblock.alloc_slice(nr_blocks, Block::NOTHING, OnNode::Any)?;
        Ok(Self {
            scratch: [range_of(memblock, cpus), range_of(memblock, blocks), None, None],
            kept: [range_of(memblock, domains), None, None],
            blocks: Blocks::new(blocks),
            nodes: NodeMask::EMPTY,
            generic_initiators: NodeMask::EMPTY,
            cpus,
            nr_cpus: 0,
            domains,
            nr_domains: 0,
            distances: Distances::default(),
            physical: &[],
        })
    }

    /// The node of a domain, the next number when it is new (Linux: `acpi_map_pxm_to_node`).
    fn node_of(&mut self, pxm: u32) -> Option<NodeId> {
        if let Some(node) = self.known_node_of(pxm) {
            return Some(node);
        }
        *self.domains.get_mut(self.nr_domains).filter(|_| pxm < MAX_DOMAINS)? = pxm;
        self.nr_domains += 1;
        Some(NodeId(self.nr_domains as u16 - 1))
    }

    fn known_node_of(&self, pxm: u32) -> Option<NodeId> {
        let known = &self.domains[..self.nr_domains];
        known.iter().position(|&d| d == pxm).map(|i| NodeId(i as u16))
    }

    /// (Linux: `acpi_numa_processor_affinity_init`, `acpi_numa_x2apic_affinity_init`.)
    fn read_cpus(&mut self, srat: &Srat<'_>, mode: ApicMode) -> Result<(), Unused> {
        for affinity in srat.affinities() {
            let (apic, pxm) = match affinity {
                Ok(Affinity::Cpu { apic_id, width, pxm }) => (Some((apic_id, width)), pxm),
                Ok(Affinity::Generic { pxm }) => (None, pxm),
                // The next walk's.
                Ok(Affinity::Memory { .. }) | Err(TableError::EntryLength { kind: MEMORY, .. }) => continue,
                Err(TableError::EntryLength { .. }) => return Err(Unused::Refused),
                Err(error) => {
                    log::error!("ACPI: [SRAT:0x00] {error}");
                    break;
                }
            };
            if let Some((apic_id, width)) = apic.filter(|&(id, _)| !mode.can_address(id)) {
                log::info!("SRAT: PXM {pxm} -> X2APIC {apic_id:#0width$x} ignored");
                continue;
            }
            let Some(node) = self.node_of(pxm) else {
                log::error!("SRAT: Too many proximity domains {pxm:x}");
                return Err(Unused::Refused);
            };
            if let Some((apic_id, width)) = apic {
                let too_big = apic_id >= MAX_APIC_ID;
                let remark = if too_big { " skipped apicid that is too big" } else { "" };
                log::info!("SRAT: PXM {pxm} -> APIC {apic_id:#0width$x} -> Node {node}{remark}");
                if too_big {
                    continue;
                }
                self.set_cpu(apic_id, node);
            } else {
                self.generic_initiators.insert(node);
            }
            self.nodes.insert(node);
        }
        Ok(())
    }

    fn set_cpu(&mut self, apic_id: u32, node: NodeId) {
        let known = self.cpus[..self.nr_cpus].iter().position(|c| c.0 == apic_id);
        let i = known.unwrap_or_else(|| {
            self.nr_cpus += 1;
            self.nr_cpus - 1
        });
        self.cpus[i] = (apic_id, node);
    }

    /// The node of a CPU that the table names.
    pub(super) fn node_of_apic(&self, apic_id: u32) -> Option<NodeId> {
        self.cpus[..self.nr_cpus].iter().find(|c| c.0 == apic_id).map(|c| c.1)
    }

    /// (Linux: `acpi_numa_memory_affinity_init`.)
    fn read_memory(&mut self, srat: &Srat<'_>, memblock: &mut Memblock<'a>) -> Result<(), Unused> {
        let mut nr = 0;
        for affinity in srat.affinities() {
            let (pxm, base, size_bytes, flags) = match affinity {
                Ok(Affinity::Memory { pxm, base, size_bytes, flags }) => (pxm, base, size_bytes, flags),
                Ok(_) => continue,
                Err(error @ TableError::EntryLength { kind: MEMORY, .. }) => {
                    log::error!("ACPI: SRAT: {error}");
                    return Err(Unused::Refused);
                }
                Err(TableError::EntryLength { .. }) => continue,
                Err(error) => {
                    log::error!("ACPI: [SRAT:0x01] {error}");
                    return Err(Unused::Incomplete);
                }
            };
            let Some(node) = self.node_of(pxm) else {
                log::error!("ACPI: SRAT: Too many proximity domains.");
                return Err(Unused::Refused);
            };
            let last = base.wrapping_add(size_bytes).wrapping_sub(1);
            if self.blocks.add(node, base, size_bytes).is_none() {
                log::error!("too many memblk ranges");
                log::error!(
                    "ACPI: SRAT: Failed to add memblk to node {node} [mem {base:#010x}-{last:#010x}]"
                );
                return Err(Unused::Refused);
            }
            self.nodes.insert(node);
            nr += 1;
            let hotplug = flags.contains(MemoryFlags::HOT_PLUGGABLE);
            let name = |set: bool, name| if set { name } else { "" };
            log::info!(
                "ACPI: SRAT: Node {node} PXM {pxm} [mem {base:#010x}-{last:#010x}]{}{}",
                name(hotplug, " hotplug"),
                name(flags.contains(MemoryFlags::NON_VOLATILE), " non-volatile"),
            );
            if hotplug && memblock.mark(memblock::capped(base, size_bytes), Flags::HOTPLUG).is_err() {
                log::warn!(
                    "ACPI: SRAT: Failed to mark hotplug range [mem {base:#010x}-{last:#010x}] in memblock"
                );
            }
        }
        if nr > 0 { Ok(()) } else { Err(Unused::Incomplete) }
    }

    /// Fills the distances of domains that are nodes (Linux: `acpi_numa_slit_init`); a table that has none of them, or that
    /// there is no memory for, is not used.
    fn set_distances(&mut self, slit: &Slit<'_>, memblock: &mut Memblock<'a>) {
        let known = &self.domains[..self.nr_domains];
        if !known.iter().any(|&domain| slit.distance(domain, domain).is_some()) {
            return;
        }
        let nr = self.nodes.last().map_or(0, |n| n.index() + 1);
        // All memory may be called pluggable by now, and be avoided for it: distances are no reason to stop.
        let Ok(table) = memblock.alloc_slice(nr * nr, 0u8, OnNode::Any) else {
            log::warn!("Warning: can't allocate distance table!");
            return;
        };
        for (i, distance) in table.iter_mut().enumerate() {
            let (from, to) = (i / nr, i % nr);
            let domain = |n: usize| self.domains[..self.nr_domains].get(n).copied();
            let given = domain(from).zip(domain(to)).and_then(|(a, b)| slit.distance(a, b));
            *distance = given.unwrap_or(default_distance(NodeId(from as u16), NodeId(to as u16)));
        }
        log::debug!("NUMA: Initialized distance table, cnt={nr}");
        self.kept[1] = range_of(memblock, table);
        self.distances = Distances::new(nr, table);
    }

    /// Makes emulated nodes of the nodes, if that can be done (Linux: `numa_emulation`).
    ///
    /// # Errors
    /// There is no memory for it; the nodes stay as they are.
    pub(super) fn emulate(
        &mut self,
        fake: &Fake<'_>,
        memblock: &mut Memblock<'a>,
        end_of_ram: u64,
    ) -> Result<(), memblock::Error> {
        let made = Emulated::new(fake, &self.nodes, &self.blocks, memblock, end_of_ram)?;
        let Some(emulated) = made else { return Ok(()) };
        let nodes = emulated.blocks.nodes();
        let nr = nodes.last().map_or(0, |last| last.index() + 1);
        let physical = memblock.alloc_slice(emulated.nr_ids(), NodeId::FIRST, OnNode::Any)?;
        let table = memblock.alloc_slice(nr * nr, 0u8, OnNode::Any)?;
        physical.iter_mut().enumerate().for_each(|(node, on)| *on = emulated.physical(node));
        self.cpus[..self.nr_cpus].iter_mut().for_each(|cpu| cpu.1 = emulated.first_on(cpu.1));
        self.nodes = nodes;
        slit::emulate(fake, physical, &self.distances, nr, table);
        let [made, map] = emulated.scratch;
        [self.scratch[2], self.scratch[3], self.kept[2]] = [made, map, range_of(memblock, physical)];
        if let Some(old) = core::mem::replace(&mut self.kept[1], range_of(memblock, table)) {
            memblock.free(old)?;
        }
        self.distances = Distances::new(nr, table);
        self.physical = physical;
        self.blocks = emulated.blocks;
        Ok(())
    }

    /// Gives up what is not needed for good; returns the rest.
    pub(super) fn keep(self, memblock: &mut Memblock<'a>) -> Result<Kept<'a>, memblock::Error> {
        let kept = Kept {
            domains: &self.domains[..self.nr_domains],
            distances: self.distances,
            physical: self.physical,
        };
        for range in self.scratch.into_iter().flatten() {
            memblock.free(range)?;
        }
        Ok(kept)
    }

    /// Gives up all.
    pub(super) fn release(self, memblock: &mut Memblock<'a>) -> Result<(), memblock::Error> {
        let all = self.scratch.into_iter().chain(self.kept);
        for range in all.flatten() {
            memblock.free(range)?;
        }
        Ok(())
    }
}

fn range_of<T>(memblock: &Memblock<'_>, slice: &[T]) -> Option<PhysRange> {
    memblock.range_of(slice).filter(|r| !r.is_empty())
}

/// The SLIT, when it makes sense; if not, the log says so.
fn read_slit(bytes: &[u8]) -> Option<Slit<'_>> {
    let slit = Slit::new(bytes);
    if slit.is_err() {
        log::info!("ACPI: SLIT table looks invalid. Not used.");
    }
    slit.ok()
}
