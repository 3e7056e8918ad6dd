//! Where slabs come from: the page allocator, or in tests one that fails on demand.

use core::panic::Location;

use crate::counters::NodeStat;
use crate::gfp::Gfp;
use crate::id::NodeId;
use crate::order::Order;
use crate::page::PagePtr;
use crate::page_alloc::{PageAllocator, PageBlock};

/// A source of blocks of pages. Blocks of more than a page are asked for with [`Gfp::COMP`], so that their tail pages
/// lead to the head: no flags, and word 0 the head's address with bit 0 set.
///
/// # Safety
/// A block that [`alloc_block`](Self::alloc_block) returns is of the order asked for, aligned to its size, mapped in the
/// direct map, and the caller's alone until it is freed. Implementations call nothing of `slub`.
pub unsafe trait PageSource: Sync {
    /// A block's first page, with refcount 1 and no flags but `HEAD`; from `node` rather than from another, or from the
    /// CPU's own node when `None`. `None` when there is no memory. May sleep if the flags say so; zeroed if they say so.
    fn alloc_block(&self, gfp: Gfp, order: Order, node: Option<NodeId>) -> Option<PagePtr>;

    /// Takes a block back. Any context.
    ///
    /// # Safety
    /// The block came from [`alloc_block`](Self::alloc_block) with that order, and nobody uses it any more.
    unsafe fn free_block(&self, head: PagePtr, order: Order);

    /// An allocation with those flags, at `place`, is about to be made: debug builds say so when it may sleep where nobody may
    /// (Linux: `might_alloc`).
    fn might_alloc(&self, gfp: Gfp, place: &'static Location<'static>) {
        let _ = (gfp, place);
    }

    /// So many pages more, or fewer, of that node hold slabs, reclaimable ones or not.
    fn count(&self, node: NodeId, kind: NodeStat, nr_pages: i64);
}

// SAFETY: what the page allocator promises of a `PageBlock`, taken apart and put together again.
unsafe impl PageSource for PageAllocator {
    fn alloc_block(&self, gfp: Gfp, order: Order, node: Option<NodeId>) -> Option<PagePtr> {
        let block = match node {
            Some(node) => self.alloc_pages_node(node, gfp, order),
            None => self.alloc_pages(gfp, order),
        };
        block.ok().map(|block| block.into_raw().0)
    }

    unsafe fn free_block(&self, head: PagePtr, order: Order) {
        // SAFETY: the caller's block, from `alloc_block`.
        self.free_pages(unsafe { PageBlock::from_raw(head, order) });
    }

    fn might_alloc(&self, gfp: Gfp, place: &'static Location<'static>) {
        self.might_alloc_at(gfp, place);
    }

    fn count(&self, node: NodeId, kind: NodeStat, nr_pages: i64) {
        if let Some(node) = self.nodes().get(node) {
            node.counters().add(kind, nr_pages);
        }
    }
}
