//! Page faults: an access that the MMU refused is served, or found to be an error.
//!
//! ```text
//!   no area ------------------------------> BadArea
//!   area does not allow it ---------------> BadAccess
//!   entry empty,  read -------------------> zero page, read-only        (new page for the first write)
//!   entry empty,  write ------------------> zeroed frame
//!   zero page,    write ------------------> zeroed frame in its place
//!   page shared,  write ------------------> copy in its place
//!   page alone,   rights too small -------> rights of the area
//!   entry allows it ----------------------> spurious: another CPU was first
//! ```
//!
//! # Invariants
//! Those of `aspace`. A fault that fails changes nothing but that tables may have been made (I2 of `aspace` holds: the area
//! is there).
//!
//! # Locking
//! `&mut Mm`: the address-space lock. One walk of the page tables a fault.
#![deny(unsafe_code)]

mod kind;

pub use kind::{FaultAccess, FaultKind, Mode};

use crate::addr::{PAGE_SIZE, VirtAddr, align_down};
use crate::aspace::{Backing, Mm, frame, with_rights};
use crate::gfp::Gfp;
use crate::pgtable::{Access, Entry, EntryFlags, Level, OutOfMemory, Prot, Slot, VirtRange};
use crate::vma::{VmFlags, Vma};

/// Why a page fault was not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No area holds the address (Linux: `SIGSEGV` with `SEGV_MAPERR`).
    BadArea {
        /// The address.
        addr: u64,
        /// The access.
        kind: FaultKind,
    },
    /// The area does not allow the access (Linux: `SIGSEGV` with `SEGV_ACCERR`).
    BadAccess {
        /// The address.
        addr: u64,
        /// The access.
        kind: FaultKind,
    },
    /// No memory (Linux: `VM_FAULT_OOM`). Nothing has changed: it may be tried again.
    Oom,
}

impl From<OutOfMemory> for Fault {
    fn from(_: OutOfMemory) -> Self {
        Self::Oom
    }
}

/// How a page fault was served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
    /// The zero page was mapped.
    ZeroPage,
    /// A zeroed frame was mapped.
    NewPage,
    /// A zeroed frame took the zero page's place.
    ZeroPageCopied,
    /// A copy took the page's place.
    Copied,
    /// The entry's rights were renewed.
    Reused,
    /// There was nothing to do.
    Spurious,
}

impl<B: Backing> Mm<B> {
    /// Serves an access to `addr` that the MMU refused (Linux: `handle_mm_fault`). At most one frame and three tables are
    /// allocated.
    ///
    /// # Errors
    /// As [`Fault`] says; counted.
    pub fn handle_fault(&mut self, addr: u64, kind: FaultKind, backing: &mut B) -> Result<Served, Fault> {
        let result = self.serve(addr, kind, backing);
        let counts = &mut self.faults;
        counts.all += 1;
        *match result {
            Ok(Served::ZeroPage) => &mut counts.zero_page,
            Ok(Served::NewPage) => &mut counts.new_page,
            Ok(Served::ZeroPageCopied) => &mut counts.zero_page_copied,
            Ok(Served::Copied) => &mut counts.copied,
            Ok(Served::Reused) => &mut counts.reused,
            Ok(Served::Spurious) => &mut counts.spurious,
            Err(Fault::BadArea { .. } | Fault::BadAccess { .. }) => &mut counts.refused,
            Err(Fault::Oom) => &mut counts.oom,
        } += 1;
        result
    }

