//! `kmalloc`: memory of any size, from caches of 13 sizes, or as pages above the largest.
//!
//! ```text
//! size <= 192:   SMALL[(size - 1) / 8]       8 16 32 64 96 128 192
//! size <= 8192:  by the size's top bit       256 512 1k 2k 4k 8k
//! above:         a block of pages, whose head page's word 2 is `LARGE` and word 3 the order
//! ```
//!
//! # Invariants
//! - Q1: what `kmalloc` returned lies in a slab, whose head page says so and names its cache, or starts a block of pages
//!   whose head has `HEAD` and [`LARGE`] in word 2.

use core::ptr::NonNull;

use super::cache::CachePtr;
use super::params::{CacheFlags, CacheParams, Error};
use super::report::{Misuse, bug};
use super::slab::slab_of;
use super::{Cache, Slub};
use crate::counters::NodeStat;
use crate::gfp::Gfp;
use crate::id::NodeId;
use crate::order::Order;
use crate::page::{PageFlags, PagePtr};

/// The largest size that a cache serves, in bytes.
pub const KMALLOC_MAX_CACHE_SIZE: usize = 8192;
/// The largest size at all, in bytes.
pub const KMALLOC_MAX_SIZE: usize = Order::MAX.size_bytes();
/// What an allocation of no bytes returns (Linux: `ZERO_SIZE_PTR`): never followed, and `kfree` takes it.
pub const ZERO_SIZE_PTR: NonNull<u8> = match NonNull::new(core::ptr::without_provenance_mut(16)) {
    Some(pointer) => pointer,
    None => NonNull::dangling(),
};

const NR_SIZES: usize = 13;
const SIZES: [usize; NR_SIZES] = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192];
/// The cache of sizes up to 192, in steps of 8.
const SMALL: [u8; 24] = [0, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6];

/// Which memory `kmalloc` takes (Linux: `enum kmalloc_cache_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any.
    Normal = 0,
    /// Objects that can be freed on demand, kept together.
    Reclaimable = 1,
    /// Below 16 MiB.
    Dma = 2,
}

impl Kind {
    const COUNT: usize = 3;
    const ALL: [Self; Self::COUNT] = [Self::Normal, Self::Reclaimable, Self::Dma];

    /// The kind for those flags (Linux: `kmalloc_type`).
    #[inline(always)]
    pub const fn of(gfp: Gfp) -> Self {
        if !gfp.intersects(Gfp::DMA.union(Gfp::RECLAIMABLE)) {
            Self::Normal
        } else if gfp.contains(Gfp::DMA) {
            Self::Dma
        } else {
            Self::Reclaimable
        }
    }

    const fn flags(self) -> CacheFlags {
        match self {
            Self::Normal => CacheFlags::empty(),
            Self::Reclaimable => CacheFlags::RECLAIM_ACCOUNT,
            Self::Dma => CacheFlags::CACHE_DMA,
        }
    }

    const fn names(self) -> &'static [&'static str; NR_SIZES] {
        macro_rules! names {
            ($prefix:literal) => {
                &[
                    concat!($prefix, "8"),
                    concat!($prefix, "16"),
                    concat!($prefix, "32"),
                    concat!($prefix, "64"),
                    concat!($prefix, "96"),
                    concat!($prefix, "128"),
                    concat!($prefix, "192"),
                    concat!($prefix, "256"),
                    concat!($prefix, "512"),
                    concat!($prefix, "1k"),
                    concat!($prefix, "2k"),
                    concat!($prefix, "4k"),
                    concat!($prefix, "8k"),
                ]
            };
        }
        match self {
            Self::Normal => names!("kmalloc-"),
            Self::Reclaimable => names!("kmalloc-rcl-"),
            Self::Dma => names!("dma-kmalloc-"),
        }
    }
}

/// Which cache serves `size` bytes, 1 to [`KMALLOC_MAX_CACHE_SIZE`] (Linux: `kmalloc_index`).
#[inline(always)]
const fn index(size: usize) -> usize {
    if size <= 192 {
        SMALL[(size - 1) / 8 % SMALL.len()] as usize
    } else {
        (usize::BITS - 1 - ((size - 1) | 1).leading_zeros()) as usize
    }
}

/// Alignment of objects of that cache: a power of two is aligned to itself, 96 to 32, 192 to 64.
const fn natural_align(index: usize) -> usize {
    1 << SIZES[index].trailing_zeros()
}

/// The size to ask for, so that `size` bytes come aligned to `align`, a power of two; `None` when nothing is that large.
pub(super) fn size_for(size: usize, align: usize) -> Option<usize> {
    if size <= KMALLOC_MAX_CACHE_SIZE && align <= natural_align(index(size.max(1))) {
        return Some(size);
    }
    // Blocks of pages are aligned to their size, as are objects of a power of two.
    size.max(align).checked_next_power_of_two().filter(|&s| s <= KMALLOC_MAX_SIZE)
}

