//! Memory in whole pages that is no power of two of them.

use core::mem::MaybeUninit;

use crate::addr::PAGE_SIZE;
use crate::arch::Machine;
use crate::gfp::Gfp;
use crate::id::NodeId;
use crate::order::Order;

use super::block::SplitPages;
use super::{AllocError, PageAllocator};

/// Consecutive pages, as many as a size takes, and their memory.
#[must_use = "the pages are lost when this is dropped: give them to `free_pages_exact`"]
#[derive(Debug)]
pub struct ExactPages {
    pages: SplitPages,
    machine: Machine,
}

impl ExactPages {
    /// How many pages.
    pub fn nr_pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Their memory, of whatever contents.
    pub fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        let at = self.machine.phys_to_virt(self.pages.first().pfn(self.machine).phys());
        // SAFETY: the pages are ours, contiguous and in the direct map; nobody else has a reference (they never left here).
        unsafe { core::slice::from_raw_parts_mut(at.cast(), self.pages.len() * PAGE_SIZE) }
    }

    /// The pages one by one, to be freed one by one.
    pub fn into_pages(self) -> SplitPages {
        self.pages
    }
}

impl PageAllocator {
    /// As many consecutive pages as `size_bytes` takes, each with a reference of its own; what the smallest block that
    /// holds them has beyond goes back at once (Linux: `alloc_pages_exact`). [`Gfp::COMP`] counts for nothing. Any context.
    ///
    /// # Errors
    /// As [`alloc_pages`](Self::alloc_pages), and when no block is large enough or nothing is asked for.
    pub fn alloc_pages_exact(&self, size_bytes: usize, gfp: Gfp) -> Result<ExactPages, AllocError> {
        self.alloc_exact(size_bytes, |order| self.alloc_pages(gfp - Gfp::COMP, order))
    }

    /// As [`alloc_pages_exact`](Self::alloc_pages_exact), from `node` or the nearest to it (Linux:
    /// `alloc_pages_exact_nid`).
    ///
    /// # Errors
    /// As [`alloc_pages_node`](Self::alloc_pages_node), and as above.
    pub fn alloc_pages_exact_node(
        &self,
        node: NodeId,
        size_bytes: usize,
        gfp: Gfp,
    ) -> Result<ExactPages, AllocError> {
        self.alloc_exact(size_bytes, |order| self.alloc_pages_node(node, gfp - Gfp::COMP, order))
    }

    fn alloc_exact(
        &self,
        size_bytes: usize,
        alloc: impl FnOnce(Order) -> Result<super::PageBlock, AllocError>,
    ) -> Result<ExactPages, AllocError> {
        if size_bytes == 0 {
            return Err(AllocError);
        }
        let block = alloc(Order::for_size(size_bytes).ok_or(AllocError)?)?;
        let pages = block.split_front(size_bytes.div_ceil(PAGE_SIZE) as u64, |rest| self.free_pages(rest));
        Ok(ExactPages { pages, machine: self.machine })
    }

    /// Frees such pages, one by one: those that somebody else uses stay until he puts them (Linux: `free_pages_exact`).
    /// Any context.
    pub fn free_pages_exact(&self, pages: ExactPages) {
        pages.pages.for_each(|page| self.free_pages(page));
    }
}
