//! May an allocation take pages from a zone without using up what is kept for others?
//!
//! ```text
//! free pages:   0 ---- min ---- low ---- high ----        plus lowmem_reserve[highest zone allowed] for those who could
//!               |  MEMALLOC                               take higher zones
//!               |     HIGH: min/2, ATOMIC: a quarter less
//!               |        others, second try    first try
//! ```

use crate::buddy::FreeAreas;
use crate::gfp::{Gfp, MigrateType};
use crate::id::ZoneIdx;
use crate::order::Order;
use crate::zone::{Watermark, Zone};

/// How far down an allocation may go (Linux: `ALLOC_WMARK_*`, `ALLOC_HIGH`, `ALLOC_HARDER`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Depth {
    /// The watermark to stay above, `None` to take what there is.
    mark: Option<Watermark>,
    gfp: Gfp,
}

impl Depth {
    /// The first try: above `low` (Linux: `ALLOC_WMARK_LOW`).
    pub(super) const fn first(gfp: Gfp) -> Self {
        Self { mark: Some(Watermark::Low), gfp: gfp.difference(Gfp::HIGH.union(Gfp::ATOMIC)) }
    }

    /// The second: above `min`, less for high priority (Linux: `gfp_to_alloc_flags`).
    pub(super) const fn second(gfp: Gfp) -> Self {
        let reserves = gfp.contains(Gfp::MEMALLOC) && !gfp.contains(Gfp::NOMEMALLOC);
        Self { mark: if reserves { None } else { Some(Watermark::Min) }, gfp }
    }

    /// For what must not fail: what a high priority may take (Linux: `ALLOC_HARDER` for `__GFP_NOFAIL`).
    pub(super) const fn last(gfp: Gfp) -> Self {
        Self::second(gfp.union(Gfp::ATOMIC))
    }

    /// Whether high-atomic blocks may be taken (Linux: `ALLOC_HARDER`).
    pub(super) const fn harder(self) -> bool {
        self.gfp.contains(Gfp::ATOMIC) && !self.gfp.contains(Gfp::NOMEMALLOC)
    }

    /// Pages that must be left in the zone, more than so many.
    fn floor(self, zone: &Zone, order: Order, highest: ZoneIdx) -> Option<u64> {
        let mark = self.mark?;
        let mut min = zone.watermark(mark);
        // Boosting is for the good of later large blocks; it must not make an atomic page fail.
        if mark == Watermark::Min && order == Order::ZERO && self.gfp.contains(Gfp::ATOMIC) {
            min = zone.watermark_unboosted(mark);
        }
        if self.gfp.contains(Gfp::HIGH) {
            min -= min / 2;
        }
        if self.harder() {
            min -= min / 4;
        }
        Some(min + zone.lowmem_reserve(highest))
    }

    /// Whether it is worth to take the zone's lock. Reads one counter.
    pub(super) fn may_fit(self, zone: &Zone, order: Order, highest: ZoneIdx) -> bool {
        match self.floor(zone, order, highest) {
            Some(floor) => zone.nr_free() > floor + order.nr_pages() - 1,
            None => zone.nr_free() > 0,
        }
    }

    /// Whether the zone can give a block of `order` (Linux: `__zone_watermark_ok`).
    pub(super) fn fits(self, zone: &Zone, free: &FreeAreas, order: Order, highest: ZoneIdx) -> bool {
        let Some(floor) = self.floor(zone, order, highest) else { return true };
        let unusable = if self.harder() { 0 } else { free.pages_of(MigrateType::HighAtomic) };
        let usable = free.free_pages().saturating_sub(unusable + order.nr_pages() - 1);
        usable > floor
            && (order == Order::ZERO
                || free.has_block(order, &MigrateType::ALL[..MigrateType::PCP_COUNT])
                || self.harder() && free.has_block(order, &[MigrateType::HighAtomic]))
    }
}
