//! The lists of this CPU: the paths without a lock.
//!
//! ```text
//! Local of CPU n: here[zone]      -> its Pcp of each zone of its own node
//!                 preferred[zone] -> its Pcp of the first zone that an allocation up to `zone` tries
//! ```

use core::cell::Cell;
use core::ptr::{NonNull, addr_of};

use crate::arch::IrqGuard;
use crate::buddy::{FreeBlock, note_type_number};
use crate::gfp::MigrateType;
use crate::id::{CpuId, NodeId, ZoneIdx};
use crate::node::{Nodes, ZonelistKind};
use crate::order::Order;
use crate::page::Page;
use crate::pcp::{EventCounts, Fill, ListIdx, ListRow, Pcp};
use crate::zone::Zone;

use super::PageAllocator;
use super::rmqueue::give_to;

/// A zone and this CPU's lists of it.
#[derive(Clone, Copy, Debug)]
struct Set {
    zone: NonNull<Zone>,
    pcp: NonNull<Pcp>,
}

/// What a CPU knows of its own surroundings. Does not change after boot.
#[derive(Debug)]
pub(super) struct Local {
    /// The CPU's node.
    node: NodeId,
    /// The first `zone_key` of its zones.
    first_key: usize,
    here: [Option<NonNull<Pcp>>; ZoneIdx::COUNT],
    preferred: [Option<Set>; ZoneIdx::COUNT],
    /// The nodes that those are of.
    preferred_node: [NodeId; ZoneIdx::COUNT],
    /// How many allocations from now one fails on purpose; 0: none.
    fail_nth: Cell<u32>,
}

// SAFETY: zones and per-CPU lists are shared as G3 and G4 say.
unsafe impl Send for Local {}

impl Set {
    fn new(zone: &Zone, cpu: CpuId) -> Option<Self> {
        let pcp = NonNull::new(zone.pagesets().slot(cpu))?;
        Some(Self { zone: NonNull::from_ref(zone), pcp })
    }
}

impl Local {
    pub(super) fn new(nodes: &Nodes, cpu: CpuId, node: NodeId) -> Self {
        let own = nodes.get(node);
        let here = ZoneIdx::ALL.map(|idx| -> Option<NonNull<Pcp>> {
            let zone = own.map(|n| n.zone(idx)).filter(|z| z.is_populated())?;
            Set::new(zone, cpu).map(|set| set.pcp)
        });
        let first =
            ZoneIdx::ALL.map(|idx| own.and_then(|n| n.zonelist(ZonelistKind::Fallback).preferred(idx)));
        Self {
            node,
            first_key: Page::key_of(node, ZoneIdx::Dma),
            here,
            preferred: first.map(|zone| Set::new(zone?, cpu)),
            preferred_node: first.map(|zone| zone.map_or(node, Zone::node)),
            fail_nth: Cell::new(0),
        }
    }
}

impl PageAllocator {
    /// A block from this CPU's list of the zone that an allocation up to `highest` tries first. Its watermark was checked
    /// when the list was filled.
    #[inline(always)]
    pub(super) fn pop_local(&self, highest: ZoneIdx, list: ListIdx, order: Order) -> Option<FreeBlock> {
        let irq = IrqGuard::new();
        // SAFETY: interrupts are off, so slots of this CPU are ours; nothing here comes back to them (G3, G4).
        let block = unsafe {
            self.local.with(&irq, |local| {
                let pcp = &*local.preferred[highest.index()]?.pcp.as_ptr();
                let block = pcp.pop(list, order)?;
                pcp.events.allocated(order);
                Some(block)
            })
        };
        // On each way by itself, so that there is one decision.
        match block {
            Some(block) => {
                drop(irq);
                Some(block)
            }
            None => {
                drop(irq);
                None
            }
        }
    }

