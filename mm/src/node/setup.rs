//! Making the nodes at boot: their data, zones and zonelists.
//!
//! ```text
//! NodeData::allocate -> Setup::new -> (struct pages) -> Setup::build_zonelists -> Nodes
//!     memory             zones                            orders
//! ```
//!
//! # Invariants
//! - S1: until `build_zonelists` returns, whoever has the [`Setup`] is the only one to write to nodes; zonelists are empty.

use core::alloc::Layout;
use core::ptr::{NonNull, addr_of_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use super::fallback::{FallbackOrder, Topology};
use super::zonelist::{ZoneRef, Zonelist};
use super::{Node, Nodes};
use crate::PAGE_SIZE;
use crate::addr::{PhysAddr, PhysRange};
use crate::arch::Machine;
use crate::counters::{NodeCounters, ZoneCounters};
use crate::id::{MAX_NUMNODES, NodeId, ZoneIdx};
use crate::memblock::{self, Memblock, OnNode, Request};
use crate::numa::Numa;
use crate::pcp::Pcp;
use crate::percpu::PerCpu;
use crate::pfn::{Pfn, PfnRange};
use crate::sparse::Sparse;
use crate::zone::{self, MovableRequest, NodeRam, Span, Zone, ZoneLimits};

/// Which nodes a machine has.
pub trait NodeMap {
    /// One past the highest node number.
    fn nr_ids(&self) -> usize;
    /// Whether the node exists: with memory, with CPUs, or with neither yet (Linux: `N_POSSIBLE`).
    fn is_possible(&self, node: NodeId) -> bool;
    /// Whether the node is in use: with memory, or with CPUs or other users of memory (Linux: `N_ONLINE`).
    fn is_online(&self, node: NodeId) -> bool;
    /// Distance from one node to another, 10 to itself.
    fn distance(&self, from: NodeId, to: NodeId) -> u64;
}

/// A machine without NUMA: one node.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneNode;

impl NodeMap for OneNode {
    fn nr_ids(&self) -> usize {
        1
    }
    fn is_possible(&self, node: NodeId) -> bool {
        node == NodeId::FIRST
    }
    fn is_online(&self, node: NodeId) -> bool {
        self.is_possible(node)
    }
    fn distance(&self, _: NodeId, _: NodeId) -> u64 {
        10
    }
}

impl NodeMap for Numa<'_> {
    fn nr_ids(&self) -> usize {
        self.nr_node_ids()
    }
    fn is_possible(&self, node: NodeId) -> bool {
        self.possible().contains(node)
    }
    fn is_online(&self, node: NodeId) -> bool {
        self.online().contains(node)
    }
    fn distance(&self, from: NodeId, to: NodeId) -> u64 {
        Numa::distance(self, from, to).into()
    }
}

/// Why nodes could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Memory that memblock could not give.
    Memblock(memblock::Error),
    /// There is no RAM at all.
    NoMemory,
    /// RAM on a node that is not possible, or a node number past the limit.
    BadNode(NodeId),
    /// So many CPUs that sizes overflow.
    TooManyCpus,
}

impl From<memblock::Error> for Error {
    fn from(e: memblock::Error) -> Self {
        Self::Memblock(e)
    }
}

/// Memblock's RAM, in address order.
pub fn ram<'m>(memblock: &'m Memblock<'_>) -> impl Iterator<Item = NodeRam> + Clone + 'm {
    memblock
        .memory_pfn_ranges(None)
        .map(|(pages, node)| NodeRam { node: node.unwrap_or(NodeId::FIRST), pages })
}

/// Of that what can be unplugged, from each first frame that it touches.
fn pluggable<'m>(memblock: &'m Memblock<'_>) -> impl Iterator<Item = NodeRam> + 'm {
    let regions = memblock.memory().iter().filter(|r| r.flags.contains(memblock::Flags::HOTPLUG));
    regions.map(|r| NodeRam {
        node: r.node.unwrap_or(NodeId::FIRST),
        pages: PfnRange::new(Pfn::down(r.range.start()), Pfn::down(r.range.end())),
    })
}

