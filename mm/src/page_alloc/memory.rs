//! Blocks by their memory rather than by their pages, for who wants nothing but room.

use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::NonNull;

use crate::gfp::Gfp;
use crate::order::Order;
use crate::page::PagePtr;
use crate::pfn::Pfn;

use super::block::PageBlock;
use super::{AllocError, PageAllocator};

/// The memory of a block, which nobody else uses.
///
/// # Invariants
/// - M1: it is a block's from `alloc_pages`, whose only reference is this.
#[must_use = "the memory is lost when this is dropped: give it to `free_memory`"]
#[derive(Debug)]
pub struct PageMemory {
    start: NonNull<u8>,
    order: Order,
}

impl PageMemory {
    /// Where it starts: a multiple of its size, in the direct map.
    #[inline]
    pub fn address(&self) -> NonNull<u8> {
        self.start
    }

    /// The size.
    #[inline]
    pub fn order(&self) -> Order {
        self.order
    }

    /// The bytes, of whatever contents.
    #[inline]
    pub fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: ours alone (M1), mapped.
        unsafe { core::slice::from_raw_parts_mut(self.start.cast().as_ptr(), self.order.size_bytes()) }
    }

    /// The address and the size, for whoever keeps the memory in another form.
    #[inline]
    pub fn into_raw(self) -> (NonNull<u8>, Order) {
        let memory = ManuallyDrop::new(self);
        (memory.start, memory.order)
    }

    /// The memory again.
    ///
    /// # Safety
    /// From [`into_raw`](Self::into_raw), once, with its order.
    #[inline]
    pub unsafe fn from_raw(start: NonNull<u8>, order: Order) -> Self {
        Self { start, order }
    }
}

impl PageAllocator {
    /// The memory of a block of `order` (Linux: `__get_free_pages`). Any context.
    ///
    /// # Errors
    /// As [`alloc_pages`](Self::alloc_pages).
    pub fn get_free_pages(&self, gfp: Gfp, order: Order) -> Result<PageMemory, AllocError> {
        let block = self.alloc_pages(gfp, order)?;
        Ok(PageMemory { start: block.address(self.machine), order: block.into_raw().1 })
    }

    /// A page of zeros (Linux: `get_zeroed_page`). Any context.
    ///
    /// # Errors
    /// As [`alloc_pages`](Self::alloc_pages).
    pub fn get_zeroed_page(&self, gfp: Gfp) -> Result<PageMemory, AllocError> {
        self.get_free_pages(gfp | Gfp::ZERO, Order::ZERO)
    }

    /// Frees such memory (Linux: `free_pages`, `free_page`). Any context.
    pub fn free_memory(&self, memory: PageMemory) {
        let (start, order) = memory.into_raw();
        let pfn = Pfn::containing(self.machine.virt_to_phys(start.as_ptr()));
        // SAFETY: the block's own page and its reference (M1).
        self.free_pages(unsafe { PageBlock::from_raw(PagePtr::new(self.machine, pfn), order) });
    }
}
