//! What the page allocator asks of others when memory is short, and of whoever runs. Each is given once, at boot.
//!
//! ```text
//! Reclaim    kswapd, compaction, reclaim, the OOM killer        until given: there is nothing to reclaim
//! CallCpus   other CPUs, whose lists are to be drained          until given: only this CPU runs
//! Context    the thread or interrupt that allocates             until given: boot, with no name and no rights
//! ```
//!
//! # Locking
//! All are called without a lock of the allocator's, from the context that allocates; those that may sleep only with
//! `__GFP_DIRECT_RECLAIM`.

use core::fmt;

use spin::Once;

use crate::arch;
use crate::gfp::Gfp;
use crate::id::{NodeId, ZoneIdx};
use crate::node::Zonelist;
use crate::numa::NodeMask;
use crate::order::Order;
use crate::smp::{CallCpus, OnlyThisCpu};
use crate::zone::Zone;

/// An allocation that found nothing, and where it may look (Linux: `struct alloc_context`).
#[derive(Clone, Copy, Debug)]
pub struct Shortage<'a> {
    /// Its flags.
    pub gfp: Gfp,
    /// Its size.
    pub order: Order,
    /// The highest zone that it may come from.
    pub highest: ZoneIdx,
    /// The zones, in order.
    pub zonelist: &'a Zonelist,
    /// The nodes that it may come from; `None`: all.
    pub nodemask: Option<&'a NodeMask>,
}

impl<'a> Shortage<'a> {
    /// The zones that it may come from, in order (Linux: `for_each_zone_zonelist_nodemask`).
    pub fn zones(&self) -> impl Iterator<Item = &'a Zone> + use<'a> {
        let mask = self.nodemask;
        self.zonelist.zones(self.highest).filter(move |zone| mask.is_none_or(|m| m.contains(zone.node())))
    }
}

/// How much compaction may cost (Linux: `enum compact_priority`), dearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CompactPriority {
    /// Waits for pages, and looks at pageblocks that were skipped.
    SyncFull,
    /// Waits a little.
    SyncLight,
    /// Waits for nothing.
    Async,
}

/// What came of compaction (Linux: `enum compact_result`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompactResult {
    /// Not tried: too few free pages.
    Skipped,
    /// Not tried: it failed too often of late.
    Deferred,
    /// Given up: somebody else had a lock, or the time was up.
    Contended,
    /// A part of the zone was looked at, to no avail.
    PartialSkipped,
    /// All was looked at, to no avail.
    Complete,
    /// There is a block of that order now.
    Success,
}

/// Whether another try makes sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Something may have come free.
    Made,
    /// Nothing did.
    None,
}

/// How memory comes back. Reclaim and compaction mark the thread meanwhile, so that [`Context::reserves`] is
/// [`Reserves::All`]: they do not call themselves.
pub trait Reclaim: Sync {
    /// Wakes kswapd of the zone's node: a zone up to `highest` is below its low watermark, or boosted (Linux:
    /// `wakeup_kswapd`). Any context.
    fn wake_kswapd(&self, zone: &Zone, gfp: Gfp, order: Order, highest: ZoneIdx);

