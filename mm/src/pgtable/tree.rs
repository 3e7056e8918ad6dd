//! The tree of tables behind one root: making it, walking down to an entry, splitting large pages.
//!
//! ```text
//! root (Pgd) -> Pud tables -> Pmd tables -> Pte tables          any leaf above Pte is a large page
//!   entries 0..256: user half, this tree's own
//!   entries 256..512: kernel half, copied from the kernel's tree
//! ```
//!
//! # Invariants
//! - I1: every table below the user half's root entries is this tree's own; a tree whose kernel half is a copy never
//!   changes below it.
//! - I2: a root entry of the kernel's tree, once it names a table, names it for ever: copies rely on it.
//!
//! # Locking
//! None of its own: `&mut` is the proof of holding whatever guards the tree.

use super::entry::{Entry, EntryFlags};
use super::level::{ENTRIES, Level, VirtRange};
use super::table::{OutOfMemory, Table, TableSource};
use crate::addr::{PhysAddr, VirtAddr};
use crate::arch::Machine;
use crate::pfn::Pfn;

/// First root entry of the kernel half.
const KERNEL_HALF: usize = ENTRIES / 2;

/// Why a mapping could not be made or changed. All below `at` is done, nothing from there on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// No memory for a table.
    OutOfMemory {
        /// First address not done.
        at: VirtAddr,
    },
    /// Something else is mapped there already.
    Conflict {
        /// First address not done.
        at: VirtAddr,
    },
    /// The physical address is not page-aligned, or the range ends past what x86_64 can address.
    BadPhys,
}

impl MapError {
    pub(super) fn oom(range: VirtRange) -> impl Fn(OutOfMemory) -> Self {
        move |OutOfMemory| Self::OutOfMemory { at: range.start() }
    }
}

/// What an address is mapped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The byte that the address names.
    pub phys: PhysAddr,
    /// The leaf's own flags.
    pub flags: EntryFlags,
    /// The leaf's level.
    pub level: Level,
}

/// A tree of page tables. Dropping it frees nothing: see [`free_root`](Self::free_root).
#[derive(Debug)]
pub struct PageTable {
    pub(super) machine: Machine,
    pub(super) root: Table,
    root_pfn: Pfn,
}

impl PageTable {
    /// A tree that maps nothing.
    ///
    /// # Errors
    /// When there is no frame for the root.
    pub fn new(machine: Machine, tables: &mut impl TableSource) -> Result<Self, OutOfMemory> {
        let root_pfn = tables.alloc_table(Level::Pgd)?;
        // SAFETY: fresh from a source of tables (table I1).
        Ok(Self { machine, root: unsafe { Table::at(machine, root_pfn) }, root_pfn })
    }

    /// The tree behind a root that somebody else made, to look at it or go on with it.
    ///
    /// # Safety
    /// The root and all tables below it are tables in the direct map, and nobody changes them meanwhile.
    pub unsafe fn from_root(machine: Machine, root_pfn: Pfn) -> Self {
        // SAFETY: the caller's promise.
        Self { machine, root: unsafe { Table::at(machine, root_pfn) }, root_pfn }
    }

    /// A tree with an empty user half and `kernel`'s kernel half (Linux: `pgd_alloc`, `pgd_ctor`).
    ///
    /// # Errors
    /// When there is no frame for the root.
    pub fn with_kernel_half_of(kernel: &Self, tables: &mut impl TableSource) -> Result<Self, OutOfMemory> {
        let tree = Self::new(kernel.machine, tables)?;
        for index in KERNEL_HALF..ENTRIES {
            tree.root.store(index, kernel.root.load(index));
        }
        Ok(tree)
    }

    /// Names a table in each root entry that `range` of the kernel half touches, so that trees made from now on share
    /// all that will be mapped there (Linux: `preallocate_vmalloc_pages`).
    ///
    /// # Errors
    /// When there is no memory for a table.
    pub fn populate_root(
        &mut self,
        range: VirtRange,
        tables: &mut impl TableSource,
    ) -> Result<(), OutOfMemory> {
        debug_assert!(VirtRange::KERNEL.covers(range));
        for (index, part) in range.slots(Level::Pgd) {
            self.descend(self.root, Level::Pgd, index, part, tables)?;
        }
        Ok(())
    }

    /// Makes all tables that pages of 4 KiB in `range` need, so that mapping them needs no memory (Linux:
    /// `page_table_range_init`). No large page is in the range.
    ///
    /// # Errors
    /// When there is no memory for a table; those made before stay.
    pub fn populate_tables(
        &mut self,
        range: VirtRange,
        tables: &mut impl TableSource,
    ) -> Result<(), OutOfMemory> {
        self.populate_level(self.root, Level::Pgd, range, tables)
    }

