//! The zonelist walk: which zone an allocation comes from.
//!
//! ```text
//! zonelist of the node, up to the highest zone:   Normal 0 -> DMA32 0 -> DMA 0 -> Normal 1 ...
//!     left out: nodes that the nodemask or the context does not allow, zones below their watermark; by the first try of a
//!     page that will be written, nodes with enough dirty pages
//! ```

use crate::arch::IrqGuard;
use crate::buddy::{Fragment, FreeBlock};
use crate::gfp::{Gfp, MigrateType};
use crate::id::{NodeId, ZoneIdx};
use crate::node::{Node, Zonelist, ZonelistKind};
use crate::numa::NodeMask;
use crate::order::Order;
use crate::pcp::ListIdx;
use crate::zone::Zone;

use super::PageAllocator;
use super::flags::AllocFlags;
use super::hooks::Shortage;
use super::rmqueue::{take_by_list, take_one};
use super::watermark::Depth;

/// An allocation (Linux: `struct alloc_context`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) gfp: Gfp,
    pub(super) order: Order,
    pub(super) migrate_type: MigrateType,
    /// The highest zone that it may come from.
    pub(super) highest: ZoneIdx,
    /// The node to start from; `None` for this CPU's.
    pub(super) node: Option<NodeId>,
    /// The nodes that it may come from; `None` for all.
    pub(super) nodemask: Option<&'a NodeMask>,
    /// Nodes with enough dirty pages are left out: the page will be dirty, and this is the first try.
    pub(super) spread_dirty_pages: bool,
}

impl<'a> Request<'a> {
    #[inline]
    pub(super) fn new(gfp: Gfp, order: Order, node: Option<NodeId>) -> Self {
        Self {
            gfp,
            order,
            migrate_type: gfp.migrate_type(),
            highest: gfp.zone(),
            node,
            nodemask: None,
            spread_dirty_pages: gfp.contains(Gfp::WRITE),
        }
    }

    #[inline]
    fn allows(&self, zone: &Zone) -> bool {
        self.nodemask.is_none_or(|mask| mask.contains(zone.node()))
    }

    /// What hooks see of it.
    pub(super) fn shortage(&self, zonelist: &'a Zonelist) -> Shortage<'a> {
        let Self { gfp, order, highest, nodemask, .. } = *self;
        Shortage { gfp, order, highest, zonelist, nodemask }
    }
}

impl PageAllocator {
    /// The list of zones to try (Linux: `node_zonelist`); `None` when there is no such node.
    #[inline]
    pub(super) fn zonelist(&self, request: &Request<'_>) -> Option<&Zonelist> {
        let node = match request.node {
            Some(node) => node,
            None => self.this_node(&IrqGuard::new()),
        };
        let kind =
            if request.gfp.contains(Gfp::THISNODE) { ZonelistKind::ThisNode } else { ZonelistKind::Fallback };
        Some(self.nodes().get(node)?.zonelist(kind))
    }

    /// The zone that is tried first (Linux: `ac->preferred_zoneref`).
    #[inline]
    pub(super) fn preferred<'l>(&self, list: &'l Zonelist, request: &Request<'_>) -> Option<&'l Zone> {
        match request.nodemask {
            None => list.preferred(request.highest),
            Some(_) => list.zones(request.highest).find(|zone| request.allows(zone)),
        }
    }

    /// The first zone that has a block and stays above its watermark (Linux: `get_page_from_freelist`).
    #[inline]
    pub(super) fn walk(&self, list: &Zonelist, request: &Request<'_>, depth: Depth) -> Option<FreeBlock> {
        let preferred = self.preferred(list, request)?;
        let spare = AllocFlags::NOFRAGMENT;
        if depth.flags.contains(spare) {
            // Rather mix types here than go to another node.
            let here = |zone: &&Zone| zone.node() == preferred.node();
            let zones = list.zones(request.highest).filter(|zone| request.allows(zone)).take_while(here);
            if let Some(block) = self.walk_zones(zones, preferred, request, depth, Fragment::Avoided) {
                return Some(block);
            }
        }
        let depth = depth.flags(depth.flags - spare);
        let zones = list.zones(request.highest).filter(|zone| request.allows(zone));
        self.walk_zones(zones, preferred, request, depth, Fragment::Allowed)
    }

