//! Who uses which physical addresses: the tree behind `/proc/iomem`.
//!
//! ```text
//! root ── System RAM ─────────── Reserved ── ...        siblings: ascending, disjoint
//!             └─ Kernel code ── Kernel data             children: inside their parent
//! ```
//!
//! # Invariants
//! - I1: the first `nr` slots are in use, slot 0 is the root; links lead to slots in use.
//! - I2: the children of a resource are ascending, disjoint, not empty, and inside it. A child may fill its parent.
//! - I3: every slot in use is reached from the root once.
//!
//! # Not here
//! What the resources are of: devices' windows come from ACPI and PCI.

mod firmware;
mod show;
#[cfg(test)]
mod tests;

pub use show::{Item, Iter};

use crate::addr::PhysRange;

/// A resource in a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Id(u32);

impl Id {
    /// All that can be addressed; not shown.
    pub const ROOT: Self = Self(0);

    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A slot of a tree's storage.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    range: PhysRange,
    /// Resources are never removed, so a name that is made at run time can be leaked.
    name: &'static str,
    parent: Option<Id>,
    child: Option<Id>,
    sibling: Option<Id>,
}

impl Slot {
    /// A filler for storage that is handed to [`Tree::new`].
    pub const EMPTY: Self = Self {
        range: crate::memblock::Region::EMPTY.range,
        name: "",
        parent: None,
        child: None,
        sibling: None,
    };
}

/// Why a resource was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// All slots are in use.
    Full,
    /// The range is empty, or reaches out of the one that is to hold it.
    Outside,
    /// This one is in the way.
    Conflict(Id),
}

/// The tree, in storage of the caller (Linux: `iomem_resource`).
#[derive(Debug)]
pub struct Tree<'a> {
    slots: &'a mut [Slot],
    nr: usize,
}

impl<'a> Tree<'a> {
    /// A tree with nothing in it; `all` is what the CPU can address. `None` when there is not even a slot for the root.
    pub fn new(slots: &'a mut [Slot], all: PhysRange) -> Option<Self> {
        *slots.first_mut()? = Slot { range: all, name: "PCI mem", ..Slot::EMPTY };
        Some(Self { slots, nr: 1 })
    }

    /// The range of a resource.
    pub fn range(&self, id: Id) -> PhysRange {
        self.slots[id.index()].range
    }

