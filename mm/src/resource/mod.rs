//! Who uses which physical addresses: the tree behind `/proc/iomem`.
//!
//! ```text
//! root ── System RAM ─────────── Reserved ── ...        siblings: ascending, disjoint
//!             └─ Kernel code ── Kernel data             children: inside their parent
//! ```
//!
//! # Invariants
//! - I1: slot 0 is the root; links lead to slots in use. The slots past the first `nr` were never used; those released
//!   are linked from `released`.
//! - I2: the children of a resource are ascending, disjoint, not empty, and inside it. A child may fill its parent.
//! - I3: every slot in use is reached from the root once.
//!
//! # Not here
//! Whose the resources are: [`crate::acpi`] and [`crate::pci`] find devices.

mod change;
mod devices;
mod firmware;
mod name;
mod rom;
mod show;
#[cfg(test)]
mod tests;

pub use devices::{Claim, Claims, Window, Windows};
pub use name::{Name, PciAddress, PciBus};
pub use rom::{ROMS, Rom};
pub use show::{Item, Iter};

use crate::addr::PhysRange;

/// A resource in a tree, good until it is released.
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
    name: Name,
    parent: Option<Id>,
    child: Option<Id>,
    sibling: Option<Id>,
}

impl Slot {
    /// A filler for storage that is handed to [`Tree::new`].
    pub const EMPTY: Self = Self {
        range: crate::memblock::Region::EMPTY.range,
        name: Name::Text(""),
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
    /// Linked by `sibling`.
    released: Option<Id>,
    nr_released: usize,
}

impl<'a> Tree<'a> {
    /// A tree with nothing in it; `all` is what the CPU can address. `None` when there is not even a slot for the root.
    pub fn new(slots: &'a mut [Slot], all: PhysRange) -> Option<Self> {
        *slots.first_mut()? = Slot { range: all, name: Name::Text("PCI mem"), ..Slot::EMPTY };
        Some(Self { slots, nr: 1, released: None, nr_released: 0 })
    }

    /// The range of a resource.
    pub fn range(&self, id: Id) -> PhysRange {
        self.slots[id.index()].range
    }

    /// The name of a resource.
    pub fn name(&self, id: Id) -> Name {
        self.slots[id.index()].name
    }

    /// The resource around it.
    pub fn parent(&self, id: Id) -> Option<Id> {
        self.slots[id.index()].parent
    }

    /// What lies directly inside it, ascending.
    pub fn children(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        core::iter::successors(self.slots[id.index()].child, |c| self.slots[c.index()].sibling)
    }

    /// The smallest resource that holds all of `range` (Linux: a walk like `find_next_iomem_res`). O(children) a level.
    pub fn find(&self, range: PhysRange) -> Id {
        let mut at = Id::ROOT;
        while let Some(inner) = self.children(at).find(|&c| self.holds(c, range)) {
            at = inner;
        }
        at
    }

    /// The first child of `parent` that shares a byte with `range`.
    fn conflict(&self, parent: Id, range: PhysRange) -> Option<Id> {
        self.children(parent).find(|&c| self.range(c).overlaps(range))
    }

    fn holds(&self, id: Id, range: PhysRange) -> bool {
        self.range(id).start() <= range.start() && range.end() <= self.range(id).end()
    }

    /// Panics when an invariant does not hold.
    pub fn validate(&self) {
        let mut reached = 0;
        for id in core::iter::once(Id::ROOT).chain(self.iter().map(|item| item.id)) {
            let slot = &self.slots[id.index()];
            assert!(id.index() < self.nr, "I1: {slot:?}");
            let mut from = slot.range.start();
            for child in self.children(id) {
                let range = self.range(child);
                assert!(!range.is_empty() && range.start() >= from, "I2: {range:?} in {slot:?}");
                assert_eq!(self.parent(child), Some(id), "I1");
                from = range.end();
            }
            assert!(from <= slot.range.end(), "I2: {slot:?}");
            reached += 1;
            assert!(reached <= self.nr, "I3: a circle");
        }
        let released = core::iter::successors(self.released, |id| self.slots[id.index()].sibling);
        assert_eq!(released.count(), self.nr_released, "I1");
        assert_eq!(reached + self.nr_released, self.nr, "I3");
    }
}
