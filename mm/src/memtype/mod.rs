//! Which physical ranges outside of RAM are mapped with which cache mode: one mode for each byte, however often it is
//! mapped, because the processor's behaviour is undefined otherwise.
//!
//! ```text
//! entries       [---- A: UC- ----)
//!                        [---- B: UC- ----)            ranges that are mapped may overlap
//! segments      [UC- x 1)[UC- x 2)[UC- x 1)            what is kept: disjoint, with the number of entries
//! ```
//!
//! A range that touches what is mapped already gets that mode, if it is one, and the caller decides whether it can do with
//! it ([`is_allowed`]).
//!
//! # Invariants
//! - I1: segments are disjoint, each has at least one entry over it, and all entries over it have its mode.
//! - I2: where an entry starts or ends, no segment reaches across: taking entries away cuts nothing, so it cannot fail.
//!
//! # Locking
//! None of its own: changing takes `&mut`.

#[cfg(test)]
mod tests;

use crate::addr::PhysRange;
use crate::areas::{Area, AreaTree, NodeAlloc, SpareNode};
use crate::pgtable::{CacheMode, OutOfMemory};

/// A range with one mode and one set of entries over it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    range: PhysRange,
    mode: CacheMode,
    nr_entries: u32,
}

impl Area for Segment {
    fn start(&self) -> u64 {
        self.range.start()
    }

    fn end(&self) -> u64 {
        self.range.end()
    }
}

/// Why a range was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No memory for a node.
    OutOfMemory,
    /// The range is empty.
    Empty,
    /// Parts of the range are mapped with different modes.
    Conflict {
        /// The mode of the first part.
        first: CacheMode,
        /// Another one.
        other: CacheMode,
    },
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// Whether a mapping that was asked for as `wanted` may be `given` instead (Linux: `is_new_memtype_allowed`): accesses must
/// not be cached where they were not to be.
pub const fn is_allowed(wanted: CacheMode, given: CacheMode) -> bool {
    use CacheMode::{UncachedMinus, WriteBack, WriteCombining, WriteThrough};
    !matches!(
        (wanted, given),
        (UncachedMinus | WriteCombining | WriteThrough, WriteBack) | (WriteThrough, WriteCombining)
    )
}

/// The entries (Linux: `memtype_rbroot`). `A` is the type of the allocator of the nodes.
#[derive(Debug)]
pub struct MemTypes<A> {
    segments: AreaTree<Segment, A>,
}

impl<A: NodeAlloc> Default for MemTypes<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: NodeAlloc> MemTypes<A> {
    /// Nothing is mapped.
    pub fn new() -> Self {
        Self { segments: AreaTree::new() }
    }

    /// The mode of the entries over `addr`.
    pub fn mode_at(&self, addr: u64) -> Option<CacheMode> {
        self.segments.lookup(addr).map(|segment| segment.mode)
    }

    /// Enters a range with the mode that it must have: that of what it overlaps, else `wanted` (Linux: `memtype_reserve`).
    /// Logarithmic time, and constant time for each segment in the range.
    ///
    /// # Errors
    /// See [`Error`]; nothing is entered then.
    pub fn reserve(
        &mut self,
        range: PhysRange,
        wanted: CacheMode,
        nodes: &mut A,
    ) -> Result<CacheMode, Error> {
        if range.is_empty() {
            return Err(Error::Empty);
        }
        let mode = self.segments_in(range).next().map_or(wanted, |segment| segment.mode);
        if let Some(other) = self.segments_in(range).find(|segment| segment.mode != mode) {
            return Err(Error::Conflict { first: mode, other: other.mode });
        }
        self.cut(range.start(), nodes)?;
        self.cut(range.end(), nodes)?;
        if let Err(OutOfMemory) = self.fill(range, mode, nodes) {
            self.drop_unused(range, nodes);
            return Err(Error::OutOfMemory);
        }
        self.count(range, |nr_entries| nr_entries + 1);
        Ok(mode)
    }

    /// Takes out an entry that [`reserve`](Self::reserve) made for `range` (Linux: `memtype_free`).
    pub fn free(&mut self, range: PhysRange, nodes: &mut A) {
        self.count(range, |nr_entries| nr_entries.saturating_sub(1));
        self.drop_unused(range, nodes);
    }

    fn segments_in(&self, range: PhysRange) -> impl Iterator<Item = Segment> + '_ {
        let next = move |from: u64| self.segments.find(from).filter(|next| next.start() < range.end());
        core::iter::successors(next(range.start()), move |segment| next(segment.end()))
    }

    /// Cuts the segment that reaches across `at` in two.
    fn cut(&mut self, at: u64, nodes: &mut A) -> Result<(), OutOfMemory> {
        let Some(whole) = self.segments.lookup(at).filter(|segment| segment.start() < at) else {
            return Ok(());
        };
        let part = |start, end| PhysRange::new(start, end).map(|range| Segment { range, ..whole });
        if let (Some(below), Some(above)) = (part(whole.start(), at), part(at, whole.end())) {
            let spare = SpareNode::new(above, nodes)?;
            self.segments.change(whole, below);
            self.segments.insert(spare);
        }
        Ok(())
    }

    /// Puts segments without entries where the range has none.
    fn fill(&mut self, range: PhysRange, mode: CacheMode, nodes: &mut A) -> Result<(), OutOfMemory> {
        let mut from = range.start();
        while from < range.end() {
            let next = self.segments.find(from).filter(|next| next.start() < range.end());
            let hole = PhysRange::new(from, next.map_or(range.end(), |next| next.start()));
            if let Some(hole) = hole.filter(|hole| !hole.is_empty()) {
                let segment = Segment { range: hole, mode, nr_entries: 0 };
                self.segments.insert(SpareNode::new(segment, nodes)?);
            }
            from = next.map_or(range.end(), |next| next.end());
        }
        Ok(())
    }

    fn count(&mut self, range: PhysRange, change: impl Fn(u32) -> u32) {
        let mut from = range.start();
        while let Some(segment) = self.segments.find(from).filter(|segment| segment.start() < range.end()) {
            let counted = Segment { nr_entries: change(segment.nr_entries), ..segment };
            self.segments.change(segment, counted);
            from = segment.end();
        }
    }

    fn drop_unused(&mut self, range: PhysRange, nodes: &mut A) {
        let mut from = range.start();
        while let Some(segment) = self.segments.find(from).filter(|segment| segment.start() < range.end()) {
            if segment.nr_entries == 0 {
                self.segments.remove(segment.start(), nodes);
            }
            from = segment.end();
        }
    }

    /// Recounts what can be recounted: I1, and the tree's invariants.
    ///
    /// # Panics
    /// When something does not add up.
    pub fn validate(&self) {
        self.segments.validate();
        assert!(self.segments.iter().all(|segment| segment.nr_entries > 0), "I1");
    }
}
