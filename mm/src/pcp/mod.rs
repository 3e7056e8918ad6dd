//! Per-CPU lists of free pages: what one CPU takes from and gives back to a zone without its lock.
//!
//! ```text
//!                 Unmovable  Movable  Reclaimable
//! order 0             o-o-o     o          .         count = pages on all lists
//! orders 1-3, 9       ...                            list empty: refill `batch` pages from the buddy, one lock
//! spare, order 4-8    one block                      count reaches high: give the oldest back, one lock
//! ```
//! `high` follows the zone's state: lower while the zone is being reclaimed, so that what comes free is there for all.
//! Pages here are not in `NR_FREE_PAGES`; the zone's watermarks were checked when they were taken from the buddy.
//!
//! # Invariants
//! - C1: `count` is the sum of the blocks' pages on all lists, and of the spare block's.
//! - C2: blocks on the lists and the spare one have refcount 0, type `NONE`, no flags, and word 3 of their first page has the migratetype as
//!   which the buddy gets them back; they are on the list of that type, or of movable blocks when it has none.
//!
//! # Locking
//! None: a `Pcp` is one slot of a [`PerCpu`], changed by its CPU with interrupts off. Others read `count` and the events, and
//! set `high`: those are atomics.
//!
//! # Not here
//! When to refill and what the buddy does (`page_alloc`, `buddy`); how `batch` and `high` follow from a zone's size
//! (`zone`).
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "follows the links of lists")]
mod list;

mod events;
#[allow(unsafe_code, reason = "makes a block of what it has kept")]
mod spare;

#[cfg(test)]
#[allow(unsafe_code, reason = "makes pages")]
mod tests;

pub use events::{EventCounts, Events};

use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use list::PcpList;
use spare::Spare;

use crate::buddy::{FreeBlock, noted_migrate_type};
use crate::gfp::MigrateType;
use crate::id::CpuId;
use crate::order::{Order, PAGEBLOCK_ORDER};
use crate::percpu::PerCpu;

/// The largest of the small orders with lists (Linux: `PAGE_ALLOC_COSTLY_ORDER`).
pub const COSTLY_ORDER: u8 = 3;
/// Orders with lists: 0 to [`COSTLY_ORDER`], and a pageblock's.
const NR_ORDERS: usize = COSTLY_ORDER as usize + 2;

/// One of the lists: an order that has lists, and a type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListIdx(u8);

/// The first list of each order; what is no order and what has no lists lead past all lists.
const FIRST_LIST: [u8; 16] = {
    let mut first = [u8::MAX - MigrateType::COUNT as u8; 16];
    let mut row = 0;
    while row < NR_ORDERS {
        first[ORDERS[row].index()] = (row * MigrateType::PCP_COUNT) as u8;
        row += 1;
    }
    first
};

/// The orders with lists.
const ORDERS: [Order; NR_ORDERS] = {
    let mut orders = [PAGEBLOCK_ORDER; NR_ORDERS];
    let mut row = 0;
    while row < NR_ORDERS - 1 {
        orders[row] = Order::new(row as u8).unwrap();
        row += 1;
    }
    orders
};

/// The order of each list.
const ORDER_OF: [Order; ListIdx::COUNT] = {
    let mut orders = [PAGEBLOCK_ORDER; ListIdx::COUNT];
    let mut list = 0;
    while list < orders.len() {
        orders[list] = ORDERS[list / MigrateType::PCP_COUNT];
        list += 1;
    }
    orders
};

/// The lists of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ListRow(u8);

impl ListRow {
    /// Those of that order, when it has lists.
    #[inline(always)]
    pub(crate) const fn of(order: Order) -> Option<Self> {
        let first = FIRST_LIST[order.index() % FIRST_LIST.len()];
        if (first as usize) < ListIdx::COUNT { Some(Self(first)) } else { None }
    }

    /// The one for the type with that number, when it has one.
    #[inline(always)]
    pub(crate) const fn list(self, type_number: u8) -> Option<ListIdx> {
        if (type_number as usize) < MigrateType::PCP_COUNT {
            Some(ListIdx(self.0 + type_number))
        } else {
            None
        }
    }
}

impl ListIdx {
    /// How many there are (Linux: `NR_PCP_LISTS`, which has one for all types of the largest order; here each type has its
    /// own, so that an unmovable block never comes from a movable pageblock).
    pub const COUNT: usize = NR_ORDERS * MigrateType::PCP_COUNT;

    /// The list for blocks of that order and type; `None` when there is none (Linux: `order_to_pindex`).
    #[inline(always)]
    pub const fn new(order: Order, migrate_type: MigrateType) -> Option<Self> {
        Self::of_number(order, migrate_type as u8)
    }

    /// The same for the type with that number.
    #[inline(always)]
    const fn of_number(order: Order, type_number: u8) -> Option<Self> {
        match ListRow::of(order) {
            Some(row) => row.list(type_number),
            None => None,
        }
    }

    /// The order of the list's blocks (Linux: `pindex_to_order`).
    #[inline]
    pub const fn order(self) -> Order {
        ORDER_OF[self.0 as usize]
    }

