//! One table: 512 entries in a frame, read and written atomically because the MMU does so too.
//!
//! # Invariants
//! - I1: a [`Table`] is a frame that a [`TableSource`] gave out and has not got back, so it is mapped by the direct map and
//!   holds entries only. A present non-leaf entry above the last level names such a frame.
//! - I2: while a table is on a [`TableList`], no entry names it; entry 0 holds the next table's frame (not present, so
//!   that a CPU that still walks it finds nothing), and all others are empty.

use core::sync::atomic::{AtomicU64, Ordering};

use super::entry::Entry;
use super::level::{ENTRIES, Level};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::arch::Machine;
use crate::pfn::Pfn;

/// There is no memory for a table or a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// Where page tables come from: memblock at boot, the page allocator later.
///
/// # Safety
/// `alloc_table` returns a frame in the direct map that is all zero and nobody else's until it is given back.
pub unsafe trait TableSource {
    /// A zeroed frame for a table whose entries are of `level`.
    ///
    /// # Errors
    /// When there is none.
    fn alloc_table(&mut self, level: Level) -> Result<Pfn, OutOfMemory>;

    /// Takes a table back. Its contents do not matter.
    ///
    /// # Safety
    /// `pfn` came from this source's `alloc_table`, and neither an entry nor a TLB names it any more.
    unsafe fn free_table(&mut self, pfn: Pfn);
}

/// The entries of a table. Copies name the same table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    entries: *const [AtomicU64; ENTRIES],
}

const _: () = assert!(size_of::<[AtomicU64; ENTRIES]>() == PAGE_SIZE);

// SAFETY: entries are atomics, and the table lives as long as its tree (I1).
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// The table in frame `pfn`.
    ///
    /// # Safety
    /// The frame is a table (I1), and stays one as long as the result is used.
    pub(super) unsafe fn at(machine: Machine, pfn: Pfn) -> Self {
        Self { entries: machine.phys_to_virt(pfn.phys()).cast_const().cast() }
    }

    /// Entry `index` itself.
    #[inline(always)]
    fn slot(&self, index: usize) -> &AtomicU64 {
        // SAFETY: a live table in the direct map (I1), of atomics only.
        unsafe { &(*self.entries)[index] }
    }

    /// The value of entry `index`. Acquire: partner of the release in [`store`](Self::store), so that a table that
    /// another CPU has just linked is seen zeroed.
    #[inline(always)]
    pub(super) fn load(&self, index: usize) -> Entry {
        Entry::from_bits(self.slot(index).load(Ordering::Acquire))
    }

    /// Writes entry `index`. Release: partner of the acquire in [`load`](Self::load).
    #[inline(always)]
    pub(super) fn store(&self, index: usize, entry: Entry) {
        self.slot(index).store(entry.bits(), Ordering::Release);
    }

    /// Empties entry `index` and returns what it was, with all that the MMU noted in it up to then.
    #[inline(always)]
    pub(super) fn take(&self, index: usize) -> Entry {
        Entry::from_bits(self.slot(index).swap(0, Ordering::AcqRel))
    }

    /// Replaces entry `index` by `change` of it, without losing what the MMU notes in it meanwhile.
    pub(super) fn update(&self, index: usize, change: impl Fn(Entry) -> Entry) {
        let slot = self.slot(index);
        let mut before = slot.load(Ordering::Acquire);
        loop {
            let after = change(Entry::from_bits(before)).bits();
            match slot.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }

    /// The table that entry `index` of this table of `level` names.
    #[inline(always)]
    pub(super) fn child(&self, machine: Machine, level: Level, index: usize) -> Option<Self> {
        let entry = self.load(index);
        // SAFETY: what a non-leaf entry names is a table (I1).
        entry.is_table(level).then(|| unsafe { Self::at(machine, entry.pfn()) })
    }

    /// Whether all entries are empty.
    pub(super) fn is_empty(&self) -> bool {
        (0..ENTRIES).all(|index| self.load(index).is_empty())
    }
}

/// Tables that no entry names any more and that wait for a TLB flush, linked through themselves.
#[must_use = "tables that are dropped are lost"]
#[derive(Debug, Default)]
pub struct TableList {
    first: Option<Pfn>,
    nr_tables: usize,
}

impl TableList {
    /// No tables.
    pub const fn new() -> Self {
        Self { first: None, nr_tables: 0 }
    }

    /// How many there are.
    pub fn nr_tables(&self) -> usize {
        self.nr_tables
    }

    /// Puts a table on the list.
    ///
    /// # Safety
    /// The table is empty, and no entry names it any more (I2).
    pub(super) unsafe fn push(&mut self, machine: Machine, pfn: Pfn) {
        let next = self.first.map_or(Entry::EMPTY, |next| Entry::from_bits(next.byte()));
        // SAFETY: was a table until now, and nobody has got it back (I1).
        unsafe { Table::at(machine, pfn) }.store(0, next);
        self.first = Some(pfn);
        self.nr_tables += 1;
    }

    /// Gives all tables back.
    ///
    /// # Safety
    /// They came from `tables`, and all TLBs have been flushed since they were put here.
    pub unsafe fn free(&mut self, machine: Machine, tables: &mut impl TableSource) {
        while let Some(pfn) = self.first {
            // SAFETY: on the list, so still ours (I2).
            let next = unsafe { Table::at(machine, pfn) }.load(0);
            self.first = (!next.is_empty()).then(|| Pfn::containing(PhysAddr::new_truncate(next.bits())));
            self.nr_tables -= 1;
            // SAFETY: the caller has flushed the TLBs, and no entry names it (I2).
            unsafe { tables.free_table(pfn) };
        }
    }
}
