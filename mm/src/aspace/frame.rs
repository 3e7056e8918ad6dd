//! Frames on their way into page tables and out again.
//!
//! ```text
//! allocated --into_leaf--> mapped by an entry --clear_range--> Gather --flush--> freed
//! refcount 1               mapcount 1                          mapcount 0        refcount 0
//! ```
//!
//! # Invariants
//! - F1: a leaf without `SPECIAL` in an address space's user half holds one reference to its page, and counts as one of
//!   its mappings. Only [`into_leaf`] makes such leaves, and only [`from_leaf`] ends them.
//! - F2: a frame that was mapped is freed after the TLBs were flushed, a table too.

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::arch::{self, Machine};
use crate::order::Order;
use crate::page::PagePtr;
use crate::page_alloc::PageBlock;
use crate::pgtable::{Entry, EntryFlags, Level, Prot, Removed, TableList, VirtRange};

use super::backing::Backing;

/// The page behind a leaf that is not special.
fn page_of(entry: Entry, machine: Machine) -> PagePtr {
    // SAFETY: such leaves map allocated pages (F1), whose `Page`s exist.
    unsafe { PagePtr::new(machine, entry.pfn()) }
}

/// The entry that maps a frame from now on, and holds its reference (F1).
pub(crate) fn into_leaf(frame: PageBlock, prot: Prot, machine: Machine) -> Entry {
    let (page, order) = frame.into_raw();
    debug_assert_eq!(order, Order::ZERO);
    page.add_mapping();
    Entry::leaf(page.pfn(machine).phys(), prot, Level::Pte)
}

/// Whether no other entry maps the page of a leaf that is not special.
pub(crate) fn is_exclusive(entry: Entry, machine: Machine) -> bool {
    page_of(entry, machine).mapcount() == 1
}

/// How many entries map the page of a leaf that is not special, in all address spaces.
pub(crate) fn mapcount(entry: Entry, machine: Machine) -> u32 {
    page_of(entry, machine).mapcount()
}

/// Copies what a leaf maps into a new frame.
pub(crate) fn copy_into(frame: &PageBlock, from: Entry, machine: Machine) {
    let source = machine.phys_to_virt(from.pfn().phys());
    // SAFETY: the frame is ours alone; the other page is kept by the leaf's reference (F1), and is another one.
    unsafe { arch::copy_page(frame.address(machine).as_ptr(), source) };
}

/// A leaf is out of the tree: what it held.
///
/// # Safety
/// The entry was taken out of an address space's user half, is not special, and this is done once.
unsafe fn from_leaf(entry: Entry, machine: Machine) -> PageBlock {
    let page = page_of(entry, machine);
    page.remove_mapping();
    // SAFETY: the reference was the leaf's (F1).
    unsafe { PageBlock::from_raw(page, Order::ZERO) }
}

/// Frees what a leaf held that a fault has replaced and flushed.
pub(crate) fn release<B: Backing>(entry: Entry, machine: Machine, backing: &mut B) {
    // SAFETY: fault handling has just taken it out of the tree, and has seen that it is not special.
    backing.free_frame(unsafe { from_leaf(entry, machine) });
}

/// Frames that wait for one flush.
const BATCH: usize = 64;

/// What an unmapping takes out of the tree, flushed and freed batch by batch (Linux: `struct mmu_gather`).
pub(crate) struct Gather<'a, B: Backing> {
    machine: Machine,
    backing: &'a mut B,
    frames: [Option<PageBlock>; BATCH],
    nr_frames: usize,
    tables: TableList,
    /// First and last byte of what was unmapped since the last flush.
    unflushed: Option<(u64, u64)>,
    nr_anon_pages: u64,
}

/// How much went.
#[must_use = "to be taken off the address space's counts"]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathered {
    /// Anonymous pages.
    pub(crate) nr_anon_pages: u64,
    /// Tables.
    pub(crate) nr_tables: u64,
}

impl<'a, B: Backing> Gather<'a, B> {
    /// Nothing yet.
    pub(crate) fn new(machine: Machine, backing: &'a mut B) -> Self {
        Self {
            machine,
            backing,
            frames: [const { None }; BATCH],
            nr_frames: 0,
            tables: TableList::new(),
            unflushed: None,
            nr_anon_pages: 0,
        }
    }

    /// Flushes what has not been, then frees the frames (F2).
    fn flush(&mut self) {
        if let Some((first, last)) = self.unflushed.take()
            && let Some(range) = VirtRange::from_bounds(first, last + 1)
        {
            self.backing.flush(range);
        }
        for frame in self.frames[..self.nr_frames].iter_mut().filter_map(Option::take) {
            self.backing.free_frame(frame);
        }
        self.nr_frames = 0;
    }

    /// Flushes and frees everything; `range` is what was unmapped.
    pub(crate) fn finish(mut self, range: VirtRange) -> Gathered {
        let nr_tables = self.tables.nr_tables() as u64;
        if nr_tables != 0 {
            // Tables are cached by what they map, so all of it goes.
            self.unflushed = Some((range.first(), range.last()));
        }
        self.flush();
        // SAFETY: the tree's tables are from its backing, and were flushed just now, after they were unlinked (F2).
        unsafe { self.tables.free(self.machine, self.backing) };
        Gathered { nr_anon_pages: self.nr_anon_pages, nr_tables }
    }
}

impl<B: Backing> Removed for Gather<'_, B> {
    fn leaf(&mut self, addr: VirtAddr, entry: Entry, level: Level) {
        debug_assert_eq!(level, Level::Pte);
        let (first, last) = (addr.as_u64(), addr.as_u64() + (PAGE_SIZE as u64 - 1));
        self.unflushed =
            Some(self.unflushed.map_or((first, last), |(from, to)| (from.min(first), to.max(last))));
        if entry.has(EntryFlags::SPECIAL) {
            return;
        }
        if self.nr_frames == BATCH {
            self.flush();
            self.unflushed = Some((first, last));
        }
        // SAFETY: `clear_range` of an address space's tree has just taken it out.
        self.frames[self.nr_frames] = Some(unsafe { from_leaf(entry, self.machine) });
        self.nr_frames += 1;
        self.nr_anon_pages += 1;
    }

    fn tables(&mut self) -> &mut TableList {
        &mut self.tables
    }
}