    #[inline]
    fn walk_zones<'z>(
        &self,
        mut zones: impl Iterator<Item = &'z Zone>,
        preferred: &Zone,
        request: &Request<'_>,
        depth: Depth,
        fragment: Fragment,
    ) -> Option<FreeBlock> {
        let mut last_dirty = None;
        zones.find_map(|zone| {
            if depth.flags.contains(AllocFlags::CPUSET) && !self.context_allows(zone, request.gfp) {
                return None;
            }
            if request.spread_dirty_pages && !self.dirty_ok(zone, &mut last_dirty) {
                return None;
            }
            self.take_from(zone, preferred, request, depth, fragment)
        })
    }

    /// Whether the zone's node may get more dirty pages; `last` is what the node before was found to be.
    fn dirty_ok(&self, zone: &Zone, last: &mut Option<(NodeId, bool)>) -> bool {
        let node = zone.node();
        let ok = match *last {
            Some((same, ok)) if same == node => ok,
            _ => self.nodes().get(node).is_some_and(Node::dirty_ok),
        };
        *last = Some((node, ok));
        ok
    }

    /// Whether the context's memory may come from there (Linux: `__cpuset_zone_allowed`). What is not
    /// [`HARDWALL`](Gfp::HARDWALL) is the kernel's own, and may come from anywhere.
    fn context_allows(&self, zone: &Zone, gfp: Gfp) -> bool {
        if !gfp.contains(Gfp::HARDWALL) {
            return true;
        }
        let context = self.hooks.context();
        match context.allowed_nodes() {
            Some(mask) => {
                !context.in_task()
                    || mask.contains(zone.node())
                    || context.reserves() == super::hooks::Reserves::Oom
            }
            None => true,
        }
    }

    #[inline]
    fn take_from(
        &self,
        zone: &Zone,
        preferred: &Zone,
        request: &Request<'_>,
        depth: Depth,
        fragment: Fragment,
    ) -> Option<FreeBlock> {
        if !depth.may_fit(zone, request.order, request.highest) {
            return None;
        }
        let irq = IrqGuard::new();
        let block = self.with_pcp(zone, &irq, |pcp| {
            let block = match ListIdx::new(request.order, request.migrate_type) {
                Some(list) => take_by_list(zone, pcp, list, request, depth, fragment, &irq),
                None => take_one(zone, pcp, request, depth, fragment, &irq),
            }?;
            pcp.events.allocated(request.order);
            if zone.node() != preferred.node() {
                pcp.events.missed();
            }
            Some(block)
        })?;
        if zone.node() != preferred.node() {
            self.with_pcp(preferred, &irq, |pcp| pcp.events.went_abroad());
        }
        drop(irq);
        self.after(zone, &block, request, depth);
        Some(block)
    }

    /// What remains to be done for a zone that gave a block: kswapd is woken for a boost, and a pageblock is set apart for
    /// whoever had to try harder for a large block (Linux: the ends of `rmqueue` and `get_page_from_freelist`).
    #[inline]
    fn after(&self, zone: &Zone, block: &FreeBlock, request: &Request<'_>, depth: Depth) {
        if depth.flags.contains(AllocFlags::KSWAPD) && zone.take_boosted() {
            self.wake_kswapd(zone, Gfp::empty(), Order::ZERO, zone.idx());
        }
        if request.order > Order::ZERO && depth.harder() {
            self.reserve_highatomic(zone, block);
        }
    }

    /// Wakes kswapd of a node, or does what it would do with nothing to reclaim: its run takes boosts back.
    pub(super) fn wake_kswapd(&self, zone: &Zone, gfp: Gfp, order: Order, highest: ZoneIdx) {
        match self.hooks.reclaim() {
            Some(reclaim) => reclaim.wake_kswapd(zone, gfp, order, highest),
            None => self.nodes().zones_of(zone.node()).for_each(|zone| zone.set_watermark_boost(0)),
        }
    }

    /// Whether to spare pageblocks of `preferred` from mixing as long as the zone below has pages (Linux:
    /// `alloc_flags_nofragment`).
    #[inline]
    pub(super) fn nofragment(&self, preferred: &Zone) -> AllocFlags {
        if preferred.idx() != ZoneIdx::Normal || self.nr_nodes > 1 && !self.has_dma32(preferred.node()) {
            return AllocFlags::empty();
        }
        AllocFlags::NOFRAGMENT
    }

    fn has_dma32(&self, node: NodeId) -> bool {
        self.nodes().get(node).map(|node: &Node| node.zone(ZoneIdx::Dma32)).is_some_and(Zone::is_populated)
    }
}