    fn populate_level(
        &self,
        table: Table,
        level: Level,
        range: VirtRange,
        tables: &mut impl TableSource,
    ) -> Result<(), OutOfMemory> {
        let Some(down) = level.down() else { return Ok(()) };
        for (index, part) in range.slots(level) {
            let child = self.descend(table, level, index, part, tables)?;
            self.populate_level(child, down, part, tables)?;
        }
        Ok(())
    }

    /// The root's frame, for CR3.
    pub fn root_pfn(&self) -> Pfn {
        self.root_pfn
    }

    /// The machine whose frames the tables are.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Gives the root back.
    ///
    /// # Panics
    /// With debug assertions, when the user half still maps something.
    ///
    /// # Safety
    /// The root came from `tables`, and no CPU uses the tree.
    pub unsafe fn free_root(self, tables: &mut impl TableSource) {
        debug_assert!((0..KERNEL_HALF).all(|index| self.root.load(index).is_empty()));
        // SAFETY: the caller's promise; nothing names a root but CR3.
        unsafe { tables.free_table(self.root_pfn) };
    }

    /// What `addr` is mapped to, `None` when to nothing (or without any access).
    pub fn translate(&self, addr: VirtAddr) -> Option<Translation> {
        let (mut table, mut level) = (self.root, Level::Pgd);
        loop {
            let index = level.index(addr.as_u64());
            let entry = table.load(index);
            if !entry.is_present() {
                return None;
            }
            if entry.is_leaf(level) {
                let offset = addr.as_u64() & (level.span_bytes() - 1);
                return Some(Translation {
                    phys: entry.phys(level) + offset,
                    flags: entry.flags(level),
                    level,
                });
            }
            table = table.child(self.machine, level, index)?;
            level = level.down()?;
        }
    }

    /// The table below entry `index`, made when there is none. The entry must not be a leaf.
    #[inline]
    pub(super) fn descend(
        &self,
        table: Table,
        level: Level,
        index: usize,
        part: VirtRange,
        tables: &mut impl TableSource,
    ) -> Result<Table, OutOfMemory> {
        if let Some(child) = table.child(self.machine, level, index) {
            return Ok(child);
        }
        debug_assert!(table.load(index).is_empty());
        let pfn = tables.alloc_table(level.down().unwrap_or(Level::Pte))?;
        table.store(index, Entry::table(pfn, VirtRange::USER.covers(part)));
        // SAFETY: fresh from a source of tables (table I1).
        Ok(unsafe { Table::at(self.machine, pfn) })
    }

    /// Replaces the large leaf of `level` at `index` by a table that maps the same, and returns the table. TLBs need no
    /// flush for it: the old translation says the same as the new ones.
    pub(super) fn split(
        &self,
        table: Table,
        level: Level,
        index: usize,
        part: VirtRange,
        tables: &mut impl TableSource,
    ) -> Result<Table, OutOfMemory> {
        let leaf = table.load(index);
        debug_assert!(leaf.is_leaf(level) && level != Level::Pte);
        let pfn = tables.alloc_table(level.down().unwrap_or(Level::Pte))?;
        // SAFETY: fresh from a source of tables (table I1).
        let child = unsafe { Table::at(self.machine, pfn) };
        for i in 0..ENTRIES {
            child.store(i, leaf.part_of_split(level, i));
        }
        table.store(index, Entry::table(pfn, VirtRange::USER.covers(part)));
        Ok(child)
    }

    /// Splits what large pages reach across `addr`, so that a range can start or end there.
    ///
    /// # Errors
    /// When there is no memory for a table.
    pub fn split_at(&mut self, addr: VirtAddr, tables: &mut impl TableSource) -> Result<(), OutOfMemory> {
        let (mut table, mut level) = (self.root, Level::Pgd);
        while let Some(down) = level.down() {
            if addr.as_u64() & (level.span_bytes() - 1) == 0 {
                return Ok(());
            }
            let index = level.index(addr.as_u64());
            let part = VirtRange::entry_span(level, addr.as_u64());
            let entry = table.load(index);
            table = if entry.is_empty() {
                return Ok(());
            } else if entry.is_leaf(level) {
                self.split(table, level, index, part, tables)?
            } else {
                match table.child(self.machine, level, index) {
                    Some(child) => child,
                    None => return Ok(()),
                }
            };
            level = down;
        }
        Ok(())
    }
}
