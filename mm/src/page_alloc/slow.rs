//! What is tried before an allocation fails, in Linux's order (`__alloc_pages_slowpath`).
//!
//! ```text
//! first try, above low
//!   v
//! kswapd woken -> above min -> [costly or unmovable: compaction, asynchronous]
//!   v                                                                              <-----------------+
//! kswapd woken -> with reserves -> [may wait: reclaim -> drained -> compaction] -> again? -- yes ----+
//!   v no                                                                                             |
//! high-atomic reserves, OOM killer: progress? -- yes ------------------------------------------------+
//!   v no                                                                                             |
//! NOFAIL: harder ------------------------------------------------------------------------------------+
//!   v else
//! report, error
//! ```
//! As long as nobody has said how memory comes back ([`PageAllocator::set_reclaim`]), there is nothing to wait for: then
//! what must not fail may use all reserves, and fails with them. An allocation that cannot wait has this CPU's lists
//! drained before it fails, and what may use all reserves gets the high-atomic ones, which Linux leaves out.

use crate::buddy::FreeBlock;
use crate::counters::VmEvent;
use crate::gfp::{Gfp, MigrateType};
use crate::id::NodeId;
use crate::node::Zonelist;
use crate::numa::NodeMask;
use crate::order::Order;
use crate::pcp::COSTLY_ORDER;

use super::flags::AllocFlags;
use super::hooks::{CompactPriority, CompactResult, Progress, Reclaim, Reserves};
use super::retry::Retries;
use super::walk::Request;
use super::watermark::Depth;
use super::{AllocError, PageAllocator, PageBlock};

/// What a step found.
pub(super) type Found = Option<FreeBlock>;

impl PageAllocator {
    /// An allocation that this CPU's list could not serve (Linux: `__alloc_pages`).
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_slow(
        &self,
        gfp: Gfp,
        order: Order,
        node: Option<NodeId>,
    ) -> Result<PageBlock, AllocError> {
        self.alloc_request(Request::new(gfp, order, node))
    }

    /// The same, from the nodes of a mask only.
    #[cold]
    pub(super) fn alloc_masked(
        &self,
        gfp: Gfp,
        order: Order,
        node: Option<NodeId>,
        nodemask: Option<&NodeMask>,
    ) -> Result<PageBlock, AllocError> {
        let request = Request { nodemask, ..Request::new(gfp, order, node) };
        let context = self.hooks.context();
        match context.allowed_nodes() {
            // The context's own nodes are the mask of who has none; others have both.
            Some(allowed) if nodemask.is_none() && context.in_task() => {
                self.alloc_first(Request { nodemask: Some(allowed), ..request }, request, AllocFlags::empty())
            }
            // The first try is as hard for the kernel's own pages (Linux: `prepare_alloc_pages`).
            Some(_) => {
                let hard = Request { gfp: gfp | Gfp::HARDWALL, ..request };
                self.alloc_first(hard, request, AllocFlags::CPUSET)
            }
            None => self.alloc_request(request),
        }
    }

    #[inline(always)]
    fn alloc_request(&self, request: Request<'_>) -> Result<PageBlock, AllocError> {
        self.alloc_first(request, request, AllocFlags::empty())
    }

    /// The first try, with `first`, then all others with `request`.
    #[inline(always)]
    fn alloc_first(
        &self,
        first: Request<'_>,
        request: Request<'_>,
        flags: AllocFlags,
    ) -> Result<PageBlock, AllocError> {
        let gfp = request.gfp;
        if self.should_fail(gfp, request.order) {
            return Err(AllocError);
        }
        let list = self.zonelist(&request).ok_or(AllocError)?;
        if let Some(preferred) = self.preferred(list, &first) {
            let depth = Depth::first(gfp);
            let depth = depth.flags(depth.flags | flags | self.nofragment(preferred));
            if let Some(block) = self.walk(list, &first, depth) {
                return Ok(self.hand_out_slow(block, gfp));
            }
        }
        let block = self.alloc_slower(list, Request { spread_dirty_pages: false, ..request })?;
        Ok(self.hand_out_slow(block, gfp))
    }

    /// No zone is above its low watermark (Linux: `__alloc_pages_slowpath`).
    #[inline(never)]
    fn alloc_slower(&self, list: &Zonelist, mut request: Request<'_>) -> Result<FreeBlock, AllocError> {
        request.gfp = self.effective(request.gfp);
        let found = Attempt { pages: self, list, request, depth: Depth::second(request.gfp) }.run();
        if found.is_none() && !request.gfp.contains(Gfp::NOWARN) {
            self.report_failure(&request);
        }
        found.ok_or(AllocError)
    }

