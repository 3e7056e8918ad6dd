//! One user address's last-level entry, found in one walk: what a page fault works on.

use core::marker::PhantomData;

use super::entry::Entry;
use super::level::{Level, VirtRange};
use super::table::{OutOfMemory, Table, TableSource};
use super::tree::PageTable;
use crate::addr::{PAGE_SIZE, VirtAddr};

/// The entry that maps one user page. Holds the tree, so that nobody unlinks the table meanwhile.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    table: Table,
    index: usize,
    _tree: PhantomData<&'a mut PageTable>,
}

impl Slot<'_> {
    /// The entry now.
    #[inline]
    pub(crate) fn load(&self) -> Entry {
        self.table.load(self.index)
    }

    /// Writes the entry.
    #[inline]
    pub(crate) fn store(&mut self, entry: Entry) {
        self.table.store(self.index, entry);
    }

    /// Empties the entry and returns what it was.
    #[inline]
    pub(crate) fn take(&mut self) -> Entry {
        self.table.take(self.index)
    }

    /// Replaces the entry by `change` of it, without losing what the MMU notes in it meanwhile.
    #[inline]
    pub(crate) fn update(&mut self, change: impl Fn(Entry) -> Entry) {
        self.table.update(self.index, change);
    }
}

impl PageTable {
    /// The last-level entry of the user address `addr`, with the tables down to it made where there are none; each of
    /// them is added to `nr_tables`, also when a later one fails (Linux: `pte_alloc`).
    ///
    /// # Errors
    /// When there is no memory for a table.
    #[inline]
    pub(crate) fn slot(
        &mut self,
        addr: VirtAddr,
        tables: &mut impl TableSource,
        nr_tables: &mut u64,
    ) -> Result<Slot<'_>, OutOfMemory> {
        let addr = addr.as_u64();
        debug_assert!(addr <= VirtRange::USER.last());
        let (mut table, mut level) = (self.root, Level::Pgd);
        while let Some(down) = level.down() {
            let index = level.index(addr);
            table = match table.child(self.machine, level, index) {
                Some(child) => child,
                None => {
                    let page = VirtRange::entry_span(Level::Pte, addr);
                    let child = self.descend(table, level, index, page, tables)?;
                    *nr_tables += 1;
                    child
                }
            };
            level = down;
        }
        Ok(Slot { table, index: level.index(addr), _tree: PhantomData })
    }

    /// Calls `visit` for every last-level entry of the user half that is not empty, those without access included.
    pub(crate) fn for_each_user_entry(&self, mut visit: impl FnMut(VirtAddr, Entry)) {
        self.for_each_level(self.root, Level::Pgd, VirtRange::USER, &mut visit);
    }

    fn for_each_level(
        &self,
        table: Table,
        level: Level,
        range: VirtRange,
        visit: &mut impl FnMut(VirtAddr, Entry),
    ) {
        for (index, part) in range.slots(level) {
            if let (Some(child), Some(down)) = (table.child(self.machine, level, index), level.down()) {
                self.for_each_level(child, down, part, visit);
            } else if !table.load(index).is_empty() {
                debug_assert!(level == Level::Pte && part.len_bytes() == PAGE_SIZE as u64);
                visit(part.start(), table.load(index));
            }
        }
    }
}
