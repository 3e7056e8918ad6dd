//! What takes a zone's lock: blocks between a zone's free lists and a CPU's lists, and single ones.

use crate::arch::{IrqGuard, cpu_id};
use crate::buddy::{
    BadPage, Fragment, FreeAreas, FreeBlock, Pageblocks, note_migrate_type, noted_migrate_type, taken_from,
};
use crate::gfp::{Gfp, MigrateType};
use crate::id::CpuId;
use crate::order::{Order, PAGEBLOCK_ORDER};
use crate::page::PagePtr;
use crate::pcp::{Limits, ListIdx, Pcp};
use crate::pfn::Pfn;
use crate::smp::CallCpus;
use crate::zone::{Boost, Watermark, Zone};

use super::check::check_new;
use super::fast::peek_count;
use super::flags::AllocFlags;
use super::walk::Request;
use super::watermark::Depth;
use super::{AllocError, PageAllocator, PageBlock, bug};

/// A page in a wrong state ends here.
#[inline(always)]
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

/// The same for the CPU of `pcp`, which gives back the block that it keeps first (S1 of `pcp`).
#[inline]
fn with_free_for<R>(zone: &Zone, pcp: &Pcp, irq: &IrqGuard, f: impl FnOnce(&mut FreeAreas, &Pcp) -> R) -> R {
    with_free(zone, irq, |free| {
        if let Some(spare) = pcp.take_spare() {
            give_back(zone, free, spare);
        }
        f(free, pcp)
    })
}

/// Gives a block that has noted its type to its zone's buddy.
#[inline(never)]
pub(super) fn give_to(zone: &Zone, block: FreeBlock, irq: &IrqGuard) {
    with_free(zone, irq, |free| give_back(zone, free, block));
}

/// Frees a block that has noted its type.
#[inline]
fn give_back(zone: &Zone, free: &mut FreeAreas, block: FreeBlock) {
    let noted = noted_migrate_type(&block).unwrap_or(MigrateType::Movable);
    sound(match free.is_plain(noted) {
        true => free.free(block, noted, None, zone.sparse()),
        false => free.free_special(block, noted, zone.sparse()),
    });
}

impl PageAllocator {
    /// Gives back what a CPU's lists hold too much after a push of `page`'s block to `list`.
    #[cold]
    #[inline(never)]
    pub(super) fn trim(&self, page: PagePtr, pcp: &Pcp, list: ListIdx, order: Order, irq: IrqGuard) {
        let zone = self.nodes().zone_of(&page);
        let surplus = pcp.surplus(order, Limits { high: pcp.high(), batch: zone.pcp_batch() });
        if surplus > 0 {
            free_from_pcp(zone, pcp, list, surplus, &irq);
        }
    }

    /// An allocation of an order without lists: the block that this CPU has kept, or one from the first zone when that is
    /// above its low watermark and has a block of the type, else as any other.
    #[inline(never)]
    pub(super) fn alloc_unlisted(&self, gfp: Gfp, order: Order) -> Result<PageBlock, AllocError> {
        let irq = IrqGuard::new();
        let spare = self.with_preferred(gfp.zone(), &irq, |_, pcp| {
            let block = pcp.pop_spare(order, gfp.migrate_type())?;
            pcp.events.allocated(order);
            Some(block)
        });
        match spare.flatten() {
            Some(block) => {
                drop(irq);
                Ok(self.hand_out(block, gfp))
            }
            None => self.alloc_merged(gfp, order, irq),
        }
    }

    #[inline(never)]
    fn alloc_merged(&self, gfp: Gfp, order: Order, irq: IrqGuard) -> Result<PageBlock, AllocError> {
        let block = self.with_preferred(gfp.zone(), &irq, |zone, pcp| {
            let take = |free: &mut FreeAreas, _: &Pcp| take_first_choice(zone, free, gfp, order);
            let block = with_free_for(zone, pcp, &irq, take)?;
            pcp.events.allocated(order);
            Some(block)
        });
        drop(irq);
        let Some(block) = block.flatten() else { return self.alloc_slow(gfp, order, None) };
        sound(check_new(self.machine(), &block));
        Ok(self.hand_out(block, gfp))
    }