    /// The flags that count: less what the system does not do yet, and what contradicts itself.
    fn effective(&self, gfp: Gfp) -> Gfp {
        let gfp = self.hooks.context().flags(self.allowed(gfp));
        let contradiction = Gfp::ATOMIC | Gfp::DIRECT_RECLAIM;
        if gfp.contains(contradiction) {
            log::warn!("atomic reserves are not for who may wait: {}", super::GfpNames(gfp));
            return gfp - Gfp::ATOMIC;
        }
        gfp
    }
}

/// The way through the slow path.
pub(super) struct Attempt<'a> {
    pub(super) pages: &'a PageAllocator,
    pub(super) list: &'a Zonelist,
    pub(super) request: Request<'a>,
    pub(super) depth: Depth,
}

/// What a round ended with.
enum Round {
    Found(FreeBlock),
    Again,
    /// Nothing more to try.
    Failed,
}

impl Attempt<'_> {
    fn run(mut self) -> Found {
        self.pages.preferred(self.list, &self.request)?;
        self.wake_all_kswapds();
        if let Some(block) = self.walk() {
            return Some(block);
        }
        let mut retries = Retries::new();
        if let Some(reclaim) = self.pages.hooks.reclaim()
            && self.compacts_first()
        {
            let (found, result) = self.compact(reclaim, CompactPriority::Async);
            if found.is_some() {
                return found;
            }
            let given_up = matches!(result, CompactResult::Skipped | CompactResult::Deferred);
            if self.is_costly() && self.has(Gfp::NORETRY) {
                if given_up {
                    return self.nopage(&mut retries);
                }
                retries.priority = CompactPriority::Async;
            }
        }
        loop {
            match self.round(&mut retries) {
                Round::Found(block) => return Some(block),
                Round::Again => {}
                Round::Failed => return self.nopage(&mut retries),
            }
        }
    }

    /// From `retry` on.
    fn round(&mut self, retries: &mut Retries) -> Round {
        self.wake_all_kswapds();
        self.take_reserves();
        if let Some(block) = self.walk() {
            return Round::Found(block);
        }
        let context = self.pages.hooks.context();
        if !self.has(Gfp::DIRECT_RECLAIM) {
            return self.without_waiting();
        }
        if context.reserves() == Reserves::All {
            // Who reclaims does not reclaim for itself.
            return Round::Failed;
        }
        let Some(reclaim) = self.pages.hooks.reclaim() else { return self.without_reclaim() };
        let (found, freed) = self.reclaim(reclaim);
        if let Some(block) = found {
            return Round::Found(block);
        }
        let (found, compacted) = self.compact(reclaim, retries.priority);
        if let Some(block) = found {
            return Round::Found(block);
        }
        if self.has(Gfp::NORETRY) || self.is_costly() && !self.has(Gfp::RETRY_MAYFAIL) {
            return Round::Failed;
        }
        if retries.for_reclaim(self, reclaim, freed) == Progress::Made {
            reclaim.pause();
            return Round::Again;
        }
        if freed > 0 && retries.for_compaction(self, reclaim, compacted) == Progress::Made {
            return Round::Again;
        }
        match self.may_oom(reclaim) {
            (Some(block), _) => Round::Found(block),
            (None, Progress::Made) if self.gives_up_as_victim() => Round::Failed,
            (None, Progress::Made) => {
                retries.no_progress_loops = 0;
                Round::Again
            }
            (None, Progress::None) => Round::Failed,
        }
    }

    /// The last resorts of who cannot wait: pages of other orders and types on this CPU's lists, and for who may use all
    /// reserves those that are set apart.
    fn without_waiting(&mut self) -> Round {
        self.pages.drain_local();
        match self.walk() {
            Some(block) => Round::Found(block),
            None if self.depth.flags.contains(AllocFlags::NO_WATERMARKS) => self.release(),
            None => Round::Failed,
        }
    }

    /// The last resorts with nothing to reclaim: what is on lists, and what is set apart.
    fn without_reclaim(&mut self) -> Round {
        self.pages.drain_all();
        match self.walk() {
            Some(block) => Round::Found(block),
            None => self.release(),
        }
    }

    /// Takes what is set apart for atomic allocations.
    fn release(&self) -> Round {
        let what = self.request.shortage(self.list);
        let release = super::highatomic::Release::Any;
        match self.pages.unreserve_highatomic(&what, self.migrate_type(), release) {
            Progress::Made => self.walk().map_or(Round::Again, Round::Found),
            Progress::None => Round::Failed,
        }
    }

    /// From `nopage` on: nothing helped. What must not fail goes on, with more rights.
    fn nopage(&mut self, retries: &mut Retries) -> Found {
        if !self.has(Gfp::NOFAIL) {
            return None;
        }
        if !self.has(Gfp::DIRECT_RECLAIM) {
            log::warn!(
                "an allocation that must not fail may not wait: {}",
                super::GfpNames(self.request.gfp)
            );
            return None;
        }
        loop {
            // Not all reserves: that would leave nothing for who frees memory.
            if let Some(block) = self.walk_anywhere(AllocFlags::HARDER) {
                return Some(block);
            }
            match self.pages.hooks.reclaim() {
                Some(reclaim) => reclaim.pause(),
                None => return self.walk_anywhere(AllocFlags::NO_WATERMARKS),
            }
            match self.round(retries) {
                Round::Found(block) => return Some(block),
                Round::Again | Round::Failed => {}
            }
        }
    }

    pub(super) fn has(&self, flags: Gfp) -> bool {
        self.request.gfp.contains(flags)
    }

    pub(super) fn is_costly(&self) -> bool {
        self.request.order.get() > COSTLY_ORDER
    }

    fn migrate_type(&self) -> MigrateType {
        self.request.migrate_type
    }

    pub(super) fn walk(&self) -> Found {
        self.pages.walk(self.list, &self.request, self.depth)
    }

    /// Rather outside of the allowed nodes than not at all (Linux: `__alloc_pages_cpuset_fallback`).
    pub(super) fn walk_anywhere(&self, flags: AllocFlags) -> Found {
        let depth = Depth::with(flags | AllocFlags::CPUSET, self.request.gfp);
        let inside = self.pages.walk(self.list, &self.request, depth);
        inside.or_else(|| self.pages.walk(self.list, &self.request, depth.flags(flags)))
    }

    /// Large blocks mostly lack order, not memory; unmovable ones are made from pageblocks of their own type, lest they
    /// spread. Not for who may use all reserves and has not done so yet.
    fn compacts_first(&self) -> bool {
        self.has(Gfp::DIRECT_RECLAIM)
            && self.request.order > Order::ZERO
            && (self.is_costly() || self.migrate_type() != MigrateType::Movable)
            && AllocFlags::reserves(self.request.gfp, self.pages.hooks.context().reserves()).is_empty()
    }

    /// Wakes each node's kswapd once.
    fn wake_all_kswapds(&self) {
        if !self.depth.flags.contains(AllocFlags::KSWAPD) {
            return;
        }
        let Request { gfp, order, highest, .. } = self.request;
        let mut last = None;
        for zone in self.request.shortage(self.list).zones().filter(|zone| zone.managed() != 0) {
            if last.replace(zone.node()) != Some(zone.node()) {
                self.pages.wake_kswapd(zone, gfp, order, highest);
            }
        }
    }

    /// Those who may use reserves do so, wherever they are: they are the system's rather than a user's.
    fn take_reserves(&mut self) {
        let reserves = AllocFlags::reserves(self.request.gfp, self.pages.hooks.context().reserves());
        if !reserves.is_empty() {
            let kept = AllocFlags::KSWAPD | AllocFlags::CMA;
            self.depth = self.depth.flags(reserves | (self.depth.flags & kept));
        }
        if !self.depth.flags.contains(AllocFlags::CPUSET) {
            self.request.nodemask = None;
        }
    }

    /// Linux: `__alloc_pages_direct_reclaim`. Pages that came free may be on other CPUs' lists or in high-atomic reserves:
    /// that is looked at once.
    fn reclaim(&self, reclaim: &dyn Reclaim) -> (Found, u64) {
        let what = self.request.shortage(self.list);
        let freed = reclaim.reclaim(&what);
        if freed == 0 {
            return (None, 0);
        }
        if let Some(block) = self.walk() {
            return (Some(block), freed);
        }
        let release = super::highatomic::Release::AllButLast;
        let _ = self.pages.unreserve_highatomic(&what, self.migrate_type(), release);
        self.pages.drain_all();
        (self.walk(), freed)
    }

    /// Linux: `__alloc_pages_direct_compact`.
    fn compact(&self, reclaim: &dyn Reclaim, priority: CompactPriority) -> (Found, CompactResult) {
        if self.request.order == Order::ZERO {
            return (None, CompactResult::Skipped);
        }
        let result = reclaim.compact(&self.request.shortage(self.list), priority);
        if result == CompactResult::Skipped {
            return (None, result);
        }
        let events = self.pages.vm_events();
        events.count(VmEvent::CompactStall);
        let found = self.walk();
        events.count(if found.is_some() { VmEvent::CompactSuccess } else { VmEvent::CompactFail });
        let zone = found.as_ref().map(|block| self.pages.nodes().zone_of(&block.page()));
        reclaim.compacted(self.request.order, zone);
        (found, result)
    }

    /// A victim that has had its share, or must not have it, does not go on.
    fn gives_up_as_victim(&self) -> bool {
        self.pages.hooks.context().reserves() == Reserves::Oom
            && (self.depth.flags.contains(AllocFlags::OOM) || self.has(Gfp::NOMEMALLOC))
    }
}
