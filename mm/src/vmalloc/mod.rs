//! The vmalloc space: which of its addresses are taken, by what, and where there is room.
//!
//! ```text
//! VMALLOC                                                              VMALLOC_END
//! | area        | g |   hole   | area   | g | area          | g | ...          |
//!   start ... last    guard: a page that is never mapped and belongs to the area before it
//! ```
//!
//! What is asked for goes to the lowest place that has room for it and its guard page, so an access past the end of one
//! area faults instead of reaching the next. Units of per-CPU memory ([`congruent`]) come from the top down, without guards.
//!
//! # Invariants
//! - I1: areas with their guard pages lie in the window and do not overlap.
//! - I2: an area starts at a multiple of the alignment that was asked for, and is whole pages long.
//!
//! # Locking
//! None of its own: changing takes `&mut`. The kernel's space stands behind a lock that sleeps.
//!
//! # Not here
//! What is mapped in an area: page tables (`pgtable`) and who maps (the kernel's `memory::vmalloc`).

mod congruent;
#[cfg(test)]
mod tests;

pub use congruent::Part;

use core::alloc::Layout;
use core::ops::Range;

use crate::addr::{PAGE_SIZE, PhysAddr, VirtAddr, align_up};
use crate::areas::{Area, AreaTree, Direction, NodeAlloc, SpareNode};
use crate::pgtable::{CacheMode, OutOfMemory, VirtRange};

const GUARD_BYTES: u64 = PAGE_SIZE as u64;

/// What an area is for (Linux: `vm_struct.flags`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Device memory (Linux: `VM_IOREMAP`).
    Ioremap {
        /// What the area's first page maps.
        phys: PhysAddr,
        /// How it is cached.
        cache: CacheMode,
    },
    /// A thread's stack.
    Stack,
    /// Memory from single pages (Linux: `VM_ALLOC`).
    Vmalloc,
    /// Pages that somebody has, mapped a second time (Linux: `VM_MAP`).
    Vmap,
    /// Units of per-CPU memory. Without a guard page: units lie at given distances.
    PerCpu,
}

impl Purpose {
    /// Whether the area's pages were taken from the page allocator for it.
    pub const fn has_own_pages(self) -> bool {
        match self {
            Self::Vmalloc | Self::Stack => true,
            Self::Vmap | Self::PerCpu | Self::Ioremap { .. } => false,
        }
    }
}

/// The code address that a call for an area returns to; 0 when it is not known (Linux: `vm_struct.caller`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller(pub u64);

/// An area (Linux: `vmap_area` and `vm_struct`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmapArea {
    range: VirtRange,
    purpose: Purpose,
    caller: Caller,
}

impl VmapArea {
    /// Its addresses, the guard page not among them.
    pub const fn range(&self) -> VirtRange {
        self.range
    }

    /// What it is for.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Who asked for it.
    pub const fn caller(&self) -> Caller {
        self.caller
    }

    /// Its addresses, the guard page among them, where there is one.
    pub const fn with_guard(&self) -> Range<u64> {
        let guard = if matches!(self.purpose, Purpose::PerCpu) { 0 } else { GUARD_BYTES };
        self.range.first()..self.range.last() + 1 + guard
    }
}

impl Area for VmapArea {
    fn start(&self) -> u64 {
        self.range.first()
    }

    /// With the guard page, where there is one.
    fn end(&self) -> u64 {
        self.with_guard().end
    }
}

/// Why there is no area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No memory for the area's node.
    OutOfMemory,
    /// No hole is large enough.
    NoRoom,
    /// The size is 0, or the alignment is no power of two.
    BadRequest,
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// What area is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    size_bytes: u64,
    align: u64,
    purpose: Purpose,
    caller: Caller,
}

impl Request {
    /// Of at least `size_bytes` bytes, starting at any page.
    pub const fn new(size_bytes: u64, purpose: Purpose) -> Self {
        Self { size_bytes, align: PAGE_SIZE as u64, purpose, caller: Caller(0) }
    }

