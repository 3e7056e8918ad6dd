//! The early allocator: all memory, and what of it is reserved, as sorted arrays of ranges.
//!
//! ```text
//! physmem   |=======================|====================|   what the firmware called memory, for those who ask
//! memory    |=====node 0=====|      |=======node 1=======|
//! reserved     |kernel|                              |arr|
//! free      |==|      |======|      |================|        memory less reserved; taken from the top
//! ```
//!
//! It serves boot until the page allocator stands, and gives it what is free then. Its arrays start in storage of the
//! caller and double, in memory taken from itself, once [`Memblock::allow_resize`] said where memory is mapped.
//!
//! # Invariants
//! - I1: each array is sorted, disjoint and merged where node and flags agree (see `regions.rs`).
//! - I2: memory in `memory` and not in `reserved` below the limit is nobody's, and mapped by `machine` for `'a` if there
//!   is one. Whoever called [`Memblock::allow_resize`] promised this for each later change too.
//! - I3: memory that an array takes of itself stays reserved as long as the array is there.
//!
//! # Not here
//! Which ranges are memory ([`e820`]) and on which node ([`numa`](crate::numa)).

mod alloc;
mod dump;
mod grow;
mod iter;
mod limit;
#[cfg(test)]
#[allow(unsafe_code)]
mod model;
mod query;
mod regions;
#[cfg(test)]
#[allow(unsafe_code)]
mod tests;

pub use alloc::{Direction, OnNode, Request};
pub use iter::{FreeRange, FreeRangesDown, FreeRangesUp};
pub use regions::{Flags, Region};

use core::panic::Location;

use crate::addr::{PAGE_SIZE, PHYS_LIMIT, PhysRange};
use crate::arch::Machine;
use crate::e820;
use crate::id::NodeId;
use regions::Regions;

/// Everything that can be addressed: for operations on all regions.
pub const ALL: PhysRange = match PhysRange::new(0, PHYS_LIMIT) {
    Some(r) => r,
    None => unreachable!(),
};

/// The range of `size_bytes` bytes from `base`, cut off at the end of the address space (Linux: `memblock_cap_size`).
pub fn capped(base: u64, size_bytes: u64) -> PhysRange {
    let base = base.min(PHYS_LIMIT);
    PhysRange::from_size(base, size_bytes.min(PHYS_LIMIT - base)).unwrap_or(Region::EMPTY.range)
}

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// An array is full and cannot grow.
    Full,
    /// No free range satisfies the request.
    NoMemory,
    /// A size of zero, or an alignment that is not a power of two.
    BadRequest,
    /// The request needs memory that the kernel can touch, but nobody said where it is mapped.
    NotMapped,
}

/// One of the arrays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Array {
    Memory,
    Reserved,
    Physmem,
}

const NR_ARRAYS: usize = 3;

/// Whether operations are logged (`memblock=debug`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Debug {
    /// No.
    #[default]
    Off,
    /// Each one, with its caller; and [`Memblock::dump_all`] prints.
    On,
}

/// The early allocator (Linux: `struct memblock`).
///
/// One CPU uses it, with nothing else running: `&mut self` is the lock.
#[derive(Debug)]
pub struct Memblock<'a> {
    memory: Regions<'a>,
    reserved: Regions<'a>,
    physmem: Option<Regions<'a>>,
    machine: Option<Machine>,
    direction: Direction,
    limit: u64,
    avoid: Flags,
    has_mirror: bool,
    debug: Debug,
}

impl<'a> Memblock<'a> {
    /// An empty one with these slots (Linux: 128 each) for memory and reserved ranges.
    pub fn new(memory: &'a mut [Region], reserved: &'a mut [Region]) -> Self {
        Self {
            memory: Regions::new(memory),
            reserved: Regions::new(reserved),
            physmem: None,
            machine: None,
            direction: Direction::TopDown,
            limit: PHYS_LIMIT,
            avoid: Flags::NEVER_GIVEN,
            has_mirror: false,
            debug: Debug::Off,
        }
    }

