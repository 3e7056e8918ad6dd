//! The zonelist walk: which zone an allocation comes from, and what is tried before it fails.

use crate::arch::IrqGuard;
use crate::buddy::{Fragment, FreeBlock};
use crate::gfp::{Gfp, MigrateType};
use crate::id::{NodeId, ZoneIdx};
use crate::node::{Node, ZonelistKind};
use crate::order::Order;
use crate::pcp::ListIdx;
use crate::zone::Zone;

use super::rmqueue::{take_by_list, take_one};
use super::watermark::Depth;
use super::{AllocError, PageAllocator, PageBlock};

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
}

/// Whether to spare this zone's pageblocks from mixing as long as the zone below has pages (Linux:
/// `alloc_flags_nofragment`).
fn avoid_fragments(node: &Node, preferred: &Zone) -> Fragment {
    let below = preferred.idx() == ZoneIdx::Normal && preferred.node() == node.id();
    if below && node.zone(ZoneIdx::Dma32).is_populated() { Fragment::Avoided } else { Fragment::Allowed }
}
