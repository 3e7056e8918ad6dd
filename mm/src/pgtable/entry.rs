//! Page-table entries and the protections that leaves can have.
//!
//! ```text
//! 63  62 .. 52  51 .. 12  11 10  9        8        7          6      5         4    3    2     1         0
//! NX  unused    frame     unused SPECIAL  GLOBAL   HUGE/PAT   DIRTY  ACCESSED  PCD  PWT  USER  WRITABLE  PRESENT
//! ```
//!
//! | entry | PRESENT | else |
//! |---|---|---|
//! | empty | 0 | all zero |
//! | table | 1 | frame of the table; HUGE clear; never NX, so that leaves decide |
//! | leaf | 1 | a frame; HUGE set above the last level |
//! | leaf without access | 0 | PROT_NONE (bit 8) set, a frame: only software sees it; of the kernel's half: one made absent |
//!
//! # Invariants
//! - I1: no [`Prot`] is both writable and executable, so no leaf built from one is.

use core::fmt;

use super::cache::CacheMode;
use super::level::Level;
use crate::addr::PhysAddr;
use crate::pfn::Pfn;

bitflags::bitflags! {
    /// The bits of an entry besides its frame.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct EntryFlags: u64 {
        /// The MMU uses the entry.
        const PRESENT = 1 << 0;
        /// Writes are allowed.
        const WRITABLE = 1 << 1;
        /// Ring 3 has access.
        const USER = 1 << 2;
        /// Bit 0 of the index into the page attribute table.
        const PWT = 1 << 3;
        /// Bit 1 of the index into the page attribute table.
        const PCD = 1 << 4;
        /// Set by the MMU when it uses the entry.
        const ACCESSED = 1 << 5;
        /// Set by the MMU when it writes through the entry.
        const DIRTY = 1 << 6;
        /// Above the last level: a leaf. In the last level it is bit 2 of the index into the page attribute table.
        const HUGE = 1 << 7;
        /// Stays in the TLB when the root changes.
        const GLOBAL = 1 << 8;
        /// Ours: the frame is not counted as mapped (the zero page).
        const SPECIAL = 1 << 9;
        /// In large leaves, bit 2 of the index into the page attribute table.
        const PAT_LARGE = 1 << 12;
        /// Nothing is executed from there.
        const NO_EXECUTE = 1 << 63;
    }
}

impl EntryFlags {
    /// Without `PRESENT`: a leaf that keeps its frame and allows no access (Linux: `_PAGE_PROTNONE`).
    pub const PROT_NONE: Self = Self::GLOBAL;
    /// What the MMU sets by itself.
    pub const BY_HARDWARE: Self = Self::ACCESSED.union(Self::DIRTY);
}

/// Bits 12 to 51.
const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// What may be done with a page. Writable and executable at once is not among it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// Nothing; the entry keeps its frame.
    None,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExec,
}

/// The protection of a page (Linux: `pgprot_t`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prot {
    access: Access,
    user: bool,
    cache: CacheMode,
}

impl Prot {
    /// The kernel's constants (Linux: `PAGE_KERNEL_RO`).
    pub const KERNEL_RO: Self = Self::kernel(Access::Read);
    /// The kernel's data, not executable (Linux: `PAGE_KERNEL`).
    pub const KERNEL_RW: Self = Self::kernel(Access::ReadWrite);
    /// The kernel's code (Linux: `PAGE_KERNEL_ROX`).
    pub const KERNEL_RX: Self = Self::kernel(Access::ReadExec);

    /// For the kernel alone.
    pub const fn kernel(access: Access) -> Self {
        Self { access, user: false, cache: CacheMode::WriteBack }
    }

    /// A page of a process.
    pub const fn user(access: Access) -> Self {
        Self { access, user: true, cache: CacheMode::WriteBack }
    }

    /// The same with another cache attribute.
    pub const fn with_cache(self, cache: CacheMode) -> Self {
        Self { cache, ..self }
    }

    /// What it allows.
    pub const fn access(self) -> Access {
        self.access
    }

    /// How it is cached.
    pub const fn cache(self) -> CacheMode {
        self.cache
    }

    /// Whether ring 3 has access.
    pub const fn is_user(self) -> bool {
        self.user
    }