    /// The type of the list.
    fn migrate_type(self) -> MigrateType {
        MigrateType::ALL[self.index() % MigrateType::PCP_COUNT]
    }

    /// Where [`Pcp::pop_oldest`] starts to empty all lists.
    pub const FIRST: Self = Self(0);

    fn next(self) -> Self {
        if self.index() + 1 < Self::COUNT { Self(self.0 + 1) } else { Self::FIRST }
    }

    #[inline(always)]
    const fn index(self) -> usize {
        const { assert!((Self::COUNT + 1).is_power_of_two()) };
        self.0 as usize % (Self::COUNT + 1)
    }
}

/// For how many intervals lists of another node's zone are left alone after they were in use.
const EXPIRE: u8 = 3;

/// One CPU's lists of one zone (Linux: `struct per_cpu_pages`). The first cache line is all that an order-0 fast path
/// touches of the lists.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Pcp {
    /// Written by its CPU only; others read it for `/proc/zoneinfo`.
    count: AtomicU32,
    /// From so many pages on some are given back. The zone says so, at any time.
    high: AtomicU32,
    /// Grows while pages are only freed, so that more go back at once (Linux: `free_factor`).
    free_factor: Cell<u32>,
    /// One more than there are, so that an index is a mask away from being inside.
    lists: [PcpList; ListIdx::COUNT + 1],
    /// How many more times [`expires`](Self::expires) says no; of other nodes' zones (Linux: `expire`).
    expire: Cell<u8>,
    /// What this CPU did.
    pub events: Events,
    /// The block without a list that was freed last (S1, S2 of `spare`).
    spare: Cell<Option<Spare>>,
}

const _: () =
    assert!(core::mem::offset_of!(Pcp, lists) + MigrateType::PCP_COUNT * size_of::<PcpList>() <= 64);

/// How much the lists may hold, as the zone says: from `high` pages on some are given back; `batch` pages move at a
/// time. Before boot has computed them `high` is 0 and `batch` 1, which keeps nothing back (Linux: `boot_pageset`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Pages on all lists of a CPU.
    pub high: u32,
    /// Pages to move at once.
    pub batch: u32,
}

impl fmt::Debug for Pcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pcp")
            .field("count", &self.count())
            .field("high", &self.high())
            .finish_non_exhaustive()
    }
}

