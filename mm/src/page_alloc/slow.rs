//! The zonelist walk: which zone an allocation comes from, and everything that takes a zone's lock.

use crate::arch::IrqGuard;
use crate::buddy::{BadPage, Fragment, FreeAreas, FreeBlock, note_migrate_type};
use crate::gfp::{Gfp, MigrateType};
use crate::id::{NodeId, ZoneIdx};
use crate::node::{Node, ZonelistKind};
use crate::order::Order;
use crate::pcp::{Limits, ListIdx, Pcp};
use crate::zone::Zone;

use super::check::check_new;
use super::watermark::Depth;
use super::{AllocError, PageAllocator, PageBlock, bug};

/// An allocation (Linux: `struct alloc_context`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) gfp: Gfp,
    pub(super) order: Order,
    pub(super) migrate_type: MigrateType,
    /// The highest zone that it may come from.
    pub(super) highest: ZoneIdx,
    /// The node to start from; `None` for this CPU's.
    pub(super) node: Option<NodeId>,
}

impl Request {
    #[inline]
    pub(super) fn new(gfp: Gfp, order: Order, node: Option<NodeId>) -> Self {
        Self { gfp, order, migrate_type: gfp.migrate_type(), highest: gfp.zone(), node }
    }
}

fn limits(zone: &Zone) -> Limits {
    Limits { high: zone.pcp_high(), batch: zone.pcp_batch() }
}

/// A page in a wrong state ends here.
#[inline]
fn sound<T>(result: Result<T, BadPage>) -> T {
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
    /// An allocation that this CPU's list could not serve (Linux: `__alloc_pages` from `get_page_from_freelist` on).
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_slow(
        &self,
        gfp: Gfp,
        order: Order,
        node: Option<NodeId>,
    ) -> Result<PageBlock, AllocError> {
        let request = Request::new(gfp, order, node);
        let block = match self.walk(&request, Depth::first(gfp)) {
            Some(block) => block,
            None => self.alloc_slower(&request)?,
        };
        Ok(self.hand_out(block, gfp))
    }

    /// No zone is above its low watermark (Linux: `__alloc_pages_slowpath`).
    #[inline(never)]
    fn alloc_slower(&self, request: &Request) -> Result<FreeBlock, AllocError> {
        let gfp = request.gfp;
        if let Some(block) = self.walk(request, Depth::second(gfp)) {
            return Ok(block);
        }
        // Pages of other orders and types on this CPU's lists may be what is missing.
        self.drain_local();
        if let Some(block) = self.walk(request, Depth::second(gfp)) {
            return Ok(block);
        }
        if gfp.contains(Gfp::NOFAIL)
            && let Some(block) = self.walk(request, Depth::last(gfp))
        {
            return Ok(block);
        }
        if !gfp.contains(Gfp::NOWARN) {
            self.report_failure(request);
        }
        Err(AllocError)
    }

    fn start_node(&self, request: &Request) -> Option<&Node> {
        let node = match request.node {
            Some(node) => node,
            None => self.this_node(&IrqGuard::new()),
        };
        self.nodes().get(node)
    }

    /// The first zone that has a block and stays above its watermark (Linux: `get_page_from_freelist`).
    fn walk(&self, request: &Request, depth: Depth) -> Option<FreeBlock> {
        let kind =
            if request.gfp.contains(Gfp::THISNODE) { ZonelistKind::ThisNode } else { ZonelistKind::Fallback };
        let node = self.start_node(request)?;
        let list = node.zonelist(kind);
        let preferred = list.preferred(request.highest)?;
        let mut fragment = avoid_fragments(node, preferred);
        loop {
            for zone in list.zones(request.highest) {
                // Rather mix types here than go to another node.
                if fragment == Fragment::Avoided && zone.node() != preferred.node() {
                    break;
                }
                if let Some(block) = self.take_from(zone, preferred, request, depth, fragment) {
                    return Some(block);
                }
            }
            if fragment == Fragment::Allowed {
                return None;
            }
            fragment = Fragment::Allowed;
        }
    }

    fn take_from(
        &self,
        zone: &Zone,
        preferred: &Zone,
        request: &Request,
        depth: Depth,
        fragment: Fragment,
    ) -> Option<FreeBlock> {
        if !depth.may_fit(zone, request.order, request.highest) {
            return None;
        }
        let irq = IrqGuard::new();
        let this_node = self.this_node(&irq);
        let block = self.with_pcp(zone, &irq, |pcp| {
            let block = match ListIdx::new(request.order, request.migrate_type) {
                Some(list) => take_by_list(zone, pcp, list, request, depth, fragment, &irq),
                None => take_one(zone, request, depth, fragment, &irq),
            }?;
            pcp.events.allocated(request.order);
            if zone.node() != preferred.node() {
                pcp.events.missed();
            }
            if zone.node() != this_node {
                pcp.events.was_remote();
            }
            Some(block)
        })?;
        if zone.node() != preferred.node() {
            self.with_pcp(preferred, &irq, |pcp| pcp.events.went_abroad());
        }
        Some(block)
    }

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
        for zone in self.nodes().populated_zones() {
            let irq = IrqGuard::new();
            self.with_pcp(zone, &irq, |pcp| {
                let count = pcp.count();
                if count > 0 {
                    free_from_pcp(zone, pcp, ListIdx::FIRST, count, &irq);
                }
            });
        }
    }
}

/// Whether to spare this zone's pageblocks from mixing as long as the zone below has pages (Linux:
/// `alloc_flags_nofragment`).
fn avoid_fragments(node: &Node, preferred: &Zone) -> Fragment {
    let below = preferred.idx() == ZoneIdx::Normal && preferred.node() == node.id();
    if below && node.zone(ZoneIdx::Dma32).is_populated() { Fragment::Avoided } else { Fragment::Allowed }
}

/// A block from a list, refilled when it is empty (Linux: `rmqueue_pcplist`).
fn take_by_list(
    zone: &Zone,
    pcp: &mut Pcp,
    list: ListIdx,
    request: &Request,
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
    request: &Request,
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
    let filled = free.alloc_bulk(order, migrate_type, count, fragment, zone.sparse(), |block| {
        sound(check_new(zone.sparse().machine(), &block));
        for part in block.shatter(order) {
            note_migrate_type(&part, migrate_type);
            pcp.refill(list, part);
        }
    });
    sound(filled);
}

/// A single block of an order without lists (Linux: `rmqueue_buddy`).
fn take_one(
    zone: &Zone,
    request: &Request,
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
    request: &Request,
    depth: Depth,
    fragment: Fragment,
) -> Option<FreeBlock> {
    if request.order > Order::ZERO && depth.harder() {
        let reserved = sound(free.alloc_of_type(request.order, MigrateType::HighAtomic));
        if reserved.is_some() {
            return reserved;
        }
    }
    sound(free.alloc(request.order, request.migrate_type, fragment, zone.sparse()))
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
