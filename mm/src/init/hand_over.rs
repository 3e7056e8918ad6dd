//! The end of memblock: its free ranges become the page allocator's, its reserved ones stay reserved.

use super::PerPage;
use crate::addr::PhysRange;
use crate::arch;
use crate::memblock::Memblock;
use crate::page::PageFlags;
use crate::page_alloc::PageAllocator;
use crate::pfn::{Pfn, PfnRange};
use crate::sparse::Sparse;

/// Gives all free memory to the page allocator, in blocks as large as they can be, and marks reserved memory so; returns
/// how many pages were given (Linux: `memblock_free_all`). Takes time by the blocks, and by the reserved pages: the others are free since
/// [`struct_pages`](super::struct_pages) made them.
///
/// # Safety
/// `memblock` is what the allocator's nodes were built from, and nobody uses what it has free; it is not used any more
/// but for freeing single ranges later, page by page, to the allocator.
pub unsafe fn hand_over(memblock: &Memblock<'_>, allocator: &PageAllocator) -> u64 {
    let before = arch::ticks();
    for region in memblock.reserved() {
        reserve(allocator.nodes().sparse(), region.range);
    }
    let mut given = 0;
    for free in memblock.free_ranges(None) {
        // SAFETY: RAM of one region, so of one node, initialised with the sections; free, so nobody's.
        given += unsafe { allocator.hand_over(PfnRange::inside(free.range)) };
    }
    let ticks = arch::ticks() - before;
    log::info!("Hand-over: {given} pages to the page allocator in {ticks} ticks, {}", PerPage(ticks, given));
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