    /// The flags of a leaf of `level`. Kernel leaves are global and have the bits set that the MMU would set anyway.
    pub const fn leaf_flags(self, level: Level) -> EntryFlags {
        let mut bits = match self.access {
            Access::None => EntryFlags::PROT_NONE.bits() | EntryFlags::NO_EXECUTE.bits(),
            Access::Read => EntryFlags::PRESENT.bits() | EntryFlags::NO_EXECUTE.bits(),
            Access::ReadWrite => {
                EntryFlags::PRESENT.bits() | EntryFlags::WRITABLE.bits() | EntryFlags::NO_EXECUTE.bits()
            }
            Access::ReadExec => EntryFlags::PRESENT.bits(),
        };
        bits |= EntryFlags::ACCESSED.bits();
        if self.user {
            bits |= EntryFlags::USER.bits();
        } else if !matches!(self.access, Access::None) {
            bits |= EntryFlags::GLOBAL.bits();
            if matches!(self.access, Access::ReadWrite) {
                bits |= EntryFlags::DIRTY.bits();
            }
        }
        if !matches!(level, Level::Pte) {
            bits |= EntryFlags::HUGE.bits();
        }
        EntryFlags::from_bits_retain(bits | self.cache.flags(level).bits())
    }
}

/// An entry's value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Entry(u64);

impl Entry {
    /// Maps nothing.
    pub const EMPTY: Self = Self(0);

    /// The value as the hardware has it.
    pub const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Names the table in frame `pfn`; leaves decide what is allowed (Linux: `_PAGE_TABLE`, `_KERNPG_TABLE`).
    pub(super) const fn table(pfn: Pfn, for_user: bool) -> Self {
        let flags = EntryFlags::PRESENT.bits() | EntryFlags::WRITABLE.bits() | EntryFlags::BY_HARDWARE.bits();
        Self(pfn.byte() | flags | if for_user { EntryFlags::USER.bits() } else { 0 })
    }

    /// Maps the page at `phys`, aligned to what `level` spans.
    pub const fn leaf(phys: PhysAddr, prot: Prot, level: Level) -> Self {
        debug_assert!(phys.as_u64() & (level.span_bytes() - 1) == 0);
        Self(phys.as_u64() | prot.leaf_flags(level).bits())
    }

    /// Whether it maps nothing and names nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the MMU uses it.
    pub const fn is_present(self) -> bool {
        self.0 & EntryFlags::PRESENT.bits() != 0
    }

    /// Whether it maps a page, one without access included.
    pub const fn is_leaf(self, level: Level) -> bool {
        !self.is_empty() && (matches!(level, Level::Pte) || !self.is_table(level))
    }

    /// Whether it names a table.
    pub const fn is_table(self, level: Level) -> bool {
        !matches!(level, Level::Pte) && self.is_present() && self.0 & EntryFlags::HUGE.bits() == 0
    }

    /// The flags of an entry of `level`.
    pub const fn flags(self, level: Level) -> EntryFlags {
        let pat = match level {
            Level::Pte => 0,
            _ => self.0 & EntryFlags::PAT_LARGE.bits(),
        };
        EntryFlags::from_bits_truncate(self.0 & !FRAME_MASK | pat)
    }

    /// Whether all of `flags` (not `PAT_LARGE`) are set.
    pub const fn has(self, flags: EntryFlags) -> bool {
        self.0 & flags.bits() == flags.bits()
    }

    /// The same with `flags` (not `PAT_LARGE`) set.
    #[must_use]
    pub const fn with(self, flags: EntryFlags) -> Self {
        Self(self.0 | flags.bits())
    }

    /// The same with `flags` (not `PAT_LARGE`) clear.
    #[must_use]
    pub const fn without(self, flags: EntryFlags) -> Self {
        Self(self.0 & !flags.bits())
    }

    /// Where the page of a leaf of `level`, or the table, starts.
    pub const fn phys(self, level: Level) -> PhysAddr {
        let offset = match level {
            // A table's frame: above the last level only leaves have more than 12 bits of offset.
            Level::Pte => 0,
            _ if self.is_table(level) => 0,
            _ => level.span_bytes() - 1,
        };
        PhysAddr::new_truncate(self.0 & FRAME_MASK & !offset)
    }

