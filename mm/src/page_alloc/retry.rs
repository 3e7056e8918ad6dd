//! Whether another round of the slow path makes sense, and when something has to be killed.
//!
//! ```text
//! reclaim      as long as it frees pages, or would with all that can be freed; at most 16 rounds without
//! compaction   as long as it was not tried in earnest: Async -> SyncLight -> SyncFull
//! OOM          small blocks of who may do anything, from any node, not only from low zones
//! ```

use core::sync::atomic::Ordering::{Acquire, Release as ReleaseOrder};

use crate::gfp::Gfp;
use crate::id::ZoneIdx;
use crate::node::Zonelist;
use crate::order::Order;

use super::flags::AllocFlags;
use super::highatomic::Release;
use super::hooks::{CompactPriority, CompactResult, Progress, Reclaim};
use super::slow::{Attempt, Found};
use super::watermark::{Depth, compaction_suits};

/// Rounds without progress (Linux: `MAX_RECLAIM_RETRIES`).
const MAX_RECLAIM_RETRIES: u32 = 16;
/// Rounds of compaction that succeeds while the allocation does not (Linux: `MAX_COMPACT_RETRIES`).
const MAX_COMPACT_RETRIES: u32 = 16;

/// What the rounds so far came to.
#[derive(Debug)]
pub(super) struct Retries {
    pub(super) no_progress_loops: u32,
    pub(super) priority: CompactPriority,
    compactions: u32,
}

impl Retries {
    pub(super) const fn new() -> Self {
        Self { no_progress_loops: 0, priority: CompactPriority::SyncLight, compactions: 0 }
    }

    /// Linux: `should_reclaim_retry`.
    pub(super) fn for_reclaim(
        &mut self,
        attempt: &Attempt<'_>,
        reclaim: &dyn Reclaim,
        freed: u64,
    ) -> Progress {
        // Costly blocks may go on lacking order whatever comes free.
        if freed > 0 && !attempt.is_costly() {
            self.no_progress_loops = 0;
        } else {
            self.no_progress_loops += 1;
        }
        let (request, depth) = (&attempt.request, attempt.depth);
        let what = request.shortage(attempt.list);
        if self.no_progress_loops > MAX_RECLAIM_RETRIES {
            return attempt.pages.unreserve_highatomic(&what, request.migrate_type, Release::Any);
        }
        let fits = what.zones().any(|zone| {
            let reclaimable = reclaim.reclaimable_pages(zone);
            let free = zone.free().lock();
            depth.would_fit(zone, &free, request.order, request.highest, reclaimable)
        });
        if fits { Progress::Made } else { Progress::None }
    }

    /// Linux: `should_compact_retry`.
    pub(super) fn for_compaction(
        &mut self,
        attempt: &Attempt<'_>,
        reclaim: &dyn Reclaim,
        result: CompactResult,
    ) -> Progress {
        if attempt.request.order == Order::ZERO {
            return Progress::None;
        }
        match result {
            CompactResult::Success => self.compactions += 1,
            CompactResult::Skipped => return suits_compaction(attempt, reclaim),
            _ => return self.dearer(attempt),
        }
        let most = if attempt.is_costly() { MAX_COMPACT_RETRIES / 4 } else { MAX_COMPACT_RETRIES };
        if self.compactions <= most { Progress::Made } else { self.dearer(attempt) }
    }

    /// The next try of compaction may cost more, if it may.
    fn dearer(&mut self, attempt: &Attempt<'_>) -> Progress {
        self.priority = match self.priority {
            CompactPriority::Async => CompactPriority::SyncLight,
            CompactPriority::SyncLight if !attempt.is_costly() => CompactPriority::SyncFull,
            _ => return Progress::None,
        };
        self.compactions = 0;
        Progress::Made
    }
}

/// Whether with more free pages compaction could do it (Linux: `compaction_zonelist_suitable`).
fn suits_compaction(attempt: &Attempt<'_>, reclaim: &dyn Reclaim) -> Progress {
    let request = &attempt.request;
    let suits = request.shortage(attempt.list).zones().any(|zone| {
        let reclaimable = reclaim.reclaimable_pages(zone);
        let free = zone.free().lock();
        compaction_suits(attempt.depth, zone, &free, request.order, request.highest, reclaimable)
    });
    if suits { Progress::Made } else { Progress::None }
}

impl Attempt<'_> {
    /// Has something killed if that is what remains, one caller at a time (Linux: `__alloc_pages_may_oom`).
    pub(super) fn may_oom(&self, reclaim: &dyn Reclaim) -> (Found, Progress) {
        let lock = &self.pages.oom;
        // Acquire: partner of the release below, with which the last one left.
        if lock.compare_exchange(false, true, Acquire, Acquire).is_err() {
            // Somebody else is at it.
            reclaim.pause();
            return (None, Progress::Made);
        }
        let result = self.oom(self.list, reclaim);
        lock.store(false, ReleaseOrder);
        result
    }

    fn oom(&self, list: &Zonelist, reclaim: &dyn Reclaim) -> (Found, Progress) {
        // The previous one may just have freed enough.
        let mut request = self.request;
        request.gfp = (request.gfp | Gfp::HARDWALL) - Gfp::DIRECT_RECLAIM;
        if let Some(block) = self.pages.walk(list, &request, Depth::before_oom()) {
            return (Some(block), Progress::Made);
        }
        let no_help = self.is_costly()
            || self.request.gfp.intersects(Gfp::RETRY_MAYFAIL | Gfp::THISNODE)
            || self.request.highest < ZoneIdx::Normal;
        if no_help {
            return (None, Progress::None);
        }
        let progress = if self.has(Gfp::FS) {
            reclaim.out_of_memory(&self.request.shortage(list))
        } else {
            // It could not reclaim in earnest: nothing is killed for that, others will make progress.
            reclaim.pause();
            Progress::Made
        };
        // What must not fail gets the reserves, whether something was killed or not.
        let found = if self.has(Gfp::NOFAIL) { self.walk_anywhere(AllocFlags::NO_WATERMARKS) } else { None };
        (found, progress)
    }
}
