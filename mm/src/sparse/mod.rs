//! Sections: which 128 MiB of physical memory have struct pages, and what is known of their pageblocks.
//!
//! ```text
//! pfn  45 .. 23        22 .. 15            14 .. 9          8 .. 0
//!      root            section in root     pageblock        page in it
//!        |                |                   |
//!      roots[r] ------> sections[s] -------> usage.blocks[b]
//!      null: no RAM     null: no RAM         migratetype, compaction's skip mark
//!                       subsections: a bit for each 2 MiB, set where there is RAM
//! ```
//!
//! Two levels, so that the tables are as large as what there is: 64 TiB could have half a million sections.
//!
//! # Invariants
//! - I1: `roots` points to `nr_roots` words; each is null or points to a [`Root`]; a section's `usage` is null or points
//!   to a [`SectionUsage`]. All of them are boot memory that lives as long as the machine and is only changed atomically.
//! - I2: a section has a usage exactly when the vmemmap of all its pages is populated.
//! - I3: a section's bit of a subsection is set exactly when a page of the subsection is RAM.
//!
//! # Locking
//! None: tables do not change after boot, and pageblock words are atomics. Who changes a migratetype holds the zone's lock.
//!
//! # Not here
//! Initial contents of struct pages: [`crate::init`]. Mapping the vmemmap: whoever implements [`PopulateVmemmap`].

mod init;
#[cfg(test)]
mod tests;

pub use init::{AlreadyPopulated, Error, PopulateVmemmap};

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU64, Ordering};

use crate::arch::Machine;
use crate::gfp::MigrateType;
use crate::id::{NodeId, SectionNr};
use crate::order::PAGEBLOCK_ORDER;
use crate::page::PagePtr;
use crate::pfn::{Pfn, PfnRange};

/// Binary logarithm of a section's bytes: 128 MiB (Linux: `SECTION_SIZE_BITS`). Its struct pages fill exactly 2 MiB.
pub const SECTION_SIZE_BITS: u32 = 27;
/// Binary logarithm of [`SECTION_NR_PAGES`].
pub const SECTION_PFN_SHIFT: u32 = SECTION_SIZE_BITS - crate::PAGE_SHIFT;
/// Pages in a section (Linux: `PAGES_PER_SECTION`).
pub const SECTION_NR_PAGES: u64 = 1 << SECTION_PFN_SHIFT;
/// Physical addresses beyond this many bits have no section (Linux: `MAX_PHYSMEM_BITS`, with 4-level page tables): the
/// direct map's 64 TiB.
pub const MAX_PHYSMEM_BITS: u32 = 46;
/// One past the highest frame that can have a struct page.
pub const MAX_PFN: Pfn = Pfn::new(1 << (MAX_PHYSMEM_BITS - crate::PAGE_SHIFT));

/// Pages in a subsection, the smallest part of a section that RAM is recorded for (Linux: `PAGES_PER_SUBSECTION`).
pub const SUBSECTION_NR_PAGES: u64 = 1 << (21 - crate::PAGE_SHIFT);
const _: () = assert!(SECTION_NR_PAGES / SUBSECTION_NR_PAGES == u64::BITS as u64);

const BLOCKS_PER_SECTION: usize = (SECTION_NR_PAGES >> PAGEBLOCK_ORDER.get()) as usize;
const SECTIONS_PER_ROOT: usize = crate::PAGE_SIZE / size_of::<Section>();
const ROOT_PFN_SHIFT: u32 = SECTION_PFN_SHIFT + SECTIONS_PER_ROOT.trailing_zeros();

const _: () = assert!(size_of::<Root>() == crate::PAGE_SIZE && SECTIONS_PER_ROOT.is_power_of_two());
const _: () = assert!(size_of::<SectionUsage>() == 64);

/// What is known of a section's pageblocks (Linux: `struct mem_section_usage`). One cache line.
#[repr(C, align(64))]
struct SectionUsage {
    blocks: [AtomicU8; BLOCKS_PER_SECTION],
}

/// The migratetype's bits in a pageblock's word.
const TYPE_MASK: u8 = 0x07;
/// Compaction need not look at the pageblock again for now (Linux: `PB_migrate_skip`).
const SKIP: u8 = 0x08;