    /// The same, when `node` is this CPU's and has the zone.
    #[inline(always)]
    pub(super) fn pop_local_of(
        &self,
        node: NodeId,
        highest: ZoneIdx,
        list: ListIdx,
        order: Order,
    ) -> Option<FreeBlock> {
        let irq = IrqGuard::new();
        // SAFETY: as in `pop_local`.
        unsafe {
            self.local.with(&irq, |local| {
                if local.node != node || local.preferred_node[highest.index()] != node {
                    return None;
                }
                let pcp = &*local.preferred[highest.index()]?.pcp.as_ptr();
                let block = pcp.pop(list, order)?;
                pcp.events.allocated(order);
                Some(block)
            })
        }
    }

    /// The zone that an allocation up to `highest` tries first, for `f` to work on with this CPU's lists of it.
    #[inline(always)]
    pub(super) fn with_preferred<R>(
        &self,
        highest: ZoneIdx,
        irq: &IrqGuard,
        f: impl FnOnce(&Zone, &Pcp) -> R,
    ) -> Option<R> {
        // SAFETY: as in `pop_local`; the callers' functions do not come back here.
        unsafe {
            let set = self.local.with(irq, |local| local.preferred[highest.index()])?;
            Some(f(set.zone.as_ref(), &*set.pcp.as_ptr()))
        }
    }

    /// The migratetype of a block's pageblock.
    #[inline(always)]
    pub(super) fn type_of(&self, block: &FreeBlock) -> MigrateType {
        MigrateType::from_index(self.type_number(block) as usize).unwrap_or(MigrateType::Unmovable)
    }

    #[inline(always)]
    fn type_number(&self, block: &FreeBlock) -> u8 {
        // SAFETY: the block's pages exist (B1 of `buddy`).
        unsafe { self.nodes.sparse().type_number(block.page().pfn(self.machine)) }
    }

    /// Gives back a block whose pages have been checked.
    #[inline(always)]
    pub(super) fn free_clean(&self, block: FreeBlock) {
        let Some(row) = ListRow::of(block.order()) else { return self.free_unlisted(block) };
        let number = self.type_number(&block);
        note_type_number(&block, number);
        match row.list(number) {
            Some(list) => self.free_to_list(block, list),
            None => self.free_elsewhere(block, number),
        }
    }

    /// A block of an order without lists: this CPU keeps the last one, and the one before goes to the buddy.
    #[inline(never)]
    fn free_unlisted(&self, block: FreeBlock) {
        let number = self.type_number(&block);
        if !Pcp::may_keep(block.order()) || number as usize >= MigrateType::PCP_COUNT {
            return self.free_to_buddy(block);
        }
        note_type_number(&block, number);
        let (page, order) = (block.page(), block.order());
        let irq = IrqGuard::new();
        // SAFETY: as in `pop_local`.
        let pcp = unsafe {
            let of_zone = |local: &Local| {
                local.here.get(page.zone_key().wrapping_sub(local.first_key)).copied().flatten()
            };
            self.local.with(&irq, of_zone).map(|pcp| &*pcp.as_ptr())
        };
        let Some(pcp) = pcp else {
            drop(irq);
            return self.free_to_buddy(block);
        };
        pcp.events.freed(order);
        if let Some(older) = pcp.keep_spare(block) {
            give_to(self.nodes.zone_of(&page), older, &irq);
        }
    }

    /// A block of a type without lists: high-atomic pages and those of contiguous-memory areas go with the movable ones and
    /// from there back to their own list; isolated ones to the buddy (Linux: `free_unref_page`).
    #[inline(never)]
    fn free_elsewhere(&self, block: FreeBlock, type_number: u8) {
        let list = ListIdx::new(block.order(), MigrateType::Movable);
        match list.filter(|_| type_number != MigrateType::Isolate as u8) {
            Some(list) => self.free_to_list(block, list),
            None => self.free_to_buddy(block),
        }
    }

    #[inline(always)]
    fn free_to_list(&self, block: FreeBlock, list: ListIdx) {
        let key = block.page().zone_key();
        let irq = IrqGuard::new();
        // SAFETY: as in `pop_local`.
        let pcp = unsafe {
            self.local
                .with(&irq, |local| local.here.get(key.wrapping_sub(local.first_key)).copied().flatten())
        };
        match pcp {
            Some(pcp) => self.push(pcp, block, list, irq),
            None => self.free_foreign(block, list, irq),
        }
    }

