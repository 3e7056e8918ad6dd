//! Mapping, unmapping and protecting ranges, the same code at every level.
//!
//! # Invariants
//! - I1: nothing that is mapped is mapped otherwise without an unmap in between.
//! - I2: tables are unlinked first, then TLBs are flushed, then they are freed: see [`Unmapped::finish`].

use super::entry::{Entry, Prot};
use super::level::{Level, PageSize, VirtRange};
use super::table::{OutOfMemory, Table, TableList, TableSource};
use super::tree::{MapError, PageTable};
use crate::addr::{PHYS_LIMIT, PhysAddr, VirtAddr};
use crate::arch;
use crate::pfn::Pfn;

/// How many pages of each size (Linux: `DirectMap4k`, `DirectMap2M`, `DirectMap1G`, there in kB).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageCounts {
    nr_pages: [u64; 3],
}

impl PageCounts {
    /// Pages of that size.
    pub fn nr_pages(&self, size: PageSize) -> u64 {
        self.nr_pages[size as usize]
    }

    /// What pages of that size map, in kB.
    pub fn kb(&self, size: PageSize) -> u64 {
        self.nr_pages(size) * (size.bytes() >> 10)
    }

    pub(super) fn count(&mut self, level: Level) {
        if let Some(size) = PageSize::of_level(level) {
            self.nr_pages[size as usize] += 1;
        }
    }
}

impl core::ops::AddAssign for PageCounts {
    fn add_assign(&mut self, other: Self) {
        for (sum, n) in self.nr_pages.iter_mut().zip(other.nr_pages) {
            *sum += n;
        }
    }
}

/// Whoever drops translations from the TLBs of all CPUs that may have them.
pub trait Tlb {
    /// Drops what is cached for `range`.
    fn flush(&mut self, range: VirtRange);
}

/// The TLB of this CPU, for trees that no other CPU uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalTlb;

/// From so many pages on, dropping everything is cheaper (Linux: `tlb_single_page_flush_ceiling`).
const FLUSH_CEILING_PAGES: u64 = 33;

impl Tlb for LocalTlb {
    fn flush(&mut self, range: VirtRange) {
        if range.len_bytes() >> 12 > FLUSH_CEILING_PAGES {
            // What the kernel maps is global.
            let all =
                if VirtRange::USER.covers(range) { arch::flush_tlb_all } else { arch::flush_tlb_global };
            return all();
        }
        for (_, page) in range.slots(Level::Pte) {
            arch::flush_tlb_page(page.start());
        }
    }
}

/// Translations changed: the TLBs must hear of it.
#[must_use = "CPUs go on using the old translations until the TLBs are flushed"]
#[derive(Debug)]
pub struct Changed {
    range: VirtRange,
}

impl Changed {
    /// Flushes the range.
    pub fn flush(self, tlb: &mut impl Tlb) {
        tlb.flush(self.range);
    }

    /// For a tree that no CPU has used yet.
    pub fn never_used(self) {}
}

/// What a range leaves behind: tables that wait for the TLBs.
#[must_use = "the tables are lost unless finished"]
#[derive(Debug)]
pub struct Unmapped {
    range: VirtRange,
    machine: arch::Machine,
    tables: TableList,
}

impl Unmapped {
    /// Flushes the TLBs and gives the tables back.
    ///
    /// # Safety
    /// The tree's tables came from `tables`, and `tlb` reaches all CPUs that use the tree.
    pub unsafe fn finish(mut self, tlb: &mut impl Tlb, tables: &mut impl TableSource) {
        tlb.flush(self.range);
        // SAFETY: unlinked before the flush (I2), from this source by the caller's word.
        unsafe { self.tables.free(self.machine, tables) };
    }
}

/// Where unmapping puts what it takes out of the tree. Nothing of it may be reused before a TLB flush.
pub trait Removed {
    /// `entry` of `level` mapped the page at `addr`.
    fn leaf(&mut self, addr: VirtAddr, entry: Entry, level: Level);
    /// The list for unlinked tables.
    fn tables(&mut self) -> &mut TableList;
}

