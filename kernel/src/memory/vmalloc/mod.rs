//! The vmalloc space: areas taken and mapped, unmapped and given back.
//!
//! ```text
//! alloc   vmalloc, vfree: memory from single pages
//! vmap    pages that somebody has
//! info    /proc/vmallocinfo
//!
//! map:    area from Memory::vmalloc -> pages in Memory::kernel_map        undone when there is no memory for tables
//! unmap:  pages out of the tables -> TLBs flushed -> tables given back -> area given back
//! ```
//!
//! # Invariants
//! - I1: outside of areas nothing of the vmalloc space is mapped, and in an area only what who has taken it has mapped.
//!
//! # Locking
//! Both locks sleep: who holds one may wait for memory, and reclaim neither maps nor unmaps. Only `info` holds both, the areas'
//! outside.
//! The tables' lock is kept from the moment that a table is unlinked until the TLBs, which may remember it, are flushed: no
//! other table takes its place meanwhile. A spin lock could not be: another CPU may wait for it with interrupts off.

mod alloc;
mod info;
mod vmap;

pub use alloc::{Vmalloc, VmallocZeroed, vfree, vmalloc, vmalloc_huge, vmalloc_node, vzalloc, vzalloc_node};
pub use info::Snapshot;
pub use vmap::{Vmap, vmap, vunmap};

use core::alloc::Layout;
use core::ptr::NonNull;

use mm::arch::layout::{VMALLOC, VMALLOC_END};
use mm::areas::NodeAlloc;
use mm::pgtable::{OutOfMemory, PageSize, Prot, VirtRange};
use mm::slub::CacheParams;
use mm::vmalloc::{Caller, Part, Request, VmapArea, VmapSpace};
use mm::{Gfp, PhysAddr, VirtAddr};

use super::tlb::AllTlbs;
use super::{Error, Memory};

/// Nodes of areas, from their slab cache.
#[derive(Clone, Copy, Debug)]
pub struct AreaNodes {
    memory: &'static Memory,
}

// SAFETY: a slab cache gives each object out once, of the size and alignment it was made for.
unsafe impl NodeAlloc for AreaNodes {
    fn alloc_node(&mut self, layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
        debug_assert_eq!(layout, Space::NODE_LAYOUT);
        self.memory.vmap_areas.alloc(Gfp::KERNEL).map_err(|_| OutOfMemory)
    }

    unsafe fn free_node(&mut self, block: NonNull<u8>, _layout: Layout) {
        // SAFETY: from this cache, and not used any more: the caller's promise.
        unsafe { self.memory.vmap_areas.free(block) };
    }
}

/// The areas of the vmalloc space.
pub type Space = VmapSpace<AreaNodes>;

/// The cache of their nodes (Linux: `vmap_area`).
pub(super) const AREA_CACHE: CacheParams<'static> =
    CacheParams::new("vmap_area", Space::NODE_LAYOUT.size()).align(Space::NODE_LAYOUT.align());

/// The space without areas.
pub(super) fn space() -> Result<Space, Error> {
    VirtRange::from_bounds(VMALLOC, VMALLOC_END).map(Space::new).ok_or(Error::Layout)
}

/// Bytes of memory that areas have taken from the page allocator; devices' memory is not (Linux: `vmalloc_nr_pages`).
pub fn used_bytes(memory: &Memory) -> u64 {
    memory.vmalloc.lock().used_bytes()
}

/// Takes an area and maps all of it to the bytes from `phys` on, with the largest pages up to `largest` that fit. Sleeps.
///
/// # Errors
/// No memory for a node or a table, no room, or a physical address that does not exist; nothing is taken then.
pub(super) fn map(
    memory: &'static Memory,
    request: Request,
    phys: PhysAddr,
    prot: Prot,
    largest: PageSize,
) -> Result<VmapArea, Error> {
    let area = memory.vmalloc.lock().alloc(request, &mut AreaNodes { memory })?;
    let mut pages = memory.pages;
    let mapped = memory.kernel_map.lock().map_range(area.range(), phys, prot, largest, &mut pages);
    match mapped {
        Ok(_) => Ok(area),
        Err(error) => {
            // SAFETY: just taken, and known to nobody.
            unsafe { unmap(memory, area) };
            Err(error.into())
        }
    }
}

/// Takes areas at given distances, without mapping anything. Sleeps. See [`VmapSpace::alloc_congruent`].
///
/// # Errors
/// No memory for a node, or no room.
pub(super) fn reserve_congruent(
    memory: &'static Memory,
    parts: impl Iterator<Item = Part> + Clone,
    align: u64,
) -> Result<VirtAddr, OutOfMemory> {
    let reserved = memory.vmalloc.lock().alloc_congruent(parts, align, Caller(0), &mut AreaNodes { memory });
    reserved.map_err(|_| OutOfMemory)
}

/// Gives them back; nothing is mapped there any more, in no TLB either. Sleeps.
pub(super) fn release_congruent(memory: &'static Memory, base: VirtAddr, parts: impl Iterator<Item = Part>) {
    memory.vmalloc.lock().free_congruent(base, parts, &mut AreaNodes { memory });
}

/// Unmaps an area, whole or in parts, and gives it back. Sleeps.
///
/// # Safety
/// It is taken, and nobody uses its addresses any more.
pub(super) unsafe fn unmap(memory: &'static Memory, area: VmapArea) {
    let mut pages = memory.pages;
    let mut tables = memory.kernel_map.lock();
    match tables.unmap_range(area.range(), &mut pages) {
        // SAFETY: tables of the vmalloc space come from the page allocator, and all CPUs that run are flushed.
        Ok(unmapped) => unsafe { unmapped.finish(&mut AllTlbs, &mut pages) },
        Err(OutOfMemory) => unreachable!("no page reaches across an area's end, so none is split"),
    }
    drop(tables);
    memory.vmalloc.lock().free(area.range().start(), &mut AreaNodes { memory });
}