    /// Tries to make a block of the order by moving pages (Linux: `try_to_compact_pages`). May sleep.
    fn compact(&self, what: &Shortage<'_>, priority: CompactPriority) -> CompactResult;

    /// What came of a compaction that was not skipped: a block, from that zone, or none (Linux: `compaction_defer_reset`,
    /// `COMPACTSUCCESS`, `COMPACTFAIL`).
    fn compacted(&self, order: Order, zone: Option<&Zone>) {
        let _ = (order, zone);
    }

    /// Frees pages; how many (Linux: `try_to_free_pages`). May sleep.
    fn reclaim(&self, what: &Shortage<'_>) -> u64;

    /// How many pages of a zone could be freed (Linux: `zone_reclaimable_pages`).
    fn reclaimable_pages(&self, zone: &Zone) -> u64;

    /// Kills something, for who has no other way (Linux: `out_of_memory`). May sleep. One call at a time. With nothing to
    /// kill it may stop the machine; when it returns [`Progress::None`], the allocation fails.
    fn out_of_memory(&self, what: &Shortage<'_>) -> Progress;

    /// Lets others run before another try: what they free is what it waits for (Linux: `cond_resched`,
    /// `schedule_timeout_uninterruptible(1)`). May sleep.
    fn pause(&self);

    /// Whether kswapd has given a node up (Linux: `kswapd_failures`), for reports.
    fn is_unreclaimable(&self, node: NodeId) -> bool {
        let _ = node;
        false
    }
}

/// Which reserves a context may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserves {
    /// What its flags say.
    None,
    /// A victim of the OOM killer: some, so that it can end.
    Oom,
    /// Who frees memory: all (Linux: `PF_MEMALLOC`).
    All,
}

/// Who allocates: the thread that runs, or the interrupt on it.
pub trait Context: Sync {
    /// Writes the thread's name (Linux: `current->comm`).
    ///
    /// # Errors
    /// Those of `out`.
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// The thread's number.
    fn pid(&self) -> u32;

    /// What it may use of the reserves.
    fn reserves(&self) -> Reserves {
        Reserves::None
    }

    /// The flags less what the thread may not do for now (Linux: `current_gfp_context`: `memalloc_nofs_save` and alike).
    fn flags(&self, gfp: Gfp) -> Gfp {
        gfp
    }

    /// The nodes that the thread's memory may come from; `None`: all (Linux: `cpuset_current_mems_allowed`). A context
    /// that has a mask allocates by [`alloc_pages_nodemask`](super::PageAllocator::alloc_pages_nodemask).
    fn allowed_nodes(&self) -> Option<&NodeMask> {
        None
    }

    /// Whether it is a thread, not an interrupt handler (Linux: `in_task`).
    fn in_task(&self) -> bool {
        true
    }

    /// How often preemption was disabled (Linux: `preempt_count`), for reports.
    fn preempt_count(&self) -> u32 {
        0
    }

    /// Lets other threads run before the caller looks again whether what it waits for has come (Linux: `cond_resched`).
    /// Only where it may sleep.
    fn pause(&self) {
        core::hint::spin_loop();
    }

    /// Logs on which CPU and in which thread this is, and how it came here (Linux: `dump_stack`). Any context.
    fn dump_stack(&self) {}
}

/// Nobody has said yet who runs.
struct Boot;

impl Context for Boot {
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("swapper/0")
    }

    fn pid(&self) -> u32 {
        0
    }
}

/// What was given.
#[derive(Default)]
pub(super) struct Hooks {
    reclaim: Once<&'static dyn Reclaim>,
    cpus: Once<&'static dyn CallCpus>,
    context: Once<&'static dyn Context>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("reclaim", &self.reclaim.is_completed()).finish_non_exhaustive()
    }
}

impl Hooks {
    pub(super) const fn new() -> Self {
        Self { reclaim: Once::new(), cpus: Once::new(), context: Once::new() }
    }

    pub(super) fn reclaim(&self) -> Option<&'static dyn Reclaim> {
        self.reclaim.get().copied()
    }

    pub(super) fn cpus(&self) -> &'static dyn CallCpus {
        self.cpus.get().copied().unwrap_or(&OnlyThisCpu)
    }

    pub(super) fn context(&self) -> &'static dyn Context {
        self.context.get().copied().unwrap_or(&Boot)
    }
}

impl super::PageAllocator {
    /// Says how memory comes back. The first call counts.
    pub fn set_reclaim(&self, reclaim: &'static dyn Reclaim) {
        self.hooks.reclaim.call_once(|| reclaim);
    }

    /// Says how other CPUs are reached. The first call counts.
    pub fn set_cpus(&self, cpus: &'static dyn CallCpus) {
        self.hooks.cpus.call_once(|| cpus);
    }

    /// Says who runs. The first call counts.
    pub fn set_context(&self, context: &'static dyn Context) {
        self.hooks.context.call_once(|| context);
    }

    /// Lets others run: see [`Context::pause`].
    pub(crate) fn pause(&self) {
        self.hooks.context().pause();
    }

    /// Gives the pages on all CPUs' lists back to the buddy; from a context that must not wait for other CPUs, those on
    /// this CPU's (Linux: `drain_all_pages`). Interrupts CPUs that have pages on their lists.
    pub fn drain_all(&self) {
        if !arch::may_sleep() {
            return self.drain_local();
        }
        let has_pages = |cpu| self.nodes().populated_zones().any(|zone| self.pcp_count(zone, cpu) > 0);
        self.hooks.cpus().on_each(&has_pages, &|| self.drain_local());
    }
}
