//! Addresses: physical and virtual ones of the `x86_64` crate, and ranges of physical memory.
//!
//! # Invariants
//! - I1: a [`PhysRange`] has `start <= end <= PHYS_LIMIT`.

use core::fmt;

pub use x86_64::{PhysAddr, VirtAddr};

/// Binary logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Size of a base page, in bytes.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// One past the highest physical address that x86_64 can name (52 bits).
pub const PHYS_LIMIT: u64 = 1 << 52;

/// A half-open range of physical addresses, in bytes; Linux prints its last byte (`[mem 0x0-0xfff]`).
///
/// Bounds are kept as numbers because `end` may be [`PHYS_LIMIT`], which is not an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhysRange {
    start: u64,
    end: u64,
}

impl PhysRange {
    /// The range `start..end`, or `None` when it is reversed or reaches past [`PHYS_LIMIT`]. It may be empty.
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start <= end && end <= PHYS_LIMIT { Some(Self { start, end }) } else { None }
    }

    /// The range of `size_bytes` bytes from `start`, or `None` when it wraps or reaches past [`PHYS_LIMIT`].
    pub const fn from_size(start: u64, size_bytes: u64) -> Option<Self> {
        match start.checked_add(size_bytes) {
            Some(end) => Self::new(start, end),
            None => None,
        }
    }

    /// First byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// One past the last byte.
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Size in bytes.
    pub const fn len_bytes(self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds no byte.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `addr` lies inside.
    pub const fn contains(self, addr: u64) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Whether both have a byte in common: an empty range has none.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end && !self.is_empty() && !other.is_empty()
    }

    /// The common part, `None` when there is none.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }
}

impl fmt::Display for PhysRange {
    /// Linux's `[mem 0x00000000-0x0009ffff]`: the last byte, not the end; at least eight digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[mem {:#010x}-{:#010x}]", self.start, self.end.wrapping_sub(1))
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// `value` rounded down to a multiple of `align`, a power of two.
pub const fn align_down(value: u64, align: u64) -> u64 {
    debug_assert!(align.is_power_of_two());
    value & !(align - 1)
}

/// `value` rounded up to a multiple of `align`, a power of two; `None` when that does not fit.
pub const fn align_up(value: u64, align: u64) -> Option<u64> {
    match value.checked_add(align - 1) {
        Some(v) => Some(align_down(v, align)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn ranges_print_their_last_byte() {
        let r = PhysRange::new(0x1000, 0xa0000).unwrap();
        assert_eq!(format!("{r}"), "[mem 0x00001000-0x0009ffff]");
        let high = PhysRange::new(0x1_0000_0000, 0x1_4000_0000).unwrap();
        assert_eq!(format!("{high}"), "[mem 0x100000000-0x13fffffff]");
    }

    #[test]
    fn ranges_that_wrap_or_pass_the_limit_do_not_exist() {
        assert_eq!(PhysRange::from_size(u64::MAX, 2), None);
        assert_eq!(PhysRange::from_size(PHYS_LIMIT - 1, 2), None);
        assert_eq!(PhysRange::new(2, 1), None);
        assert!(PhysRange::from_size(PHYS_LIMIT - 1, 1).is_some());
    }

    #[test]
    fn an_empty_range_overlaps_nothing() {
        let (empty, around) = (PhysRange::new(4, 4).unwrap(), PhysRange::new(0, 8).unwrap());
        assert!(!empty.overlaps(around) && !around.overlaps(empty) && !empty.overlaps(empty));
        assert_eq!(around.intersect(empty), None);
    }

    #[test]
    fn touching_ranges_do_not_overlap() {
        let (a, b) = (PhysRange::new(0, 8).unwrap(), PhysRange::new(8, 16).unwrap());
        assert!(!a.overlaps(b));
        assert_eq!(a.intersect(b), None);
        assert_eq!(PhysRange::new(4, 12).unwrap().intersect(a), PhysRange::new(4, 8));
    }
}
