//! Block sizes: powers of two of pages.

/// Binary logarithm of a block's size in pages: 0 to [`Order::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Order(u8);

/// Order of a pageblock: 2 MiB, the unit in which migratetypes are kept.
pub const PAGEBLOCK_ORDER: Order = Order(9);
/// Pages in a pageblock.
pub const PAGEBLOCK_NR_PAGES: u64 = PAGEBLOCK_ORDER.nr_pages();

impl Order {
    /// A single page.
    pub const ZERO: Self = Self(0);
    /// The largest block: 4 MiB (Linux: `MAX_ORDER - 1`).
    pub const MAX: Self = Self(10);
    /// How many orders there are (Linux 6.1: `MAX_ORDER`).
    pub const COUNT: usize = Self::MAX.0 as usize + 1;

    /// The order `n`, `None` above [`Order::MAX`].
    pub const fn new(n: u8) -> Option<Self> {
        if n <= Self::MAX.0 { Some(Self(n)) } else { None }
    }

    /// The smallest order whose block holds `size_bytes` bytes (Linux: `get_order`), `None` when none does.
    pub const fn for_size(size_bytes: usize) -> Option<Self> {
        let pages = size_bytes.div_ceil(crate::PAGE_SIZE);
        if pages > Self::MAX.nr_pages() as usize {
            return None;
        }
        Some(Self(pages.next_power_of_two().trailing_zeros() as u8))
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Pages in a block.
    pub const fn nr_pages(self) -> u64 {
        1 << self.0
    }

    /// Bytes in a block.
    pub const fn size_bytes(self) -> usize {
        crate::PAGE_SIZE << self.0
    }

    /// The next larger order, `None` after [`Order::MAX`].
    pub const fn up(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// The next smaller order, `None` below zero.
    pub const fn down(self) -> Option<Self> {
        match self.0 {
            0 => None,
            n => Some(Self(n - 1)),
        }
    }

    /// All orders from this one up.
    pub fn and_up(self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..=Self::MAX.0).map(Self)
    }

    /// All orders, smallest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        Self::ZERO.and_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_to_the_next_order() {
        for (bytes, order) in [(0, 0), (1, 0), (4096, 0), (4097, 1), (3 * 4096, 2), (4 << 20, 10)] {
            assert_eq!(Order::for_size(bytes), Order::new(order), "{bytes} bytes");
        }
        assert_eq!(Order::for_size((4 << 20) + 1), None);
    }
}
