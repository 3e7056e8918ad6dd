//! A machine with a working page allocator in a line, for the tests of whatever allocates pages.
//!
//! ```text
//! let m = TestMachine::new(64);                       64 MiB, 1 node, 1 CPU: zones DMA and DMA32
//! let m = TestMachine::with(6 << 10, 2, 4);           6 GiB, 2 nodes, 4 CPUs, CPU n on node n % 2
//! let block = m.pages.alloc_pages(Gfp::KERNEL, order)?;
//! arch::run_as_cpu(CpuId(3), || ...);
//! ```
//! Dropping it checks the whole allocator and that every page has come back.

pub(crate) mod mailboxes;
pub(crate) mod page_map;
#[cfg(debug_assertions)]
pub(crate) mod schedule;

use crate::PAGE_SIZE;
use crate::arch::{Machine, SimMachine, run_as_cpu};
use crate::id::CpuId;
use crate::init::testing::{SimDirectMap, Spec};
use crate::page_alloc::{DebugOptions, GuardMinorder, PageAllocator};
use crate::smp::CallCpus;

/// Such a machine.
#[derive(Debug)]
pub(crate) struct TestMachine {
    /// Its page allocator.
    pub(crate) pages: PageAllocator,
    /// Free pages at the start.
    pub(crate) all_pages: u64,
    /// Which frames are accessible, with [`DebugOptions::PAGEALLOC`].
    pub(crate) direct_map: Option<&'static SimDirectMap>,
    nr_cpus: u32,
    leaks_allowed: bool,
    // What the allocator lives in goes last.
    sim: SimMachine,
}

impl TestMachine {
    /// One node, one CPU.
    pub(crate) fn new(mib: u64) -> Self {
        Self::with(mib, 1, 1)
    }

    /// `mib` MiB from address 0 on, in equal parts for `nr_nodes` nodes. The first page is reserved.
    pub(crate) fn with(mib: u64, nr_nodes: u64, nr_cpus: u32) -> Self {
        Self::boot(mib, nr_nodes, nr_cpus, DebugOptions::empty())
    }

    /// One node, one CPU, and debugging options.
    pub(crate) fn debugged(mib: u64, options: DebugOptions) -> Self {
        Self::boot(mib, 1, 1, options)
    }

    pub(crate) fn boot(mib: u64, nr_nodes: u64, nr_cpus: u32, options: DebugOptions) -> Self {
        Self::guarded(mib, nr_nodes, nr_cpus, options, GuardMinorder::NONE)
    }

    pub(crate) fn guarded(
        mib: u64,
        nr_nodes: u64,
        nr_cpus: u32,
        options: DebugOptions,
        guards: GuardMinorder,
    ) -> Self {
        let start = |node: u64| (mib << 20) / PAGE_SIZE as u64 * node / nr_nodes * PAGE_SIZE as u64;
        let spec = (0..nr_nodes).fold(Spec::new().reserved(0..PAGE_SIZE as u64), |spec, node| {
            spec.ram(node as u16, start(node)..start(node + 1))
        });
        let spec = (0..nr_cpus).fold(spec, |spec, cpu| spec.cpus((u64::from(cpu) % nr_nodes) as u16, 1));
        let machine = spec.debugging(options).guards(guards).boot();
        let (all_pages, direct_map) = (machine.given(), machine.direct_map());
        let (pages, sim) = machine.into_parts();
        Self { pages, all_pages, direct_map, nr_cpus, leaks_allowed: false, sim }
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

impl CallCpus for TestMachine {
    /// The calling thread is each CPU in turn: for tests in which nothing runs at the same time.
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
        for cpu in (0..self.nr_cpus).map(CpuId).filter(|cpu| wanted(*cpu)) {
            run_as_cpu(cpu, f);
        }
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
        let free = self.pages.free_pages_total() + self.pages.nr_debug_pages();
        assert_eq!(free, self.all_pages, "free pages at the end and at the start");
    }
}