/// The caches, in Linux's order of creation.
pub(super) fn all_params() -> impl Iterator<Item = (Kind, usize, CacheParams<'static>)> {
    Kind::ALL.into_iter().flat_map(|kind| {
        (0..NR_SIZES).map(move |i| {
            let size = SIZES[i];
            let align = if size.is_power_of_two() { size } else { 0 };
            (kind, i, CacheParams::new(kind.names()[i], size).align(align).flags(kind.flags()))
        })
    })
}

/// The caches by kind and size.
pub(super) struct Table<'a>([[CachePtr<'a>; ROW]; Kind::COUNT]);

/// Places in a row of the table: a power of two, so that an index is bounded by a mask.
const ROW: usize = NR_SIZES.next_power_of_two();

impl<'a> Table<'a> {
    /// A table with one cache everywhere, until each place is [`set`](Self::set).
    pub(super) const fn new(any: CachePtr<'a>) -> Self {
        Self([[any; ROW]; Kind::COUNT])
    }

    pub(super) fn set(&mut self, kind: Kind, index: usize, cache: CachePtr<'a>) {
        self.0[kind as usize][index] = cache;
    }

    #[inline(always)]
    fn get(&self, kind: Kind, size: usize) -> CachePtr<'a> {
        self.0[kind as usize][index(size) % ROW]
    }
}

/// Word 2 of the head page of a large allocation; no cache has that address.
const LARGE: u64 = 1;
const MARK: usize = 2;
const ORDER: usize = 3;

impl<'a> Slub<'a> {
    /// `size` bytes, aligned to 8, a power of two to itself (Linux: `kmalloc`). Contents are whatever they were unless
    /// [`Gfp::ZERO`]. No bytes are [`ZERO_SIZE_PTR`]. Any context that `gfp` allows.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; [`Error::TooLarge`] above [`KMALLOC_MAX_SIZE`].
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn kmalloc(&self, size: usize, gfp: Gfp) -> Result<NonNull<u8>, Error> {
        // One comparison for both ends: no bytes wrap round.
        if size.wrapping_sub(1) < KMALLOC_MAX_CACHE_SIZE {
            return self.kmalloc.get(Kind::of(gfp), size).alloc(gfp);
        }
        self.kmalloc_odd(size, gfp, None)
    }

    /// Zeroed (Linux: `kzalloc`).
    ///
    /// # Errors
    /// As [`kmalloc`](Self::kmalloc).
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn kzalloc(&self, size: usize, gfp: Gfp) -> Result<NonNull<u8>, Error> {
        self.kmalloc(size, gfp | Gfp::ZERO)
    }

