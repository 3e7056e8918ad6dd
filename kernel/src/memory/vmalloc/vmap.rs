//! Pages that somebody has, mapped in a row a second time.
//!
//! # Invariants
//! - I1: a [`Vmap`] has its area mapped to pages that are borrowed as long as it lives.

use core::marker::PhantomData;
use core::ptr::NonNull;

use mm::Pfn;
use mm::addr::PAGE_SHIFT;
use mm::arch::Machine;
use mm::page_alloc::PageBlock;
use mm::pgtable::{Access, Prot};
use mm::vmalloc::{Caller, Purpose, Request, VmapArea};

use super::{AreaNodes, unmap};
use crate::debug::backtrace::return_address;
use crate::memory::{Error, Memory};

/// Pages in a row in the vmalloc space. Dropping it unmaps them.
#[must_use = "it is unmapped when dropped"]
#[derive(Debug)]
pub struct Vmap<'p> {
    memory: &'static Memory,
    area: VmapArea,
    _pages: PhantomData<&'p [PageBlock]>,
}

/// Maps all pages of `blocks`, one block after the other, so that the kernel has `access`: never to write and to execute
/// (Linux: `vmap`). Sleeps. Cost: by the page.
///
/// # Errors
/// No block, no memory, or no room.
#[inline(never)]
pub fn vmap<'p>(memory: &'static Memory, blocks: &'p [PageBlock], access: Access) -> Result<Vmap<'p>, Error> {
    let caller = Caller(return_address());
    let nr_pages: u64 = blocks.iter().map(|block| block.order().nr_pages()).sum();
    let request = Request::new(nr_pages << PAGE_SHIFT, Purpose::Vmap).by(caller);
    let area = memory.vmalloc.lock().alloc(request, &mut AreaNodes { memory })?;
    // From here on dropping it undoes what is done.
    let mapping = Vmap { memory, area, _pages: PhantomData };
    let mut frames = blocks.iter().flat_map(|block| {
        let first = block.pfn(Machine).get();
        (first..first + block.order().nr_pages()).map(Pfn::new)
    });
    let mut tables = memory.pages;
    let prot = Prot::kernel(access);
    memory.kernel_map.lock().map_pages(area.range(), prot, &mut frames, &mut tables)?;
    Ok(mapping)
}

/// Unmaps it; the pages stay whose they are (Linux: `vunmap`). Sleeps.
pub fn vunmap(mapping: Vmap<'_>) {
    drop(mapping);
}

impl Vmap<'_> {
    /// Its first byte. What is there is what is in the pages, which their owner may use as well.
    pub fn address(&self) -> NonNull<u8> {
        // SAFETY: the areas of the vmalloc space start above 0.
        unsafe { NonNull::new_unchecked(self.area.range().start().as_mut_ptr()) }
    }

    /// Its size: whole pages.
    pub fn len_bytes(&self) -> usize {
        self.area.range().len_bytes() as usize
    }
}

impl Drop for Vmap<'_> {
    fn drop(&mut self) {
        // SAFETY: the area is ours, and whoever uses its addresses has borrowed `self`.
        unsafe { unmap(self.memory, self.area) };
    }
}