impl Pcp {
    /// Empty lists.
    pub const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            high: AtomicU32::new(0),
            free_factor: Cell::new(0),
            lists: [const { PcpList::new() }; ListIdx::COUNT + 1],
            spare: Cell::new(None),
            expire: Cell::new(0),
            events: Events::new(),
        }
    }

    /// Pages on the lists.
    #[inline(always)]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// The same for another CPU's lists, which that CPU may be working on.
    ///
    /// # Safety
    /// `pcp` points to a living `Pcp`.
    #[allow(unsafe_code, reason = "reads an atomic of a slot that may be in use")]
    pub(crate) unsafe fn peek_count(pcp: *const Self) -> u32 {
        // SAFETY: the caller's pointer; only the atomic is read.
        unsafe { (*core::ptr::addr_of!((*pcp).count)).load(Ordering::Relaxed) }
    }

    /// From how many pages on some are given back.
    #[inline(always)]
    pub fn high(&self) -> u32 {
        self.high.load(Ordering::Relaxed)
    }

    /// Sets [`high`](Self::high) of every CPU's lists of a zone, which may be at work on them.
    #[allow(unsafe_code, reason = "writes an atomic of slots that may be in use")]
    pub(crate) fn set_high(slots: &PerCpu<Self>, high: u32) {
        for cpu in 0..slots.nr_cpus() {
            // SAFETY: a slot lives as long as the zone; only the atomic is written.
            unsafe { (*core::ptr::addr_of!((*slots.slot(CpuId(cpu))).high)).store(high, Ordering::Relaxed) };
        }
    }

    #[inline(always)]
    fn add_count(&self, nr_pages: u32) -> u32 {
        let count = self.count().wrapping_add(nr_pages);
        self.count.store(count, Ordering::Relaxed);
        count
    }

    /// Takes the block of a list that was put there last.
    #[inline(always)]
    pub(crate) fn pop(&self, list: ListIdx, order: Order) -> Option<FreeBlock> {
        debug_assert_eq!(order, list.order());
        let block = self.lists[list.index()].pop(order)?;
        self.add_count((order.nr_pages() as u32).wrapping_neg());
        self.free_factor.set(self.free_factor.get() >> 1);
        Some(block)
    }

    /// Takes blocks of a list for the empty ones of `slots`, the first one first, from `at` on, as long as there are both.
    /// How many; `at` is then where to go on.
    #[inline(always)]
    pub(crate) fn pop_into<T>(
        &self,
        list: ListIdx,
        order: Order,
        slots: &mut [Option<T>],
        at: &mut usize,
        mut make: impl FnMut(FreeBlock) -> T,
    ) -> u32 {
        debug_assert_eq!(order, list.order());
        let mut taken: u32 = 0;
        for slot in slots.iter_mut().skip(*at) {
            if slot.is_none() {
                let Some(block) = self.lists[list.index()].pop(order) else { break };
                *slot = Some(make(block));
                taken += 1;
            }
            *at += 1;
        }
        self.add_count((taken << order.get()).wrapping_neg());
        self.free_factor.set(self.free_factor.get().checked_shr(taken).unwrap_or(0));
        taken
    }

    /// Puts a block on its list, where it is taken next.
    #[inline(always)]
    pub(crate) fn push(&self, list: ListIdx, block: FreeBlock) -> Fill {
        let order = block.order();
        debug_assert_eq!(order, list.order());
        self.lists[list.index()].push(block);
        let count = self.add_count(order.nr_pages() as u32);
        if count < self.high() && (self.free_factor.get() == 0 || order == Order::ZERO) {
            Fill::Below
        } else {
            Fill::Check
        }
    }

    /// How many pages to give back now, with [`pop_oldest`](Self::pop_oldest), after a push of `order` said
    /// [`Fill::Check`] (Linux: `nr_pcp_free`). Many frees without allocations between them give back twice as many each
    /// time. A block of several pages among them shows that larger blocks come free: all goes back, so that they merge.
    #[cold]
    pub fn surplus(&self, order: Order, limits: Limits) -> u32 {
        let small_block = (1..=COSTLY_ORDER).contains(&order.get());
        if self.free_factor.get() > 0 && small_block {
            return self.count();
        }
        if self.count() < limits.high {
            return 0;
        }
        if limits.high < limits.batch {
            return 1;
        }
        let most = limits.high - limits.batch;
        let wanted = u64::from(limits.batch) << self.free_factor.get();
        if wanted < u64::from(most) {
            self.free_factor.set(self.free_factor.get() + 1);
        }
        wanted.min(u64::from(most)).max(u64::from(limits.batch)) as u32
    }

    /// Notes that the lists are in use.
    #[inline]
    pub(crate) fn touch(&self) {
        self.expire.set(EXPIRE);
    }

    /// Whether the lists have not been in use since so many calls as Linux waits for.
    pub(crate) fn expires(&self) -> bool {
        let left = self.expire.get().saturating_sub(1);
        self.expire.set(left);
        left == 0
    }

    /// Puts a block behind the others of its list: one of a refill.
    #[inline]
    pub(crate) fn refill(&self, list: ListIdx, block: FreeBlock) {
        debug_assert_eq!(block.order(), list.order());
        self.add_count(block.order().nr_pages() as u32);
        self.lists[list.index()].push_last(block);
    }

    /// Takes the oldest block of `at`, or of the next list that has one, to be given back as the type that comes with it;
    /// `at` is then where to go on. `None` when all lists are empty; not the spare block (Linux: `free_pcppages_bulk`).
    #[inline]
    pub(crate) fn pop_oldest(&self, at: &mut ListIdx) -> Option<(FreeBlock, MigrateType)> {
        for _ in 0..ListIdx::COUNT {
            let order = at.order();
            if let Some(block) = self.lists[at.index()].pop_last(order) {
                self.add_count((order.nr_pages() as u32).wrapping_neg());
                let migrate_type = noted_migrate_type(&block).unwrap_or(MigrateType::Movable);
                return Some((block, migrate_type));
            }
            *at = at.next();
        }
        None
    }

    /// Checks C1, C2 and S2.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn validate(&self) {
        let mut count = 0;
        if let Some((page, order)) = self.peek_spare() {
            let wrong = crate::buddy::why_not_free(&page, crate::page::PageFlags::CHECK_AT_PREP);
            assert_eq!(wrong, None, "{page:?} kept by a CPU");
            assert!(Self::may_keep(order), "{page:?} of order {} kept by a CPU", order.get());
            count += order.nr_pages() as u32;
        }
        for index in 0..ListIdx::COUNT {
            let list = ListIdx(index as u8);
            for page in self.lists[index].iter() {
                let wrong = crate::buddy::why_not_free(&page, crate::page::PageFlags::CHECK_AT_PREP);
                assert_eq!(wrong, None, "{page:?} on a per-CPU list");
                assert_eq!(PcpList::noted(page).map(list_type), Some(list.migrate_type()), "{page:?}");
                count += list.order().nr_pages() as u32;
            }
        }
        assert_eq!(self.count(), count, "pages on per-CPU lists");
    }
}

/// The type of the lists that blocks of a type are on.
fn list_type(of: MigrateType) -> MigrateType {
    if of.index() < MigrateType::PCP_COUNT { of } else { MigrateType::Movable }
}

impl Limits {
    /// How many blocks to take from the buddy for a list that is empty (Linux: `__rmqueue_pcplist`).
    pub fn refill_blocks(self, order: Order) -> u32 {
        if self.batch > 1 { (self.batch >> order.get()).max(2) } else { 1 }
    }
}

/// Whether the lists hold too much after a push.
#[must_use = "the lists may be too full"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// No.
    Below,
    /// Perhaps: ask [`Pcp::surplus`].
    Check,
}