/// A section (Linux: `struct mem_section`): absent when `usage` is null.
#[repr(C)]
struct Section {
    usage: AtomicPtr<SectionUsage>,
    /// Which subsections have RAM, the lowest first.
    subsections: AtomicU64,
    /// The node that the section's tables are on: that of its first RAM.
    node: AtomicU16,
    _unused: [u16; 7],
}

#[repr(C, align(4096))]
struct Root {
    sections: [Section; SECTIONS_PER_ROOT],
}

/// The section tables: a handle, copied to whoever looks up pages.
#[derive(Clone, Copy, Debug)]
pub struct Sparse {
    machine: Machine,
    roots: NonNull<AtomicPtr<Root>>,
    nr_roots: u64,
}

// SAFETY: what `roots` leads to is shared by atomics only (I1).
unsafe impl Send for Sparse {}
// SAFETY: as above.
unsafe impl Sync for Sparse {}

impl Sparse {
    /// The machine whose memory this describes.
    #[inline(always)]
    pub fn machine(&self) -> Machine {
        self.machine
    }

    #[inline(always)]
    fn section(&self, pfn: Pfn) -> Option<&Section> {
        let root = pfn.get() >> ROOT_PFN_SHIFT;
        if root >= self.nr_roots {
            return None;
        }
        // SAFETY: inside the roots, whose words are null or lead to a root (I1). Acquire: pairs with the release that
        // publishes the root.
        let root = unsafe { (*self.roots.as_ptr().add(root as usize)).load(Ordering::Acquire).as_ref() }?;
        Some(&root.sections[(pfn.get() >> SECTION_PFN_SHIFT) as usize % SECTIONS_PER_ROOT])
    }

    #[inline(always)]
    fn usage(&self, pfn: Pfn) -> Option<&SectionUsage> {
        // SAFETY: null or a usage (I1). Acquire: pairs with the release that publishes the section.
        unsafe { self.section(pfn)?.usage.load(Ordering::Acquire).as_ref() }
    }

    /// Whether `pfn` has a struct page; it may still be one of a hole (Linux: `pfn_valid`). Any context, a few
    /// instructions.
    #[inline]
    pub fn pfn_valid(&self, pfn: Pfn) -> bool {
        self.usage(pfn).is_some()
    }

    /// Whether a page of `pfn`'s subsection is RAM (Linux: `pfn_section_valid`). A frame with a struct page in a subsection
    /// without RAM lies in a hole. Any context, a few instructions.
    #[inline]
    pub fn subsection_has_ram(&self, pfn: Pfn) -> bool {
        let bit = (pfn.get() / SUBSECTION_NR_PAGES) % u64::from(u64::BITS);
        self.section(pfn).is_some_and(|s| s.subsections.load(Ordering::Relaxed) >> bit & 1 != 0)
    }

    /// The struct page of `pfn`, when there is one (Linux: `pfn_to_online_page`). Any context.
    #[inline]
    pub fn page(&self, pfn: Pfn) -> Option<PagePtr> {
        // SAFETY: the section's vmemmap is populated (I2) and initialised before anybody gets this handle to look up.
        self.pfn_valid(pfn).then(|| unsafe { PagePtr::new(self.machine, pfn) })
    }

    #[inline(always)]
    fn block(&self, pfn: Pfn) -> Option<&AtomicU8> {
        Some(&self.usage(pfn)?.blocks[(pfn.get() >> PAGEBLOCK_ORDER.get()) as usize % BLOCKS_PER_SECTION])
    }

    /// The migratetype of `pfn`'s pageblock, [`MigrateType::Unmovable`] without a section (Linux:
    /// `get_pageblock_migratetype`). Any context, a few instructions; may change behind one's back unless the zone is
    /// locked.
    #[inline]
    pub fn migrate_type(&self, pfn: Pfn) -> MigrateType {
        let index = self.block(pfn).map_or(0, |b| b.load(Ordering::Relaxed) & TYPE_MASK);
        MigrateType::from_index(index as usize).unwrap_or(MigrateType::Unmovable)
    }

