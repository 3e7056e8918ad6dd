//! May an allocation take pages from a zone without using up what is kept for others?
//!
//! ```text
//! free pages:   0 ---- min ---- low ---- high ----        plus lowmem_reserve[highest zone allowed] for those who could
//!               |  NO_WATERMARKS                          take higher zones
//!               |     HIGH: min/2, HARDER: a quarter less, OOM: half less
//!               |        others, second try    first try
//! ```
//! Linux counts whole high-atomic pageblocks as not free; here only their free pages are, since the buddy knows them.

use crate::buddy::FreeAreas;
use crate::gfp::{Gfp, MigrateType};
use crate::id::ZoneIdx;
use crate::order::Order;
use crate::zone::{Watermark, Zone};

use super::flags::AllocFlags;

/// How far down an attempt may go, and what else it may do (Linux: `alloc_flags`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Depth {
    /// The watermark to stay above, unless [`AllocFlags::NO_WATERMARKS`].
    mark: Watermark,
    pub(super) flags: AllocFlags,
    /// Whether a boost of the min watermark does not count for single pages: `__GFP_ATOMIC`.
    past_boost: bool,
}

impl Depth {
    /// The first try: above `low`.
    #[inline]
    pub(super) const fn first(gfp: Gfp) -> Self {
        Self { mark: Watermark::Low, flags: AllocFlags::first(gfp), past_boost: false }
    }

    /// The second: above `min`, less for high priority.
    pub(super) fn second(gfp: Gfp) -> Self {
        Self::with(AllocFlags::second(gfp), gfp)
    }

    /// Above `min`, with those flags.
    pub(super) fn with(flags: AllocFlags, gfp: Gfp) -> Self {
        Self { mark: Watermark::Min, flags, past_boost: gfp.contains(Gfp::ATOMIC) }
    }

    /// The last look before something is killed: above `high`, so that it succeeds only when memory has come free
    /// meanwhile.
    pub(super) const fn before_oom() -> Self {
        Self { mark: Watermark::High, flags: AllocFlags::CPUSET, past_boost: false }
    }

    /// With other flags.
    pub(super) const fn flags(self, flags: AllocFlags) -> Self {
        Self { flags, ..self }
    }

    /// Whether high-atomic blocks may be taken (Linux: `ALLOC_HARDER` in `rmqueue`).
    #[inline]
    pub(super) const fn harder(self) -> bool {
        self.flags.contains(AllocFlags::HARDER)
    }

    /// Pages that must be left in the zone, more than so many; `None`: nothing need be left.
    #[inline]
    fn floor(self, zone: &Zone, order: Order, highest: ZoneIdx) -> Option<u64> {
        if self.flags.contains(AllocFlags::NO_WATERMARKS) {
            return None;
        }
        // Boosting is for the good of later large blocks; it must not make an atomic page fail.
        let min = if self.past_boost && order == Order::ZERO && self.mark == Watermark::Min {
            zone.watermark_unboosted(self.mark)
        } else {
            zone.watermark(self.mark)
        };
        Some(self.lowered(min) + zone.lowmem_reserve(highest))
    }

    /// What is left of a watermark for who has priority.
    #[inline]
    fn lowered(self, mut min: u64) -> u64 {
        if self.flags.contains(AllocFlags::HIGH) {
            min -= min / 2;
        }
        if self.flags.contains(AllocFlags::OOM) {
            min -= min / 2;
        } else if self.flags.contains(AllocFlags::HARDER) {
            min -= min / 4;
        }
        min
    }

    /// Whether it is worth to take the zone's lock. Reads one counter.
    #[inline]
    pub(super) fn may_fit(self, zone: &Zone, order: Order, highest: ZoneIdx) -> bool {
        match self.floor(zone, order, highest) {
            Some(floor) => zone.nr_free() > floor + order.nr_pages() - 1,
            None => zone.nr_free() > 0,
        }
    }

    /// Whether the zone can give a block of `order` (Linux: `zone_watermark_ok`).
    #[inline]
    pub(super) fn fits(self, zone: &Zone, free: &FreeAreas, order: Order, highest: ZoneIdx) -> bool {
        match self.floor(zone, order, highest) {
            Some(floor) => self.above(floor, free.free_pages(), free, order),
            None => true,
        }
    }

    /// Whether it could if `reclaimable` pages more were free: with the min watermark, whatever the attempt's own (Linux:
    /// `__zone_watermark_ok` in `should_reclaim_retry`).
    pub(super) fn would_fit(
        self,
        zone: &Zone,
        free: &FreeAreas,
        order: Order,
        highest: ZoneIdx,
        reclaimable: u64,
    ) -> bool {
        let floor = self.lowered(zone.watermark(Watermark::Min)) + zone.lowmem_reserve(highest);
        self.above(floor, free.free_pages() + reclaimable, free, order)
    }

    /// Linux: `__zone_watermark_ok`, given all that is added to the watermark.
    #[inline]
    fn above(self, floor: u64, free_pages: u64, free: &FreeAreas, order: Order) -> bool {
        let (harder, cma) = (self.flags.harder(), self.flags.contains(AllocFlags::CMA));
        let barred = |may_use, migrate_type| if may_use { 0 } else { free.pages_of(migrate_type) };
        let unusable = barred(harder, MigrateType::HighAtomic) + barred(cma, MigrateType::Cma);
        let usable = free_pages.saturating_sub(unusable + order.nr_pages() - 1);
        usable > floor
            && (order == Order::ZERO
                || free.has_block(order, &MigrateType::ALL[..MigrateType::PCP_COUNT])
                || cma && free.has_block(order, &[MigrateType::Cma])
                || harder && free.has_block(order, &[MigrateType::HighAtomic]))
    }
}

/// Whether compaction could make a block of `order` from what is free and `reclaimable` (Linux: `compaction_suitable`):
/// there is none yet, but enough pages to move others to.
pub(super) fn compaction_suits(
    depth: Depth,
    zone: &Zone,
    free: &FreeAreas,
    order: Order,
    highest: ZoneIdx,
    reclaimable: u64,
) -> bool {
    if depth.fits(zone, free, order, highest) {
        return false;
    }
    let mark = if order.get() > crate::pcp::COSTLY_ORDER { Watermark::Low } else { Watermark::Min };
    // A source and a destination of that size (Linux: `compact_gap`).
    let floor = zone.watermark(mark) + 2 * order.nr_pages() + zone.lowmem_reserve(highest);
    let available = free.free_pages() + reclaimable / u64::from(order.get()).max(1);
    // Where pages are moved to: what can be moved may go to contiguous-memory areas.
    let target = Depth { mark, flags: AllocFlags::CMA, past_boost: false };
    target.above(floor, available, free, Order::ZERO)
}
