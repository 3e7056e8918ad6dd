//! The page allocator: physically contiguous blocks of 1 to 1024 pages, from the zone that suits best.
//!
//! ```text
//! alloc_pages(gfp, order)                                   free_pages(block)
//!   | this CPU's list of the preferred zone: no lock          | sole user, clean: this CPU's list of its zone
//!   | order 4 to 8 and 10: a block of the type, same zone     |
//!   v neither                                                 v list full, or order 4 to 8 and 10
//! slow: zonelist, watermarks; refill from the buddy         buddy, merged with free neighbours
//! ```
//!
//! # Invariants
//! - G1: every page of a populated zone that is managed is in exactly one place: a free block of its zone's `FreeAreas`, a
//!   list of some CPU's `Pcp` of its zone, given out, or a guard page (`buddy`'s `guard`). `NR_FREE_PAGES` counts the first
//!   kind.
//! - G2: a [`PageBlock`] stands for one reference to a block that was given out; its first page has a refcount of at least
//!   one, which keeps the block.
//! - G3: a CPU's `Pcp` slots and its `Local` are touched by that CPU only, interrupts off, one use at a time.
//! - G4: the zones and per-CPU lists that a `Local` points to live as long as the allocator's `Nodes`.
//!
//! # Locking
//! The zone's lock around every use of its free lists, taken with interrupts off; nothing is called under it but the buddy.
//! Any context, also interrupt handlers: what is allocated with [`Gfp::DIRECT_RECLAIM`] may sleep, the rest never does.
//!
//! # Not here
//! Free lists themselves (`buddy`, `pcp`); limits of zones and the order in which they are tried (`zone`, `node`);
//! reclaim, compaction and the OOM killer, which get their turn in [`slow`] before an allocation fails ([`Reclaim`]).
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "owns pages by raw pointers")]
mod block;
mod boot;
mod bulk;
mod check;
mod context;
#[allow(unsafe_code, reason = "owns pages by their numbers")]
mod contig;
mod debug;
mod destructor;
#[allow(unsafe_code, reason = "makes slices of memory that it owns")]
mod exact;
#[allow(unsafe_code, reason = "reaches per-CPU lists without locks")]
mod fast;
mod fault_inject;
mod flags;
mod highatomic;
mod hooks;
mod isolate;
#[allow(unsafe_code, reason = "makes slices of memory that it owns")]
mod memory;
mod names;
mod numa_stat;
mod ratelimit;
mod report;
mod retry;
mod rmqueue;
mod show_mem;
mod slow;
mod validate;
mod walk;
mod watermark;

#[cfg(test)]
mod fragmentation;
#[cfg(all(test, debug_assertions))]
mod interleave;
#[cfg(test)]
#[allow(unsafe_code, reason = "looks at pages by their numbers, and at their memory")]
mod model;
#[cfg(test)]
#[allow(unsafe_code, reason = "takes references apart")]
mod ownership;
#[cfg(test)]
#[allow(unsafe_code, reason = "frees pages from within hooks")]
mod policy_tests;
#[cfg(test)]
#[allow(unsafe_code, reason = "frees pages wrongly on purpose")]
mod tests;

pub use block::{PageBlock, SplitPages};
pub use contig::{ContigError, ContigPages, ContigType};
pub use debug::{DebugOptions, GuardMinorder, MapPages, PageOwner};
pub use destructor::Retire;
pub use exact::ExactPages;
pub use fault_inject::{FailSpec, Malformed};
pub use hooks::{CompactPriority, CompactResult, Context, Progress, Reclaim, Reserves, Shortage};
pub use isolate::IsolatedRange;
pub use memory::PageMemory;
pub use names::GfpNames;
pub use numa_stat::NumaStat;
pub use report::{bug, dump_page};

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::AtomicBool;

use crate::arch::{IrqGuard, Machine};
use crate::buddy::Pageblocks;
use crate::counters::CpuEvents;
use crate::gfp::{Gfp, MigrateType};
use crate::id::{CpuId, NodeId};
use crate::node::Nodes;
use crate::numa::NodeMask;
use crate::order::Order;
use crate::pcp::{EventCounts, ListIdx};
use crate::percpu::PerCpu;
use crate::pfn::Pfn;
use crate::sparse::Sparse;
use crate::zone::Zone;

use context::Running;
use debug::Debugging;
use destructor::Destructors;
use fast::Local;
use fault_inject::FaultInjection;
use hooks::Hooks;
use numa_stat::NumaCounting;
use ratelimit::RateLimit;

/// No memory for an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllocError;

impl core::fmt::Display for AllocError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for AllocError {}

impl Pageblocks for Sparse {
    #[inline(always)]
    fn migrate_type(&self, pfn: Pfn) -> MigrateType {
        self.migrate_type(pfn)
    }

