//! Where chunks get their addresses and pages: the kernel's vmalloc space and page allocator, in tests the host's heap.

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;

use crate::gfp::Gfp;
use crate::pgtable::OutOfMemory;

/// What a [`PerCpuAllocator`](super::PerCpuAllocator) needs of the machine. All but [`want_balance`](Self::want_balance)
/// may sleep.
///
/// # Safety
/// Blocks and addresses are nobody else's until they are given back. Addresses from [`reserve`](Self::reserve) stand for all
/// units, as those of the first chunk do; pages that [`populate`](Self::populate) has returned for are there to be written.
pub unsafe trait ChunkSource {
    /// Pages and chunks come and go while this is held, by one thread at a time.
    type Serial<'a>
    where
        Self: 'a;

    /// Waits until nobody else changes pages and chunks (Linux: `pcpu_alloc_mutex`).
    fn serialise(&self) -> Self::Serial<'_>;

    /// Memory for what is kept of a chunk; whatever is in it.
    ///
    /// # Errors
    /// When there is none.
    fn alloc_block(&self, layout: Layout, gfp: Gfp) -> Result<NonNull<u8>, OutOfMemory>;

    /// Takes a block back.
    ///
    /// # Safety
    /// It came from [`alloc_block`](Self::alloc_block), for that layout, and nobody uses it any more.
    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout);

    /// Addresses for a chunk, without pages: those of the first unit (Linux: `pcpu_get_vm_areas`).
    ///
    /// # Errors
    /// No memory to keep them by, or no room.
    fn reserve(&self) -> Result<NonNull<u8>, OutOfMemory>;

    /// Takes addresses back.
    ///
    /// # Safety
    /// They came from [`reserve`](Self::reserve), without pages by now, and nobody uses them any more.
    unsafe fn release(&self, base: NonNull<u8>);

    /// Pages for those of every unit, each on its CPU's node if that has any, with anything in them (Linux:
    /// `pcpu_populate_chunk`).
    ///
    /// # Errors
    /// No memory; then none of them is there.
    ///
    /// # Safety
    /// The addresses came from [`reserve`](Self::reserve), and those have no pages.
    unsafe fn populate(&self, base: NonNull<u8>, pages: Range<usize>, gfp: Gfp) -> Result<(), OutOfMemory>;

    /// Takes those pages of every unit back, when no CPU has them in its TLB any more (Linux: `pcpu_depopulate_chunk`).
    ///
    /// # Safety
    /// [`populate`](Self::populate) has got them, in whatever portions, and nobody uses them any more.
    unsafe fn depopulate(&self, base: NonNull<u8>, pages: Range<usize>);

    /// [`PerCpuAllocator::balance`](super::PerCpuAllocator::balance) should be called soon, where it may sleep (Linux:
    /// `pcpu_schedule_balance_work`). Any context.
    fn want_balance(&self);
}
