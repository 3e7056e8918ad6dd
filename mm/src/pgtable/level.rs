//! The four levels of an x86_64 page table, and ranges of virtual addresses cut along them.
//!
//! ```text
//! 63     48 47   39 38   30 29   21 20   12 11     0
//! | sign   |  Pgd  |  Pud  |  Pmd  |  Pte  | offset |      an entry spans 512 GiB, 1 GiB, 2 MiB, 4 KiB
//! ```
//!
//! # Invariants
//! - I1: a [`VirtRange`] is not empty, its bounds are page-aligned, and it lies in one half of the address space.

use core::fmt;

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, VirtAddr};

/// Entries of a table.
pub const ENTRIES: usize = 512;

/// A level of the tree, named as Linux names its entries. P4D is folded: four levels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Level {
    /// 4 KiB an entry.
    Pte = 0,
    /// 2 MiB an entry.
    Pmd = 1,
    /// 1 GiB an entry.
    Pud = 2,
    /// 512 GiB an entry: the root.
    Pgd = 3,
}

impl Level {
    /// Binary logarithm of the bytes that an entry spans.
    pub const fn shift(self) -> u32 {
        PAGE_SHIFT + 9 * self as u32
    }

    /// Bytes that an entry spans.
    pub const fn span_bytes(self) -> u64 {
        1 << self.shift()
    }

    /// Index of `addr`'s entry in its table of this level.
    pub const fn index(self, addr: u64) -> usize {
        (addr >> self.shift()) as usize % ENTRIES
    }

    /// The level of the tables that entries of this one name; `None` for the last.
    pub const fn down(self) -> Option<Self> {
        match self {
            Self::Pgd => Some(Self::Pud),
            Self::Pud => Some(Self::Pmd),
            Self::Pmd => Some(Self::Pte),
            Self::Pte => None,
        }
    }
}

/// Size of a mapped page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageSize {
    /// 4 KiB.
    Size4K,
    /// 2 MiB.
    Size2M,
    /// 1 GiB; not every CPU has it.
    Size1G,
}

impl PageSize {
    /// All sizes, smallest first.
    pub const ALL: [Self; 3] = [Self::Size4K, Self::Size2M, Self::Size1G];

    /// The level whose entries map pages of this size.
    pub const fn level(self) -> Level {
        match self {
            Self::Size4K => Level::Pte,
            Self::Size2M => Level::Pmd,
            Self::Size1G => Level::Pud,
        }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.level().span_bytes()
    }

    /// The size that entries of `level` map; `None` for the root.
    pub const fn of_level(level: Level) -> Option<Self> {
        match level {
            Level::Pte => Some(Self::Size4K),
            Level::Pmd => Some(Self::Size2M),
            Level::Pud => Some(Self::Size1G),
            Level::Pgd => None,
        }
    }
}

/// A range of virtual pages. Kept by its last byte, because the end of the address space is no address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VirtRange {
    start: u64,
    last: u64,
}

impl VirtRange {
    /// The user half (with the guard page that no process may map).
    pub const USER: Self = Self { start: 0, last: 0x0000_7fff_ffff_ffff };
    /// The kernel half.
    pub const KERNEL: Self = Self { start: 0xffff_8000_0000_0000, last: u64::MAX };

    /// `len_bytes` bytes from `start`; `None` when empty, not page-aligned, or not within one half.
    pub const fn new(start: VirtAddr, len_bytes: u64) -> Option<Self> {
        let start = start.as_u64();
        if len_bytes == 0 || !(start | len_bytes).is_multiple_of(PAGE_SIZE as u64) {
            return None;
        }
        let Some(last) = start.checked_add(len_bytes - 1) else { return None };
        if start >> 47 != last >> 47 {
            return None;
        }
        Some(Self { start, last })
    }

    /// The bytes `start..end`, as [`new`](Self::new).
    pub const fn from_bounds(start: u64, end: u64) -> Option<Self> {
        match (VirtAddr::try_new(start), end.checked_sub(start)) {
            (Ok(start), Some(len)) => Self::new(start, len),
            _ => None,
        }
    }

    /// First address.
    pub const fn start(self) -> VirtAddr {
        VirtAddr::new_truncate(self.start)
    }

    /// First byte, as a number.
    pub const fn first(self) -> u64 {
        self.start
    }

    /// Last byte, as a number.
    pub const fn last(self) -> u64 {
        self.last
    }

    /// Size in bytes. The whole range fits because it is one half at most.
    pub const fn len_bytes(self) -> u64 {
        self.last - self.start + 1
    }

    /// Whether all of `other` is inside.
    pub const fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.last <= self.last
    }

    /// The parts that entries of a table of `level` map: index and range of each. The range lies in one such table.
    pub(super) fn slots(self, level: Level) -> impl Iterator<Item = (usize, Self)> {
        let shift = level.shift();
        (self.start >> shift..=self.last >> shift).map(move |slot| {
            let base = slot << shift;
            let part =
                Self { start: self.start.max(base), last: self.last.min(base + (level.span_bytes() - 1)) };
            (slot as usize % ENTRIES, part)
        })
    }

    /// The range that `addr`'s entry of `level` spans.
    pub(super) const fn entry_span(level: Level, addr: u64) -> Self {
        let start = addr & !(level.span_bytes() - 1);
        Self { start, last: start + (level.span_bytes() - 1) }
    }

    /// Whether this is all that an entry of `level` spans.
    pub(super) const fn fills(self, level: Level) -> bool {
        self.start & (level.span_bytes() - 1) == 0 && self.last - self.start == level.span_bytes() - 1
    }
}

impl fmt::Debug for VirtRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#018x}-{:#018x}]", self.start, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_range_stays_in_one_half() {
        assert_eq!(VirtRange::from_bounds(0, 1 << 48), None);
        assert_eq!(VirtRange::from_bounds(0x1000, 0x1000), None);
        assert_eq!(VirtRange::from_bounds(0x1001, 0x2000), None);
        assert_eq!(VirtRange::new(VirtAddr::new(0xffff_ffff_ffff_f000), 0x2000), None);
        let top = VirtRange::new(VirtAddr::new(0xffff_ffff_ffff_f000), 0x1000).unwrap();
        assert_eq!((top.last(), top.len_bytes()), (u64::MAX, 4096));
        assert_eq!(VirtRange::USER.len_bytes(), VirtRange::KERNEL.len_bytes());
    }

    #[test]
    fn slots_tile_the_range() {
        let range = VirtRange::new(VirtAddr::new(0xffff_ffff_801f_f000), 0x7fe0_1000).unwrap();
        for level in [Level::Pmd, Level::Pud, Level::Pgd] {
            let parts: Vec<_> = range.slots(level).collect();
            assert_eq!(parts[0].1.first(), range.first());
            assert_eq!(parts.last().unwrap().1.last(), range.last());
            assert!(parts.windows(2).all(|w| w[0].1.last() + 1 == w[1].1.first()));
            assert!(parts.iter().all(|(index, part)| *index == level.index(part.first())));
        }
    }
}
