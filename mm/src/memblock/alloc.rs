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
    /// Any (Linux: `NUMA_NO_NODE`).
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
    /// `None`: what the kernel can touch (Linux: `MEMBLOCK_ALLOC_ACCESSIBLE`).
    pub(super) max: Option<u64>,
    pub(super) on: OnNode,
}

impl Request {
    /// Of this size.
    pub const fn new(size_bytes: u64) -> Self {
        Self { size_bytes, align: DEFAULT_ALIGN, min: 0, max: None, on: OnNode::Any }
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

    /// Ending at or below this address; without, and for all but [`Memblock::alloc_in_range`] in any case, below the
    /// current limit.
    pub const fn below(self, max: u64) -> Self {
        Self { max: Some(max), ..self }
    }

    /// On a node.
    pub const fn on(self, on: OnNode) -> Self {
        Self { on, ..self }
    }

    const fn is_valid(&self) -> bool {
        self.size_bytes > 0 && self.align.is_power_of_two()
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

    /// Below the limit, and without the lower bound when it cannot be held (Linux: `memblock_alloc_internal`).
    #[track_caller]
    pub(super) fn alloc_loosely(&mut self, request: Request) -> Result<PhysRange, Error> {
        let request = request.below(request.max.map_or(self.limit, |max| max.min(self.limit)));
        match self.alloc_strict(request) {
            Err(Error::NoMemory) if request.min > 0 => self.alloc_strict(request.from(0)),
            result => result,
        }
    }

    /// The same, but the lower bound holds, and an upper one counts even above the current limit, where the kernel may
    /// be unable to touch memory (Linux: `memblock_phys_alloc_range`, and for a node `memblock_phys_alloc_try_nid`).
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
        if !request.is_valid() {
            return Err(Error::BadRequest);
        }
        let found = self.find(&request).ok_or(Error::NoMemory)?;
        self.trace("memblock_reserve", found, Location::caller());
        self.add_range(Array::Reserved, found, None, Flags::empty())?;
        Ok(found)
    }

    /// Where [`alloc_in_range`](Self::alloc_in_range) would allocate; nothing is reserved (Linux:
    /// `memblock_find_in_range`). `None` when nothing fits or the request makes no sense.
    pub fn find_in_range(&self, request: Request) -> Option<PhysRange> {
        if request.is_valid() { self.find(&request) } else { None }
    }

    /// Mirrored memory is tried first if the machine has some, then the rest; each first on the node.
    pub(super) fn find(&self, request: &Request) -> Option<PhysRange> {
        let wanted = if self.has_mirror { Flags::MIRROR } else { Flags::empty() };
        let found = self.find_with(request, wanted);
        if found.is_some() || wanted.is_empty() {
            return found;
        }
        log::warn!("Could not allocate {:#018x} bytes of mirrored memory", request.size_bytes);
        self.find_with(request, Flags::empty())
    }

    fn find_with(&self, request: &Request, flags: Flags) -> Option<PhysRange> {
        let found = self.find_on(request, self.filter(request.on.node(), flags));
        match request.on {
            OnNode::Prefer(_) => found.or_else(|| self.find_on(request, self.filter(None, flags))),
            OnNode::Any | OnNode::Exact(_) => found,
        }
    }

    /// (Linux: `memblock_find_in_range_node`.)
    fn find_on(&self, request: &Request, filter: Filter) -> Option<PhysRange> {
        let low = request.min.max(PAGE_SIZE as u64);
        let high = request.max.unwrap_or(self.limit).min(PHYS_LIMIT);
        let window = PhysRange::new(low, high)?;
        match self.direction {
            Direction::TopDown => {
                self.free_down(filter, window).find_map(|f| place(f.range, request, self.direction))
            }
            Direction::BottomUp => {
                self.free_up(filter, window).find_map(|f| place(f.range, request, self.direction))
            }
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