    /// Turns the log of operations on or off.
    pub fn set_debug(&mut self, debug: Debug) {
        self.debug = debug;
    }

    /// From where allocations are taken (Linux: `memblock_set_bottom_up`).
    pub fn set_direction(&mut self, direction: Direction) {
        self.direction = direction;
    }

    /// Allocations end below this address (Linux: `memblock_set_current_limit`): the end of what is mapped.
    pub fn set_current_limit(&mut self, limit: u64) {
        self.limit = limit.min(PHYS_LIMIT);
    }

    /// No allocation comes from memory that can be unplugged (Linux: `movable_node`). Until the nodes are known, take
    /// memory [bottom-up](Self::set_direction), near the kernel: what is in use by then counts as not pluggable.
    pub fn avoid_hotplug(&mut self) {
        self.avoid |= Flags::HOTPLUG;
    }

    /// Adds memory of no node yet (Linux: `memblock_add`). What is memory already keeps its node and flags.
    ///
    /// # Errors
    /// [`Error::Full`]; nothing is added then.
    #[track_caller]
    pub fn add(&mut self, range: PhysRange) -> Result<(), Error> {
        self.trace("memblock_add", range, Location::caller());
        self.add_range(Array::Memory, range, None, Flags::empty())
    }

    /// Adds memory of a node (Linux: `memblock_add_node`). What is memory already keeps its node and flags.
    ///
    /// # Errors
    /// [`Error::Full`]; nothing is added then.
    #[track_caller]
    pub fn add_node(&mut self, range: PhysRange, node: NodeId, flags: Flags) -> Result<(), Error> {
        self.trace_add_node(range, node, flags, Location::caller());
        self.add_range(Array::Memory, range, Some(node), flags)
    }

    /// Keeps what [`add_physmem`](Self::add_physmem) adds from now on, first in these slots (Linux: 4).
    pub fn keep_physmem(&mut self, slots: &'a mut [Region]) {
        self.physmem = Some(Regions::new(slots));
    }

    /// Notes memory that the machine has, whether it will be used or not (Linux: `memblock_physmem_add`). No limit and
    /// no removal changes it. Forgotten unless it is [kept](Self::keep_physmem).
    ///
    /// # Errors
    /// [`Error::Full`]; nothing is added then.
    #[track_caller]
    pub fn add_physmem(&mut self, range: PhysRange) -> Result<(), Error> {
        self.trace("memblock_physmem_add", range, Location::caller());
        self.add_range(Array::Physmem, range, None, Flags::empty())
    }

    /// Adds the usable memory of a sanitised firmware map, reserves what EFI set apart, drops parts of pages (Linux:
    /// `e820__memblock_setup`).
    ///
    /// # Errors
    /// [`Error::Full`]; part of the map may have been added.
    pub fn add_usable(&mut self, map: &e820::Map<'_>) -> Result<(), Error> {
        for entry in map.entries() {
            match entry.kind {
                e820::Kind::SOFT_RESERVED => self.reserve(entry.range)?,
                e820::Kind::RAM => self.add(entry.range)?,
                _ => {}
            }
        }
        self.trim_memory(PAGE_SIZE as u64);
        self.dump_all();
        Ok(())
    }

    /// Takes memory away (Linux: `memblock_remove`). It stays reserved where it is.
    ///
    /// # Errors
    /// [`Error::Full`] when a region would have to be cut in two; nothing is removed then.
    #[track_caller]
    pub fn remove(&mut self, range: PhysRange) -> Result<(), Error> {
        self.trace("memblock_remove", range, Location::caller());
        self.make_room(Array::Memory, Some(range), |regions| regions.nr_cuts(range))?;
        self.memory.remove_range(range);
        Ok(())
    }

