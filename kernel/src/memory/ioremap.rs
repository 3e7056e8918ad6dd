//! Mapping devices: physical ranges outside of RAM, in areas of the vmalloc space, with a cache mode.
//!
//! ```text
//! check      not empty, inside what the CPU can address, no byte of RAM
//! memtype    one mode for each byte: what overlaps is mapped as what is there, or refused
//! map        whole pages around the range, 2 MiB and 1 GiB ones where both addresses allow
//! ```
//!
//! # Invariants
//! - I1: an [`IoMapping`] has its area mapped and its pages entered in `Memory::memtypes` until it is dropped.
//!
//! # Locking
//! `Memory::memtypes`, then what [`vmalloc`] takes; never together. All of them sleep.

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use mm::addr::{PAGE_SIZE, align_down, align_up};
use mm::areas::NodeAlloc;
use mm::memtype::{self, MemTypes};
use mm::pgtable::{CacheMode, OutOfMemory, PageSize, Prot};
use mm::vmalloc::{Caller, Purpose, Request, VmapArea};
use mm::{Gfp, PhysAddr, PhysRange};

use super::mmio::Mmio;
use super::{Memory, vmalloc};
use crate::debug::backtrace::return_address;

/// Low memory's devices, where the direct map and all else is write-back, and the memory type range registers decide
/// (Linux: `is_untracked_pat_range`).
const ISA: PhysRange = match PhysRange::new(0xa_0000, 0x10_0000) {
    Some(range) => range,
    None => unreachable!(),
};