    /// A page of another node, which goes home to its own zone from this CPU's lists of that; or one that an option wants to
    /// see before it is free (D1 of `debug`).
    #[cold]
    #[inline(never)]
    fn free_foreign(&self, block: FreeBlock, list: ListIdx, irq: IrqGuard) {
        drop(irq);
        self.take_back(&block);
        let irq = IrqGuard::new();
        let zone = self.nodes.zone_of(&block.page());
        let set = Set::new(zone, crate::arch::cpu_id()).expect("a slot has an address");
        // SAFETY: as in `push`.
        unsafe { (*set.pcp.as_ptr()).touch() };
        self.push(set.pcp, block, list, irq);
    }

    /// `pcp` is this CPU's.
    #[inline(always)]
    fn push(&self, pcp: NonNull<Pcp>, block: FreeBlock, list: ListIdx, irq: IrqGuard) {
        let (page, order) = (block.page(), block.order());
        // SAFETY: interrupts are off; this is the only use of this CPU's slot (G3, G4).
        let pcp = unsafe { &*pcp.as_ptr() };
        pcp.events.freed(order);
        if pcp.push(list, block) == Fill::Check {
            self.trim(page, pcp, list, order, irq);
        }
    }

    /// Works on this CPU's lists of a zone.
    #[inline]
    pub(super) fn with_pcp<R>(&self, zone: &Zone, irq: &IrqGuard, f: impl FnOnce(&Pcp) -> R) -> R {
        // SAFETY: callers within this module do not nest uses of a slot (G3).
        unsafe { zone.pagesets().with(irq, f) }
    }

    /// Takes all CPUs' short cuts away: from now on every allocation and every free goes the long way.
    pub(super) fn forget_lists(&mut self) {
        for cpu in 0..self.local.nr_cpus() {
            // SAFETY: nobody else uses the allocator yet, as `&mut` shows, so no CPU is at its slot.
            let local = unsafe { &mut *self.local.slot(CpuId(cpu)) };
            (local.preferred, local.here) = ([None; ZoneIdx::COUNT], [None; ZoneIdx::COUNT]);
        }
    }

    /// Works on this CPU's count of allocations until one fails on purpose.
    pub(super) fn with_fail_nth<R>(&self, irq: &IrqGuard, f: impl FnOnce(&Cell<u32>) -> R) -> R {
        // SAFETY: as in `pop_local`; callers within this module do not come back.
        unsafe { self.local.with(irq, |local| f(&local.fail_nth)) }
    }

    /// A CPU's node.
    pub(super) fn node_of(&self, cpu: CpuId) -> NodeId {
        // SAFETY: the slot lives as long as the allocator; the node in it does not change after boot.
        unsafe { addr_of!((*self.local.slot(cpu)).node).read() }
    }

    /// This CPU's node.
    pub(super) fn this_node(&self, irq: &IrqGuard) -> NodeId {
        // SAFETY: as in `pop_local`.
        unsafe { self.local.with(irq, |local| local.node) }
    }
}

/// A CPU's events, read while it may go on counting.
pub(super) fn peek_events(zone: &Zone, cpu: CpuId) -> EventCounts {
    // SAFETY: the slot lives as long as the zone; its events are atomics.
    unsafe { (*addr_of!((*zone.pagesets().slot(cpu)).events)).counts() }
}

/// Pages on a CPU's lists, read while it may go on.
pub(super) fn peek_count(zone: &Zone, cpu: CpuId) -> u32 {
    // SAFETY: as in `peek_events`: the count is atomic.
    unsafe { Pcp::peek_count(zone.pagesets().slot(cpu)) }
}

/// Checks a CPU's lists.
///
/// # Panics
/// When they are not in order. The CPU does not allocate or free meanwhile, or it may panic as well.
pub(super) fn validate_pcp(zone: &Zone, cpu: CpuId) {
    // SAFETY: the caller's CPUs are at rest, so this is the only use of the slot.
    unsafe { (*zone.pagesets().slot(cpu)).validate() };
}