/// Memory for the nodes, as much as possible on each one's own.
#[derive(Debug)]
pub struct NodeData {
    machine: Machine,
    table: NonNull<AtomicPtr<Node>>,
    len: usize,
}

impl NodeData {
    /// Takes it from memblock, before anything else takes the nodes' best memory (Linux: `alloc_node_data`).
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Safety
    /// Memblock's memory is mapped by `machine`, and what memblock hands out here is used by nobody else as long as the
    /// machine runs.
    pub unsafe fn allocate(
        memblock: &mut Memblock<'_>,
        machine: Machine,
        map: &impl NodeMap,
    ) -> Result<Self, Error> {
        let len = map.nr_ids();
        let bad = |n: NodeId| n.index() >= len || n.index() >= MAX_NUMNODES || !map.is_possible(n);
        if let Some(stray) = ram(memblock).find(|r| bad(r.node)) {
            return Err(Error::BadNode(stray.node));
        }
        let nulls = len.max(1) * size_of::<*mut Node>();
        let table = memblock.alloc_zeroed(Request::new(nulls as u64))?;
        let data = Self { machine, table: at(machine, table).cast(), len };
        for id in data.ids().filter(|n| map.is_possible(*n)) {
            let node = data.allocate_node(memblock, id)?;
            data.slot(id).store(node.as_ptr(), Ordering::Relaxed);
        }
        Ok(data)
    }

    fn allocate_node(&self, memblock: &mut Memblock<'_>, id: NodeId) -> Result<NonNull<Node>, Error> {
        let size = size_of::<Node>().next_multiple_of(PAGE_SIZE) as u64;
        let range =
            memblock.alloc(Request::new(size).align(align_of::<Node>() as u64).on(OnNode::Prefer(id)))?;
        if ram(memblock).any(|r| r.node == id) {
            log::info!("NODE_DATA({id}) allocated {range}");
            let start = Pfn::down(range.start());
            if let Some(on) =
                ram(memblock).find(|r| r.pages.contains(start)).map(|r| r.node).filter(|n| *n != id)
            {
                log::info!("    NODE_DATA({id}) on node {on}");
            }
        }
        Ok(at(self.machine, range).cast())
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.len).map(|id| NodeId(id as u16))
    }

    fn slot(&self, id: NodeId) -> &AtomicPtr<Node> {
        assert!(id.index() < self.len);
        // SAFETY: inside the table.
        unsafe { &*self.table.as_ptr().add(id.index()) }
    }
}

fn at(machine: Machine, range: PhysRange) -> NonNull<u8> {
    // Memblock never returns the first page, and no machine maps RAM at zero.
    NonNull::new(machine.phys_to_virt(PhysAddr::new(range.start()))).unwrap_or(NonNull::dangling())
}

/// Nodes with zones, but without zonelists.
#[derive(Debug)]
pub struct Setup {
    nodes: Nodes,
    data: NodeData,
}

impl Setup {
    /// Fills in the nodes: zones with their spans, and per-CPU lists for `nr_cpus` CPUs (Linux: `free_area_init`).
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Safety
    /// As [`NodeData::allocate`].
    pub unsafe fn new(
        memblock: &mut Memblock<'_>,
        data: NodeData,
        sparse: Sparse,
        nr_cpus: u32,
        movable: MovableRequest,
    ) -> Result<Self, Error> {
        let limits = ZoneLimits::new(ram(memblock)).ok_or(Error::NoMemory)?;
        let starts = memblock.alloc_slice(data.len, None, OnNode::Any)?;
        movable.starts(ram(memblock), pluggable(memblock), &limits, starts);
        super::log::zone_ranges(&limits, starts, ram(memblock));
        for id in data.ids() {
            let Some(node) = NonNull::new(data.slot(id).load(Ordering::Relaxed)) else { continue };
            let span = zone::node_span(ram(memblock), id);
            super::log::initmem(id, span);
            let make = NodeSetup { node, id, machine: data.machine, sparse, nr_cpus };
            make.write(memblock, &limits, span, starts[id.index()])?;
        }
        if let Some(range) = memblock.range_of(starts) {
            memblock.free(range)?;
        }
        let nodes = Nodes { table: data.table, len: data.len, sparse };
        Ok(Self { nodes, data })
    }

