//! Many single pages at once.

use crate::arch::IrqGuard;
use crate::gfp::Gfp;
use crate::id::NodeId;
use crate::node::ZonelistKind;
use crate::order::Order;
use crate::pcp::ListIdx;
use crate::zone::{Watermark, Zone};

use super::rmqueue::refill_list;
use super::walk::Request;
use super::{PageAllocator, PageBlock};

impl PageAllocator {
    /// Fills the empty ones of `slots` with single pages, the first one first, as far as one zone near this CPU has them
    /// without falling below its low watermark; at least one when there is any page at all. How many slots are filled
    /// from the first one on, those that were before included (Linux: `alloc_pages_bulk_array`). Any context; interrupts
    /// are off for as long as it takes.
    pub fn alloc_pages_bulk(&self, gfp: Gfp, slots: &mut [Option<PageBlock>]) -> usize {
        let Some(first) = slots.iter().position(Option::is_none) else { return slots.len() };
        let mut at = first;
        // For a single page the usual way is the shortest.
        if slots.len() - first > 1 {
            self.fill(gfp, slots, &mut at);
        }
        if slots[first].is_none() {
            slots[first] = self.alloc_pages(gfp, Order::ZERO).ok();
            at = first + usize::from(slots[first].is_some());
        }
        at
    }

    /// Gives back the pages of all slots, as [`free_pages`](Self::free_pages) each, and empties the slots (Linux:
    /// `free_unref_page_list`).
    pub fn free_pages_bulk(&self, slots: &mut [Option<PageBlock>]) {
        slots.iter_mut().filter_map(Option::take).for_each(|block| self.free_pages(block));
    }

    fn fill(&self, gfp: Gfp, slots: &mut [Option<PageBlock>], at: &mut usize) {
        let request = Request::new(gfp, Order::ZERO, None);
        let Some(list) = ListIdx::new(Order::ZERO, request.migrate_type) else { return };
        let irq = IrqGuard::new();
        // A CPU that knows no lists is one whose allocations have to be looked at one by one.
        if self.with_preferred(request.highest, &irq, |_, _| ()).is_none() {
            return;
        }
        let wanted = (slots.len() - *at) as u64;
        let Some(zone) = self.zone_for_many(&request, wanted, self.this_node(&irq)) else { return };
        self.with_pcp(zone, &irq, |pcp| {
            let mut taken = 0;
            loop {
                taken += pcp.pop_into(list, Order::ZERO, slots, at, |block| self.hand_out(block, gfp));
                if *at == slots.len() || !refill_list(zone, pcp, list, &request, &irq) {
                    break;
                }
            }
            pcp.events.allocated_many(Order::ZERO, taken);
        });
    }

    /// The first zone of the preferred one's node that stays above its low watermark without so many pages.
    fn zone_for_many(&self, request: &Request<'_>, nr_pages: u64, this_node: NodeId) -> Option<&Zone> {
        let this_only = request.gfp.contains(Gfp::THISNODE);
        let kind = if this_only { ZonelistKind::ThisNode } else { ZonelistKind::Fallback };
        let list = self.nodes().get(this_node)?.zonelist(kind);
        let node = list.preferred(request.highest)?.node();
        let stays_above = |zone: &&Zone| {
            let floor = zone.watermark(Watermark::Low) + zone.lowmem_reserve(request.highest);
            zone.nr_free() > floor + nr_pages
        };
        list.zones(request.highest).take_while(|zone| zone.node() == node).find(stays_above)
    }
}
