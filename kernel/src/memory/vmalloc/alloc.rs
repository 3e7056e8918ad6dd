//! Memory from single pages that lie anywhere, in a row in the vmalloc space.
//!
//! ```text
//! vmalloc, vzalloc   area -> pages, 64 at a time -> mapped          an error anywhere gives back what there is
//! vmalloc_huge       the same, with pages of 2 MiB as long as there are any
//! vfree              pages out of the tables, freed -> TLBs flushed -> area given back
//! ```
//! Who has which page stands in the page tables and nowhere else: there is no array of pages to allocate, nor to free.
//!
//! # Invariants
//! - I1: a [`Vmalloc`] has its area mapped to pages of its own, read-write and not executable, until it is dropped. Each entry
//!   owns the block that it names.
//!
//! # Locking
//! That of [`super`]. All of it sleeps. No page is allocated under a lock.

use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::{fmt, slice};

use mm::addr::PAGE_SHIFT;
use mm::arch::Machine;
use mm::page_alloc::PageBlock;
use mm::pgtable::{Entry, Level, PageSize, Prot, VirtRange};
use mm::vmalloc::{Caller, Purpose, Request, VmapArea};
use mm::{Gfp, NodeId, Order, PAGE_SIZE, PagePtr, VirtAddr};

use super::{AreaNodes, unmap};
use crate::debug::backtrace::return_address;
use crate::memory::{Error, Memory};

/// Pages that are allocated and mapped in one go.
const CHUNK: usize = 64;

/// What a large page needs.
const LARGE: Order = match Order::new((PageSize::Size2M.level().shift() - PAGE_SHIFT) as u8) {
    Some(order) => order,
    None => unreachable!(),
};

/// Memory in a row in the vmalloc space, behind it a page that is not mapped. Dropping it gives it back.
#[must_use = "it is freed when dropped"]
pub struct Vmalloc {
    memory: &'static Memory,
    area: VmapArea,
}

/// [`Vmalloc`] whose bytes were zeroed.
#[must_use = "it is freed when dropped"]
#[derive(Debug)]
pub struct VmallocZeroed(Vmalloc);

/// Which pages are wanted.
#[derive(Clone, Copy)]
struct Want {
    gfp: Gfp,
    node: Option<NodeId>,
    /// Of 4 KiB or 2 MiB.
    largest: PageSize,
    caller: Caller,
}

impl Want {
    fn new(caller: u64) -> Self {
        Self { gfp: Gfp::KERNEL, node: None, largest: PageSize::Size4K, caller: Caller(caller) }
    }

    fn on(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }
}

/// At least `size_bytes` bytes, rounded up to whole pages (Linux: `vmalloc`). Sleeps. Cost: by the page.
///
/// # Errors
/// 0 bytes, more than the machine has, no memory, or no room; a line of the log says so, but for 0 bytes.
#[inline(never)]
pub fn vmalloc(memory: &'static Memory, size_bytes: u64) -> Result<Vmalloc, Error> {
    Vmalloc::new(memory, size_bytes, Want::new(return_address()))
}

/// The same, zeroed (Linux: `vzalloc`).
///
/// # Errors
/// As [`vmalloc`].
#[inline(never)]
pub fn vzalloc(memory: &'static Memory, size_bytes: u64) -> Result<VmallocZeroed, Error> {
    VmallocZeroed::new(memory, size_bytes, Want::new(return_address()))
}

/// As [`vmalloc`], with pages of that node as long as it has any (Linux: `vmalloc_node`).
///
/// # Errors
/// As [`vmalloc`].
#[inline(never)]
pub fn vmalloc_node(memory: &'static Memory, size_bytes: u64, node: NodeId) -> Result<Vmalloc, Error> {
    Vmalloc::new(memory, size_bytes, Want::new(return_address()).on(node))
}

