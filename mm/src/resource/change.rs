//! Adding resources to the tree, taking them out, and giving the tree more room.
//!
//! ```text
//! request   inside a parent that is known; whatever is in the way is an error
//! insert    where it belongs: deeper into what holds it, around what it holds
//! release   it goes, and what is inside it         remove   it goes, what is inside it moves up
//! ```

use super::{Error, Id, Name, Slot, Tree};
use crate::addr::PhysRange;

impl<'a> Tree<'a> {
    /// Adds a child to `parent` (Linux: `request_resource`). O(children).
    ///
    /// # Errors
    /// [`Error::Outside`] of the parent, [`Error::Conflict`] with another child, [`Error::Full`].
    pub fn request(&mut self, parent: Id, range: PhysRange, name: impl Into<Name>) -> Result<Id, Error> {
        self.request_named(parent, range, name.into())
    }

    fn request_named(&mut self, parent: Id, range: PhysRange, name: Name) -> Result<Id, Error> {
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
    pub fn insert(&mut self, range: PhysRange, name: impl Into<Name>) -> Result<Id, Error> {
        self.insert_named(range, name.into())
    }

    fn insert_named(&mut self, range: PhysRange, name: Name) -> Result<Id, Error> {
        let mut parent = Id::ROOT;
        loop {
            match self.request_named(parent, range, name) {
                Err(Error::Conflict(first)) if self.holds(first, range) && self.range(first) != range => {
                    parent = first;
                }
                Err(Error::Conflict(first)) => return self.insert_around(parent, first, range, name),
                done => return done,
            }
        }
    }

    /// Adds a resource that grows over each one that it would cut, until it fits (Linux:
    /// `insert_resource_expand_to_fit`). Each growth is logged.
    ///
    /// # Errors
    /// [`Error::Outside`], [`Error::Full`].
    pub fn insert_expanded(&mut self, range: PhysRange, name: impl Into<Name>) -> Result<Id, Error> {
        let (name, mut range) = (name.into(), range);
        loop {
            match self.insert_named(range, name) {
                Err(Error::Conflict(cut)) => {
                    let cut_range = self.range(cut);
                    let (start, end) =
                        (range.start().min(cut_range.start()), range.end().max(cut_range.end()));
                    range = PhysRange::new(start, end).ok_or(Error::Outside)?;
                    log::info!("Expanded resource {name} due to conflict with {}", self.name(cut));
                }
                done => return done,
            }
        }
    }

    /// Adds a resource as the parent of those children of `parent`, from `first` on, that it overlaps.
    fn insert_around(&mut self, parent: Id, first: Id, range: PhysRange, name: Name) -> Result<Id, Error> {
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
    pub fn reserve_with_split(&mut self, range: PhysRange, name: impl Into<Name>) -> Result<(), Error> {
        let name = name.into();
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
                self.request_named(Id::ROOT, piece, name)?;
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

    fn make(&mut self, range: PhysRange, name: Name, parent: Id) -> Result<Id, Error> {
        let slot = Slot { range, name, parent: Some(parent), ..Slot::EMPTY };
        let id = match self.released {
            Some(id) => {
                self.released = self.slots[id.index()].sibling;
                self.nr_released -= 1;
                id
            }
            None if self.nr < self.slots.len() => {
                self.nr += 1;
                Id(self.nr as u32 - 1)
            }
            None => return Err(Error::Full),
        };
        self.slots[id.index()] = slot;
        Ok(id)
    }

    /// Takes a resource out with all that is inside it (Linux: `release_resource`). The root stays.
    pub fn release(&mut self, id: Id) {
        if self.parent(id).is_none() {
            return;
        }
        self.unlink(id, None);
        // Children first: a leaf at a time, so that no stack is needed.
        let mut at = id;
        loop {
            match self.slots[at.index()].child {
                Some(child) => {
                    self.slots[at.index()].child = self.slots[child.index()].sibling;
                    at = child;
                }
                None => {
                    let parent = self.slots[at.index()].parent;
                    self.give_back(at);
                    match parent {
                        Some(parent) if at != id => at = parent,
                        _ => return,
                    }
                }
            }
        }
    }

    /// Takes a resource out; what is inside it moves up (Linux: `remove_resource`). The root stays.
    pub fn remove(&mut self, id: Id) {
        let Some(parent) = self.parent(id) else { return };
        let first = self.slots[id.index()].child;
        let mut next = first;
        while let Some(child) = next {
            self.slots[child.index()].parent = Some(parent);
            next = self.slots[child.index()].sibling;
        }
        self.unlink(id, first);
        self.give_back(id);
    }

    /// Puts `instead` and its siblings, which may be none, to the place of `id` among its siblings.
    fn unlink(&mut self, id: Id, instead: Option<Id>) {
        let Some(parent) = self.parent(id) else { return };
        let before = self.children(parent).take_while(|&c| c != id).last();
        let last = core::iter::successors(instead, |c| self.slots[c.index()].sibling).last();
        let mut after = self.slots[id.index()].sibling.take();
        if let Some(last) = last {
            self.slots[last.index()].sibling = after;
            after = instead;
        }
        match before {
            Some(before) => self.slots[before.index()].sibling = after,
            None => self.slots[parent.index()].child = after,
        }
    }

    fn give_back(&mut self, id: Id) {
        self.slots[id.index()] = Slot { sibling: self.released, ..Slot::EMPTY };
        self.released = Some(id);
        self.nr_released += 1;
    }

    /// How many resources can still be added.
    pub fn room(&self) -> usize {
        self.slots.len() - self.nr + self.nr_released
    }

    /// Moves the tree to larger storage; returns the old one. Ids stay good.
    ///
    /// # Errors
    /// The storage given, when it is not larger; nothing changes then.
    pub fn grow(&mut self, larger: &'a mut [Slot]) -> Result<&'a mut [Slot], &'a mut [Slot]> {
        if larger.len() <= self.slots.len() {
            return Err(larger);
        }
        larger[..self.nr].copy_from_slice(&self.slots[..self.nr]);
        Ok(core::mem::replace(&mut self.slots, larger))
    }
}
