//! Pages at addresses that are fixed when the kernel is compiled, for what must be mapped before anything can be
//! allocated, or must be found without a search.
//!
//! ```text
//! FIXMAP      8 x 64 pages   what boot maps for a moment: early_ioremap      first table
//!  + 2 MiB    ... unused ...                                                 second table
//!             I/O APIC 127 ... I/O APIC 1 | I/O APIC 0 | local APIC
//! FIXMAP_END
//! ```
//!
//! # Invariants
//! - I1: the two last-level tables are part of the image, and the kernel's page tables name them from the moment these are
//!   in use, for ever; nobody else writes to them. So a slot needs no memory and no lock of the page tables.
//! - I2: an entry is empty, or maps what its slot was last set to.
//!
//! # Locking
//! None: a slot has one user at a time, and entries are atomic. A slot that is changed is flushed on this CPU.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mm::arch;
use mm::arch::layout::{FIXMAP, FIXMAP_END};
use mm::pgtable::{ENTRIES, Entry, Level, OutOfMemory, PageTable, Prot, TableSource, VirtRange};
use mm::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr};

use super::Error;
use crate::firmware::translate;

/// How many I/O APICs can be mapped (Linux: `MAX_IO_APICS`).
pub const MAX_IO_APICS: usize = 128;
/// How many mappings boot can have at a time (Linux: `FIX_BTMAPS_SLOTS`).
pub const EARLY_SLOTS: usize = 8;
/// Pages of each (Linux: `NR_FIX_BTMAPS`).
pub const EARLY_PAGES: usize = 64;

const NR_TABLES: usize = 2;

const _: () = assert!((FIXMAP_END - FIXMAP) as usize == NR_TABLES * ENTRIES * PAGE_SIZE);
const _: () = assert!(FIXMAP.is_multiple_of(Level::Pmd.span_bytes()));
const _: () = assert!(EARLY_SLOTS * EARLY_PAGES == ENTRIES && MAX_IO_APICS < ENTRIES);

/// A page of the fixmap (Linux: `enum fixed_addresses`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// The registers of the local APICs: each CPU finds its own there.
    LocalApic,
    /// The registers of an I/O APIC, by its place in the firmware's list.
    IoApic(u8),
    /// A page of what boot has mapped for a moment.
    Early {
        /// Which mapping, below [`EARLY_SLOTS`].
        slot: u8,
        /// Which of its pages, below [`EARLY_PAGES`].
        page: u8,
    },
}

#[repr(C, align(4096))]
struct Tables([[AtomicU64; ENTRIES]; NR_TABLES]);

static TABLES: Tables = Tables([const { [const { AtomicU64::new(0) }; ENTRIES] }; NR_TABLES]);

/// Whether the processor uses page tables that have the fixmap.
static LIVE: AtomicBool = AtomicBool::new(false);

impl Slot {
    /// The number of its page, from [`FIXMAP`] up.
    ///
    /// # Panics
    /// When its numbers are too high.
    const fn page(self) -> usize {
        match self {
            Self::LocalApic => NR_TABLES * ENTRIES - 1,
            Self::IoApic(n) => {
                assert!((n as usize) < MAX_IO_APICS);
                NR_TABLES * ENTRIES - 2 - n as usize
            }
            Self::Early { slot, page } => {
                assert!((slot as usize) < EARLY_SLOTS && (page as usize) < EARLY_PAGES);
                slot as usize * EARLY_PAGES + page as usize
            }
        }
    }

    /// Its address (Linux: `fix_to_virt`).
    pub const fn address(self) -> VirtAddr {
        VirtAddr::new_truncate(FIXMAP + (self.page() * PAGE_SIZE) as u64)
    }

    /// Its address as a pointer.
    pub fn as_ptr(self) -> NonNull<u8> {
        // SAFETY: the fixmap is not at 0.
        unsafe { NonNull::new_unchecked(self.address().as_mut_ptr()) }
    }

    fn entry(self) -> &'static AtomicU64 {
        &TABLES.0[self.page() / ENTRIES][self.page() % ENTRIES]
    }

    /// Maps the page at `phys` there, which may be any, RAM or not (Linux: `__set_fixmap`).
    ///
    /// # Safety
    /// Nobody uses the slot meanwhile. What is done there with the page is allowed with other mappings of it.
    pub unsafe fn set(self, phys: PhysAddr, prot: Prot) {
        let entry = Entry::leaf(phys, prot, Level::Pte);
        // Release: who walks the tables afterwards sees the whole entry.
        let before = self.entry().swap(entry.bits(), Ordering::Release);
        if before != 0 {
            arch::flush_tlb_page(self.address());
        }
    }

    /// Maps nothing there any more (Linux: `clear_fixmap`).
    ///
    /// # Safety
    /// Nobody uses the slot.
    pub unsafe fn clear(self) {
        self.entry().store(0, Ordering::Release);
        arch::flush_tlb_page(self.address());
    }
}

/// Whether slots can be used: the kernel's own page tables are in use.
pub fn is_live() -> bool {
    LIVE.load(Ordering::Relaxed)
}

/// Says so. The tables that [`link`] was called for are in use.
pub(super) fn set_live() {
    LIVE.store(true, Ordering::Relaxed);
}

/// Puts the fixmap's tables into the kernel's page tables; what is above them comes from `tables`.
pub(super) fn link(tree: &mut PageTable, tables: &mut impl TableSource) -> Result<(), Error> {
    let range = VirtRange::from_bounds(FIXMAP, FIXMAP_END).ok_or(Error::Layout)?;
    let mut own = OwnTables { above: tables, nr_given: 0 };
    Ok(tree.populate_tables(range, &mut own)?)
}

/// The image's tables for the last level, each once, in the order of their addresses.
struct OwnTables<'t, T> {
    above: &'t mut T,
    nr_given: usize,
}

// SAFETY: the image is RAM, which the direct map has; its tables are zero until a slot is set, and given out once by `link`.
unsafe impl<T: TableSource> TableSource for OwnTables<'_, T> {
    fn alloc_table(&mut self, level: Level) -> Result<Pfn, OutOfMemory> {
        if level != Level::Pte {
            return self.above.alloc_table(level);
        }
        let table = TABLES.0.get(self.nr_given).ok_or(OutOfMemory)?;
        self.nr_given += 1;
        let phys = translate::virt_to_phys(VirtAddr::from_ptr(table)).ok_or(OutOfMemory)?;
        Ok(Pfn::containing(phys))
    }

    unsafe fn free_table(&mut self, _pfn: Pfn) {
        unreachable!("the fixmap's tables stay for ever (I1)");
    }
}
