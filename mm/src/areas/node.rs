//! Owned objects from an allocator that is handed in: the tree's nodes.
//!
//! # Invariants
//! - I1: an [`Own<T, A>`] points to an initialised `T` in a block that an `A` gave out for `T`'s layout; nobody else has it.
//!
//! Dropping an `Own` leaks it, because the allocator is not at hand then: [`Own::free`] is the way.

use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use crate::pgtable::OutOfMemory;

/// Where the nodes of a tree come from: a slab cache, in tests the host's heap.
///
/// # Safety
/// `alloc_node` returns a block of at least that size and alignment that is nobody else's until it is given back to any
/// value of the same type.
pub unsafe trait NodeAlloc {
    /// A block for one node.
    ///
    /// # Errors
    /// When there is no memory.
    fn alloc_node(&mut self, layout: Layout) -> Result<NonNull<u8>, OutOfMemory>;

    /// Takes a block back.
    ///
    /// # Safety
    /// It came from `alloc_node` of a value of this type, for the same layout, and nobody uses it any more.
    unsafe fn free_node(&mut self, block: NonNull<u8>, layout: Layout);
}

/// An owned `T` in a block of an `A`.
pub(super) struct Own<T, A> {
    at: NonNull<T>,
    _owns: PhantomData<(T, fn(A))>,
}

// SAFETY: owns its `T` (I1).
unsafe impl<T: Send, A> Send for Own<T, A> {}
// SAFETY: as above.
unsafe impl<T: Sync, A> Sync for Own<T, A> {}

impl<T, A: NodeAlloc> Own<T, A> {
    /// Moves `value` into a new block.
    pub(super) fn new(value: T, alloc: &mut A) -> Result<Self, OutOfMemory> {
        let at = alloc.alloc_node(Layout::new::<T>())?.cast::<T>();
        // SAFETY: a fresh block of the layout.
        unsafe { at.write(value) };
        Ok(Self { at, _owns: PhantomData })
    }

    /// Moves the value out and gives the block back.
    pub(super) fn free(self, alloc: &mut A) -> T {
        // SAFETY: initialised and ours (I1); the block is not used afterwards, as `self` is gone.
        unsafe {
            let value = self.at.read();
            alloc.free_node(self.at.cast(), Layout::new::<T>());
            value
        }
    }
}

impl<T, A> Deref for Own<T, A> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: initialised and ours (I1).
        unsafe { self.at.as_ref() }
    }
}

impl<T, A> DerefMut for Own<T, A> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: initialised and ours (I1).
        unsafe { self.at.as_mut() }
    }
}

impl<T: fmt::Debug, A> fmt::Debug for Own<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
