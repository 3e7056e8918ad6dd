//! Strata's own page allocator, on a machine that was booted for it.

use mm::arch::SimMachine;
use mm::init::testing::Spec;
use mm::page_alloc::{PageAllocator, PageBlock};
use mm::{Gfp, Order};

use crate::source::Source;
use crate::workload::MOST_THREADS;

/// A page allocator and its machine.
#[derive(Debug)]
pub struct Strata {
    pages: PageAllocator,
    // What the allocator lives in goes last.
    _sim: SimMachine,
}

impl Source for Strata {
    const NAME: &'static str = "strata";
    type Block = PageBlock;

    /// A PC with one node: zones DMA, DMA32 and, from 4 GiB on, Normal.
    fn new(size_bytes: u64) -> Self {
        let (pages, sim) = Spec::pc(size_bytes).cpus(0, MOST_THREADS as u32).boot().into_parts();
        Self { pages, _sim: sim }
    }

    #[inline]
    fn alloc(&self, order: Order) -> Option<PageBlock> {
        self.pages.alloc_pages(Gfp::KERNEL | Gfp::NOWARN, order).ok()
    }

    #[inline]
    fn free(&self, block: PageBlock) {
        self.pages.free_pages(block);
    }
}