    /// The name of a resource.
    pub fn name(&self, id: Id) -> &'static str {
        self.slots[id.index()].name
    }

    /// The resource around it.
    pub fn parent(&self, id: Id) -> Option<Id> {
        self.slots[id.index()].parent
    }

    fn children(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        core::iter::successors(self.slots[id.index()].child, |c| self.slots[c.index()].sibling)
    }

    /// The first child of `parent` that shares a byte with `range`.
    fn conflict(&self, parent: Id, range: PhysRange) -> Option<Id> {
        self.children(parent).find(|&c| self.range(c).overlaps(range))
    }

    /// Adds a child to `parent` (Linux: `request_resource`). O(children).
    ///
    /// # Errors
    /// [`Error::Outside`] of the parent, [`Error::Conflict`] with another child, [`Error::Full`].
    pub fn request(&mut self, parent: Id, range: PhysRange, name: &'static str) -> Result<Id, Error> {
        self.check_inside(parent, range)?;
        if let Some(other) = self.conflict(parent, range) {
            return Err(Error::Conflict(other));
        }
        let before = self.children(parent).take_while(|&c| self.range(c).end() <= range.start()).last();
        let id = self.make(range, name, parent)?;
        self.slots[id.index()].sibling = match before {
            Some(b) => self.slots[b.index()].sibling.replace(id),
            None => self.slots[parent.index()].child.replace(id),
        };
        Ok(id)
    }

    /// Adds a resource where it belongs: inside the smallest that holds it, around those that it holds (Linux:
    /// `insert_resource`). One of the same range as another goes around it.
    ///
    /// # Errors
    /// [`Error::Conflict`] with one that it would cut, [`Error::Outside`], [`Error::Full`].
    pub fn insert(&mut self, range: PhysRange, name: &'static str) -> Result<Id, Error> {
        let mut parent = Id::ROOT;
        loop {
            match self.request(parent, range, name) {
                Err(Error::Conflict(first)) if self.holds(first, range) && self.range(first) != range => {
                    parent = first;
                }
                Err(Error::Conflict(first)) => return self.insert_around(parent, first, range, name),
                done => return done,
            }
        }
    }

    fn holds(&self, id: Id, range: PhysRange) -> bool {
        self.range(id).start() <= range.start() && range.end() <= self.range(id).end()
    }

    /// Adds a resource as the parent of those children of `parent`, from `first` on, that it overlaps.
    fn insert_around(
        &mut self,
        parent: Id,
        first: Id,
        range: PhysRange,
        name: &'static str,
    ) -> Result<Id, Error> {
        let inside = |tree: &Self, c: Id| {
            let r = tree.range(c);
            range.start() <= r.start() && r.end() <= range.end()
        };
        let overlapping = || {
            core::iter::successors(Some(first), |c| self.slots[c.index()].sibling)
                .take_while(|&c| self.range(c).overlaps(range))
        };
        if let Some(cut) = overlapping().find(|&c| !inside(self, c)) {
            return Err(Error::Conflict(cut));
        }
        let last = overlapping().last().unwrap_or(first);
        let before = self.children(parent).take_while(|&c| c != first).last();
        let id = self.make(range, name, parent)?;
        self.slots[id.index()].child = Some(first);
        self.slots[id.index()].sibling = self.slots[last.index()].sibling.take();
        match before {
            Some(b) => self.slots[b.index()].sibling = Some(id),
            None => self.slots[parent.index()].child = Some(id),
        }
        let mut next = Some(first);
        while let Some(child) = next {
            self.slots[child.index()].parent = Some(id);
            next = self.slots[child.index()].sibling;
        }
        Ok(id)
    }

    /// Takes what nobody has of a range, in as many pieces as that needs (Linux: `reserve_region_with_split` on the
    /// root).
    ///
    /// # Errors
    /// [`Error::Outside`], [`Error::Full`]; pieces that were taken stay.
    pub fn reserve_with_split(&mut self, range: PhysRange, name: &'static str) -> Result<(), Error> {
        let mut left = range;
        loop {
            let (piece, rest) = match self.conflict(Id::ROOT, left) {
                None => (Some(left), None),
                Some(other) => {
                    let other = self.range(other);
                    (
                        PhysRange::new(left.start(), other.start()),
                        PhysRange::new(other.end().min(left.end()), left.end()),
                    )
                }
            };
            if let Some(piece) = piece.filter(|p| !p.is_empty()) {
                self.request(Id::ROOT, piece, name)?;
            }
            match rest.filter(|r| !r.is_empty()) {
                Some(rest) => left = rest,
                None => return Ok(()),
            }
        }
    }

    fn check_inside(&self, parent: Id, range: PhysRange) -> Result<(), Error> {
        if range.is_empty() || !self.holds(parent, range) { Err(Error::Outside) } else { Ok(()) }
    }

    fn make(&mut self, range: PhysRange, name: &'static str, parent: Id) -> Result<Id, Error> {
        let id = Id(self.nr as u32);
        *self.slots.get_mut(self.nr).ok_or(Error::Full)? =
            Slot { range, name, parent: Some(parent), ..Slot::EMPTY };
        self.nr += 1;
        Ok(id)
    }

    /// Panics when an invariant does not hold.
    pub fn validate(&self) {
        let mut reached = 1;
        for (i, slot) in self.slots[..self.nr].iter().enumerate() {
            let mut from = slot.range.start();
            for child in self.children(Id(i as u32)) {
                let range = self.range(child);
                assert!(!range.is_empty() && range.start() >= from, "I2: {range:?} in {slot:?}");
                assert_eq!(self.parent(child), Some(Id(i as u32)), "I1");
                from = range.end();
                reached += 1;
            }
            assert!(from <= slot.range.end(), "I2: {slot:?}");
        }
        assert_eq!(reached, self.nr, "I3");
    }
}
