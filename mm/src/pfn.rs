//! Page frame numbers: physical memory counted in base pages.

use core::fmt;
use core::ops::{Add, Sub};

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, PhysRange};

/// The number of a page frame: its physical address divided by the page size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Pfn(u64);

impl Pfn {
    /// The frame with number `n`.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// The frame that holds `addr` (Linux: `PHYS_PFN`).
    pub const fn containing(addr: PhysAddr) -> Self {
        Self(addr.as_u64() >> PAGE_SHIFT)
    }

    /// The first frame that starts at or above byte `addr` (Linux: `PFN_UP`).
    pub const fn up(addr: u64) -> Self {
        Self((addr >> PAGE_SHIFT) + (addr & (PAGE_SIZE as u64 - 1) != 0) as u64)
    }

    /// The frame that holds byte `addr` (Linux: `PFN_DOWN`).
    pub const fn down(addr: u64) -> Self {
        Self(addr >> PAGE_SHIFT)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as an index into per-page arrays.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Address of the frame's first byte (Linux: `PFN_PHYS`). The number must be below 2^40.
    pub const fn phys(self) -> PhysAddr {
        PhysAddr::new(self.0 << PAGE_SHIFT)
    }

    /// Byte offset of the frame's first byte: like [`phys`](Self::phys), for numbers that may be one past the last.
    pub const fn byte(self) -> u64 {
        self.0 << PAGE_SHIFT
    }

    /// The number rounded down to a multiple of `nr_pages`, a power of two.
    pub const fn align_down(self, nr_pages: u64) -> Self {
        Self(self.0 & !(nr_pages - 1))
    }

    /// The number rounded up to a multiple of `nr_pages`, a power of two.
    pub const fn align_up(self, nr_pages: u64) -> Self {
        Self((self.0 + nr_pages - 1) & !(nr_pages - 1))
    }

    /// Whether the number is a multiple of `nr_pages`, a power of two.
    pub const fn is_aligned(self, nr_pages: u64) -> bool {
        self.0 & (nr_pages - 1) == 0
    }
}

impl Add<u64> for Pfn {
    type Output = Self;
    fn add(self, nr_pages: u64) -> Self {
        Self(self.0 + nr_pages)
    }
}

impl Sub<u64> for Pfn {
    type Output = Self;
    fn sub(self, nr_pages: u64) -> Self {
        Self(self.0 - nr_pages)
    }
}

impl Sub for Pfn {
    type Output = u64;
    fn sub(self, other: Self) -> u64 {
        self.0 - other.0
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::LowerHex for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pfn({:#x})", self.0)
    }
}

/// The frames `start..end`, half-open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PfnRange {
    /// First frame.
    pub start: Pfn,
    /// One past the last frame; not below `start`.
    pub end: Pfn,
}

impl PfnRange {
    /// The frames `start..end`; empty when reversed.
    pub fn new(start: Pfn, end: Pfn) -> Self {
        Self { start, end: end.max(start) }
    }

    /// The whole frames inside a range of bytes: its start rounded up, its end down.
    pub fn inside(range: PhysRange) -> Self {
        Self::new(Pfn::up(range.start()), Pfn::down(range.end()))
    }

    /// Frames in it.
    pub const fn nr_pages(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether `pfn` is in it.
    pub fn contains(self, pfn: Pfn) -> bool {
        self.start <= pfn && pfn < self.end
    }

    /// The common part, empty when there is none.
    pub fn intersect(self, other: Self) -> Self {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// Each frame in turn.
    pub fn iter(self) -> impl Iterator<Item = Pfn> {
        (self.start.0..self.end.0).map(Pfn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_frames_are_inside_a_byte_range() {
        let r = PfnRange::inside(PhysRange::new(0x1001, 0x4fff).unwrap());
        assert_eq!((r.start, r.end), (Pfn::new(2), Pfn::new(4)));
        assert!(PfnRange::inside(PhysRange::new(0x1001, 0x1fff).unwrap()).is_empty());
    }

    #[test]
    fn up_does_not_overflow_at_the_end_of_the_number() {
        assert_eq!(Pfn::up(u64::MAX).get(), 1 << 52);
    }
}