impl Removed for TableList {
    fn leaf(&mut self, _addr: VirtAddr, _entry: Entry, _level: Level) {}
    fn tables(&mut self) -> &mut TableList {
        self
    }
}

/// When a table below an unmapped range is unlinked.
#[derive(Clone, Copy, Debug)]
pub enum Prune {
    /// When a look at all its entries finds them empty.
    WhenEmpty,
    /// When all that it spans lies in this range, in which the caller knows nothing to be mapped any more (Linux:
    /// `free_pgtables` with floor and ceiling).
    Within(VirtRange),
}

impl PageTable {
    /// Maps `range` to the bytes from `phys` on, with the largest pages up to `largest` that alignment and length allow
    /// (Linux: `kernel_physical_mapping_init`). What is mapped in the same way already stays and is not counted. Takes
    /// constant time a page and a table. Returns how many pages of each size were mapped.
    ///
    /// # Errors
    /// No memory for a table, or another mapping in the way; what came before it is mapped.
    pub fn map_range(
        &mut self,
        range: VirtRange,
        phys: PhysAddr,
        prot: Prot,
        largest: PageSize,
        tables: &mut impl TableSource,
    ) -> Result<PageCounts, MapError> {
        let end = phys.as_u64().checked_add(range.len_bytes());
        if phys.as_u64() & (PageSize::Size4K.bytes() - 1) != 0 || end.is_none_or(|end| end > PHYS_LIMIT) {
            return Err(MapError::BadPhys);
        }
        let mut map = Map { tree: self, prot, largest, tables, counts: PageCounts::default() };
        map.level(map.tree.root, Level::Pgd, range, phys.as_u64())?;
        Ok(map.counts)
    }

    /// Unmaps `range`, splitting large pages at its ends. Holes in it are no error. Tables that become empty are unlinked,
    /// but never those that root entries of the kernel half name (tree I2).
    ///
    /// # Errors
    /// When there is no memory to split a large page: then nothing is unmapped.
    pub fn unmap_range(
        &mut self,
        range: VirtRange,
        tables: &mut impl TableSource,
    ) -> Result<Unmapped, OutOfMemory> {
        self.split_ends(range, tables)?;
        let mut removed = TableList::new();
        self.clear_range(range, Prune::WhenEmpty, &mut removed);
        Ok(Unmapped { range, machine: self.machine, tables: removed })
    }

    /// Takes all leaves that lie in `range` out of the tree and hands them to `removed`. A large page that reaches across
    /// its ends stays: [`split_at`](Self::split_at) first.
    pub fn clear_range(&mut self, range: VirtRange, prune: Prune, removed: &mut impl Removed) {
        self.clear_level(self.root, Level::Pgd, range, prune, removed);
    }

    fn clear_level(
        &self,
        table: Table,
        level: Level,
        range: VirtRange,
        prune: Prune,
        removed: &mut impl Removed,
    ) {
        for (index, part) in range.slots(level) {
            let entry = table.load(index);
            if entry.is_leaf(level) {
                if part.fills(level) {
                    removed.leaf(part.start(), table.take(index), level);
                }
            } else if let (Some(child), Some(down)) = (table.child(self.machine, level, index), level.down())
            {
                self.clear_level(child, down, part, prune, removed);
                let span = VirtRange::entry_span(level, part.first());
                let shared = level == Level::Pgd && VirtRange::KERNEL.covers(span);
                let done = match prune {
                    Prune::WhenEmpty => child.is_empty(),
                    Prune::Within(free) => free.covers(span),
                };
                if done && !shared {
                    debug_assert!(child.is_empty(), "{span:?} still maps something");
                    self.unlink(table, index, removed.tables());
                }
            }
        }
    }

    fn unlink(&self, table: Table, index: usize, tables: &mut TableList) {
        let entry: Entry = table.take(index);
        let pfn: Pfn = entry.pfn();
        // SAFETY: the entry named an empty table, and was the only one to do so.
        unsafe { tables.push(self.machine, pfn) };
    }