    /// The nodes as they are so far, for initialising struct pages.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Gives each node its zonelists (Linux: `build_all_zonelists`).
    ///
    /// # Errors
    /// See [`Error`].
    pub fn build_zonelists(self, memblock: &mut Memblock<'_>, map: &impl NodeMap) -> Result<Nodes, Error> {
        let nr_zones = self.nodes.populated_zones().count();
        let load = memblock.alloc_slice(self.data.len, 0u32, OnNode::Any)?;
        let sorted = memblock.alloc_slice(self.data.len, (0, NodeId::FIRST), OnNode::Any)?;
        let mut order = FallbackOrder::new(load, sorted);
        let near = Near { nodes: &self.nodes, map };
        for id in self.data.ids() {
            let Some(node) = NonNull::new(self.data.slot(id).load(Ordering::Relaxed)) else { continue };
            let mut fallback = self.zonelist(memblock, nr_zones, id)?;
            let mut this_node = self.zonelist(memblock, ZoneIdx::COUNT, id)?;
            order.build(id, &near, |n| {
                let zones = self.nodes.get(n).into_iter().flat_map(|n| n.populated_zones().rev());
                for zone in zones {
                    fallback.push(zone);
                    if n == id {
                        this_node.push(zone);
                    }
                }
            });
            // SAFETY: nobody reads zonelists yet (S1).
            unsafe {
                addr_of_mut!((*node.as_ptr()).zonelists).write([fallback.finish(), this_node.finish()])
            };
        }
        for scratch in [memblock.range_of(load), memblock.range_of(sorted)].into_iter().flatten() {
            memblock.free(scratch)?;
        }
        if cfg!(debug_assertions) {
            self.nodes.validate();
        }
        let online = self.nodes.iter().filter(|node| map.is_online(node.id())).count();
        super::log::zonelists(&self.nodes, online, dma_reserved(memblock));
        Ok(self.nodes)
    }

    fn zonelist(
        &self,
        memblock: &mut Memblock<'_>,
        max: usize,
        id: NodeId,
    ) -> Result<ZonelistBuilder, Error> {
        let size = (max * size_of::<ZoneRef>()) as u64;
        let range = memblock.alloc(Request::new(size).on(OnNode::Prefer(id)))?;
        Ok(ZonelistBuilder { entries: at(self.data.machine, range).cast(), len: 0, max })
    }
}

/// Pages below 16 MiB that are not free (Linux: `memblock_find_dma_reserve`).
fn dma_reserved(memblock: &Memblock<'_>) -> u64 {
    let dma = PfnRange::new(Pfn::default(), zone::MAX_DMA_PFN);
    let ram: u64 = ram(memblock).map(|r| r.pages.intersect(dma).nr_pages()).sum();
    let free: u64 =
        memblock.free_ranges(None).map(|f| PfnRange::inside(f.range).intersect(dma).nr_pages()).sum();
    ram - free.min(ram)
}

/// What a node is made of.
struct NodeSetup {
    node: NonNull<Node>,
    id: NodeId,
    machine: Machine,
    sparse: Sparse,
    nr_cpus: u32,
}