    /// Starting at a multiple of `align` bytes, a power of two; a page at least.
    pub const fn align(self, align: u64) -> Self {
        Self { align: if align < PAGE_SIZE as u64 { PAGE_SIZE as u64 } else { align }, ..self }
    }

    /// Asked for by `caller`.
    pub const fn by(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }
}

/// The areas of a part of the address space. `A` is the type of the allocator of their nodes.
#[derive(Debug)]
pub struct VmapSpace<A> {
    areas: AreaTree<VmapArea, A>,
    window: VirtRange,
}

impl<A: NodeAlloc> VmapSpace<A> {
    /// Size and alignment of all blocks that it asks of a [`NodeAlloc`]: for a cache of them.
    pub const NODE_LAYOUT: Layout = AreaTree::<VmapArea, A>::NODE_LAYOUT;

    /// A space over `window` without areas. The window does not end with the address space.
    pub fn new(window: VirtRange) -> Self {
        debug_assert!(window.last() < u64::MAX);
        Self { areas: AreaTree::new(), window }
    }

    /// Takes the lowest place that has room (Linux: `__get_vm_area_node`). Logarithmic time; with an alignment above a
    /// page also as many steps as there are holes that are long enough and lie badly.
    ///
    /// # Errors
    /// See [`Error`]; nothing is taken then.
    pub fn alloc(&mut self, request: Request, nodes: &mut A) -> Result<VmapArea, Error> {
        let size = align_up(request.size_bytes, PAGE_SIZE as u64).ok_or(Error::NoRoom)?;
        if size == 0 || !request.align.is_power_of_two() {
            return Err(Error::BadRequest);
        }
        let with_guard = size.checked_add(GUARD_BYTES).ok_or(Error::NoRoom)?;
        let (low, high) = (self.window.first(), self.window.last() + 1);
        let at = self
            .areas
            .find_aligned_room(with_guard, request.align, low, high, Direction::BottomUp)
            .ok_or(Error::NoRoom)?;
        let range = VirtRange::new(VirtAddr::new_truncate(at), size).ok_or(Error::NoRoom)?;
        let area = VmapArea { range, purpose: request.purpose, caller: request.caller };
        self.areas.insert(SpareNode::new(area, nodes)?);
        Ok(area)
    }

    /// The area that `addr` is in, its guard page not counted (Linux: `find_vmap_area`). Logarithmic time.
    pub fn find(&self, addr: VirtAddr) -> Option<VmapArea> {
        self.areas.lookup(addr.as_u64()).filter(|area| addr.as_u64() <= area.range.last())
    }

    /// Gives back the area that starts at `start`; `None` when there is none (Linux: `remove_vm_area`). Nothing is mapped
    /// there any more, in no TLB either.
    pub fn free(&mut self, start: VirtAddr, nodes: &mut A) -> Option<VmapArea> {
        self.areas.remove(start.as_u64(), nodes)
    }

    /// All areas by address. Each step costs a search.
    pub fn iter(&self) -> impl Iterator<Item = VmapArea> + '_ {
        self.areas.iter()
    }

    /// How many areas there are.
    pub fn nr_areas(&self) -> usize {
        self.areas.nr_areas()
    }

    /// Bytes of memory that areas have taken from the page allocator, guard pages not counted (Linux: `vmalloc_nr_pages`).
    pub fn used_bytes(&self) -> u64 {
        let taken = self.iter().filter(|area| area.purpose.has_own_pages());
        taken.map(|area| area.range.len_bytes()).sum()
    }

    /// Recounts everything: I1 and the tree's invariants.
    ///
    /// # Panics
    /// When something does not add up.
    pub fn validate(&self) {
        self.areas.validate();
        for area in self.iter() {
            let inside = self.window.first() <= area.start() && area.end() - 1 <= self.window.last();
            assert!(inside, "{area:?} is outside of {:?}", self.window);
        }
    }
}
