//! Looking at every page that a tree maps, and the checks made of it.

use core::ops::ControlFlow;

use super::entry::{Entry, EntryFlags};
use super::level::{Level, PageSize, VirtRange};
use super::map::PageCounts;
use super::table::Table;
use super::tree::PageTable;
use crate::addr::{PhysAddr, VirtAddr};

/// A mapped page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Where it is mapped.
    pub addr: VirtAddr,
    /// What is mapped there.
    pub phys: PhysAddr,
    /// The leaf's level.
    pub level: Level,
    /// The leaf's own flags.
    pub flags: EntryFlags,
    /// The rights that the MMU grants, all levels taken together: `PRESENT`, `WRITABLE`, `USER`, `NO_EXECUTE`.
    pub rights: EntryFlags,
}

impl Leaf {
    /// The page's size.
    pub fn size(&self) -> PageSize {
        PageSize::of_level(self.level).unwrap_or(PageSize::Size4K)
    }

    /// Whether the page can be both written and executed.
    pub fn is_writable_and_executable(&self) -> bool {
        self.rights.contains(EntryFlags::WRITABLE) && !self.rights.contains(EntryFlags::NO_EXECUTE)
    }
}

/// What [`PageTable::check_wx`] looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WxReport {
    /// Pages that are mapped.
    pub mapped: PageCounts,
    /// Pages that can be executed.
    pub executable: PageCounts,
    /// Pages that can be written.
    pub writable: PageCounts,
}

/// A page that can be both written and executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WxViolation(pub Leaf);

/// A page mapped where nothing should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StrayMapping(pub Leaf);

/// Rights of which every level must grant each.
const GRANTED: EntryFlags = EntryFlags::PRESENT.union(EntryFlags::WRITABLE).union(EntryFlags::USER);

fn combine(above: EntryFlags, entry: Entry, level: Level) -> EntryFlags {
    let own = entry.flags(level);
    (above & own & GRANTED) | ((above | own) & EntryFlags::NO_EXECUTE)
}

impl PageTable {
    /// Calls `visit` for every present page that has a byte in `range`, in order of addresses, until it breaks off.
    /// Takes constant time a page and a table.
    pub fn walk<B>(&self, range: VirtRange, mut visit: impl FnMut(Leaf) -> ControlFlow<B>) -> ControlFlow<B> {
        self.walk_level(self.root, Level::Pgd, range, GRANTED, &mut visit)
    }

    fn walk_level<B>(
        &self,
        table: Table,
        level: Level,
        range: VirtRange,
        above: EntryFlags,
        visit: &mut impl FnMut(Leaf) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (index, part) in range.slots(level) {
            let entry = table.load(index);
            if !entry.is_present() {
                continue;
            }
            let rights = combine(above, entry, level);
            if entry.is_leaf(level) {
                let addr = VirtRange::entry_span(level, part.first()).start();
                visit(Leaf { addr, phys: entry.phys(level), level, flags: entry.flags(level), rights })?;
            } else if let (Some(child), Some(down)) = (table.child(self.machine, level, index), level.down())
            {
                self.walk_level(child, down, part, rights, visit)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// How many pages of each size are mapped in `range`.
    pub fn count_pages(&self, range: VirtRange) -> PageCounts {
        let mut counts = PageCounts::default();
        let _: ControlFlow<()> = self.walk(range, |leaf| {
            counts.count(leaf.level);
            ControlFlow::Continue(())
        });
        counts
    }

    /// How many tables hang below the root entries that `range` touches, the root not counted.
    pub fn count_tables(&self, range: VirtRange) -> u64 {
        self.count_tables_level(self.root, Level::Pgd, range)
    }

    fn count_tables_level(&self, table: Table, level: Level, range: VirtRange) -> u64 {
        range
            .slots(level)
            .map(|(index, part)| match (table.child(self.machine, level, index), level.down()) {
                (Some(child), Some(down)) => 1 + self.count_tables_level(child, down, part),
                _ => 0,
            })
            .sum()
    }

    /// Looks for pages that can be both written and executed, in both halves (Linux: `ptdump_walk_pgd_level_checkwx`).
    ///
    /// # Errors
    /// The first such page.
    pub fn check_wx(&self) -> Result<WxReport, WxViolation> {
        let mut report = WxReport::default();
        for half in [VirtRange::USER, VirtRange::KERNEL] {
            let end = self.walk(half, |leaf| {
                report.mapped.count(leaf.level);
                if leaf.rights.contains(EntryFlags::WRITABLE) {
                    report.writable.count(leaf.level);
                }
                if !leaf.rights.contains(EntryFlags::NO_EXECUTE) {
                    report.executable.count(leaf.level);
                }
                if leaf.is_writable_and_executable() {
                    ControlFlow::Break(WxViolation(leaf))
                } else {
                    ControlFlow::Continue(())
                }
            });
            if let ControlFlow::Break(violation) = end {
                return Err(violation);
            }
        }
        Ok(report)
    }

    /// Checks that all that is mapped in the user half lies in one of `allowed`.
    ///
    /// # Errors
    /// The first page that does not.
    pub fn check_user_half(&self, allowed: &[VirtRange]) -> Result<(), StrayMapping> {
        let end = self.walk(VirtRange::USER, |leaf| {
            let page = VirtRange::entry_span(leaf.level, leaf.addr.as_u64());
            if allowed.iter().any(|range| range.covers(page)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(StrayMapping(leaf))
            }
        });
        match end {
            ControlFlow::Break(stray) => Err(stray),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}
