//! Single pages, from anywhere, mapped one after the other; and taken out again with their tables left in place.
//!
//! ```text
//! map_pages      frames 7, 3, 9  ->  [ 7 | 3 | 9 |   ]   tables are made where they are missing
//! take_leaves    [ 7 | 3 | 9 |   ]  ->  7, 3, 9           tables stay: who maps there again finds them
//! ```
//!
//! # Not here
//! Tables that nothing is mapped in any more: [`PageTable::clear_range`].

use super::entry::{Entry, Prot};
use super::level::{Level, PageSize, VirtRange};
use super::table::{OutOfMemory, Table, TableSource};
use super::tree::{MapError, PageTable};
use crate::addr::VirtAddr;
use crate::pfn::Pfn;

impl PageTable {
    /// Maps the pages of `range`, in which nothing is mapped, to `frames`, the first page to the first frame (Linux:
    /// `vmap_pages_range_noflush`). A frame is taken from `frames` when its entry is there and empty, so what is left in it
    /// after an error is not mapped. Constant time a page and a table.
    ///
    /// # Errors
    /// No memory for a table, or something mapped in the way; what came before it is mapped.
    pub fn map_pages(
        &mut self,
        range: VirtRange,
        prot: Prot,
        frames: &mut impl Iterator<Item = Pfn>,
        tables: &mut impl TableSource,
    ) -> Result<(), MapError> {
        let flags = prot.leaf_flags(Level::Pte).bits();
        let mut at = range.first();
        loop {
            let last = (at | (Level::Pmd.span_bytes() - 1)).min(range.last());
            let table = self.table_of(at, Level::Pte, tables)?;
            for index in Level::Pte.index(at)..=Level::Pte.index(last) {
                if !table.load(index).is_empty() {
                    let here = last & !(Level::Pmd.span_bytes() - 1) | (index as u64) << Level::Pte.shift();
                    return Err(MapError::Conflict { at: VirtAddr::new_truncate(here) });
                }
                let Some(pfn) = frames.next() else { return Ok(()) };
                table.store(index, Entry::from_bits(pfn.byte() | flags));
            }
            if last == range.last() {
                return Ok(());
            }
            at = last + 1;
        }
    }

    /// Maps the large page at `at` to the frames from `pfn` on, both aligned to it. A table in its place, even one that maps
    /// nothing, is in the way.
    ///
    /// # Errors
    /// As [`map_pages`](Self::map_pages); nothing is mapped then.
    pub fn map_large(
        &mut self,
        at: VirtAddr,
        size: PageSize,
        pfn: Pfn,
        prot: Prot,
        tables: &mut impl TableSource,
    ) -> Result<(), MapError> {
        let level = size.level();
        if !pfn.byte().is_multiple_of(size.bytes()) || !at.as_u64().is_multiple_of(size.bytes()) {
            return Err(MapError::BadPhys);
        }
        let table = self.table_of(at.as_u64(), level, tables)?;
        let index = level.index(at.as_u64());
        if !table.load(index).is_empty() {
            return Err(MapError::Conflict { at });
        }
        table.store(index, Entry::leaf(pfn.phys(), prot, level));
        Ok(())
    }

    /// The table with the entries of `level` for `at`, made if it is missing, and those above it.
    fn table_of(&self, at: u64, level: Level, tables: &mut impl TableSource) -> Result<Table, MapError> {
        let addr = VirtAddr::new_truncate(at);
        let (mut table, mut here) = (self.root, Level::Pgd);
        while let Some(down) = here.down().filter(|_| here > level) {
            let index = here.index(at);
            if table.load(index).is_leaf(here) {
                return Err(MapError::Conflict { at: addr });
            }
            let part = VirtRange::entry_span(here, at);
            table = self
                .descend(table, here, index, part, tables)
                .map_err(|OutOfMemory| MapError::OutOfMemory { at: addr })?;
            here = down;
        }
        Ok(table)
    }

    /// Takes all leaves that lie in `range` out of the tree and hands them to `leaf`, by address; the tables stay. Holes in
    /// it are no error; a large page that reaches across its ends stays. CPUs may know the pages until TLBs are flushed
    /// (Linux: `vunmap_range_noflush`). Constant time an entry and a table.
    pub fn take_leaves(&mut self, range: VirtRange, mut leaf: impl FnMut(Entry, Level)) {
        let mut at = range.first();
        loop {
            let (table, level) = self.deepest_table(at);
            let span = VirtRange::entry_span(level.max(Level::Pmd), at);
            let last = span.last().min(range.last());
            if level == Level::Pte {
                for index in Level::Pte.index(at)..=Level::Pte.index(last) {
                    if !table.load(index).is_empty() {
                        leaf(table.take(index), Level::Pte);
                    }
                }
            } else if range.covers(span) && !table.load(level.index(at)).is_empty() {
                leaf(table.take(level.index(at)), level);
            }
            if last == range.last() {
                return;
            }
            at = last + 1;
        }
    }

    /// The last table on the way to `at`, and the level of its entries.
    fn deepest_table(&self, at: u64) -> (Table, Level) {
        let (mut table, mut level) = (self.root, Level::Pgd);
        while let (Some(child), Some(down)) =
            (table.child(self.machine, level, level.index(at)), level.down())
        {
            (table, level) = (child, down);
        }
        (table, level)
    }
}
