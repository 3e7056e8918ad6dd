//! Tables of a size that is known at run time, in memory that a source gives.
//!
//! # Invariants
//! - I1: a [`Table`] points to `len` initialised values in a block that nobody else has.
//!
//! Dropping a `Table` leaks it, because the source is not at hand then: [`Table::into_block`] is the way.

use core::alloc::Layout;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// What all-zero bytes are a value of.
///
/// # Safety
/// They are.
pub(super) unsafe trait Zeroable: Copy {}

// SAFETY: a number.
unsafe impl Zeroable for u64 {}
// SAFETY: a number inside.
unsafe impl Zeroable for super::runs::Node {}
// SAFETY: a number inside.
unsafe impl Zeroable for super::map::PageState {}

/// An owned table.
#[must_use = "its memory is lost when this is dropped"]
#[derive(Debug)]
pub(super) struct Table<T> {
    values: NonNull<[T]>,
}

// SAFETY: owns its values (I1).
unsafe impl<T: Send> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Table<T> {}

impl<T: Zeroable> Table<T> {
    /// The memory for so many values.
    pub(super) fn layout(len: usize) -> Option<Layout> {
        Layout::array::<T>(len).ok()
    }

    /// A table of `len` zeroes.
    ///
    /// # Safety
    /// At `block` is memory of [`layout`](Self::layout), which nobody else has until it is taken back.
    pub(super) unsafe fn new(block: NonNull<u8>, len: usize) -> Self {
        // SAFETY: the caller's memory; zeroes are values.
        unsafe { block.cast::<T>().write_bytes(0, len) };
        Self { values: NonNull::slice_from_raw_parts(block.cast(), len) }
    }

    /// Its memory, and the layout of it.
    pub(super) fn into_block(self) -> (NonNull<u8>, Layout) {
        // SAFETY: the values are there (I1).
        (self.values.cast(), Layout::for_value(unsafe { self.values.as_ref() }))
    }
}

impl<T> Deref for Table<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: I1.
        unsafe { self.values.as_ref() }
    }
}

impl<T> DerefMut for Table<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: I1.
        unsafe { self.values.as_mut() }
    }
}

#[cfg(test)]
impl<T: Zeroable> Table<T> {
    pub(super) fn on_host(len: usize) -> Self {
        let layout = Self::layout(len).unwrap();
        // SAFETY: no test asks for nothing; the block is of the layout.
        unsafe { Self::new(NonNull::new(std::alloc::alloc(layout)).unwrap(), len) }
    }

    pub(super) fn free_on_host(self) {
        let (block, layout) = self.into_block();
        // SAFETY: from `on_host`.
        unsafe { std::alloc::dealloc(block.as_ptr(), layout) };
    }
}