    fn serve(&mut self, addr: u64, kind: FaultKind, backing: &mut B) -> Result<Served, Fault> {
        let vma = self.areas.lookup(addr).ok_or(Fault::BadArea { addr, kind })?;
        if !allows(vma.flags(), kind) {
            return Err(Fault::BadAccess { addr, kind });
        }
        let page = VirtAddr::new_truncate(align_down(addr, PAGE_SIZE as u64));
        let machine = self.tables.machine();
        let mut slot = self.tables.slot(page, backing, &mut self.nr_tables)?;
        let entry = slot.load();
        if entry.is_empty() {
            if kind.access != FaultAccess::Write {
                slot.store(zero_page_leaf(self.zero_pfn.phys(), vma));
                return Ok(Served::ZeroPage);
            }
            slot.store(new_page(vma, machine, backing)?);
            self.nr_anon_pages += 1;
            return Ok(Served::NewPage);
        }
        if entry_allows(entry, kind.access) {
            // The MMU drops what it has cached when it faults, so there is nothing to flush.
            slot.update(|entry| used(entry, kind.access));
            return Ok(Served::Spurious);
        }
        if entry.has(EntryFlags::SPECIAL) {
            if kind.access == FaultAccess::Write {
                let leaf = new_page(vma, machine, backing)?;
                replace(&mut slot, page, leaf, backing);
                self.nr_anon_pages += 1;
                return Ok(Served::ZeroPageCopied);
            }
            slot.store(zero_page_leaf(self.zero_pfn.phys(), vma));
            return Ok(Served::Reused);
        }
        let exclusive = frame::is_exclusive(entry, machine);
        if kind.access == FaultAccess::Write && !exclusive {
            let copy = backing.alloc_frame(Gfp::HIGHUSER_MOVABLE)?;
            frame::copy_into(&copy, entry, machine);
            let leaf = frame::into_leaf(copy, vma.flags().prot(), machine).with(EntryFlags::DIRTY);
            let old = replace(&mut slot, page, leaf, backing);
            frame::release(old, machine, backing);
            return Ok(Served::Copied);
        }
        slot.update(|entry| used(with_rights(entry, vma.flags(), exclusive), kind.access));
        Ok(Served::Reused)
    }
}

/// Whether an area with those flags allows an access. Every access but a write needs some right; on x86_64 all rights
/// include reading (Linux: `access_error`).
fn allows(flags: VmFlags, kind: FaultKind) -> bool {
    match kind.access {
        FaultAccess::Read => flags.intersects(VmFlags::ACCESS),
        FaultAccess::Write => flags.contains(VmFlags::WRITE),
        // The kernel never executes what is a process's.
        FaultAccess::Exec => flags.contains(VmFlags::EXEC) && kind.mode == Mode::User,
    }
}

fn entry_allows(entry: Entry, access: FaultAccess) -> bool {
    entry.is_present()
        && match access {
            FaultAccess::Read => true,
            FaultAccess::Write => entry.has(EntryFlags::WRITABLE),
            FaultAccess::Exec => !entry.has(EntryFlags::NO_EXECUTE),
        }
}

/// What the MMU would note of an access.
fn used(entry: Entry, access: FaultAccess) -> Entry {
    match access {
        FaultAccess::Write => entry.with(EntryFlags::BY_HARDWARE),
        _ => entry.with(EntryFlags::ACCESSED),
    }
}

/// The zero page, never writable, not counted as mapped (Linux: `pte_mkspecial`).
fn zero_page_leaf(zero: crate::addr::PhysAddr, vma: Vma) -> Entry {
    let access = match vma.flags().access() {
        Access::ReadWrite => Access::Read,
        access => access,
    };
    Entry::leaf(zero, Prot::user(access), Level::Pte).with(EntryFlags::SPECIAL)
}

/// A zeroed frame that is about to be written.
fn new_page<B: Backing>(vma: Vma, machine: crate::arch::Machine, backing: &mut B) -> Result<Entry, Fault> {
    let frame = backing.alloc_frame(Gfp::HIGHUSER_MOVABLE | Gfp::ZERO)?;
    Ok(frame::into_leaf(frame, vma.flags().prot(), machine).with(EntryFlags::DIRTY))
}

/// Another page takes the place of one that CPUs may have cached: out, flush, in, so that no CPU reads the old page after
/// another has written the new one (Linux: `ptep_clear_flush`).
fn replace<B: Backing>(slot: &mut Slot<'_>, page: VirtAddr, leaf: Entry, backing: &mut B) -> Entry {
    let old = slot.take();
    if let Some(range) = VirtRange::new(page, PAGE_SIZE as u64) {
        backing.flush(range);
    }
    slot.store(leaf);
    old
}

#[cfg(test)]
#[allow(unsafe_code, reason = "builds machines")]
mod tests;