/// As [`vzalloc`], with pages of that node as long as it has any (Linux: `vzalloc_node`).
///
/// # Errors
/// As [`vmalloc`].
#[inline(never)]
pub fn vzalloc_node(memory: &'static Memory, size_bytes: u64, node: NodeId) -> Result<VmallocZeroed, Error> {
    VmallocZeroed::new(memory, size_bytes, Want::new(return_address()).on(node))
}

/// As [`vmalloc`], mapped with pages of 2 MiB as far as the size fills them and the page allocator has them without reclaim,
/// with pages of 4 KiB else (Linux: `vmalloc_huge`).
///
/// # Errors
/// As [`vmalloc`].
#[inline(never)]
pub fn vmalloc_huge(memory: &'static Memory, size_bytes: u64) -> Result<Vmalloc, Error> {
    let want = Want { largest: PageSize::Size2M, ..Want::new(return_address()) };
    Vmalloc::new(memory, size_bytes, want)
}

/// Gives it back (Linux: `vfree`). Sleeps.
pub fn vfree(memory: impl Into<Vmalloc>) {
    drop(memory.into());
}

impl Vmalloc {
    fn new(memory: &'static Memory, size_bytes: u64, want: Want) -> Result<Self, Error> {
        if size_bytes >> PAGE_SHIFT > memory.pages.nodes().managed() {
            log::warn!("vmalloc error: size {size_bytes}, exceeds total pages");
            return Err(Error::OutOfMemory);
        }
        let large = want.largest > PageSize::Size4K && size_bytes >= want.largest.bytes();
        let align = if large { want.largest.bytes() } else { PAGE_SIZE as u64 };
        let request = Request::new(size_bytes, Purpose::Vmalloc).align(align).by(want.caller);
        let area = memory.vmalloc.lock().alloc(request, &mut AreaNodes { memory })?;
        let new = Self { memory, area };
        match new.fill(&want) {
            Ok(()) => Ok(new),
            Err(error) => {
                log::warn!("vmalloc error: size {size_bytes}, failed to allocate pages");
                Err(error)
            }
        }
    }

    /// Maps all of the area to new pages. What is mapped when there is an error goes with the area.
    fn fill(&self, want: &Want) -> Result<(), Error> {
        let range = self.area.range();
        let mut at = range.first();
        while at <= range.last() {
            let left = range.last() + 1 - at;
            at += match self.map_large(at, left, want) {
                0 => self.map_chunk(at, (left >> PAGE_SHIFT).min(CHUNK as u64) as usize, want)?,
                mapped => mapped,
            };
        }
        Ok(())
    }

    /// Maps a large page at `at`, if one is wanted, fits, and is there. How many bytes that are.
    fn map_large(&self, at: u64, left: u64, want: &Want) -> u64 {
        let bytes = PageSize::Size2M.bytes();
        if want.largest < PageSize::Size2M || left < bytes || !at.is_multiple_of(bytes) {
            return 0;
        }
        let gfp = want.gfp.difference(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
        let pages = self.memory.pages;
        let block = match want.node {
            Some(node) => pages.alloc_pages_node(node, gfp, LARGE),
            None => pages.alloc_pages(gfp, LARGE),
        };
        let Ok(block) = block else { return 0 };
        let (at, pfn) = (VirtAddr::new_truncate(at), block.pfn(Machine));
        let mut tables = pages;
        let mapped =
            self.memory.kernel_map.lock().map_large(at, PageSize::Size2M, pfn, Prot::KERNEL_RW, &mut tables);
        match mapped {
            Ok(()) => {
                // The entry owns it now (I1).
                let _ = block.into_raw();
                bytes
            }
            Err(_) => {
                pages.free_pages(block);
                0
            }
        }
    }

    /// Maps `nr` pages, [`CHUNK`] at most, from `at` on. How many bytes that are.
    fn map_chunk(&self, at: u64, nr: usize, want: &Want) -> Result<u64, Error> {
        let pages = self.memory.pages;
        let len_bytes = (nr as u64) << PAGE_SHIFT;
        let range = VirtRange::new(VirtAddr::new_truncate(at), len_bytes).ok_or(Error::Layout)?;
        let mut slots = [const { None }; CHUNK];
        let slots = &mut slots[..nr];
        let result = take(self.memory, slots, want).and_then(|()| {
            // Entries own what they are given (I1).
            let mut frames =
                slots.iter_mut().filter_map(Option::take).map(|block| block.into_raw().0.pfn(Machine));
            let mut tables = pages;
            let mut map = self.memory.kernel_map.lock();
            Ok(map.map_pages(range, Prot::KERNEL_RW, &mut frames, &mut tables)?)
        });
        // After an error: what was not mapped.
        pages.free_pages_bulk(slots);
        result.map(|()| len_bytes)
    }

    /// Its first byte.
    pub fn address(&self) -> NonNull<u8> {
        // SAFETY: the areas of the vmalloc space start above 0.
        unsafe { NonNull::new_unchecked(self.area.range().start().as_mut_ptr()) }
    }

    /// Its size: whole pages.
    pub fn len_bytes(&self) -> usize {
        self.area.range().len_bytes() as usize
    }

    /// Its bytes, whatever is in them.
    pub fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: mapped to pages of its own as long as `self` (I1), which is borrowed.
        unsafe { slice::from_raw_parts_mut(self.address().as_ptr().cast(), self.len_bytes()) }
    }
}

