//! What takes a zone's lock: blocks between a zone's free lists and a CPU's lists, and single ones.

use crate::arch::IrqGuard;
use crate::buddy::{
    BadPage, Fragment, FreeAreas, FreeBlock, Pageblocks, note_migrate_type, noted_migrate_type,
};
use crate::gfp::MigrateType;
use crate::order::Order;
use crate::pcp::{Limits, ListIdx, Pcp};
use crate::pfn::Pfn;
use crate::zone::{Boost, Zone};

use super::check::check_new;
use super::flags::AllocFlags;
use super::walk::Request;
use super::watermark::Depth;
use super::{PageAllocator, bug};

fn limits(zone: &Zone) -> Limits {
    Limits { high: zone.pcp_high(), batch: zone.pcp_batch() }
}

/// A page in a wrong state ends here.
#[inline]
pub(super) fn sound<T>(result: Result<T, BadPage>) -> T {
    match result {
        Ok(value) => value,
        Err(bad) => bug(bad),
    }
}

/// Works on a zone's free lists, under its lock, and brings `NR_FREE_PAGES` up to date.
#[inline]
pub(super) fn with_free<R>(zone: &Zone, irq: &IrqGuard, f: impl FnOnce(&mut FreeAreas) -> R) -> R {
    let mut free = zone.free().lock_irq(irq);
    let before = free.free_pages();
    let result = f(&mut free);
    let delta = free.free_pages() as i64 - before as i64;
    zone.add_free(&mut free, delta);
    result
}

impl PageAllocator {
    /// Gives back what a CPU's lists hold too much after a push to `list`.
    #[cold]
    #[inline(never)]
    pub(super) fn trim(&self, zone: &Zone, pcp: &mut Pcp, list: ListIdx, order: Order, irq: IrqGuard) {
        let surplus = pcp.surplus(order, limits(zone));
        if surplus > 0 {
            free_from_pcp(zone, pcp, list, surplus, &irq);
        }
    }

    /// A block that is for the buddy alone.
    #[inline(never)]
    pub(super) fn free_to_buddy(&self, block: FreeBlock, migrate_type: MigrateType) {
        let zone = self.nodes().zone_of(&block.page());
        let irq = IrqGuard::new();
        let order = block.order();
        sound(with_free(zone, &irq, |free| free.free(block, migrate_type, None, zone.sparse())));
        self.with_pcp(zone, &irq, |pcp| pcp.events.freed(order));
    }

    /// Gives all pages on this CPU's lists back to the buddy (Linux: `drain_local_pages`). Any context; takes each zone's
    /// lock once, and time by the pages.
    pub fn drain_local(&self) {
        self.nodes().populated_zones().for_each(|zone| self.drain_zone(zone));
    }

    /// The same for one zone (Linux: `drain_pages_zone` for this CPU).
    pub fn drain_zone(&self, zone: &Zone) {
        let irq = IrqGuard::new();
        self.with_pcp(zone, &irq, |pcp| {
            let count = pcp.count();
            if count > 0 {
                free_from_pcp(zone, pcp, ListIdx::FIRST, count, &irq);
            }
        });
    }
}

/// A zone's pageblocks as an allocation sees them: where it mixes types, watermarks are boosted.
struct Boosting<'a> {
    zone: &'a Zone,
    depth: Depth,
}

impl Pageblocks for Boosting<'_> {
    #[inline(always)]
    fn migrate_type(&self, pfn: Pfn) -> MigrateType {
        self.zone.sparse().migrate_type(pfn)
    }

    fn set_migrate_type(&self, pfn: Pfn, migrate_type: MigrateType) {
        self.zone.sparse().set_migrate_type(pfn, migrate_type);
    }

    fn types_mix(&self, free: &FreeAreas) {
        let raised = self.zone.boost_watermarks(free) == Boost::Raised;
        if raised && self.depth.flags.contains(AllocFlags::KSWAPD) {
            self.zone.set_boosted();
        }
    }
}

/// A block from a list, refilled when it is empty (Linux: `rmqueue_pcplist`).
pub(super) fn take_by_list(
    zone: &Zone,
    pcp: &mut Pcp,
    list: ListIdx,
    request: &Request<'_>,
    depth: Depth,
    fragment: Fragment,
    irq: &IrqGuard,
) -> Option<FreeBlock> {
    if let Some(block) = pcp.pop(list, request.order) {
        return Some(block);
    }
    with_free(zone, irq, |free| {
        if !depth.fits(zone, free, request.order, request.highest) {
            return;
        }
        refill(zone, free, pcp, list, request, depth, fragment);
    });
    pcp.pop(list, request.order)
}

/// Fills an empty list with a batch.
fn refill(
    zone: &Zone,
    free: &mut FreeAreas,
    pcp: &mut Pcp,
    list: ListIdx,
    request: &Request<'_>,
    depth: Depth,
    fragment: Fragment,
) {
    let (order, migrate_type) = (request.order, request.migrate_type);
    if order > Order::ZERO
        && depth.harder()
        && let Some(block) = sound(free.alloc_of_type(order, MigrateType::HighAtomic))
    {
        sound(check_new(zone.sparse().machine(), &block));
        return pcp.refill(list, block);
    }
    let count = limits(zone).refill_blocks(order);
    let filled = free.alloc_bulk(order, migrate_type, count, fragment, &Boosting { zone, depth }, |block| {
        sound(check_new(zone.sparse().machine(), &block));
        // The list that it was on: movable pages may be those of a contiguous-memory area.
        let source = noted_migrate_type(&block).unwrap_or(migrate_type);
        for part in block.shatter(order) {
            note_migrate_type(&part, source);
            pcp.refill(list, part);
        }
    });
    sound(filled);
}

/// A single block of an order without lists (Linux: `rmqueue_buddy`).
pub(super) fn take_one(
    zone: &Zone,
    request: &Request<'_>,
    depth: Depth,
    fragment: Fragment,
    irq: &IrqGuard,
) -> Option<FreeBlock> {
    let block = with_free(zone, irq, |free| {
        if !depth.fits(zone, free, request.order, request.highest) {
            return None;
        }
        rmqueue(zone, free, request, depth, fragment)
    })?;
    sound(check_new(zone.sparse().machine(), &block));
    Some(block)
}

#[inline]
fn rmqueue(
    zone: &Zone,
    free: &mut FreeAreas,
    request: &Request<'_>,
    depth: Depth,
    fragment: Fragment,
) -> Option<FreeBlock> {
    if request.order > Order::ZERO && depth.harder() {
        let reserved = sound(free.alloc_of_type(request.order, MigrateType::HighAtomic));
        if reserved.is_some() {
            return reserved;
        }
    }
    sound(free.alloc(request.order, request.migrate_type, fragment, &Boosting { zone, depth }))
}

/// Gives back at least `nr_pages` pages, from `list` on in turn (Linux: `free_pcppages_bulk`).
fn free_from_pcp(zone: &Zone, pcp: &mut Pcp, mut list: ListIdx, nr_pages: u32, irq: &IrqGuard) {
    with_free(zone, irq, |free| {
        let mut left = nr_pages;
        while left > 0 {
            let Some((block, migrate_type)) = pcp.pop_oldest(&mut list) else { break };
            left = left.saturating_sub(block.order().nr_pages() as u32);
            sound(free.free(block, migrate_type, None, zone.sparse()));
        }
    });
}
