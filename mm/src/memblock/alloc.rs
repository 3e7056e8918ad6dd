//! Allocation: finds a free range of the right size, place and node, and reserves it.

use core::panic::Location;

use super::iter::Filter;
use super::{Array, Error, Flags, Memblock};
use crate::addr::{PAGE_SIZE, PHYS_LIMIT, PhysRange, align_down, align_up};
use crate::id::NodeId;

/// Alignment when none is asked for: a cache line (Linux: `SMP_CACHE_BYTES`).
const DEFAULT_ALIGN: u64 = 64;

/// From which end memory is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Highest first.
    TopDown,
    /// Lowest first.
    BottomUp,
}

/// Which node an allocation is to come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnNode {
    /// Any.
    Any,
    /// This one, else any (Linux: `memblock_alloc_try_nid`).
    Prefer(NodeId),
    /// This one only (Linux: `memblock_alloc_exact_nid_raw`).
    Exact(NodeId),
}

impl OnNode {
    pub(super) fn node(self) -> Option<NodeId> {
        match self {
            Self::Any => None,
            Self::Prefer(n) | Self::Exact(n) => Some(n),
        }
    }
}

/// What to allocate. Starts as any place on any node, aligned to a cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    pub(super) size_bytes: u64,
    pub(super) align: u64,
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) on: OnNode,
}

impl Request {
    /// Of this size.
    pub const fn new(size_bytes: u64) -> Self {
        Self { size_bytes, align: DEFAULT_ALIGN, min: 0, max: PHYS_LIMIT, on: OnNode::Any }
    }

    /// Whole pages, aligned to a page.
    pub const fn pages(nr_pages: u64) -> Self {
        Self::new(nr_pages.saturating_mul(PAGE_SIZE as u64)).align(PAGE_SIZE as u64)
    }

    /// Aligned to a power of two.
    pub const fn align(self, align: u64) -> Self {
        Self { align, ..self }
    }

    /// At or above this address; if that cannot be, anywhere below it too.
    pub const fn from(self, min: u64) -> Self {
        Self { min, ..self }
    }

    /// Ending at or below this address.
    pub const fn below(self, max: u64) -> Self {
        Self { max, ..self }
    }

    /// On a node.
    pub const fn on(self, on: OnNode) -> Self {
        Self { on, ..self }
    }
}

impl Memblock<'_> {
    /// Allocates a range; its content is whatever was there (Linux: `memblock_alloc_try_nid_raw`, and the exact variant
    /// by the request). The first page is never returned. When nothing is left at or above the lower bound, the bound
    /// is dropped.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::BadRequest`], [`Error::Full`].
    #[track_caller]
    pub fn alloc(&mut self, request: Request) -> Result<PhysRange, Error> {
        let exact = matches!(request.on, OnNode::Exact(_));
        let name = if exact { "memblock_alloc_exact_nid_raw" } else { "memblock_alloc_try_nid_raw" };
        self.trace_alloc(name, &request, Location::caller());
        self.alloc_loosely(request)
    }

    /// Drops the lower bound when it cannot be held.
    #[track_caller]
    pub(super) fn alloc_loosely(&mut self, request: Request) -> Result<PhysRange, Error> {
        match self.alloc_strict(request) {
            Err(Error::NoMemory) if request.min > 0 => self.alloc_strict(request.from(0)),
            result => result,
        }
    }

    /// The same, but the lower bound holds (Linux: `memblock_phys_alloc_range`).
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    #[track_caller]
    pub fn alloc_in_range(&mut self, request: Request) -> Result<PhysRange, Error> {
        self.trace_phys_alloc(&request, Location::caller());
        self.alloc_strict(request)
    }

    #[track_caller]
    fn alloc_strict(&mut self, request: Request) -> Result<PhysRange, Error> {
        if request.size_bytes == 0 || !request.align.is_power_of_two() {
            return Err(Error::BadRequest);
        }
        let found = self.find(&request).ok_or(Error::NoMemory)?;
        self.trace("memblock_reserve", found, Location::caller());
        self.add_range(Array::Reserved, found, None, Flags::empty())?;
        Ok(found)
    }

    /// Where the request would be served. Mirrored memory is tried first if the machine has some, then the rest; each
    /// first on the node.
    fn find(&self, request: &Request) -> Option<PhysRange> {
        let on_node = self.filter_for(request.on.node());
        let anywhere = Filter { node: None, ..on_node };
        let fallback = matches!(request.on, OnNode::Prefer(_));
        let mut found = self.find_with(request, on_node);
        if found.is_none() && fallback {
            found = self.find_with(request, anywhere);
        }
        if found.is_none() && self.has_mirror {
            log::warn!("Could not allocate {:#018x} bytes of mirrored memory", request.size_bytes);
            found = self.find_with(request, Filter { needs: Flags::empty(), ..on_node });
            if found.is_none() && fallback {
                found = self.find_with(request, Filter { needs: Flags::empty(), ..anywhere });
            }
        }
        found
    }

    /// (Linux: `memblock_find_in_range_node`.)
    pub(super) fn find_with(&self, request: &Request, filter: Filter) -> Option<PhysRange> {
        let low = request.min.max(PAGE_SIZE as u64);
        let window = PhysRange::new(low, request.max.min(self.limit))?;
        let fits = |range: PhysRange| place(range.intersect(window)?, request, self.direction);
        match self.direction {
            Direction::TopDown => self.free_down(filter).find_map(|f| fits(f.range)),
            Direction::BottomUp => self.free_up(filter).find_map(|f| fits(f.range)),
        }
    }
}

/// The place in `free` for the request, at its upper or lower end.
fn place(free: PhysRange, request: &Request, direction: Direction) -> Option<PhysRange> {
    let start = match direction {
        Direction::TopDown => align_down(free.end().checked_sub(request.size_bytes)?, request.align),
        Direction::BottomUp => align_up(free.start(), request.align)?,
    };
    let range = PhysRange::from_size(start, request.size_bytes)?;
    (start >= free.start() && range.end() <= free.end()).then_some(range)
}
