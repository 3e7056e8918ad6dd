//! How objects of a cache lie in its slabs, and how many are kept back: Linux's choices for every size and CPU count.
//!
//! ```text
//! slab of `order`:  [ object 0 | object 1 | ... | object n-1 | waste ]
//!                     <-size->
//! object:           [ object_size, rounded up to 8 | link of a free object, when not inside | padding to align ]
//! ```
//!
//! # Invariants
//! - G1: `size` is a multiple of `align`, `align` a power of two of at least 8; `link_offset + 8 <= size`.
//! - G2: a block of `order` or `min_order` holds 1 to [`MAX_OBJECTS`] objects.

use crate::PAGE_SIZE;
use crate::order::Order;

/// Alignment that every object has (Linux: `ARCH_SLAB_MINALIGN`, `sizeof(void *)`).
pub const MIN_ALIGN: usize = 8;
/// A cache line.
pub const CACHE_LINE: usize = 64;
/// Slabs are not larger than this unless a single object is (Linux: `slub_max_order`).
pub const MAX_SLAB_ORDER: Order = match Order::new(3) {
    Some(order) => order,
    None => Order::ZERO,
};
/// Most objects in a slab: a slab's counters have 16 bits each.
pub const MAX_OBJECTS: usize = 1 << 15;
/// The largest object of a cache: what one slab of the largest order holds (Linux: `KMALLOC_MAX_SIZE`).
pub const MAX_OBJECT_SIZE: usize = Order::MAX.size_bytes();

const LINK_BYTES: usize = size_of::<usize>();

/// Where the link to the next free object is kept in a free object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreeLink {
    /// In the object's own memory.
    Inside,
    /// Behind it, because a free object's contents still mean something (a constructor's work, readers under RCU).
    Behind,
}

/// How a cache's slabs are laid out, and what it keeps back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// What the user asked for, in bytes (Linux: `object_size`).
    pub object_size: u32,
    /// From one object to the next, in bytes (Linux: `size`).
    pub size: u32,
    /// Alignment of each object, in bytes.
    pub align: u32,
    /// Where a free object keeps its link, in bytes from its start (Linux: `offset`).
    pub link_offset: u32,
    /// 2^32 / `size`, rounded up, to find an object's number without dividing (Linux: `reciprocal_size`).
    pub reciprocal: u32,
    /// Size of a slab (Linux: `oo`).
    pub order: Order,
    /// The smallest block that holds an object, for when memory is tight (Linux: `min`).
    pub min_order: Order,
    /// How many free slabs a node keeps (Linux: `min_partial`).
    pub min_partial: u32,
    /// How many objects a CPU keeps (Linux: `cpu_partial`).
    pub cpu_partial: u32,
}

/// Alignment of objects of `object_size` bytes (Linux: `calculate_alignment`): at least `align`, and with
/// `hwcache_align` a cache line, or as much of one as keeps small objects from wasting it.
pub fn alignment(object_size: usize, align: usize, hwcache_align: bool) -> usize {
    let mut line = MIN_ALIGN;
    if hwcache_align {
        line = CACHE_LINE;
        while object_size <= line / 2 {
            line /= 2;
        }
    }
    align.max(line).max(MIN_ALIGN)
}

impl Geometry {
    /// The layout of objects of `object_size` bytes aligned to `align` (from [`alignment`]) on a machine with `cpus`
    /// CPUs: those present, or the possible ones when only one is present; in slabs of up to `max`, at most
    /// [`MAX_SLAB_ORDER`], unless a single object is larger. `None` when no slab can hold one.
    pub fn new(object_size: usize, align: usize, link: FreeLink, cpus: u32, max: Order) -> Option<Self> {
        if object_size == 0 || object_size > MAX_OBJECT_SIZE || !align.is_power_of_two() {
            return None;
        }
        let align = align.max(MIN_ALIGN);
        let inner = object_size.next_multiple_of(MIN_ALIGN);
        let (link_offset, used) = match link {
            // In the middle, as Linux has it: farther from what an overrun of the neighbour reaches.
            FreeLink::Inside => ((inner / 2) & !(LINK_BYTES - 1), inner),
            FreeLink::Behind => (inner, inner + LINK_BYTES),
        };
        let size = used.next_multiple_of(align);
        let order = slab_order(size, cpus, max)?;
        Some(Self {
            object_size: object_size as u32,
            size: size as u32,
            align: align as u32,
            link_offset: link_offset as u32,
            reciprocal: (1u64 << 32).div_ceil(size as u64) as u32,
            order,
            min_order: Order::for_size(size)?,
            min_partial: min_partial(size),
            cpu_partial: cpu_partial(size),
        })
    }

    /// Objects in a slab of `order`.
    pub const fn objects(&self, order: Order) -> usize {
        objects(order, self.size as usize)
    }

    /// The number of the object at byte `offset` of its slab; `None` when no object starts there. No division.
    #[inline(always)]
    pub const fn object_at(&self, offset: usize) -> Option<usize> {
        // Exact for multiples of the size below 2^32: the rounding adds less than one object over a whole slab.
        let nr = (offset as u64 * self.reciprocal as u64) >> 32;
        if nr * self.size as u64 == offset as u64 { Some(nr as usize) } else { None }
    }
}