    /// Gives the pages mapped in `range` another protection, splitting large ones at its ends (Linux:
    /// `change_page_attr`). Holes in it are no error.
    ///
    /// # Errors
    /// When there is no memory to split a large page: then nothing is changed.
    pub fn protect_range(
        &mut self,
        range: VirtRange,
        prot: Prot,
        tables: &mut impl TableSource,
    ) -> Result<Changed, OutOfMemory> {
        self.split_ends(range, tables)?;
        Ok(self.update_range(range, |entry, level| entry.with_prot(prot, level)))
    }

    /// Replaces every leaf in `range` by `change` of it. A large page that reaches across its ends stays as it is.
    pub(crate) fn update_range(
        &mut self,
        range: VirtRange,
        change: impl Fn(Entry, Level) -> Entry,
    ) -> Changed {
        self.update_level(self.root, Level::Pgd, range, &change);
        Changed { range }
    }

    fn update_level(
        &self,
        table: Table,
        level: Level,
        range: VirtRange,
        change: &impl Fn(Entry, Level) -> Entry,
    ) {
        for (index, part) in range.slots(level) {
            if table.load(index).is_leaf(level) {
                if part.fills(level) {
                    table.update(index, |entry| change(entry, level));
                }
            } else if let (Some(child), Some(down)) = (table.child(self.machine, level, index), level.down())
            {
                self.update_level(child, down, part, change);
            }
        }
    }

    fn split_ends(&mut self, range: VirtRange, tables: &mut impl TableSource) -> Result<(), OutOfMemory> {
        self.split_at(range.start(), tables)?;
        match range.last().checked_add(1) {
            Some(end) => self.split_at(VirtAddr::new_truncate(end), tables),
            None => Ok(()),
        }
    }
}

/// The parameters of a `map_range` on its way down.
struct Map<'a, T> {
    tree: &'a PageTable,
    prot: Prot,
    largest: PageSize,
    tables: &'a mut T,
    counts: PageCounts,
}

impl<T: TableSource> Map<'_, T> {
    fn level(&mut self, table: Table, level: Level, range: VirtRange, phys: u64) -> Result<(), MapError> {
        for (index, part) in range.slots(level) {
            let phys = phys + (part.first() - range.first());
            let entry = table.load(index);
            let aligned = part.fills(level) && phys & (level.span_bytes() - 1) == 0;
            if aligned && level <= self.largest.level() && !entry.is_table(level) {
                self.leaf(table, index, level, part, phys)?;
            } else if entry.is_leaf(level) {
                self.inside_leaf(entry, level, part, phys)?;
            } else if let Some(down) = level.down() {
                let child =
                    self.tree.descend(table, level, index, part, self.tables).map_err(MapError::oom(part))?;
                self.level(child, down, part, phys)?;
            }
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        table: Table,
        index: usize,
        level: Level,
        part: VirtRange,
        phys: u64,
    ) -> Result<(), MapError> {
        let wanted = Entry::leaf(PhysAddr::new_truncate(phys), self.prot, level);
        let there = table.load(index);
        if there.is_empty() {
            table.store(index, wanted);
            self.counts.count(level);
        } else if !there.same_mapping(wanted) {
            return Err(MapError::Conflict { at: part.start() });
        }
        Ok(())
    }

    /// Part of a large page that is there already: fine when it maps the same.
    fn inside_leaf(&self, there: Entry, level: Level, part: VirtRange, phys: u64) -> Result<(), MapError> {
        let offset = part.first() & (level.span_bytes() - 1);
        let base = PhysAddr::new_truncate(phys.wrapping_sub(offset));
        let same =
            base.is_aligned(level.span_bytes()) && there.same_mapping(Entry::leaf(base, self.prot, level));
        if same { Ok(()) } else { Err(MapError::Conflict { at: part.start() }) }
    }
}
