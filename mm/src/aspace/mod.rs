//! Address spaces: the areas of a process and the page tables that serve them.
//!
//! ```text
//! AddressSpace { Mm }
//!   Mm: VmaTree      what may be there       mmap, munmap, mprotect change it
//!       PageTable    what is there           page faults fill it; its kernel half is the kernel's
//!       counts       nr_anon_pages, nr_tables, total_pages
//! ```
//!
//! # Invariants
//! - I1: every leaf of the user half lies in an area, and allows no more than the area does; a writable leaf is never
//!   special.
//! - I2: every table below the user half of the root spans a byte of some area.
//! - I3: `nr_anon_pages` = leaves that are not special; `nr_tables` = tables below the user half of the root;
//!   `total_pages` = pages of all areas.
//! - I4: areas that touch have different flags.
//!
//! # Locking
//! None here: who shares an address space puts a lock around it that may be held while memory is waited for (Linux:
//! `mmap_lock`); `&mut Mm` is the proof of holding it. Page tables of the user half have no lock of their own as long as
//! that is so.
//!
//! | | fault | mmap, munmap, mprotect |
//! |---|---|---|
//! | fault | address-space lock | address-space lock |
//! | MMU | sets `ACCESSED`, `DIRTY` atomically; flush before a frame or a table is reused | the same |
//!
//! # Not here
//! Page faults: `fault`.
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "hands tables to the page allocator by number")]
mod backing;
#[allow(unsafe_code, reason = "keeps references to pages in page-table entries")]
pub(crate) mod frame;
mod mmap;
mod mprotect;
mod munmap;
mod validate;

pub use backing::{Backing, FrameSource, Parts};
pub use mmap::Placement;
pub(crate) use mprotect::with_rights;

use core::ops::{Deref, DerefMut};

use crate::addr::VirtAddr;
use crate::arch::layout::USER_END;
use crate::gfp::Gfp;
use crate::page_alloc::PageBlock;
use crate::pfn::Pfn;
use crate::pgtable::{OutOfMemory, PageTable, VirtRange};
use crate::vma::{VmFlags, Vma, VmaTree};

/// Why an operation on an address space failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmError {
    /// Arguments make no sense (`EINVAL`).
    Invalid,
    /// No memory, no room, too many areas, or addresses that are not mapped (`ENOMEM`).
    NoMemory,
    /// Something is mapped there already (`EEXIST`).
    Exists,
    /// The lowest addresses are not for processes (`EPERM`).
    NotPermitted,
    /// Not a protection that this address space allows: writable and executable at once (`EACCES`).
    AccessDenied,
}

impl MmError {
    /// Linux's number for it.
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotPermitted => 1,
            Self::NoMemory => 12,
            Self::AccessDenied => 13,
            Self::Exists => 17,
            Self::Invalid => 22,
        }
    }
}

impl From<OutOfMemory> for MmError {
    fn from(_: OutOfMemory) -> Self {
        Self::NoMemory
    }
}

/// Areas that an address space may have (Linux: `sysctl vm.max_map_count`).
pub const MAX_MAP_COUNT: usize = 65530;
/// Where the lowest area may start (Linux: `sysctl vm.mmap_min_addr`).
pub const MMAP_MIN_ADDR: u64 = 65536;
/// Below this, room is looked for downwards: room for a stack of 128 MiB is left above it (Linux: `mmap_base`, without
/// randomisation).
pub const MMAP_BASE: u64 = USER_END - (128 << 20);

/// The page of zeroes that reads of untouched anonymous memory see.
#[derive(Debug)]
pub struct ZeroPage {
    pfn: Pfn,
    frame: PageBlock,
}

impl ZeroPage {
    /// A zero page of its own.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(machine: crate::arch::Machine, frames: &mut impl FrameSource) -> Result<Self, OutOfMemory> {
        let frame = frames.alloc_frame(Gfp::KERNEL | Gfp::ZERO)?;
        Ok(Self { pfn: frame.pfn(machine), frame })
    }

    /// Its frame.
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Gives it back. No address space that was made with it may be left.
    pub fn free(self, frames: &mut impl FrameSource) {
        frames.free_frame(self.frame);
    }
}

/// What page faults did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultCounts {
    /// All that were asked for (Linux: `pgfault`). The sum of all below.
    pub all: u64,
    /// Read of an untouched page: the zero page was mapped.
    pub zero_page: u64,
    /// Write to an untouched page: a zeroed frame was mapped.
    pub new_page: u64,
    /// Write to the zero page: a zeroed frame took its place.
    pub zero_page_copied: u64,
    /// Write to a page that others map too: a copy took its place.
    pub copied: u64,
    /// Only the entry's rights had to be renewed.
    pub reused: u64,
    /// The entry allowed the access already.
    pub spurious: u64,
    /// Refused: no area, or against its protection.
    pub refused: u64,
    /// No memory.
    pub oom: u64,
}