impl NodeSetup {
    /// Writes the node part by part: as a whole it would be large for a boot stack.
    fn write(
        &self,
        memblock: &mut Memblock<'_>,
        limits: &ZoneLimits,
        span: PfnRange,
        movable: Option<Pfn>,
    ) -> Result<(), Error> {
        let (node, mut present) = (self.node.as_ptr(), 0);
        for (i, idx) in ZoneIdx::ALL.into_iter().enumerate() {
            let zone_span = limits.zone_span(ram(memblock), self.id, idx, movable);
            present += zone_span.present;
            let pagesets = self.pagesets(memblock, zone_span)?;
            let counters = self.zone_counters(memblock, zone_span)?;
            let zone = Zone::new(self.id, idx, zone_span, self.sparse, pagesets, counters);
            // SAFETY: memory for a node that nobody else knows yet (S1).
            unsafe { addr_of_mut!((*node).zones[i]).write(zone) };
        }
        let counters = self.node_counters(memblock)?;
        // SAFETY: as above.
        unsafe {
            addr_of_mut!((*node).zonelists).write([const { Zonelist::EMPTY }; 2]);
            addr_of_mut!((*node).id).write(self.id);
            addr_of_mut!((*node).span).write(span);
            addr_of_mut!((*node).present).write(present);
            addr_of_mut!((*node).counters).write(counters);
        }
        Ok(())
    }

    fn pagesets(&self, memblock: &mut Memblock<'_>, span: Span) -> Result<PerCpu<Pcp>, Error> {
        let nr_cpus = if span.present == 0 { 0 } else { self.nr_cpus };
        let memory = self.per_cpu(memblock, PerCpu::<Pcp>::layout(nr_cpus))?;
        // SAFETY: just allocated with that layout, for as long as the machine runs (what `allocate` was promised); without
        // CPUs there is nothing to write to.
        Ok(unsafe { PerCpu::init(memory, nr_cpus, |_| Pcp::new()) })
    }

    fn zone_counters(&self, memblock: &mut Memblock<'_>, span: Span) -> Result<ZoneCounters, Error> {
        let nr_cpus = if span.present == 0 { 0 } else { self.nr_cpus };
        let memory = self.per_cpu(memblock, ZoneCounters::layout(nr_cpus))?;
        // SAFETY: as in `pagesets`.
        Ok(unsafe { ZoneCounters::new(memory, nr_cpus) })
    }

    fn node_counters(&self, memblock: &mut Memblock<'_>) -> Result<NodeCounters, Error> {
        let memory = self.per_cpu(memblock, NodeCounters::layout(self.nr_cpus))?;
        // SAFETY: as in `pagesets`.
        Ok(unsafe { NodeCounters::new(memory, self.nr_cpus) })
    }

    /// Memory for what each CPU has of its own.
    fn per_cpu(&self, memblock: &mut Memblock<'_>, layout: Option<Layout>) -> Result<NonNull<u8>, Error> {
        let layout = layout.ok_or(Error::TooManyCpus)?;
        if layout.size() == 0 {
            return Ok(NonNull::dangling());
        }
        let request = Request::new(layout.size() as u64).align(layout.align() as u64);
        Ok(at(self.machine, memblock.alloc(request.on(OnNode::Prefer(self.id)))?))
    }
}

struct ZonelistBuilder {
    entries: NonNull<ZoneRef>,
    len: usize,
    max: usize,
}

impl ZonelistBuilder {
    fn push(&mut self, zone: &Zone) {
        assert!(self.len < self.max, "a zonelist has room for all populated zones");
        // SAFETY: inside the memory for `max` entries, which is ours.
        unsafe { self.entries.add(self.len).write(ZoneRef::new(zone)) };
        self.len += 1;
    }

    fn finish(self) -> Zonelist {
        // SAFETY: `len` entries were written, in memory that is never freed.
        unsafe { Zonelist::new(self.entries, self.len) }
    }
}

struct Near<'a, M> {
    nodes: &'a Nodes,
    map: &'a M,
}

impl<M: NodeMap> Topology for Near<'_, M> {
    fn distance(&self, from: NodeId, to: NodeId) -> u64 {
        self.map.distance(from, to)
    }
    fn has_memory(&self, node: NodeId) -> bool {
        self.nodes.get(node).is_some_and(Node::has_memory)
    }
    /// At boot no CPU is registered with its node yet, as in Linux.
    fn has_cpus(&self, _: NodeId) -> bool {
        false
    }
}
