//! How pages are cached: the page attribute table (PAT) and the bits of an entry that index it.
//!
//! ```text
//! index         0    1    2    3    4    5    6    7        as Linux programs it
//! memory type   WB   WC   UC-  UC   WB   WP   UC-  WT
//!
//! bit of the index    2         1     0
//! 4 KiB leaf          bit 7     PCD   PWT
//! 2 MiB, 1 GiB leaf   bit 12    PCD   PWT        bit 7 says there that the entry is a leaf
//! ```
//!
//! # Invariants
//! - I1: entry [`CacheMode::index`] of [`PAT`] is the mode's memory type; the processor's register holds [`PAT`] before a
//!   leaf of another mode than write-back is used.

use core::fmt;

use super::entry::EntryFlags;
use super::level::Level;

/// How a page is cached (Linux: `enum page_cache_mode`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CacheMode {
    /// Write-back: RAM.
    #[default]
    WriteBack,
    /// Write-combining: frame buffers.
    WriteCombining,
    /// Uncached, unless the memory type range registers say write-combining: device registers.
    UncachedMinus,
    /// Uncached, whatever the memory type range registers say.
    Uncached,
    /// Write-through.
    WriteThrough,
    /// Write-protected.
    WriteProtected,
}

/// The value of the register IA32_PAT that [`CacheMode`]s count on: a byte for each index. What no mode uses is what it is
/// without the index's bit 2.
pub const PAT: u64 = {
    let mut pat = [0u8; 8];
    let mut n = 0;
    while n < CacheMode::ALL.len() {
        pat[CacheMode::ALL[n].index() as usize] = CacheMode::ALL[n].memory_type();
        n += 1;
    }
    pat[4] = pat[0];
    pat[6] = pat[2];
    u64::from_le_bytes(pat)
};

const _: () = assert!(PAT == 0x0407_0506_0007_0106, "Linux's, from WT at the top down to WB");

impl CacheMode {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::WriteBack,
        Self::WriteCombining,
        Self::UncachedMinus,
        Self::Uncached,
        Self::WriteThrough,
        Self::WriteProtected,
    ];

    /// The index into the page attribute table.
    pub const fn index(self) -> u64 {
        match self {
            Self::WriteBack => 0,
            Self::WriteCombining => 1,
            Self::UncachedMinus => 2,
            Self::Uncached => 3,
            Self::WriteProtected => 5,
            Self::WriteThrough => 7,
        }
    }

    /// The processor's number for it.
    const fn memory_type(self) -> u8 {
        match self {
            Self::Uncached => 0,
            Self::WriteCombining => 1,
            Self::WriteThrough => 4,
            Self::WriteProtected => 5,
            Self::WriteBack => 6,
            Self::UncachedMinus => 7,
        }
    }

    /// The bits that say so in a leaf of `level`.
    pub const fn flags(self, level: Level) -> EntryFlags {
        let mut bits = 0;
        if self.index() & 1 != 0 {
            bits |= EntryFlags::PWT.bits();
        }
        if self.index() & 2 != 0 {
            bits |= EntryFlags::PCD.bits();
        }
        if self.index() & 4 != 0 {
            bits |= Self::high_bit(level).bits();
        }
        EntryFlags::from_bits_retain(bits)
    }

    /// The mode of a leaf of `level` with these flags.
    pub const fn of(flags: EntryFlags, level: Level) -> Self {
        let high = flags.contains(Self::high_bit(level));
        match (high, flags.contains(EntryFlags::PCD), flags.contains(EntryFlags::PWT)) {
            (_, false, false) => Self::WriteBack,
            (false, false, true) => Self::WriteCombining,
            (true, false, true) => Self::WriteProtected,
            (_, true, false) => Self::UncachedMinus,
            (false, true, true) => Self::Uncached,
            (true, true, true) => Self::WriteThrough,
        }
    }

    /// Bit 2 of the index in a leaf of `level`.
    const fn high_bit(level: Level) -> EntryFlags {
        match level {
            Level::Pte => EntryFlags::HUGE,
            _ => EntryFlags::PAT_LARGE,
        }
    }
}

impl fmt::Display for CacheMode {
    /// Linux's names (`cattr_name`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteBack => "write-back",
            Self::WriteCombining => "write-combining",
            Self::UncachedMinus => "uncached-minus",
            Self::Uncached => "uncached",
            Self::WriteThrough => "write-through",
            Self::WriteProtected => "write-protected",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mode, then the bits of a 4 KiB and of a larger leaf.
    const BITS: [(CacheMode, u64, u64); 6] = [
        (CacheMode::WriteBack, 0x00, 0x0000),
        (CacheMode::WriteCombining, 0x08, 0x0008),
        (CacheMode::UncachedMinus, 0x10, 0x0010),
        (CacheMode::Uncached, 0x18, 0x0018),
        (CacheMode::WriteProtected, 0x88, 0x1008),
        (CacheMode::WriteThrough, 0x98, 0x1018),
    ];

    #[test]
    fn each_mode_has_the_bits_that_linux_gives_it() {
        for (mode, small, large) in BITS {
            assert_eq!(mode.flags(Level::Pte).bits(), small, "{mode}");
            assert_eq!(mode.flags(Level::Pmd).bits(), large, "{mode}");
            assert_eq!(mode.flags(Level::Pud).bits(), large, "{mode}");
        }
    }

    #[test]
    fn the_table_has_the_type_of_each_mode_at_its_index() {
        let names = ["UC", "WC", "", "", "WT", "WP", "WB", "UC-"];
        let table = PAT.to_le_bytes().map(|kind| names[kind as usize]);
        assert_eq!(table, ["WB", "WC", "UC-", "UC", "WB", "WP", "UC-", "WT"]);
    }

    #[test]
    fn every_index_reads_back_as_the_mode_of_its_type() {
        for level in [Level::Pte, Level::Pmd, Level::Pud] {
            for index in 0..8u64 {
                let mut flags = EntryFlags::from_bits_retain((index & 3) << 3);
                flags.set(CacheMode::high_bit(level), index & 4 != 0);
                let mode = CacheMode::of(flags, level);
                assert_eq!(mode.memory_type(), PAT.to_le_bytes()[index as usize], "{index} {level:?}");
            }
        }
    }
}
