//! Simulated machines for host tests: RAM on nodes, CPUs, and the page allocator over it, made the way boot makes it.
//!
//! ```text
//! let machine = Spec::new().ram(0, 0x1000..0x9f000).ram(0, 1 << 20..1 << 30).cpus(2).boot();
//! machine.allocator().alloc_pages(...)
//! ```

mod direct_map;

pub use direct_map::SimDirectMap;

use core::ops::Range;
use core::ptr::NonNull;
use std::vec;
use std::vec::Vec;

use crate::PhysRange;
use crate::arch::{Machine, SimMachine};
use crate::cma::{self, Cma, CmaRequest};
use crate::id::{CpuId, NodeId};
use crate::init;
use crate::memblock::{Flags, Memblock, Region, Request};
use crate::node::{Cpus, HugePages, NodeMap, Nodes};
use crate::page_alloc::{DebugOptions, GuardMinorder, PageAllocator, PageOwner};
use crate::sparse::AlreadyPopulated;
use crate::zone::{MovableRequest, Sysctl};

/// What a machine is to have.
#[derive(Clone, Debug)]
pub struct Spec {
    ram: Vec<(NodeId, Range<u64>)>,
    reserved: Vec<Range<u64>>,
    cpu_nodes: Vec<NodeId>,
    distances: Vec<Vec<u64>>,
    movable: MovableRequest,
    huge_pages: HugePages,
    cma: Option<CmaRequest>,
    debugging: DebugOptions,
    guards: GuardMinorder,
}

impl Default for Spec {
    fn default() -> Self {
        Self::new()
    }
}

impl Spec {
    /// No RAM yet, and no CPU: [`boot`](Self::boot) adds one on node 0 if none was named.
    pub const fn new() -> Self {
        Self {
            ram: Vec::new(),
            reserved: Vec::new(),
            cpu_nodes: Vec::new(),
            distances: Vec::new(),
            movable: MovableRequest::NONE,
            huge_pages: HugePages::Wanted,
            cma: None,
            debugging: DebugOptions::empty(),
            guards: GuardMinorder::NONE,
        }
    }

    /// A PC with `size_bytes` of RAM on one node: a hole below 1 MiB, and, as QEMU has it, what does not fit below 3 GiB
    /// above 4 GiB.
    pub fn pc(size_bytes: u64) -> Self {
        let low = if size_bytes < 0xe000_0000 { size_bytes } else { 0xc000_0000 };
        let spec = Self::new().ram(0, 0x1000..0x9f000).ram(0, 0x10_0000..low);
        if low < size_bytes { spec.ram(0, 1 << 32..(1 << 32) + size_bytes - low) } else { spec }
    }

    /// RAM on a node, in bytes.
    pub fn ram(mut self, node: u16, bytes: Range<u64>) -> Self {
        self.ram.push((NodeId(node), bytes));
        self
    }

    /// Memory that boot keeps, in bytes.
    pub fn reserved(mut self, bytes: Range<u64>) -> Self {
        self.reserved.push(bytes);
        self
    }

    /// So many CPUs on a node.
    pub fn cpus(mut self, node: u16, nr: u32) -> Self {
        self.cpu_nodes.extend((0..nr).map(|_| NodeId(node)));
        self
    }

    /// Distances from each node to each; without, 10 to itself and 20 to others.
    pub fn distances(mut self, rows: &[&[u64]]) -> Self {
        self.distances = rows.iter().map(|r| r.to_vec()).collect();
        self
    }

    /// What `kernelcore=`, `movablecore=` or `movable_node` ask for.
    pub fn movable(mut self, movable: MovableRequest) -> Self {
        self.movable = movable;
        self
    }

    /// A contiguous-memory area.
    pub fn cma(mut self, request: CmaRequest) -> Self {
        self.cma = Some(request);
        self
    }

    /// Debugging options of the page allocator.
    pub fn debugging(mut self, options: DebugOptions) -> Self {
        self.debugging = options;
        self
    }

    /// Guard pages, with [`DebugOptions::PAGEALLOC`].
    pub fn guards(mut self, guards: GuardMinorder) -> Self {
        self.guards = guards;
        self
    }

