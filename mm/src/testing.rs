//! A machine with a working page allocator in a line, for the tests of whatever allocates pages.
//!
//! ```text
//! let m = TestMachine::new(64);                       64 MiB, 1 node, 1 CPU: zones DMA and DMA32
//! let m = TestMachine::with(6 << 10, 2, 4);           6 GiB, 2 nodes, 4 CPUs, CPU n on node n % 2
//! let block = m.pages.alloc_pages(Gfp::KERNEL, order)?;
//! arch::run_as_cpu(CpuId(3), || ...);
//! ```
//! Dropping it checks the whole allocator and that every page has come back.

use std::alloc::alloc;
use std::vec::Vec;

use core::ptr::NonNull;

use crate::arch::{Machine, SimMachine, run_as_cpu};
use crate::id::{CpuId, NodeId, ZoneIdx};
use crate::node::Nodes;
use crate::page::Page;
use crate::page_alloc::PageAllocator;
use crate::pfn::{Pfn, PfnRange};
use crate::sparse::Sparse;
use crate::zone::Zone;

/// Such a machine.
#[derive(Debug)]
pub(crate) struct TestMachine {
    /// Its page allocator.
    pub(crate) pages: PageAllocator,
    /// Free pages at the start.
    pub(crate) all_pages: u64,
    nr_cpus: u32,
    leaks_allowed: bool,
    sim: SimMachine,
}

const MIB_PAGES: u64 = 256;

impl TestMachine {
    /// One node, one CPU.
    pub(crate) fn new(mib: u64) -> Self {
        Self::with(mib, 1, 1)
    }

    /// `mib` MiB from address 0 on, in equal parts for `nr_nodes` nodes. Frame 0 is reserved.
    pub(crate) fn with(mib: u64, nr_nodes: u64, nr_cpus: u32) -> Self {
        let end = Pfn::new(mib * MIB_PAGES);
        // Whole sections have struct pages, as on the real machine.
        let sim = SimMachine::new(end.align_up(crate::sparse::SECTION_NR_PAGES).byte());
        let machine = sim.machine();
        let spans: Vec<_> = (0..nr_nodes)
            .map(|n| zone_spans(end.get() * n / nr_nodes, end.get() * (n + 1) / nr_nodes))
            .collect();
        let nodes = Nodes::for_test(Sparse::for_test(machine, end), &spans, nr_cpus);
        for zone in nodes.populated_zones() {
            for pfn in zone.span().iter() {
                let make = if pfn == Pfn::default() { Page::reserved } else { Page::free };
                // SAFETY: inside the machine's vmemmap.
                unsafe { machine.page(pfn).write(make(zone.node(), zone.idx())) };
            }
        }
        // SAFETY: the layout's size is not zero; memory of that layout, leaked; the nodes' only allocator.
        let pages = unsafe {
            let memory = NonNull::new(alloc(PageAllocator::layout(nr_cpus).unwrap())).unwrap();
            PageAllocator::new(nodes, memory, nr_cpus, |cpu| NodeId((cpu.0 as u64 % nr_nodes) as u16))
        };
        let mut all_pages = 0;
        for zone in nodes.populated_zones() {
            let range = PfnRange::new(zone.start_pfn().max(Pfn::new(1)), zone.span().end);
            // SAFETY: RAM of one node that nobody has had before.
            all_pages += unsafe { pages.hand_over(range) };
        }
        for zone in nodes.populated_zones() {
            set_limits(&nodes, zone, nr_cpus);
        }
        Self { pages, all_pages, nr_cpus, leaks_allowed: false, sim }
    }

    /// The machine.
    pub(crate) fn machine(&self) -> Machine {
        self.sim.machine()
    }

    /// Free pages, those on per-CPU lists included.
    pub(crate) fn free_pages(&self) -> u64 {
        self.pages.nodes().populated_zones().map(|z| z.nr_free() + self.pages.pcp_pages(z)).sum()
    }

    /// All pages on per-CPU lists go back to the buddy.
    pub(crate) fn drain_all(&self) {
        for cpu in 0..self.nr_cpus {
            run_as_cpu(CpuId(cpu), || self.pages.drain_local());
        }
    }

    /// This test leaves pages allocated, or breaks something on purpose.
    pub(crate) fn allow_leaks(&mut self) {
        self.leaks_allowed = true;
    }
}

impl Drop for TestMachine {
    fn drop(&mut self) {
        if self.leaks_allowed || std::thread::panicking() {
            return;
        }
        self.pages.validate();
        self.drain_all();
        self.pages.validate();
        assert_eq!(self.pages.free_pages_total(), self.all_pages, "free pages at the end and at the start");
    }
}

fn zone_spans(start: u64, end: u64) -> [PfnRange; ZoneIdx::COUNT] {
    let node = PfnRange::new(Pfn::new(start), Pfn::new(end));
    let bounds = [0, 16 * MIB_PAGES, 4096 * MIB_PAGES, u64::MAX];
    ZoneIdx::ALL.map(|idx| match bounds.get(idx.index()..idx.index() + 2) {
        Some(&[low, high]) => node.intersect(PfnRange::new(Pfn::new(low), Pfn::new(high))),
        _ => PfnRange::default(),
    })
}

/// Watermarks and reserves near Linux's.
fn set_limits(nodes: &Nodes, zone: &Zone, nr_cpus: u32) {
    let total: u64 = nodes.populated_zones().map(Zone::managed).sum();
    let min = (total * 64).isqrt() / 4 * zone.managed() / total;
    zone.set_watermarks([min, min + min / 4, min + min / 2]);
    let node = nodes.get(zone.node()).unwrap();
    let above = |idx: ZoneIdx| -> u64 {
        node.zones().iter().filter(|z| z.idx() > zone.idx() && z.idx() <= idx).map(Zone::managed).sum()
    };
    zone.set_lowmem_reserve(ZoneIdx::ALL.map(|idx| above(idx) / 256));
    let batch = ((zone.managed() / 1024).min(256) / 4).max(1) as u32;
    zone.set_pcp_limits((min as u32 / nr_cpus).max(batch * 4), batch);
}