    fn set_migrate_type(&self, pfn: Pfn, migrate_type: MigrateType) {
        self.set_migrate_type(pfn, migrate_type);
    }
}

/// The page allocator of a machine.
#[derive(Debug)]
pub struct PageAllocator {
    nodes: Nodes,
    machine: Machine,
    local: PerCpu<Local>,
    /// Nodes that are online.
    nr_nodes: usize,
    vm_events: CpuEvents,
    /// Of reports of failures.
    reports: RateLimit,
    hooks: Hooks,
    /// Somebody has the OOM killer at work (Linux: `oom_lock`).
    oom: AtomicBool,
    running: Running,
    /// Whether allocations fail on purpose.
    injection: Option<FaultInjection>,
    debugging: Debugging,
    destructors: Destructors,
    numa_counting: NumaCounting,
}

impl PageAllocator {
    /// Memory that [`new`](Self::new) needs for that many CPUs; `None` when its size overflows.
    pub fn layout(nr_cpus: u32) -> Option<Layout> {
        Self::layout_and_events(nr_cpus).map(|(layout, _)| layout)
    }

    /// The same, and where the counts of events begin in it.
    fn layout_and_events(nr_cpus: u32) -> Option<(Layout, usize)> {
        let local = PerCpu::<Local>::layout(nr_cpus)?;
        let (layout, events) = local.extend(CpuEvents::layout(nr_cpus)?).ok()?;
        Some((layout.pad_to_align(), events))
    }

    /// The allocator over those nodes, for CPUs `0..nr_cpus`, each near to the node that `node_of` names.
    ///
    /// # Safety
    /// `memory` is writable, of [`layout`](Self::layout)'s size and alignment, nobody else's, and lives as long as the
    /// result. The zones' per-CPU lists have slots for `nr_cpus` CPUs at least. There is no other allocator over `nodes`.
    #[allow(unsafe_code, reason = "hands the caller's memory on")]
    pub unsafe fn new(
        nodes: Nodes,
        memory: NonNull<u8>,
        nr_cpus: u32,
        node_of: impl Fn(CpuId) -> NodeId,
    ) -> Self {
        let (_, events_at) = Self::layout_and_events(nr_cpus).expect("the caller has memory of that layout");
        // SAFETY: the caller's memory, whose first part is as long as `events_at` says.
        let (local, vm_events) = unsafe {
            let local = PerCpu::init(memory, nr_cpus, |cpu| Local::new(&nodes, cpu, node_of(cpu)));
            (local, CpuEvents::new(memory.add(events_at), nr_cpus))
        };
        Self {
            machine: nodes.sparse().machine(),
            nr_nodes: nodes.iter().count(),
            nodes,
            local,
            vm_events,
            reports: RateLimit::new(),
            hooks: Hooks::new(),
            oom: AtomicBool::new(false),
            running: Running::new(),
            injection: None,
            debugging: Debugging::new(),
            destructors: Destructors::new(),
            numa_counting: NumaCounting::new(),
        }
    }

    /// The nodes that it allocates from.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The machine that it is of.
    #[inline(always)]
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// What happened on each CPU, for whoever has something to count (Linux: `count_vm_event`). Blocks allocated and freed
    /// are not in it: [`events`](Self::events) has them.
    #[inline]
    pub fn vm_events(&self) -> &CpuEvents {
        &self.vm_events
    }

    /// Says how fast [`arch::ticks`](crate::arch::ticks) goes: from now on failures are reported at most every ten
    /// seconds (Linux: `nopage_rs`), until then each of them.
    pub fn set_tick_khz(&self, khz: u64) {
        self.reports.set_interval(khz.saturating_mul(report::REPORT_MILLISECONDS));
    }