    /// From `node` if it has memory (Linux: `kmalloc_node`).
    ///
    /// # Errors
    /// As [`kmalloc`](Self::kmalloc), and [`Error::Invalid`] when there is no such node.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn kmalloc_node(&self, size: usize, gfp: Gfp, node: NodeId) -> Result<NonNull<u8>, Error> {
        if node.index() >= self.nr_nodes {
            return Err(Error::Invalid);
        }
        if size.wrapping_sub(1) < KMALLOC_MAX_CACHE_SIZE {
            return self.kmalloc.get(Kind::of(gfp), size).alloc_node(gfp, node);
        }
        self.kmalloc_odd(size, gfp, Some(node))
    }

    /// Nothing, or a block of pages.
    #[cold]
    #[inline(never)]
    fn kmalloc_odd(&self, size: usize, gfp: Gfp, node: Option<NodeId>) -> Result<NonNull<u8>, Error> {
        if size == 0 {
            return Ok(ZERO_SIZE_PTR);
        }
        let order = Order::for_size(size).ok_or(Error::TooLarge)?;
        let head = self.pages.alloc_block(gfp | Gfp::COMP, order, node).ok_or(Error::NoMemory)?;
        self.pages.count(head.node(), NodeStat::SlabUnreclaimable, order.nr_pages() as i64);
        // SAFETY: a new block of ours; the direct map does not reach address zero.
        unsafe {
            head.set_word(MARK, LARGE);
            head.set_word(ORDER, order.get() as u64);
            Ok(NonNull::new_unchecked(self.machine.phys_to_virt(head.pfn(self.machine).phys())))
        }
    }

    /// Takes memory of `kmalloc` or an object of any cache back (Linux: `kfree`). Any context. A pointer that is neither
    /// is a bug: reported, and the machine stops.
    ///
    /// # Safety
    /// `pointer` came from here or from a cache of this machine, and nobody uses it any more.
    #[inline]
    pub unsafe fn kfree(&self, pointer: NonNull<u8>) {
        if pointer.addr() <= ZERO_SIZE_PTR.addr() {
            return;
        }
        // SAFETY: the caller's memory, so its page is in use; an object of the slab's cache.
        unsafe {
            match slab_of(self.machine, pointer) {
                Ok(slab) => CachePtr::<'a>::of(slab).free_in(slab, pointer),
                Err(head) => self.kfree_large(head, pointer),
            }
        }
    }

    #[cold]
    #[inline(never)]
    unsafe fn kfree_large(&self, head: PagePtr, pointer: NonNull<u8>) {
        let order = self.large_order(head, pointer);
        self.pages.count(head.node(), NodeStat::SlabUnreclaimable, -(order.nr_pages() as i64));
        // SAFETY: the caller's block from `kmalloc_odd` (Q1).
        unsafe {
            head.set_word(MARK, 0);
            self.pages.free_block(head, order);
        }
    }

    /// Order of the large allocation that `pointer` starts; anything else is a bug.
    fn large_order(&self, head: PagePtr, pointer: NonNull<u8>) -> Order {
        let start = self.machine.phys_to_virt(head.pfn(self.machine).phys());
        // SAFETY: a page in use whose owner is the caller.
        let (mark, order) = unsafe { (head.word(MARK), head.word(ORDER)) };
        match Order::new(order as u8) {
            Some(order)
                if head.flags().contains(PageFlags::HEAD) && mark == LARGE && start == pointer.as_ptr() =>
            {
                order
            }
            _ => bug("kmalloc", Misuse::NotSlab, pointer.as_ptr(), head),
        }
    }

    /// How many bytes of the allocation can be used: at least as many as were asked for (Linux: `ksize`).
    ///
    /// # Safety
    /// `pointer` came from here or from a cache of this machine and is in use.
    pub unsafe fn ksize(&self, pointer: NonNull<u8>) -> usize {
        if pointer.addr() <= ZERO_SIZE_PTR.addr() {
            return 0;
        }
        // SAFETY: the caller's memory, so its page is in use, and its cache lives.
        unsafe {
            match slab_of(self.machine, pointer) {
                Ok(slab) => usable(&CachePtr::of(slab)),
                Err(head) => self.large_order(head, pointer).size_bytes(),
            }
        }
    }

    /// The allocation with room for `size` bytes, moved if it must be; contents are kept as far as both sizes reach
    /// (Linux: `krealloc`). With no bytes it is freed.
    ///
    /// # Errors
    /// As [`kmalloc`](Self::kmalloc); the old allocation stays as it was.
    ///
    /// # Safety
    /// `pointer` came from here and is the caller's; it is not used any more unless this fails.
    #[cfg_attr(debug_assertions, track_caller)]
    pub unsafe fn krealloc(&self, pointer: NonNull<u8>, size: usize, gfp: Gfp) -> Result<NonNull<u8>, Error> {
        // SAFETY: the caller's allocation, copied into a new one that does not overlap it.
        unsafe {
            let old = self.ksize(pointer);
            if size != 0 && size <= old {
                return Ok(pointer);
            }
            let new = self.kmalloc(size, gfp)?;
            new.copy_from_nonoverlapping(pointer, old.min(size));
            self.kfree(pointer);
            Ok(new)
        }
    }
}

/// Bytes of an object that its user may touch: padding too, but not a link behind it.
fn usable(cache: &Cache<'_>) -> usize {
    let g = &cache.geometry;
    if cache.flags.contains(CacheFlags::TYPESAFE_BY_RCU) { g.link_offset as usize } else { g.size as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_goes_to_the_smallest_cache_that_holds_it() {
        for size in 1..=KMALLOC_MAX_CACHE_SIZE {
            let want = SIZES.iter().position(|&s| s >= size).unwrap();
            assert_eq!(index(size), want, "{size} bytes");
        }
    }

    #[test]
    fn alignment_beyond_the_size_asks_for_more() {
        for (size, align, want) in [
            (8, 8, Some(8)),
            (24, 16, Some(24)),
            (96, 32, Some(96)),
            (96, 64, Some(128)),
            (130, 64, Some(130)),
            (130, 128, Some(256)),
            (8, 4096, Some(4096)),
            (5000, 8192, Some(5000)),
            (5000, 16384, Some(16384)),
            (20000, 8, Some(32768)),
            (KMALLOC_MAX_SIZE, 8, Some(KMALLOC_MAX_SIZE)),
            (KMALLOC_MAX_SIZE + 1, 8, None),
            (usize::MAX, 8, None),
        ] {
            assert_eq!(size_for(size, align), want, "{size} bytes aligned to {align}");
        }
    }
}