    /// Reserves a range, memory or not (Linux: `memblock_reserve`).
    ///
    /// # Errors
    /// [`Error::Full`]; nothing is reserved then.
    #[track_caller]
    pub fn reserve(&mut self, range: PhysRange) -> Result<(), Error> {
        self.trace("memblock_reserve", range, Location::caller());
        self.add_range(Array::Reserved, range, None, Flags::empty())
    }

    /// Makes a range free again, also one that no allocation returned (Linux: `memblock_phys_free`). What the arrays sit
    /// in stays reserved.
    ///
    /// # Errors
    /// [`Error::Full`] when a region would have to be cut in two; nothing is freed then.
    #[track_caller]
    pub fn free(&mut self, range: PhysRange) -> Result<(), Error> {
        self.trace("memblock_phys_free", range, Location::caller());
        self.make_room_to_free(range)?;
        self.free_but_own(range);
        Ok(())
    }

    /// Sets the node of the memory in `range`, or of none for `None` (Linux: `memblock_set_node`).
    ///
    /// # Errors
    /// [`Error::Full`] when a region would have to be cut; nothing changes then.
    pub fn set_node(&mut self, range: PhysRange, node: Option<NodeId>) -> Result<(), Error> {
        self.change(Array::Memory, range, |r| r.node = node)
    }

    /// Sets the node of the reserved regions in `range` (Linux: `memblock_set_node` on `memblock.reserved`).
    ///
    /// # Errors
    /// [`Error::Full`] when a region would have to be cut; nothing changes then.
    pub fn set_reserved_node(&mut self, range: PhysRange, node: Option<NodeId>) -> Result<(), Error> {
        self.change(Array::Reserved, range, |r| r.node = node)
    }

    /// Sets flags on the memory in `range` (Linux: `memblock_mark_hotplug`, `_mirror`, `_nomap`). Once there is mirrored
    /// memory, allocations prefer it: mark it only if that is wanted (Linux: with `kernelcore=mirror`).
    ///
    /// # Errors
    /// [`Error::Full`] when a region would have to be cut; nothing changes then.
    pub fn mark(&mut self, range: PhysRange, flags: Flags) -> Result<(), Error> {
        self.change(Array::Memory, range, |r| r.flags |= flags)?;
        self.has_mirror |= flags.contains(Flags::MIRROR);
        Ok(())
    }

    /// Clears flags on the memory in `range` (Linux: `memblock_clear_hotplug`, `_nomap`).
    ///
    /// # Errors
    /// [`Error::Full`] when a region would have to be cut; nothing changes then.
    pub fn clear(&mut self, range: PhysRange, flags: Flags) -> Result<(), Error> {
        self.change(Array::Memory, range, |r| r.flags -= flags)
    }

    /// Panics when an invariant does not hold.
    pub fn validate(&self) {
        self.memory.validate();
        self.reserved.validate();
        if let Some(physmem) = &self.physmem {
            physmem.validate();
        }
        for own in self.own_arrays() {
            assert!(self.reserved.covers(own), "I3: an array in memory that is free");
        }
    }

    fn array(&mut self, array: Array) -> Option<&mut Regions<'a>> {
        match array {
            Array::Memory => Some(&mut self.memory),
            Array::Reserved => Some(&mut self.reserved),
            Array::Physmem => self.physmem.as_mut(),
        }
    }

    fn add_range(
        &mut self,
        array: Array,
        range: PhysRange,
        node: Option<NodeId>,
        flags: Flags,
    ) -> Result<(), Error> {
        // Memory that is added may be memory already; only what is to be reserved must not become an array.
        let avoid = Some(range).filter(|_| array == Array::Reserved);
        self.make_room(array, avoid, |regions| regions.nr_gaps(range))?;
        if let Some(regions) = self.array(array) {
            regions.add(range, node, flags);
        }
        Ok(())
    }

    fn change(&mut self, array: Array, range: PhysRange, f: impl FnMut(&mut Region)) -> Result<(), Error> {
        self.make_room(array, None, |regions| regions.nr_cuts(range))?;
        if let Some(regions) = self.array(array) {
            regions.change(range, f);
        }
        Ok(())
    }
}