/// Why a range was not mapped.
#[derive(Debug)]
pub enum Error {
    /// No byte is asked for.
    Empty,
    /// The range reaches past what this CPU can address.
    BadAddress,
    /// Part of it is RAM.
    Ram,
    /// It overlaps mappings of a mode that cannot stand for the one that is wanted, or of several modes.
    CacheMode,
    /// No memory or no room.
    Memory(super::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the range is empty"),
            Self::BadAddress => f.write_str("the range reaches past what the CPU can address"),
            Self::Ram => f.write_str("the range has RAM in it"),
            Self::CacheMode => f.write_str("the range is mapped with another cache mode"),
            Self::Memory(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for Error {}

/// Nodes of the ranges' modes.
#[derive(Clone, Copy, Debug)]
pub struct TypeNodes {
    memory: &'static Memory,
}

// SAFETY: kmalloc gives each object out once, and its objects are aligned to their size up to a cache line.
unsafe impl NodeAlloc for TypeNodes {
    fn alloc_node(&mut self, layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
        debug_assert!(layout.align() <= 8);
        self.memory.slub.kmalloc(layout.size(), Gfp::KERNEL).map_err(|_| OutOfMemory)
    }

    unsafe fn free_node(&mut self, block: NonNull<u8>, _layout: Layout) {
        // SAFETY: from `kmalloc`, and not used any more: the caller's promise.
        unsafe { self.memory.slub.kfree(block) };
    }
}

/// The cache modes of what is mapped.
pub type Types = MemTypes<TypeNodes>;

/// A mapped range; dropping it unmaps it.
#[must_use = "it is unmapped when dropped"]
pub struct IoMapping {
    memory: &'static Memory,
    area: VmapArea,
    /// Whole pages around what was asked for.
    pages: PhysRange,
    /// Where in the first page it starts.
    offset: usize,
    len_bytes: usize,
    cache: CacheMode,
}

/// Maps device registers: uncached, unless the memory type range registers say write-combining (Linux: `ioremap`). Sleeps.
///
/// # Errors
/// See [`Error`]; RAM and conflicting modes are logged.
#[inline(never)]
pub fn ioremap(memory: &'static Memory, phys: PhysAddr, len_bytes: u64) -> Result<IoMapping, Error> {
    map(memory, phys, len_bytes, CacheMode::UncachedMinus, Caller(return_address()))
}

/// The same, uncached whatever the memory type range registers say (Linux: `ioremap_uc`).
///
/// # Errors
/// As [`ioremap`].
#[inline(never)]
pub fn ioremap_uc(memory: &'static Memory, phys: PhysAddr, len_bytes: u64) -> Result<IoMapping, Error> {
    map(memory, phys, len_bytes, CacheMode::Uncached, Caller(return_address()))
}

/// The same with writes gathered: frame buffers (Linux: `ioremap_wc`).
///
/// # Errors
/// As [`ioremap`].
#[inline(never)]
pub fn ioremap_wc(memory: &'static Memory, phys: PhysAddr, len_bytes: u64) -> Result<IoMapping, Error> {
    map(memory, phys, len_bytes, CacheMode::WriteCombining, Caller(return_address()))
}

/// The same with reads cached and writes written through (Linux: `ioremap_wt`).
///
/// # Errors
/// As [`ioremap`].
#[inline(never)]
pub fn ioremap_wt(memory: &'static Memory, phys: PhysAddr, len_bytes: u64) -> Result<IoMapping, Error> {
    map(memory, phys, len_bytes, CacheMode::WriteThrough, Caller(return_address()))
}

/// The same, cached as RAM is: memory of the firmware, such as tables (Linux: `ioremap_cache`).
///
/// # Errors
/// As [`ioremap`].
#[inline(never)]
pub fn ioremap_cache(memory: &'static Memory, phys: PhysAddr, len_bytes: u64) -> Result<IoMapping, Error> {
    map(memory, phys, len_bytes, CacheMode::WriteBack, Caller(return_address()))
}

/// Unmaps a range: nothing can use it any more, and no TLB knows it (Linux: `iounmap`). Sleeps.
pub fn iounmap(mapping: IoMapping) {
    drop(mapping);
}

fn map(
    memory: &'static Memory,
    phys: PhysAddr,
    len_bytes: u64,
    wanted: CacheMode,
    caller: Caller,
) -> Result<IoMapping, Error> {
    let pages = check(memory, phys, len_bytes)?;
    let cache = reserve_type(memory, pages, wanted)?;
    let start = PhysAddr::new(pages.start());
    let request = Request::new(pages.len_bytes(), Purpose::Ioremap { phys: start, cache })
        .align(alignment(pages))
        .by(caller);
    let prot = Prot::KERNEL_RW.with_cache(cache);
    match vmalloc::map(memory, request, start, prot, memory.largest_page) {
        Ok(area) => {
            let offset = (phys.as_u64() - pages.start()) as usize;
            Ok(IoMapping { memory, area, pages, offset, len_bytes: len_bytes as usize, cache })
        }
        Err(error) => {
            free_type(memory, pages);
            Err(Error::Memory(error))
        }
    }
}

/// The whole pages around the range, if it may be mapped.
fn check(memory: &Memory, phys: PhysAddr, len_bytes: u64) -> Result<PhysRange, Error> {
    let last = len_bytes.checked_sub(1).ok_or(Error::Empty)?;
    let last = phys.as_u64().checked_add(last).ok_or(Error::BadAddress)?;
    if last >> memory.phys_bits != 0 {
        log::warn!("ioremap: invalid physical address {:x}", phys.as_u64());
        return Err(Error::BadAddress);
    }
    let end = align_up(last + 1, PAGE_SIZE as u64).ok_or(Error::BadAddress)?;
    let pages = PhysRange::new(align_down(phys.as_u64(), PAGE_SIZE as u64), end).ok_or(Error::BadAddress)?;
    let ram = memory.iomem.iter().any(|item| item.name == "System RAM" && item.range.overlaps(pages));
    if ram {
        log::warn!("ioremap on RAM at {:#018x} - {last:#018x}", phys.as_u64());
        return Err(Error::Ram);
    }
    Ok(pages)
}

/// Large enough that large pages can be used, as Linux aligns areas of devices: to the next power of two, up to 1 GiB.
fn alignment(pages: PhysRange) -> u64 {
    pages.len_bytes().checked_next_power_of_two().unwrap_or(u64::MAX).min(PageSize::Size1G.bytes())
}

fn is_tracked(pages: PhysRange) -> bool {
    !(ISA.start() <= pages.start() && pages.end() <= ISA.end())
}

/// Enters the pages' mode: the wanted one, or another that will do.
fn reserve_type(memory: &'static Memory, pages: PhysRange, wanted: CacheMode) -> Result<CacheMode, Error> {
    if !is_tracked(pages) {
        return Ok(CacheMode::WriteBack);
    }
    let reserved = memory.memtypes.lock().reserve(pages, wanted, &mut TypeNodes { memory });
    let (start, last) = (pages.start(), pages.end() - 1);
    match reserved {
        Ok(given) if memtype::is_allowed(wanted, given) => Ok(given),
        Ok(given) => {
            log::error!("ioremap error for {start:#x}-{last:#x}, requested {wanted}, got {given}");
            free_type(memory, pages);
            Err(Error::CacheMode)
        }
        Err(memtype::Error::Conflict { first, other }) => {
            log::info!("x86/PAT: conflicting memory types {start:x}-{last:x} {first}<->{other}");
            Err(Error::CacheMode)
        }
        Err(memtype::Error::OutOfMemory) => Err(Error::Memory(super::Error::OutOfMemory)),
        Err(memtype::Error::Empty) => Err(Error::Empty),
    }
}

fn free_type(memory: &'static Memory, pages: PhysRange) {
    if is_tracked(pages) {
        memory.memtypes.lock().free(pages, &mut TypeNodes { memory });
    }
}

impl IoMapping {
    /// How it is cached: what was asked for, or what mappings of the same bytes had before.
    pub fn cache_mode(&self) -> CacheMode {
        self.cache
    }

    /// The address of the first byte that was asked for.
    pub fn address(&self) -> NonNull<u8> {
        let first = self.area.range().start().as_mut_ptr::<u8>();
        // SAFETY: the areas of the vmalloc space start above 0.
        unsafe { NonNull::new_unchecked(first.wrapping_add(self.offset)) }
    }

    /// The device's registers.
    pub fn registers(&self) -> Mmio<'_> {
        // SAFETY: mapped until `self` is dropped (I1), and no RAM (`check`).
        unsafe { Mmio::new(self.address(), self.len_bytes) }
    }

    /// The bytes, where they are memory.
    ///
    /// # Safety
    /// They are the firmware's memory: reading has no effect, and nobody changes them.
    pub unsafe fn as_bytes(&self) -> &[u8] {
        // SAFETY: mapped until `self` is dropped (I1); the caller's promise.
        unsafe { core::slice::from_raw_parts(self.address().as_ptr(), self.len_bytes) }
    }
}

impl Drop for IoMapping {
    fn drop(&mut self) {
        // SAFETY: the area came from there; whoever used it has borrowed `self`.
        unsafe { vmalloc::unmap(self.memory, self.area) };
        free_type(self.memory, self.pages);
    }
}

impl fmt::Debug for IoMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?} {}", self.pages, self.area.range(), self.cache)
    }
}
