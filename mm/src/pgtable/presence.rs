//! Pages of a tree that all CPUs use, made inaccessible and accessible again where they are mapped: without memory, without a
//! lock, in any context.
//!
//! ```text
//! leaf (PRESENT, GLOBAL, ...) <-- set_presence --> leaf without access (PRESENT clear, all else as it was)
//! ```
//!
//! # Invariants
//! - P1: the tables behind a [`LeafEntries`] stay what they are: none is added, freed, split or replaced. So a walk needs no
//!   lock, and since a page belongs to who changes its entry, no two change one.
//!
//! # Not here
//! TLBs: what a CPU has cached of an entry it may go on using until it is told.

use core::ops::ControlFlow;

use super::entry::{Entry, EntryFlags};
use super::level::{Level, VirtRange};
use super::table::Table;
use crate::addr::VirtAddr;
use crate::arch::Machine;
use crate::pfn::Pfn;

/// Whether the MMU lets anybody at a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// As its other flags say.
    Present,
    /// Nobody, from the moment that no TLB has it any more.
    Absent,
}

/// Somewhere in the range nothing is mapped, or a page larger than 4 KiB is. All below `at` is done, nothing from there on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotLeaves {
    /// Where it starts.
    pub at: VirtAddr,
}

/// The entries of 4 KiB pages in a part of a tree whose tables do not change any more (P1).
#[derive(Clone, Copy, Debug)]
pub struct LeafEntries {
    machine: Machine,
    root: Table,
}

impl LeafEntries {
    /// Those of the tree behind `root_pfn`.
    ///
    /// # Safety
    /// The root and all tables that lead to the ranges asked for are tables in the direct map, and stay as P1 says as long as
    /// the result is used.
    pub unsafe fn new(machine: Machine, root_pfn: Pfn) -> Self {
        // SAFETY: the caller's promise.
        Self { machine, root: unsafe { Table::at(machine, root_pfn) } }
    }

    /// Makes all pages of `range` present or absent (Linux: `__set_pages_p`, `__set_pages_np`). What the MMU has noted, and
    /// everything else in the entries, stays. Flushes nothing. Any context; takes time by the pages.
    ///
    /// # Errors
    /// [`NotLeaves`].
    ///
    /// # Safety
    /// The pages are the caller's, so that nobody else changes their entries (P1). Nobody uses them by these entries while
    /// they are absent; and one that is made present maps what may be used there.
    pub unsafe fn set_presence(&self, range: VirtRange, presence: Presence) -> Result<(), NotLeaves> {
        let end = self.visit(self.root, Level::Pgd, range, &mut |table, index| {
            // The MMU may note something at the same time.
            table.update(index, |entry| match presence {
                Presence::Present => entry.with(EntryFlags::PRESENT),
                Presence::Absent => entry.without(EntryFlags::PRESENT),
            });
        });
        match end {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(at) => Err(NotLeaves { at }),
        }
    }

    /// Whether the page of 4 KiB at `addr` is mapped, and absent.
    pub fn is_absent(&self, addr: VirtAddr) -> bool {
        let mut absent = false;
        let page = VirtRange::entry_span(Level::Pte, addr.as_u64());
        let _: ControlFlow<VirtAddr> = self.visit(self.root, Level::Pgd, page, &mut |table, index| {
            absent = !table.load(index).is_present();
        });
        absent
    }

    fn visit(
        &self,
        table: Table,
        level: Level,
        range: VirtRange,
        visit: &mut impl FnMut(Table, usize),
    ) -> ControlFlow<VirtAddr> {
        for (index, part) in range.slots(level) {
            match (level.down(), table.child(self.machine, level, index)) {
                (Some(down), Some(child)) => self.visit(child, down, part, visit)?,
                (None, _) if table.load(index) != Entry::EMPTY => visit(table, index),
                _ => return ControlFlow::Break(part.start()),
            }
        }
        ControlFlow::Continue(())
    }
}