    /// A block that is for the buddy alone.
    #[inline(never)]
    pub(super) fn free_to_buddy(&self, block: FreeBlock) {
        if !self.debugging.is_off() {
            return self.free_debugged(block);
        }
        let zone = self.nodes().zone_of(&block.page());
        let (irq, order) = (IrqGuard::new(), block.order());
        with_free(zone, &irq, |free| {
            if free.has_isolated() {
                return self.free_by_pageblock(zone, free, block);
            }
            let migrate_type = self.type_of(&block);
            sound(free.free(block, migrate_type, None, zone.sparse()));
        });
        self.with_pcp(zone, &irq, |pcp| pcp.events.freed(order));
    }

    /// The same when an option wants to see the block before it is free (D1 of `debug`).
    #[cold]
    fn free_debugged(&self, block: FreeBlock) {
        self.take_back(&block);
        let zone = self.nodes().zone_of(&block.page());
        let (irq, order) = (IrqGuard::new(), block.order());
        self.with_pcp(zone, &irq, |pcp| {
            with_free_for(zone, pcp, &irq, |free, _| self.free_by_pageblock(zone, free, block));
            pcp.events.freed(order);
        });
    }

    /// Gives each pageblock of a block back by itself, for only some may be isolated, and with guard pages that merge with it.
    #[cold]
    fn free_by_pageblock(&self, zone: &Zone, free: &mut FreeAreas, block: FreeBlock) {
        let order = block.order().min(PAGEBLOCK_ORDER);
        for part in block.shatter(order) {
            let migrate_type = self.type_of(&part);
            sound(free.free_guarded(part, migrate_type, zone.sparse()));
        }
    }

    /// Gives all pages on this CPU's lists back to the buddy (Linux: `drain_local_pages`). Any context; takes each zone's
    /// lock once, and time by the pages.
    pub fn drain_local(&self) {
        self.nodes().populated_zones().for_each(|zone| self.drain_zone(zone));
    }

    /// The same for the lists of one zone (Linux: `drain_local_pages` of a zone). One without memory has none.
    pub fn drain_zone(&self, zone: &Zone) {
        let irq = IrqGuard::new();
        if has_pages(zone, cpu_id()) {
            self.with_pcp(zone, &irq, |pcp| {
                free_from_pcp(zone, pcp, ListIdx::FIRST, pcp.count(), &irq);
            });
        }
    }

    /// Now and then, at the pace of `vm.stat_interval`: gives back what this CPU's lists have of other nodes' zones when it has
    /// not freed there for three times (Linux: the `expire` of `refresh_cpu_vm_stats`). Any context.
    pub fn expire_remote_lists(&self) {
        let irq = IrqGuard::new();
        let here = self.this_node(&irq);
        for zone in self.nodes().populated_zones().filter(|zone| zone.node() != here) {
            if has_pages(zone, cpu_id()) && self.with_pcp(zone, &irq, Pcp::expires) {
                self.drain_zone(zone);
            }
        }
    }