/// Fills all slots with pages, or fails with some of them filled.
fn take(memory: &Memory, slots: &mut [Option<PageBlock>], want: &Want) -> Result<(), Error> {
    let gfp = want.gfp | Gfp::NOWARN;
    let Some(node) = want.node else {
        let mut filled = 0;
        while filled < slots.len() {
            match memory.pages.alloc_pages_bulk(gfp, slots) {
                more if more > filled => filled = more,
                _ => return Err(Error::OutOfMemory),
            }
        }
        return Ok(());
    };
    for slot in slots {
        *slot = Some(memory.pages.alloc_pages_node(node, gfp, Order::ZERO)?);
    }
    Ok(())
}

impl Drop for Vmalloc {
    fn drop(&mut self) {
        let (memory, range) = (self.memory, self.area.range());
        memory.kernel_map.lock().take_leaves(range, |entry, level| free_entry(memory, entry, level));
        // SAFETY: the area is ours, and whoever used it has borrowed `self`.
        unsafe { unmap(memory, self.area) };
    }
}

/// Frees the block that an entry of an area owned. No CPU may use its address any more, so nobody minds that TLBs may know it
/// a little longer (Linux: `__vunmap`).
fn free_entry(memory: &Memory, entry: Entry, level: Level) {
    let order = if level == Level::Pte { Order::ZERO } else { LARGE };
    // SAFETY: the entry, which was taken out, owned a block of that size (I1).
    let block = unsafe {
        let page = PagePtr::new(Machine, mm::Pfn::containing(entry.phys(level)));
        PageBlock::from_raw(page, order)
    };
    memory.pages.free_pages(block);
}

impl VmallocZeroed {
    fn new(memory: &'static Memory, size_bytes: u64, want: Want) -> Result<Self, Error> {
        Vmalloc::new(memory, size_bytes, Want { gfp: want.gfp | Gfp::ZERO, ..want }).map(Self)
    }
}

impl From<VmallocZeroed> for Vmalloc {
    fn from(zeroed: VmallocZeroed) -> Self {
        zeroed.0
    }
}

impl Deref for VmallocZeroed {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: mapped to pages of its own as long as `self` (I1), which were zeroed.
        unsafe { slice::from_raw_parts(self.0.address().as_ptr(), self.0.len_bytes()) }
    }
}

impl DerefMut for VmallocZeroed {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.0.address().as_ptr(), self.0.len_bytes()) }
    }
}

impl fmt::Debug for Vmalloc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.area.range().fmt(f)
    }
}
