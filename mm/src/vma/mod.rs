//! Virtual memory areas: what a process may do with which of its addresses, and the tree that finds them.
//!
//! ```text
//! VmaTree   ordered by address, balanced, each subtree knowing its largest hole
//!   |
//! Vma       [start, end) with flags; neighbours that touch have different flags, else they would be one
//! ```
//!
//! # Not here
//! What mmap, munmap and mprotect do with them: `aspace`. What a page fault does: `fault`.

use core::fmt;

use crate::areas::{Area, AreaTree};
use crate::pgtable::{Access, Prot, VirtRange};

bitflags::bitflags! {
    /// Flags of an area, with Linux's numbers (`VM_READ`, ...).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct VmFlags: u64 {
        /// May be read.
        const READ = 0x1;
        /// May be written.
        const WRITE = 0x2;
        /// May be executed.
        const EXEC = 0x4;
        /// Mapped shared.
        const SHARED = 0x8;
        /// `READ` may be added by mprotect.
        const MAYREAD = 0x10;
        /// `WRITE` may be added by mprotect.
        const MAYWRITE = 0x20;
        /// `EXEC` may be added by mprotect.
        const MAYEXEC = 0x40;

        /// What decides about accesses (Linux: `VM_ACCESS_FLAGS`).
        const ACCESS = 0x7;
        /// What a private anonymous area may become.
        const MAY = 0x70;
    }
}

impl VmFlags {
    /// What page-table entries may allow at most. On x86_64 all that is writable is readable, and all that is executable
    /// (Linux: `protection_map`).
    pub const fn access(self) -> Access {
        if self.contains(Self::WRITE) {
            Access::ReadWrite
        } else if self.contains(Self::EXEC) {
            Access::ReadExec
        } else if self.contains(Self::READ) {
            Access::Read
        } else {
            Access::None
        }
    }

    /// The protection of a page (Linux: `vm_get_page_prot`).
    pub const fn prot(self) -> Prot {
        Prot::user(self.access())
    }
}

/// The areas of an address space (Linux: `mm_mt`).
pub type VmaTree<A> = AreaTree<Vma, A>;

/// A virtual memory area (Linux: `struct vm_area_struct`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Vma {
    range: VirtRange,
    flags: VmFlags,
}

impl Vma {
    /// An area over `range` of the user half.
    pub const fn new(range: VirtRange, flags: VmFlags) -> Self {
        debug_assert!(VirtRange::USER.covers(range));
        Self { range, flags }
    }

    /// Its addresses.
    pub const fn range(&self) -> VirtRange {
        self.range
    }

    /// First byte.
    pub const fn start(&self) -> u64 {
        self.range.first()
    }

    /// One past the last byte.
    pub const fn end(&self) -> u64 {
        self.range.last() + 1
    }

    /// Its flags.
    pub const fn flags(&self) -> VmFlags {
        self.flags
    }

    /// Whether `addr` is in it.
    pub const fn contains(&self, addr: u64) -> bool {
        self.range.first() <= addr && addr <= self.range.last()
    }

    /// Whether both could be one area: what Linux's `can_vma_merge` asks of anonymous private ones.
    pub const fn is_like(&self, flags: VmFlags) -> bool {
        self.flags.bits() == flags.bits()
    }

    pub(crate) const fn with_range(self, range: VirtRange) -> Self {
        Self { range, ..self }
    }

    pub(crate) const fn with_flags(self, flags: VmFlags) -> Self {
        Self { flags, ..self }
    }
}

impl Area for Vma {
    fn start(&self) -> u64 {
        self.start()
    }

    fn end(&self) -> u64 {
        self.end()
    }
}

impl fmt::Debug for Vma {
    /// As a line of `/proc/PID/maps` starts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bit = |flag, c| if self.flags.contains(flag) { c } else { '-' };
        let (r, w, x) = (bit(VmFlags::READ, 'r'), bit(VmFlags::WRITE, 'w'), bit(VmFlags::EXEC, 'x'));
        let s = if self.flags.contains(VmFlags::SHARED) { 's' } else { 'p' };
        write!(f, "{:08x}-{:08x} {r}{w}{x}{s}", self.start(), self.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_of_an_area_map_to_the_nearest_the_mmu_has() {
        for (flags, access) in [
            (VmFlags::empty(), Access::None),
            (VmFlags::READ, Access::Read),
            (VmFlags::WRITE, Access::ReadWrite),
            (VmFlags::EXEC, Access::ReadExec),
            (VmFlags::READ | VmFlags::WRITE, Access::ReadWrite),
        ] {
            assert_eq!(flags.access(), access);
        }
    }
}