    /// The same on all CPUs; asks only those that have pages of the zone (Linux: `drain_all_pages` of a zone). Pages that
    /// come free meanwhile may stay. In a context in which other CPUs can be called.
    pub fn drain_zone_all(&self, zone: &Zone, cpus: &dyn CallCpus) {
        cpus.on_each(&|cpu| has_pages(zone, cpu), &|| self.drain_zone(zone));
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

fn has_pages(zone: &Zone, cpu: CpuId) -> bool {
    cpu.0 < zone.pagesets().nr_cpus() && peek_count(zone, cpu) > 0
}

/// A block of the wanted type, when the zone stays above its low watermark.
#[inline(always)]
fn take_first_choice(zone: &Zone, free: &mut FreeAreas, gfp: Gfp, order: Order) -> Option<FreeBlock> {
    let floor = zone.watermark(Watermark::Low) + zone.lowmem_reserve(gfp.zone()) + order.nr_pages() - 1;
    let wanted = gfp.migrate_type();
    let cma = if wanted == MigrateType::Movable { 0 } else { free.pages_of(MigrateType::Cma) };
    if free.free_pages() <= floor + cma + free.pages_of(MigrateType::HighAtomic) {
        return None;
    }
    let source = free.source(order, wanted)?;
    sound(free.alloc_of_type(order, source))
}

/// A block from a list, refilled when it is empty (Linux: `rmqueue_pcplist`).
pub(super) fn take_by_list(
    zone: &Zone,
    pcp: &Pcp,
    list: ListIdx,
    request: &Request<'_>,
    depth: Depth,
    fragment: Fragment,
    irq: &IrqGuard,
) -> Option<FreeBlock> {
    if let Some(block) = pcp.pop(list, request.order) {
        return Some(block);
    }
    with_free_for(zone, pcp, irq, |free, pcp| {
        if !depth.fits(zone, free, request.order, request.highest) {
            return;
        }
        refill(zone, free, pcp, list, request, depth, fragment);
    });
    pcp.pop(list, request.order)
}

/// Fills an empty list with a batch, if the zone stays above the watermark of a first try; whether there was anything.
pub(super) fn refill_list(
    zone: &Zone,
    pcp: &Pcp,
    list: ListIdx,
    request: &Request<'_>,
    irq: &IrqGuard,
) -> bool {
    let depth = Depth::first(request.gfp);
    with_free_for(zone, pcp, irq, |free, pcp| {
        let before = pcp.count();
        if depth.fits(zone, free, request.order, request.highest) {
            refill(zone, free, pcp, list, request, depth, Fragment::Allowed);
        }
        pcp.count() > before
    })
}

/// Fills an empty list with a batch.
fn refill(
    zone: &Zone,
    free: &mut FreeAreas,
    pcp: &Pcp,
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
        sound(free.keep_guards(&block));
        sound(check_new(zone.sparse().machine(), &block));
        return pcp.refill(list, block);
    }
    let count = Limits { high: pcp.high(), batch: zone.pcp_batch() }.refill_blocks(order);
    if free.has_guards() {
        return refill_guarded(zone, free, pcp, list, request, (depth, fragment), count);
    }
    let filled = free.alloc_bulk(order, migrate_type, count, fragment, &Boosting { zone, depth }, |block| {
        sound(check_new(zone.sparse().machine(), &block));
        // The list that it was on: movable pages may be those of a contiguous-memory area.
        let source = taken_from(&block).unwrap_or(migrate_type);
        for part in block.shatter(order) {
            note_migrate_type(&part, source);
            pcp.refill(list, part);
        }
    });
    sound(filled);
}

/// The same one block at a time, so that what each leaves can be kept back.
#[cold]
fn refill_guarded(
    zone: &Zone,
    free: &mut FreeAreas,
    pcp: &Pcp,
    list: ListIdx,
    request: &Request<'_>,
    (depth, fragment): (Depth, Fragment),
    count: u32,
) {
    for _ in 0..count {
        let block =
            sound(free.alloc(request.order, request.migrate_type, fragment, &Boosting { zone, depth }));
        let Some(block) = block else { break };
        sound(free.keep_guards(&block));
        sound(check_new(zone.sparse().machine(), &block));
        note_migrate_type(&block, taken_from(&block).unwrap_or(request.migrate_type));
        pcp.refill(list, block);
    }
}

/// A single block of an order without lists (Linux: `rmqueue_buddy`).
pub(super) fn take_one(
    zone: &Zone,
    pcp: &Pcp,
    request: &Request<'_>,
    depth: Depth,
    fragment: Fragment,
    irq: &IrqGuard,
) -> Option<FreeBlock> {
    if let Some(spare) = pcp.pop_spare(request.order, request.migrate_type) {
        return Some(spare);
    }
    let block = with_free_for(zone, pcp, irq, |free, _| {
        if !depth.fits(zone, free, request.order, request.highest) {
            return None;
        }
        let block = rmqueue(zone, free, request, depth, fragment)?;
        if free.has_guards() {
            sound(free.keep_guards(&block));
        }
        Some(block)
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
fn free_from_pcp(zone: &Zone, pcp: &Pcp, mut list: ListIdx, nr_pages: u32, irq: &IrqGuard) {
    let before = pcp.count();
    with_free_for(zone, pcp, irq, |free, pcp| {
        // What the CPU had kept has gone back already.
        let mut left = nr_pages.saturating_sub(before - pcp.count());
        while left > 0 {
            let Some((block, migrate_type)) = pcp.pop_oldest(&mut list) else { break };
            left = left.saturating_sub(block.order().nr_pages() as u32);
            sound(match free.is_plain(migrate_type) {
                true => free.free(block, migrate_type, None, zone.sparse()),
                false => free.free_special(block, migrate_type, zone.sparse()),
            });
        }
    });
}