    /// A block of `order`, refcount 1, from the node of this CPU or the nearest that has memory (Linux: `alloc_pages`).
    /// Contents are whatever they were unless [`Gfp::ZERO`]. Any context. Some 25 instructions when this CPU's list has a
    /// block and the flags are known, 60 when they are not; nothing for options, which take such lists away.
    ///
    /// # Errors
    /// When no zone that `gfp` allows has a block without falling below its reserves; reported in the log, but not more
    /// than once in a while and not with [`Gfp::NOWARN`].
    // Always: where the flags are known, half of it is gone.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn alloc_pages(&self, gfp: Gfp, order: Order) -> Result<PageBlock, AllocError> {
        self.might_alloc(gfp);
        if !gfp.intersects(Gfp::THISNODE.union(Gfp::WRITE)) {
            let Some(list) = ListIdx::new(order, gfp.migrate_type()) else {
                return self.alloc_unlisted(gfp, order);
            };
            if let Some(block) = self.pop_local(gfp.zone(), list, order) {
                return Ok(self.hand_out(block, gfp));
            }
        }
        self.alloc_slow(gfp, order, None)
    }

    /// As [`alloc_pages`](Self::alloc_pages), from node `node` or the nearest to it; with [`Gfp::THISNODE`] from `node`
    /// only (Linux: `__alloc_pages_node`).
    ///
    /// # Errors
    /// As [`alloc_pages`](Self::alloc_pages), and when there is no such node.
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn alloc_pages_node(&self, node: NodeId, gfp: Gfp, order: Order) -> Result<PageBlock, AllocError> {
        self.might_alloc(gfp);
        if !gfp.contains(Gfp::WRITE)
            && let Some(list) = ListIdx::new(order, gfp.migrate_type())
            && let Some(block) = self.pop_local_of(node, gfp.zone(), list, order)
        {
            return Ok(self.hand_out(block, gfp));
        }
        self.alloc_slow(gfp, order, Some(node))
    }

    /// As [`alloc_pages`](Self::alloc_pages), from the nodes of `nodemask` only, nearest to `node` (`None`: this CPU's)
    /// first. Without a mask, from those that the context's memory may come from ([`Context::allowed_nodes`]); the
    /// kernel's own memory, which is not [`Gfp::HARDWALL`], may come from others when those have nothing left, and what is
    /// [`Gfp::ATOMIC`] or may use reserves from anywhere (Linux: `__alloc_pages`). Takes no per-CPU short cut.
    ///
    /// # Errors
    /// As [`alloc_pages`](Self::alloc_pages), and when the mask has no memory.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn alloc_pages_nodemask(
        &self,
        gfp: Gfp,
        order: Order,
        node: Option<NodeId>,
        nodemask: Option<&NodeMask>,
    ) -> Result<PageBlock, AllocError> {
        self.might_alloc(gfp);
        self.alloc_masked(gfp, order, node, nodemask)
    }

    /// A zeroed block (Linux: `alloc_pages` with `__GFP_ZERO`).
    ///
    /// # Errors
    /// As [`alloc_pages`](Self::alloc_pages).
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn alloc_zeroed(&self, gfp: Gfp, order: Order) -> Result<PageBlock, AllocError> {
        self.alloc_pages(gfp | Gfp::ZERO, order)
    }

    /// As [`alloc_pages_node`](Self::alloc_pages_node), counted as interleaved when it is from `node` (Linux:
    /// `alloc_page_interleave`). Choosing nodes in turn is the caller's.
    ///
    /// # Errors
    /// As [`alloc_pages_node`](Self::alloc_pages_node).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn alloc_pages_interleave(
        &self,
        node: NodeId,
        gfp: Gfp,
        order: Order,
    ) -> Result<PageBlock, AllocError> {
        let block = self.alloc_pages_node(node, gfp, order)?;
        if block.page().node() == node {
            let zone = self.nodes.zone_of(&block.page());
            self.with_pcp(zone, &IrqGuard::new(), |pcp| pcp.events.interleaved());
        }
        Ok(block)
    }

    /// Gives up the reference that `block` stands for; the last one frees the pages (Linux: `__free_pages`). Any context.
    /// A page in a wrong state is a bug: see [`bug`].
    #[inline]
    pub fn free_pages(&self, block: PageBlock) {
        match block.into_free_if_clean() {
            Ok(single) => self.free_clean(single),
            Err(block) => self.free_larger(block),
        }
    }

    /// What all CPUs did with a zone.
    pub fn events(&self, zone: &Zone) -> EventCounts {
        let mut sum = EventCounts::default();
        for cpu in (0..zone.pagesets().nr_cpus()).map(CpuId) {
            let mut events = fast::peek_events(zone, cpu);
            // A CPU is near to one node only: what it took of another's zone was remote, all of it.
            if self.node_of(cpu) != zone.node() {
                events.numa_other = events.nr_allocs();
            }
            sum.add(&events);
        }
        sum
    }

    /// Pages on `cpu`'s lists of a zone, as of just now.
    pub fn pcp_count(&self, zone: &Zone, cpu: CpuId) -> u32 {
        fast::peek_count(zone, cpu)
    }

    /// Pages on all CPUs' lists of a zone.
    pub fn pcp_pages(&self, zone: &Zone) -> u64 {
        (0..zone.pagesets().nr_cpus()).map(|cpu| u64::from(fast::peek_count(zone, CpuId(cpu)))).sum()
    }

    /// Free pages of the machine, those on per-CPU lists not counted (Linux: `nr_free_pages`).
    pub fn free_pages_total(&self) -> u64 {
        self.nodes.populated_zones().map(Zone::nr_free).sum()
    }
}
