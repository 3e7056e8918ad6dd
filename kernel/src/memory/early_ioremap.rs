//! Mapping physical memory and devices for a moment during boot, before there is a page allocator: in the fixmap.
//!
//! ```text
//! slot n   | page 0 | page 1 | ... | page 63 |      8 mappings at a time, of 256 KiB each at most
//! ```
//!
//! # Invariants
//! - I1: a slot is taken by one [`EarlyMapping`], or free with none of its pages mapped.
//!
//! Boot gives back all that it maps here: what is left at its end is reported ([`report_leaks`]).
//!
//! # Not here
//! Mappings that stay, and those made later: [`ioremap`](super::ioremap).

use core::fmt;
use core::ops::Deref;
use core::panic::Location;

use mm::addr::{align_down, align_up};
use mm::pgtable::{CacheMode, Prot};
use mm::sync::{Level, SpinLock};
use mm::{PAGE_SIZE, PhysAddr, PhysRange};

use super::fixmap::{self, EARLY_PAGES, EARLY_SLOTS, Slot};
use super::mmio::Mmio;

/// Why nothing was mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No byte is asked for.
    Empty,
    /// The range reaches past all physical addresses.
    BadAddress,
    /// It has more pages than a slot.
    TooLarge,
    /// All slots are taken.
    NoSlot,
    /// The kernel's page tables are not in use yet.
    TooEarly,
}

/// Who has taken a slot.
#[derive(Clone, Copy, Debug)]
struct Taken {
    pages: PhysRange,
    by: &'static Location<'static>,
}

static SLOTS: SpinLock<[Option<Taken>; EARLY_SLOTS]> = SpinLock::new(Level::Leaf, [None; EARLY_SLOTS]);

/// Device registers, mapped until this is dropped.
#[must_use = "it is unmapped when dropped"]
#[derive(Debug)]
pub struct EarlyMapping {
    slot: u8,
    nr_pages: u8,
    offset: usize,
    len_bytes: usize,
}

/// The firmware's memory, mapped until this is dropped.
#[must_use = "it is unmapped when dropped"]
#[derive(Debug)]
pub struct EarlyMemory(EarlyMapping);

/// Maps device registers, uncached (Linux: `early_ioremap`).
///
/// # Errors
/// See [`Error`]; all but an empty range are logged.
#[track_caller]
pub fn early_ioremap(phys: PhysAddr, len_bytes: u64) -> Result<EarlyMapping, Error> {
    map(phys, len_bytes, Prot::KERNEL_RW.with_cache(CacheMode::Uncached), Location::caller())
}

/// Maps memory of the firmware, cached, to be read (Linux: `early_memremap_ro`).
///
/// # Errors
/// As [`early_ioremap`].
///
/// # Safety
/// The range is memory, which nobody changes meanwhile.
#[track_caller]
pub unsafe fn early_memremap(phys: PhysAddr, len_bytes: u64) -> Result<EarlyMemory, Error> {
    map(phys, len_bytes, Prot::KERNEL_RO, Location::caller()).map(EarlyMemory)
}

/// Unmaps (Linux: `early_iounmap`).
pub fn early_iounmap(mapping: EarlyMapping) {
    drop(mapping);
}

fn map(
    phys: PhysAddr,
    len_bytes: u64,
    prot: Prot,
    by: &'static Location<'static>,
) -> Result<EarlyMapping, Error> {
    let pages = pages(phys, len_bytes)?;
    let slot = take(pages, by).inspect_err(|error| {
        log::warn!("early_ioremap({:#010x}, {len_bytes:08x}) at {by}: {error:?}", phys.as_u64());
    })?;
    let nr_pages = (pages.len_bytes() / PAGE_SIZE as u64) as u8;
    for page in 0..nr_pages {
        let phys = PhysAddr::new(pages.start() + u64::from(page) * PAGE_SIZE as u64);
        // SAFETY: the slot was free until now (I1); what is done with the pages is up to the mapping's type.
        unsafe { Slot::Early { slot, page }.set(phys, prot) };
    }
    let offset = (phys.as_u64() - pages.start()) as usize;
    Ok(EarlyMapping { slot, nr_pages, offset, len_bytes: len_bytes as usize })
}

/// The whole pages around the range.
fn pages(phys: PhysAddr, len_bytes: u64) -> Result<PhysRange, Error> {
    if len_bytes == 0 {
        return Err(Error::Empty);
    }
    let end = phys.as_u64().checked_add(len_bytes).and_then(|end| align_up(end, PAGE_SIZE as u64));
    let start = align_down(phys.as_u64(), PAGE_SIZE as u64);
    end.and_then(|end| PhysRange::new(start, end)).ok_or(Error::BadAddress)
}

fn take(pages: PhysRange, by: &'static Location<'static>) -> Result<u8, Error> {
    if pages.len_bytes() > (EARLY_PAGES * PAGE_SIZE) as u64 {
        return Err(Error::TooLarge);
    }
    if !fixmap::is_live() {
        return Err(Error::TooEarly);
    }
    let mut slots = SLOTS.lock();
    let slot = slots.iter().position(Option::is_none).ok_or(Error::NoSlot)?;
    slots[slot] = Some(Taken { pages, by });
    Ok(slot as u8)
}

/// Reports what is mapped, for the end of boot, when nothing should be (Linux: `check_early_ioremap_leak`). Returns how many
/// mappings that is.
pub fn report_leaks() -> usize {
    // Copied: the log is not written with the lock held.
    let slots = *SLOTS.lock();
    let nr_leaks = slots.iter().flatten().count();
    if nr_leaks > 0 {
        log::warn!("Debug warning: early ioremap leak of {nr_leaks} areas detected.");
        slots.iter().flatten().for_each(|leak| log::warn!("  {} mapped at {}", leak.pages, leak.by));
    }
    nr_leaks
}

impl EarlyMapping {
    fn first(&self) -> Slot {
        Slot::Early { slot: self.slot, page: 0 }
    }

    /// The device's registers.
    pub fn registers(&self) -> Mmio<'_> {
        let first = self.first().as_ptr();
        // SAFETY: mapped until `self` is dropped (I1); the slot's pages follow each other.
        unsafe { Mmio::new(first.add(self.offset), self.len_bytes) }
    }
}

impl Drop for EarlyMapping {
    fn drop(&mut self) {
        for page in 0..self.nr_pages {
            // SAFETY: whoever used it has borrowed `self`.
            unsafe { Slot::Early { slot: self.slot, page }.clear() };
        }
        SLOTS.lock()[usize::from(self.slot)] = None;
    }
}

impl Deref for EarlyMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let first = self.0.first().as_ptr().as_ptr();
        // SAFETY: mapped until `self` is dropped (I1), and memory that nobody changes (`early_memremap`).
        unsafe { core::slice::from_raw_parts(first.add(self.0.offset), self.0.len_bytes) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the range is empty",
            Self::BadAddress => "the range reaches past all physical addresses",
            Self::TooLarge => "the range has more pages than a slot",
            Self::NoSlot => "all slots are taken",
            Self::TooEarly => "the kernel's page tables are not in use yet",
        })
    }
}

impl core::error::Error for Error {}