/// What an address space consists of (Linux: `struct mm_struct`). Reached through an [`AddressSpace`].
#[derive(Debug)]
pub struct Mm<B> {
    pub(crate) areas: VmaTree<B>,
    pub(crate) tables: PageTable,
    pub(crate) zero_pfn: Pfn,
    pub(crate) nr_anon_pages: u64,
    pub(crate) nr_tables: u64,
    total_pages: u64,
    max_map_count: usize,
    pub(crate) faults: FaultCounts,
}

impl<B: Backing> Mm<B> {
    /// The areas.
    pub fn areas(&self) -> &VmaTree<B> {
        &self.areas
    }

    /// The page tables.
    pub fn tables(&self) -> &PageTable {
        &self.tables
    }

    /// Anonymous pages that are mapped (Linux: `MM_ANONPAGES`, `RssAnon`).
    pub fn nr_anon_pages(&self) -> u64 {
        self.nr_anon_pages
    }

    /// Page tables, the root not counted (Linux: `mm_pgtables_bytes`, `VmPTE`).
    pub fn nr_tables(&self) -> u64 {
        self.nr_tables
    }

    /// Pages of all areas (Linux: `total_vm`, `VmSize`).
    pub fn total_pages(&self) -> u64 {
        self.total_pages
    }

    /// What page faults did.
    pub fn faults(&self) -> FaultCounts {
        self.faults
    }

    /// Sets how many areas there may be (Linux: `vm.max_map_count`).
    pub fn set_max_map_count(&mut self, max: usize) {
        self.max_map_count = max;
    }

    /// What the MMU would find at `addr`.
    pub fn translate(&self, addr: VirtAddr) -> Option<crate::pgtable::Translation> {
        self.tables.translate(addr)
    }

    /// The area that ends where `range` starts, if it could be one with an area of `flags` there.
    fn like_before(&self, range: VirtRange, flags: VmFlags) -> Option<Vma> {
        self.areas.find_before(range.first()).filter(|vma| vma.end() == range.first() && vma.is_like(flags))
    }

    /// The area that starts where `range` ends, if it could be one with an area of `flags` there.
    fn like_after(&self, range: VirtRange, flags: VmFlags) -> Option<Vma> {
        self.areas
            .lookup(range.last() + 1)
            .filter(|vma| vma.start() == range.last() + 1 && vma.is_like(flags))
    }
}

/// The address space of a process. Its root's kernel half is the kernel's.
#[must_use = "everything is lost when this is dropped: call `destroy`"]
#[derive(Debug)]
pub struct AddressSpace<B> {
    mm: Mm<B>,
}

impl<B: Backing> AddressSpace<B> {
    /// An address space without areas (Linux: `mm_alloc`).
    ///
    /// # Errors
    /// When there is no frame for the root.
    pub fn new(kernel: &PageTable, zero_page: &ZeroPage, backing: &mut B) -> Result<Self, OutOfMemory> {
        let tables = PageTable::with_kernel_half_of(kernel, backing)?;
        let mm = Mm {
            areas: VmaTree::new(),
            tables,
            zero_pfn: zero_page.pfn(),
            nr_anon_pages: 0,
            nr_tables: 0,
            total_pages: 0,
            max_map_count: MAX_MAP_COUNT,
            faults: FaultCounts::default(),
        };
        Ok(Self { mm })
    }

    /// The root's frame, for CR3.
    pub fn root_pfn(&self) -> Pfn {
        self.mm.tables.root_pfn()
    }

    /// Unmaps everything and gives every frame back (Linux: `exit_mmap`, `mmdrop`).
    ///
    /// # Safety
    /// No CPU uses the root any more.
    #[allow(unsafe_code, reason = "gives up the root that CR3 may name")]
    pub unsafe fn destroy(mut self, backing: &mut B) {
        self.mm.unmap_all(backing);
        self.mm.validate();
        let AddressSpace { mm } = self;
        // SAFETY: the caller's promise; the tables came from the backing.
        unsafe { mm.tables.free_root(backing) };
    }
}

impl<B> Deref for AddressSpace<B> {
    type Target = Mm<B>;
    fn deref(&self) -> &Mm<B> {
        &self.mm
    }
}

impl<B> DerefMut for AddressSpace<B> {
    fn deref_mut(&mut self) -> &mut Mm<B> {
        &mut self.mm
    }
}
