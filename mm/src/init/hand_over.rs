//! The end of memblock: its free ranges become the page allocator's, its reserved ones stay reserved.
//!
//! ```text
//! memblock   | reserved | free | its arrays | reserved | free | not mapped |
//! pages      | Reserved | buddy|   buddy    | Reserved | buddy|  Reserved  |
//! ```

use super::PerPage;
use crate::addr::PhysRange;
use crate::arch;
use crate::memblock::{Flags, Memblock};
use crate::page::PageFlags;
use crate::page_alloc::PageAllocator;
use crate::pfn::{Pfn, PfnRange};
use crate::sparse::Sparse;

/// Gives all free memory to the page allocator, in blocks as large as they can be, and what memblock's own arrays took,
/// and marks the rest as reserved; returns how many pages were given (Linux: `memblock_free_all`, `memblock_discard`).
/// Takes time by the blocks, and by the reserved pages: the others are free since
/// [`struct_pages`](super::struct_pages) made them.
///
/// # Safety
/// `memblock` is what the allocator's nodes were built from, and nobody uses what it has free.
pub unsafe fn hand_over(memblock: Memblock<'_>, allocator: &PageAllocator) -> u64 {
    let before = arch::ticks();
    for region in memblock.reserved() {
        reserve(allocator.nodes().sparse(), region.range);
    }
    for region in memblock.memory().iter().filter(|r| r.flags.intersects(Flags::NEVER_GIVEN)) {
        reserve(allocator.nodes().sparse(), region.range);
    }
    let mut given = 0;
    for free in memblock.free_ranges(None) {
        // SAFETY: RAM of one region, so of one node, initialised with the sections; free, so nobody's.
        given += unsafe { allocator.hand_over(PfnRange::inside(free.range)) };
    }
    for array in memblock.discard() {
        // SAFETY: memory that was reserved above, and nobody's since memblock is gone.
        given += unsafe { free_late(array, allocator) };
    }
    let ticks = arch::ticks() - before;
    log::info!("Hand-over: {given} pages to the page allocator in {ticks} ticks, {}", PerPage(ticks, given));
    given
}

/// Gives the whole pages of memory to the page allocator that memblock had reserved at the hand-over; returns how many
/// (Linux: `memblock_free_late`).
///
/// # Safety
/// Nobody uses `range`. It is memory that was reserved in the memblock that was handed over to this allocator, and that was
/// not freed since.
pub unsafe fn free_late(range: PhysRange, allocator: &PageAllocator) -> u64 {
    let mut given = 0;
    for pfn in PfnRange::inside(range).iter() {
        let Some(page) = allocator.nodes().sparse().page(pfn) else { continue };
        page.clear_flags_owned(PageFlags::RESERVED);
        page.set_refcount(0);
        // SAFETY: nobody's, RAM, and now as boot made it; one page is of one node.
        given += unsafe { allocator.hand_over(PfnRange::new(pfn, pfn + 1)) };
    }
    given
}

/// Marks all pages that `range` touches as reserved (Linux: `memmap_init_reserved_pages`).
fn reserve(sparse: &Sparse, range: PhysRange) {
    let touched = PfnRange::new(Pfn::down(range.start()), Pfn::up(range.end()));
    for pages in sparse.valid_in(touched) {
        for page in pages.iter().filter_map(|pfn| sparse.page(pfn)) {
            page.set_flags_owned(PageFlags::RESERVED);
            page.set_refcount(1);
        }
    }
}
