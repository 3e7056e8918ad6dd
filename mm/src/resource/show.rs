//! The text of `/proc/iomem`.

use core::fmt;

use super::{Id, Name, Tree};
use crate::addr::PhysRange;

/// Deeper levels are shown as deep as this (Linux: `MAX_IORES_LEVEL`).
const MAX_LEVEL: usize = 5;

/// A resource on the way through a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// The resource.
    pub id: Id,
    /// Its range.
    pub range: PhysRange,
    /// Its name.
    pub name: Name,
    /// How many resources are around it, but for the root.
    pub level: usize,
}

/// All resources but the root, each before its children.
#[derive(Clone, Debug)]
pub struct Iter<'t> {
    tree: &'t Tree<'t>,
    next: Option<(Id, usize)>,
}

impl Iterator for Iter<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let (id, level) = self.next?;
        let slot = self.tree.slots[id.index()];
        self.next = slot.child.map(|c| (c, level + 1)).or_else(|| {
            let (mut at, mut level) = (id, level);
            loop {
                let slot = self.tree.slots[at.index()];
                if let Some(sibling) = slot.sibling {
                    return Some((sibling, level));
                }
                at = slot.parent?;
                level = level.checked_sub(1)?;
            }
        });
        Some(Item { id, range: slot.range, name: slot.name, level })
    }
}

impl<'a> Tree<'a> {
    /// All resources but the root, each before its children.
    pub fn iter(&self) -> Iter<'_> {
        Iter { tree: self, next: self.slots[0].child.map(|c| (c, 0)) }
    }
}

impl fmt::Display for Tree<'_> {
    /// `/proc/iomem`, as root reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in self.iter() {
            let indent = 2 * item.level.min(MAX_LEVEL);
            let (start, last) = (item.range.start(), item.range.end() - 1);
            writeln!(f, "{:indent$}{start:08x}-{last:08x} : {}", "", item.name)?;
        }
        Ok(())
    }
}
