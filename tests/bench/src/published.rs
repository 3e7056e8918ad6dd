//! Published allocators that can give out pages. Those that are buddy allocators align a block to its size, the others to
//! a page: nobody would ask more of them.

use core::alloc::Layout;
use core::ptr::{NonNull, slice_from_raw_parts_mut};

use buddy_alloc::buddy_alloc::{BuddyAlloc, BuddyAllocParam};
use buddy_system_allocator::FrameAllocator;
use mm::{Order, PAGE_SIZE};
use rlsf::Tlsf;
use talc::base::Talc;
use talc::source::Manual;

use crate::source::{Heap, Memory};

/// What is asked of a general allocator.
fn layout(order: Order) -> Layout {
    Layout::from_size_align(order.size_bytes(), PAGE_SIZE).expect("no order is that large")
}

/// The address of a block, for those that want a pointer.
fn pointer(at: usize) -> NonNull<u8> {
    NonNull::new(at as *mut u8).expect("blocks have addresses")
}

fn address(block: NonNull<u8>) -> usize {
    block.as_ptr() as usize
}

/// `buddy_system_allocator`'s frames: numbers in B-trees, which live in the host's heap.
pub struct Frames(FrameAllocator<33>);

impl Heap for Frames {
    const NAME: &'static str = "buddy_system_allocator-frames";

    fn new(memory: Memory) -> Self {
        let mut frames = FrameAllocator::new();
        frames.add_frame(0, memory.size_bytes() / PAGE_SIZE);
        Self(frames)
    }

    #[inline]
    fn alloc(&mut self, order: Order) -> Option<usize> {
        self.0.alloc(order.nr_pages() as usize)
    }

    #[inline]
    fn free(&mut self, at: usize, order: Order) {
        self.0.dealloc(at, order.nr_pages() as usize);
    }
}

/// `buddy_system_allocator`'s heap: lists within the free memory, one way.
pub struct BuddyHeap(buddy_system_allocator::Heap<48>);

impl Heap for BuddyHeap {
    const NAME: &'static str = "buddy_system_allocator-heap";

    fn new(memory: Memory) -> Self {
        let mut heap = buddy_system_allocator::Heap::empty();
        // SAFETY: memory for it alone (`Memory`).
        unsafe { heap.init(memory.start() as usize, memory.size_bytes()) };
        Self(heap)
    }

    #[inline]
    fn alloc(&mut self, order: Order) -> Option<usize> {
        self.0.alloc(layout(order)).ok().map(address)
    }

    #[inline]
    fn free(&mut self, at: usize, order: Order) {
        // SAFETY: given out by `alloc` with that layout, taken back once (`Heap::free`).
        unsafe { self.0.dealloc(pointer(at), layout(order)) };
    }
}

/// `buddy-alloc`: lists within the free memory, a bit for each block.
pub struct Bits(BuddyAlloc);

// SAFETY: its pointers are to memory for it alone (`Memory`).
unsafe impl Send for Bits {}

impl Heap for Bits {
    const NAME: &'static str = "buddy-alloc";

    fn new(memory: Memory) -> Self {
        let (start, len) = (memory.start().cast_const(), memory.size_bytes());
        // SAFETY: memory for it alone, which is zero (`Memory`).
        Self(unsafe { BuddyAlloc::new(BuddyAllocParam::new_with_zero_filled(start, len, PAGE_SIZE)) })
    }

    #[inline]
    fn alloc(&mut self, order: Order) -> Option<usize> {
        NonNull::new(self.0.malloc(order.size_bytes())).map(address)
    }

    #[inline]
    fn free(&mut self, at: usize, _order: Order) {
        self.0.free(at as *mut u8);
    }
}

/// `talc`: lists by size within the free memory.
#[derive(Debug)]
pub struct Bins(Talc<Manual, talc::DefaultBinning>);

impl Heap for Bins {
    const NAME: &'static str = "talc";

    fn new(memory: Memory) -> Self {
        let mut talc = Talc::new(Manual);
        // SAFETY: memory for it alone (`Memory`).
        unsafe { talc.claim(memory.start(), memory.size_bytes()) }.expect("room for its lists");
        Self(talc)
    }

    #[inline]
    fn alloc(&mut self, order: Order) -> Option<usize> {
        // SAFETY: no order has size zero.
        unsafe { self.0.allocate(layout(order)) }.map(address)
    }

    #[inline]
    fn free(&mut self, at: usize, order: Order) {
        // SAFETY: given out by `alloc` with that layout, taken back once (`Heap::free`).
        unsafe { self.0.deallocate(at as *mut u8, layout(order)) };
    }
}

/// `rlsf`: two levels of lists by size within the free memory.
#[derive(Debug)]
pub struct TwoLevels(Tlsf<'static, u64, u64, 40, 64>);

impl Heap for TwoLevels {
    const NAME: &'static str = "rlsf";

    fn new(memory: Memory) -> Self {
        let mut tlsf = Tlsf::new();
        let all = slice_from_raw_parts_mut(memory.start(), memory.size_bytes());
        let all = NonNull::new(all).expect("memory has an address");
        // SAFETY: memory for it alone, as long as it lives (`Memory`).
        unsafe { tlsf.insert_free_block_ptr(all) }.expect("room for a block");
        Self(tlsf)
    }

    #[inline]
    fn alloc(&mut self, order: Order) -> Option<usize> {
        self.0.allocate(layout(order)).map(address)
    }

    #[inline]
    fn free(&mut self, at: usize, _order: Order) {
        // SAFETY: given out by `alloc` with that alignment, taken back once (`Heap::free`).
        unsafe { self.0.deallocate(pointer(at), PAGE_SIZE) };
    }
}