    /// The number of the type that [`migrate_type`](Self::migrate_type) returns, of a frame that is known to have a
    /// struct page.
    ///
    /// # Safety
    /// It has one.
    #[inline(always)]
    pub(crate) unsafe fn type_number(&self, pfn: Pfn) -> u8 {
        // SAFETY: the frame's root, section and usage exist (I1, I2), and were published before anybody could have the
        // page: the orderings pair as in `section` and `usage`.
        unsafe {
            let root =
                (*self.roots.as_ptr().add((pfn.get() >> ROOT_PFN_SHIFT) as usize)).load(Ordering::Acquire);
            let section = &(*root).sections[(pfn.get() >> SECTION_PFN_SHIFT) as usize % SECTIONS_PER_ROOT];
            let blocks = &(*section.usage.load(Ordering::Acquire)).blocks;
            let block = &blocks[(pfn.get() >> PAGEBLOCK_ORDER.get()) as usize % BLOCKS_PER_SECTION];
            block.load(Ordering::Relaxed) & TYPE_MASK
        }
    }

    /// Sets the migratetype of `pfn`'s pageblock; nothing without a section (Linux: `set_pageblock_migratetype`). The
    /// zone is locked, or not in use yet.
    pub fn set_migrate_type(&self, pfn: Pfn, to: MigrateType) {
        self.change_block(pfn, |block| block & !TYPE_MASK | to as u8);
    }

    /// Atomically: two zones can share a pageblock, and each has a lock of its own.
    fn change_block(&self, pfn: Pfn, change: impl Fn(u8) -> u8) {
        if let Some(block) = self.block(pfn) {
            let _ = block.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |block| Some(change(block)));
        }
    }

    /// Whether compaction skips `pfn`'s pageblock (Linux: `get_pageblock_skip`).
    pub fn skip(&self, pfn: Pfn) -> bool {
        self.block(pfn).is_some_and(|b| b.load(Ordering::Relaxed) & SKIP != 0)
    }

    /// Sets whether compaction skips `pfn`'s pageblock; the zone is locked.
    pub fn set_skip(&self, pfn: Pfn, skip: Skip) {
        let mark = if skip == Skip::Yes { SKIP } else { 0 };
        self.change_block(pfn, |block| block & !SKIP | mark);
    }

    /// One past the highest section there can be.
    fn end(&self) -> Pfn {
        Pfn::new(self.nr_roots << ROOT_PFN_SHIFT)
    }

    /// Each section that has struct pages, lowest first, with its node. Absent roots cost one step.
    pub fn sections(&self) -> impl Iterator<Item = (SectionNr, NodeId)> + '_ {
        (0..self.nr_roots).filter(|r| self.section(Pfn::new(r << ROOT_PFN_SHIFT)).is_some()).flat_map(
            move |r| {
                (0..SECTIONS_PER_ROOT as u64).filter_map(move |s| {
                    let nr = SectionNr((r as u32 * SECTIONS_PER_ROOT as u32) + s as u32);
                    let section = self.section(section_pages(nr).start)?;
                    let present = !section.usage.load(Ordering::Acquire).is_null();
                    present.then(|| (nr, NodeId(section.node.load(Ordering::Relaxed))))
                })
            },
        )
    }

    /// The parts of `range` that have struct pages, section by section.
    pub fn valid_in(&self, range: PfnRange) -> impl Iterator<Item = PfnRange> + '_ {
        let mut at = range.start;
        let end = range.end.min(self.end());
        core::iter::from_fn(move || {
            while at < end {
                let part = PfnRange::new(at, (at + 1).align_up(SECTION_NR_PAGES).min(end));
                at = part.end;
                if self.pfn_valid(part.start) {
                    return Some(part);
                }
            }
            None
        })
    }
}

/// Whether compaction skips a pageblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// It does.
    Yes,
    /// It looks at it.
    No,
}

/// The pages of a section.
pub const fn section_pages(nr: SectionNr) -> PfnRange {
    let start = (nr.0 as u64) << SECTION_PFN_SHIFT;
    PfnRange { start: Pfn::new(start), end: Pfn::new(start + SECTION_NR_PAGES) }
}

/// The section of a frame below [`MAX_PFN`].
pub const fn section_of(pfn: Pfn) -> SectionNr {
    SectionNr((pfn.get() >> SECTION_PFN_SHIFT) as u32)
}