const fn objects(order: Order, size: usize) -> usize {
    order.size_bytes() / size
}

/// Binary logarithm plus one; 0 for 0 (Linux: `fls`).
const fn fls(n: usize) -> u32 {
    usize::BITS - n.leading_zeros()
}

/// The smallest order from 0 to `max` that holds `min_objects` and wastes at most a `fraction`th of itself.
fn fit(size: usize, min_objects: usize, max: Order, fraction: usize) -> Option<Order> {
    let first = Order::for_size(min_objects.checked_mul(size)?)?;
    first.and_up().take_while(|&o| o <= max).find(|o| o.size_bytes() % size <= o.size_bytes() / fraction)
}

/// Order of a slab for objects of `size` bytes (Linux: `calculate_order`).
///
/// As many objects as suit the CPUs with at most a sixteenth wasted, else an eighth, else a quarter; else fewer
/// objects. Above `max` only when a single object needs it.
fn slab_order(size: usize, cpus: u32, max: Order) -> Option<Order> {
    let wanted = 4 * (fls(cpus as usize) as usize + 1);
    for min_objects in (2..=wanted.min(objects(max, size))).rev() {
        for fraction in [16, 8, 4] {
            if let Some(order) = fit(size, min_objects, max, fraction) {
                return Some(order);
            }
        }
    }
    fit(size, 1, max, 1).or_else(|| fit(size, 1, Order::MAX, 1))
}

/// Objects that a CPU keeps (Linux: `set_cpu_partial`): few of the large ones.
const fn cpu_partial(size: usize) -> u32 {
    match size {
        PAGE_SIZE.. => 6,
        1024.. => 24,
        256.. => 52,
        _ => 120,
    }
}

/// Slabs that a node keeps although they are free (Linux: `set_min_partial`): more of the larger sizes, whose slabs
/// cost more to make.
fn min_partial(size: usize) -> u32 {
    (fls(size).saturating_sub(1) / 2).clamp(5, 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const LINUX: &str = include_str!("testdata/geometry.tsv");

    #[test]
    fn every_cache_of_the_reference_machines_has_linuxs_geometry() {
        let rows = LINUX.lines().filter(|l| !l.starts_with('#')).skip(1);
        let mut nr = 0;
        for row in rows {
            let n: Vec<usize> = row.split('\t').map(|n| n.parse().unwrap()).collect();
            let [cpus, object_size, align, hwcache, behind, size, order, objects, cpu_partial, min_partial] =
                n[..]
            else {
                panic!("{row}")
            };
            let link = if behind == 1 { FreeLink::Behind } else { FreeLink::Inside };
            // Where the flag alone asks for alignment, it must give what Linux has; else the cache asked for it.
            assert_eq!(
                alignment(object_size, if hwcache == 1 { 0 } else { align }, hwcache == 1),
                align,
                "{row}"
            );
            let g = Geometry::new(object_size, align, link, cpus as u32, MAX_SLAB_ORDER).unwrap();
            let got = (g.size as usize, g.order.index(), g.objects(g.order));
            assert_eq!(got, (size, order, objects), "{row}");
            assert_eq!((g.cpu_partial as usize, g.min_partial as usize), (cpu_partial, min_partial), "{row}");
            nr += 1;
        }
        assert!(nr > 400, "only {nr} rows");
    }

    #[test]
    fn object_numbers_are_found_without_division() {
        for object_size in (1..600).chain([1000, 4096, 5000, 8192, 40000, 1 << 20, MAX_OBJECT_SIZE]) {
            let g = Geometry::new(object_size, 8, FreeLink::Inside, 4, MAX_SLAB_ORDER).unwrap();
            assert!(g.link_offset as usize + LINK_BYTES <= g.size as usize, "G1 of {object_size}");
            let bytes = g.order.size_bytes();
            assert!((1..=MAX_OBJECTS).contains(&g.objects(g.order)), "G2 of {object_size}");
            for offset in (0..bytes).step_by(if bytes > 1 << 16 { 4093 } else { 1 }) {
                let want = (offset % g.size as usize == 0).then_some(offset / g.size as usize);
                assert_eq!(g.object_at(offset), want, "offset {offset} of objects of {}", g.size);
            }
        }
    }

    #[test]
    fn slabs_are_single_pages_when_they_shall_be_small_but_for_larger_objects() {
        for object_size in (8..4 * PAGE_SIZE).step_by(56) {
            let g = Geometry::new(object_size, 8, FreeLink::Inside, 4, Order::ZERO).unwrap();
            assert_eq!(Some(g.order), Order::for_size(object_size), "{object_size}");
            assert_eq!(g.order, g.min_order);
        }
    }

    #[test]
    fn what_fits_no_slab_has_no_geometry() {
        for (object_size, align) in [(0, 8), (MAX_OBJECT_SIZE + 1, 8), (64, 3), (64, 2 * MAX_OBJECT_SIZE)] {
            let none = Geometry::new(object_size, align, FreeLink::Inside, 1, MAX_SLAB_ORDER);
            assert_eq!(none, None, "{object_size} {align}");
        }
        assert_eq!(Geometry::new(MAX_OBJECT_SIZE, 8, FreeLink::Behind, 1, MAX_SLAB_ORDER), None);
    }
}
