//! Address spaces on this machine: what they live on, and which one the CPU uses.
//!
//! ```text
//! Space::new -> enter: CR3 and Memory::current name it -> leave: the kernel's own tables again -> destroy
//! ```
//!
//! # Invariants
//! - I1: CR3 names the root of the space in [`Memory::current`], or the kernel's own root when there is none.

use core::alloc::Layout;
use core::ptr::NonNull;

use mm::Gfp;
use mm::areas::NodeAlloc;
use mm::aspace::{AddressSpace, Parts};
use mm::page_alloc::PageAllocator;
use mm::pgtable::{LocalTlb, OutOfMemory};
use mm::slub::{CacheFlags, CacheParams};
use mm::vma::VmaTree;

use super::{Error, Memory, kernel_map};
use crate::cpu::paging;

/// Nodes of area trees, from their slab cache.
#[derive(Clone, Copy, Debug)]
pub struct AreaCache {
    memory: &'static Memory,
}

// SAFETY: a slab cache gives each object out once, of the size and alignment it was made for.
unsafe impl NodeAlloc for AreaCache {
    fn alloc_node(&mut self, layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
        debug_assert_eq!(layout, NODE_LAYOUT);
        self.memory.areas.alloc(Gfp::KERNEL).map_err(|_| OutOfMemory)
    }

    unsafe fn free_node(&mut self, block: NonNull<u8>, _layout: Layout) {
        // SAFETY: from this cache, and not used any more: the caller's promise.
        unsafe { self.memory.areas.free(block) };
    }
}

/// What address spaces live on here.
pub type Backing = Parts<&'static PageAllocator, AreaCache, LocalTlb>;
/// An address space here.
pub type Space = AddressSpace<Backing>;

const NODE_LAYOUT: Layout = VmaTree::<Backing>::NODE_LAYOUT;

/// The cache of areas (Linux: `vm_area_struct`).
pub(super) const AREA_CACHE: CacheParams<'static> = CacheParams {
    name: "vm_area_struct",
    object_size: NODE_LAYOUT.size(),
    align: NODE_LAYOUT.align(),
    flags: CacheFlags::empty(),
};

/// What address spaces live on.
pub fn backing(memory: &'static Memory) -> Backing {
    Parts { pages: memory.pages, nodes: AreaCache { memory }, tlb: LocalTlb }
}

/// Makes an empty address space and uses it from now on; what was in use before must have been left.
///
/// # Errors
/// No memory.
pub fn enter(memory: &'static Memory) -> Result<(), Error> {
    let space = Space::new(&memory.kernel_map.lock(), &memory.zero_page, &mut backing(memory))?;
    let root = space.root_pfn();
    let before = memory.current.lock().replace(space);
    assert!(before.is_none(), "an address space is entered while another is in use");
    // SAFETY: its kernel half is the kernel's.
    unsafe { paging::set_root(root) };
    Ok(())
}

/// Runs `f` on the address space in use.
///
/// # Panics
/// When none is.
pub fn with<R>(memory: &'static Memory, f: impl FnOnce(&Space) -> R) -> R {
    f(memory.current.lock().as_ref().expect("an address space is in use"))
}

/// Goes back to the kernel's own page tables and destroys the address space that was in use.
pub fn leave(memory: &'static Memory) {
    let root = memory.kernel_map.lock().root_pfn();
    // SAFETY: the kernel's own tables; nothing of the user half is used by the kernel.
    unsafe { paging::set_root(root) };
    if let Some(space) = memory.current.lock().take() {
        // SAFETY: no CPU uses it any more: there is only this one.
        unsafe { space.destroy(&mut backing(memory)) };
    }
}

/// Checks that nothing is mapped below the kernel's half but pages of the areas of the address space in use, and that no
/// page is both writable and executable.
///
/// # Errors
/// What was found.
pub fn check(memory: &'static Memory) -> Result<(), Error> {
    with(memory, |space| {
        let mm = space.lock();
        let mut ranges = alloc::vec::Vec::new();
        ranges.try_reserve_exact(mm.areas().nr_areas()).map_err(|_| Error::OutOfMemory)?;
        ranges.extend(mm.areas().iter().map(|area| area.range()));
        kernel_map::check(mm.tables(), &ranges)
    })
}