    fn memblock<'a>(
        &self,
        machine: Machine,
        memory: &'a mut [Region],
        reserved: &'a mut [Region],
    ) -> Memblock<'a> {
        let range = |r: &Range<u64>| PhysRange::new(r.start, r.end).expect("a range of RAM");
        let mut memblock = Memblock::new(memory, reserved);
        for (node, bytes) in &self.ram {
            memblock.add_node(range(bytes), *node, Flags::empty()).expect("room in memblock");
        }
        for bytes in &self.reserved {
            memblock.reserve(range(bytes)).expect("room in memblock");
        }
        // SAFETY: simulated RAM of this machine, nobody else's; the fixture keeps it as long as what is made from it.
        unsafe { memblock.allow_resize(machine) };
        memblock
    }

    /// The machine with its memory set up: nodes, zones, struct pages, everything free that boot does not keep, limits
    /// computed.
    ///
    /// # Panics
    /// When there is too little RAM for that.
    pub fn boot(mut self) -> TestMachine {
        if self.cpu_nodes.is_empty() {
            self.cpu_nodes.push(NodeId::FIRST);
        }
        let end = self.ram.iter().map(|r| r.1.end).max().expect("RAM");
        let sim = SimMachine::new(end.next_multiple_of(1 << 27));
        let (mut memory, mut reserved) = (vec![Region::EMPTY; 128], vec![Region::EMPTY; 128]);
        let mut memblock = self.memblock(sim.machine(), &mut memory, &mut reserved);
        let reservation =
            self.cma.and_then(|request| cma::reserve(&mut memblock, request, "reserved").expect("room"));
        let nr_cpus = self.cpu_nodes.len() as u32;
        let vmemmap = &mut AlreadyPopulated;
        // SAFETY: the simulated machine maps all its memory; the fixture keeps it to the end.
        let nodes =
            unsafe { init::build(&mut memblock, sim.machine(), &self, nr_cpus, self.movable, vmemmap) }
                .expect("memory");
        let mut allocator = allocator(&mut memblock, sim.machine(), nodes, &self.cpu_nodes);
        let owner = self.debugging.contains(DebugOptions::OWNER).then(|| {
            // SAFETY: these nodes were built from this memblock, of which nothing was handed over yet.
            unsafe { PageOwner::allocate(&mut memblock, &nodes) }
        });
        allocator.set_debugging(self.debugging, owner.flatten());
        let direct_map = self.debugging.contains(DebugOptions::PAGEALLOC).then(|| {
            let direct_map = SimDirectMap::leak(sim.machine(), end);
            allocator.set_debug_pagealloc(direct_map, self.guards);
            direct_map
        });
        // SAFETY: these nodes were built from this memblock, and its free memory is nobody's.
        let mut given = unsafe { init::hand_over(memblock, &allocator) };
        // SAFETY: that memblock was just handed over; the fixture keeps the memory as long as the area.
        let cma = reservation.map(|area| unsafe { Cma::activate(area, &allocator) }.expect("one zone"));
        given += cma.as_ref().map_or(0, |area| area.pages().nr_pages());
        allocator.set_running();
        let mut sysctl = Sysctl::default();
        let cpu_nodes = self.cpu_nodes.clone();
        let machine = TestMachine { cma, allocator, direct_map, cpu_nodes, sysctl, given, sim };
        machine.with_cpus(|cpus| {
            nodes.init_watermarks(&mut sysctl, cpus);
            nodes.raise_min_free(&mut sysctl, self.huge_pages, cpus);
        });
        TestMachine { sysctl, ..machine }
    }
}

pub(super) fn allocator(
    memblock: &mut Memblock<'_>,
    machine: Machine,
    nodes: Nodes,
    cpu_nodes: &[NodeId],
) -> PageAllocator {
    let nr_cpus = cpu_nodes.len() as u32;
    let layout = PageAllocator::layout(nr_cpus).expect("a size");
    let range =
        memblock.alloc(Request::new(layout.size() as u64).align(layout.align() as u64)).expect("memory");
    let at = NonNull::new(machine.phys_to_virt(crate::PhysAddr::new(range.start()))).expect("an address");
    // SAFETY: just allocated with that layout, kept by the fixture; the only allocator; as many CPUs as lists.
    unsafe { PageAllocator::new(nodes, at, nr_cpus, |cpu: CpuId| cpu_nodes[cpu.index()]) }
}

impl NodeMap for Spec {
    fn nr_ids(&self) -> usize {
        let ids = self.ram.iter().map(|r| r.0).chain(self.cpu_nodes.iter().copied());
        ids.map(|n| n.index() + 1).max().unwrap_or(1)
    }

    fn is_possible(&self, node: NodeId) -> bool {
        self.ram.iter().any(|r| r.0 == node) || self.cpu_nodes.contains(&node)
    }

    fn is_online(&self, node: NodeId) -> bool {
        self.is_possible(node)
    }

    fn distance(&self, from: NodeId, to: NodeId) -> u64 {
        let known = self.distances.get(from.index()).and_then(|row| row.get(to.index()));
        known.copied().unwrap_or(if from == to { 10 } else { 20 })
    }
}

/// A machine whose page allocator runs.
#[derive(Debug)]
pub struct TestMachine {
    // Before the memory they live in.
    cma: Option<Cma<'static>>,
    allocator: PageAllocator,
    direct_map: Option<&'static SimDirectMap>,
    cpu_nodes: Vec<NodeId>,
    sysctl: Sysctl,
    given: u64,
    sim: SimMachine,
}

impl TestMachine {
    /// The page allocator.
    pub fn allocator(&self) -> &PageAllocator {
        &self.allocator
    }

    /// The contiguous-memory area, where one was asked for.
    pub fn cma(&self) -> Option<&Cma<'static>> {
        self.cma.as_ref()
    }

    /// Which frames are accessible, with [`DebugOptions::PAGEALLOC`].
    pub fn direct_map(&self) -> Option<&'static SimDirectMap> {
        self.direct_map
    }

    /// The page allocator, and what it and its memory live in: to be dropped after it.
    pub fn into_parts(self) -> (PageAllocator, SimMachine) {
        (self.allocator, self.sim)
    }

    /// The nodes.
    pub fn nodes(&self) -> &Nodes {
        self.allocator.nodes()
    }

    /// The settings that limits were computed from.
    pub fn sysctl(&self) -> &Sysctl {
        &self.sysctl
    }

    /// Pages that boot handed over.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// How many CPUs there are.
    pub fn nr_cpus(&self) -> u32 {
        self.cpu_nodes.len() as u32
    }

    /// Calls `f` with the CPUs, all online.
    pub fn with_cpus<R>(&self, f: impl FnOnce(Cpus<'_>) -> R) -> R {
        let of_node = |node| self.cpu_nodes.iter().filter(|n| **n == node).count() as u32;
        f(Cpus { online: self.nr_cpus(), of_node: &of_node })
    }
}