    /// The frame of a last-level leaf or of a table.
    pub const fn pfn(self) -> Pfn {
        Pfn::new((self.0 & FRAME_MASK) >> 12)
    }

    /// Whether both map or name the same in the same way, whatever the MMU has noted in them.
    pub const fn same_mapping(self, other: Self) -> bool {
        (self.0 ^ other.0) & !EntryFlags::BY_HARDWARE.bits() == 0
    }

    /// A leaf of `level` with its page and what the MMU noted, and another protection (Linux: `pte_modify`).
    pub(crate) const fn with_prot(self, prot: Prot, level: Level) -> Self {
        let kept = self.0 & (EntryFlags::BY_HARDWARE.bits() | EntryFlags::SPECIAL.bits());
        Self(self.phys(level).as_u64() | prot.leaf_flags(level).bits() | kept)
    }

    /// Entry `index` of the table of the next level that maps the same as this large leaf of `level`.
    pub(super) const fn part_of_split(self, level: Level, index: usize) -> Self {
        let Some(down) = level.down() else { return self };
        let phys = self.phys(level).as_u64() + index as u64 * down.span_bytes();
        let mut bits = self.flags(level).bits();
        if matches!(down, Level::Pte) {
            // The PAT bit moves to where the HUGE bit was.
            let pat = bits & EntryFlags::PAT_LARGE.bits() != 0;
            bits &= !(EntryFlags::PAT_LARGE.bits() | EntryFlags::HUGE.bits());
            bits |= if pat { EntryFlags::HUGE.bits() } else { 0 };
        }
        Self(phys | bits)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_ACCESS: [Access; 4] = [Access::None, Access::Read, Access::ReadWrite, Access::ReadExec];

    #[test]
    fn no_protection_makes_a_writable_and_executable_leaf() {
        for access in ALL_ACCESS {
            for prot in [Prot::kernel(access), Prot::user(access)] {
                let flags = prot.leaf_flags(Level::Pmd);
                assert!(
                    !flags.contains(EntryFlags::WRITABLE) || flags.contains(EntryFlags::NO_EXECUTE),
                    "{prot:?}"
                );
            }
        }
    }

    #[test]
    fn a_split_leaf_is_what_its_parts_would_have_been() {
        for access in ALL_ACCESS {
            for cache in CacheMode::ALL {
                let prot = Prot::kernel(access).with_cache(cache);
                for (level, down) in [(Level::Pud, Level::Pmd), (Level::Pmd, Level::Pte)] {
                    let large = Entry::leaf(PhysAddr::new(5 << 30), prot, level);
                    let phys = PhysAddr::new((5 << 30) + 7 * down.span_bytes());
                    assert_eq!(
                        large.part_of_split(level, 7),
                        Entry::leaf(phys, prot, down),
                        "{prot:?} {level:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_cache_mode_changes_no_other_bit_of_a_leaf() {
        for level in [Level::Pte, Level::Pmd, Level::Pud] {
            let plain = Entry::leaf(PhysAddr::new(3 << 30), Prot::KERNEL_RW, level);
            for cache in CacheMode::ALL {
                let leaf = Entry::leaf(PhysAddr::new(3 << 30), Prot::KERNEL_RW.with_cache(cache), level);
                assert_eq!(leaf.bits() ^ plain.bits(), cache.flags(level).bits(), "{cache} {level:?}");
                assert_eq!(leaf.phys(level), plain.phys(level), "{cache} {level:?}");
                assert_eq!(CacheMode::of(leaf.flags(level), level), cache);
            }
        }
    }

    #[test]
    fn a_leaf_without_access_keeps_its_frame() {
        let leaf = Entry::leaf(PhysAddr::new(0x1234_5000), Prot::user(Access::ReadWrite), Level::Pte);
        let none = leaf.with_prot(Prot::user(Access::None), Level::Pte);
        assert!(!none.is_present() && none.is_leaf(Level::Pte) && !none.is_empty());
        assert_eq!(none.phys(Level::Pte), leaf.phys(Level::Pte));
        assert!(none.with_prot(Prot::user(Access::ReadWrite), Level::Pte).same_mapping(leaf));
    }
}
