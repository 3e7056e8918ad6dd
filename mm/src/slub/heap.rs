//! Rust's allocator over `kmalloc`: a kernel makes a static of [`KernelHeap`] its `#[global_allocator]`.
//!
//! # Invariants
//! - H1: every pointer that [`KernelHeap`] gave out came from the one [`Slub`] that it was given.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use super::{SlabState, Slub, kmalloc};
use crate::arch;
use crate::gfp::Gfp;

/// The heap. Allocations fail until it has a slab allocator.
#[derive(Debug)]
pub struct KernelHeap {
    slub: spin::Once<&'static Slub<'static>>,
}

impl KernelHeap {
    /// A heap without memory.
    pub const fn new() -> Self {
        Self { slub: spin::Once::new() }
    }

    /// Gives it its slab allocator; later calls change nothing.
    pub fn init(&self, slub: &'static Slub<'static>) {
        self.slub.call_once(|| slub);
    }

    /// How far it is.
    pub fn state(&self) -> SlabState {
        self.slub.get().map_or(SlabState::Down, |slub| slub.state())
    }

    fn alloc_with(&self, layout: Layout, gfp: Gfp) -> *mut u8 {
        let Some(slub) = self.slub.get() else { return ptr::null_mut() };
        let Some(size) = kmalloc::size_for(layout.size(), layout.align()) else { return ptr::null_mut() };
        slub.kmalloc(size, context() | gfp).map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}

impl Default for KernelHeap {
    fn default() -> Self {
        Self::new()
    }
}

/// What an allocation may do here: Rust code does not say, so it may sleep where anybody may.
fn context() -> Gfp {
    if arch::may_sleep() { Gfp::KERNEL } else { Gfp::ATOMIC_CONTEXT }
}

// SAFETY: memory is `kmalloc`'s: as large and aligned as the layout says, and nobody else's until it is freed.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.alloc_with(layout, Gfp::empty())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.alloc_with(layout, Gfp::ZERO)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, _layout: Layout) {
        if let (Some(slub), Some(pointer)) = (self.slub.get(), NonNull::new(pointer)) {
            // SAFETY: from our slab allocator (H1), and the caller's to free.
            unsafe { slub.kfree(pointer) };
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (Some(slub), Some(old)) = (self.slub.get(), NonNull::new(pointer)) else {
            return ptr::null_mut();
        };
        // SAFETY: from our slab allocator (H1), and the caller's; sizes and alignment as the caller promises.
        unsafe {
            let usable = slub.ksize(old);
            // Kept where it is unless it grows, or would waste more than half.
            if new_size <= usable && new_size >= usable / 2 {
                return pointer;
            }
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if let Some(new) = NonNull::new(new) {
                new.copy_from_nonoverlapping(old, layout.size().min(new_size));
                slub.kfree(old);
            }
            new
        }
    }
}
