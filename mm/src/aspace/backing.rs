//! What an address space lives on: frames, page tables, nodes for its areas, and TLBs.

use core::alloc::Layout;
use core::ptr::NonNull;

use crate::areas::NodeAlloc;
use crate::counters::NodeStat;
use crate::gfp::Gfp;
use crate::order::Order;
use crate::page::{PagePtr, PageType};
use crate::page_alloc::{PageAllocator, PageBlock};
use crate::pfn::Pfn;
use crate::pgtable::{Level, OutOfMemory, TableSource, Tlb, VirtRange};

/// Where frames for user pages come from.
pub trait FrameSource {
    /// A single page with a reference, zeroed when `gfp` has [`Gfp::ZERO`].
    ///
    /// # Errors
    /// When there is no memory.
    fn alloc_frame(&mut self, gfp: Gfp) -> Result<PageBlock, OutOfMemory>;

    /// Gives up a reference to a page; with the last one the page is free.
    fn free_frame(&mut self, frame: PageBlock);
}

/// All that an address space lives on. Given to every operation, so that a test can make any step of it fail.
pub trait Backing: FrameSource + TableSource + NodeAlloc + Tlb {}

impl<T: FrameSource + TableSource + NodeAlloc + Tlb> Backing for T {}

/// A backing put together: frames and tables from `pages`, nodes from `nodes`, and who flushes.
#[derive(Clone, Copy, Debug)]
pub struct Parts<P, N, T> {
    /// Frames and tables.
    pub pages: P,
    /// Nodes of area trees.
    pub nodes: N,
    /// Flushes.
    pub tlb: T,
}

impl<P: FrameSource, N, T> FrameSource for Parts<P, N, T> {
    #[inline]
    fn alloc_frame(&mut self, gfp: Gfp) -> Result<PageBlock, OutOfMemory> {
        self.pages.alloc_frame(gfp)
    }

    #[inline]
    fn free_frame(&mut self, frame: PageBlock) {
        self.pages.free_frame(frame);
    }
}

// SAFETY: hands on what `pages` promises.
unsafe impl<P: TableSource, N, T> TableSource for Parts<P, N, T> {
    fn alloc_table(&mut self, level: Level) -> Result<Pfn, OutOfMemory> {
        self.pages.alloc_table(level)
    }

    unsafe fn free_table(&mut self, pfn: Pfn) {
        // SAFETY: the caller's promise, and the table came from `pages`.
        unsafe { self.pages.free_table(pfn) };
    }
}

// SAFETY: hands on what `nodes` promises.
unsafe impl<P, N: NodeAlloc, T> NodeAlloc for Parts<P, N, T> {
    fn alloc_node(&mut self, layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
        self.nodes.alloc_node(layout)
    }

    unsafe fn free_node(&mut self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise, and the block came from an `N`.
        unsafe { self.nodes.free_node(block, layout) };
    }
}

impl<P, N, T: Tlb> Tlb for Parts<P, N, T> {
    fn flush(&mut self, range: VirtRange) {
        self.tlb.flush(range);
    }
}

impl FrameSource for &PageAllocator {
    #[inline]
    fn alloc_frame(&mut self, gfp: Gfp) -> Result<PageBlock, OutOfMemory> {
        self.alloc_pages(gfp, Order::ZERO).map_err(|_| OutOfMemory)
    }

    #[inline]
    fn free_frame(&mut self, frame: PageBlock) {
        self.free_pages(frame);
    }
}

/// Counts a table on its page's node.
fn count_table(pages: &PageAllocator, page: PagePtr, nr: i64) {
    if let Some(node) = pages.nodes().get(page.node()) {
        node.counters().add(NodeStat::PageTable, nr);
    }
}

// SAFETY: the allocator gives each block out once, and `ZERO` has it zeroed.
unsafe impl TableSource for &PageAllocator {
    fn alloc_table(&mut self, _level: Level) -> Result<Pfn, OutOfMemory> {
        let block = self.alloc_pages(Gfp::KERNEL | Gfp::ZERO, Order::ZERO).map_err(|_| OutOfMemory)?;
        let (page, _) = block.into_raw();
        page.set_page_type(PageType::TABLE);
        count_table(self, page, 1);
        Ok(page.pfn(self.machine()))
    }

    unsafe fn free_table(&mut self, pfn: Pfn) {
        // SAFETY: the frame came from `alloc_table`, so it has a page, whose reference went into the number there.
        let block = unsafe {
            let page = PagePtr::new(self.machine(), pfn);
            PageBlock::from_raw(page, Order::ZERO)
        };
        debug_assert_eq!(block.page().page_type(), PageType::TABLE);
        block.page().set_page_type(PageType::NONE);
        count_table(self, block.page(), -1);
        self.free_pages(block);
    }
}
