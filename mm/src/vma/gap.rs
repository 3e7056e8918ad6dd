//! Finding room between areas without looking at each of them.
//!
//! A subtree is passed over when neither its largest hole nor the holes at its two ends are large enough. What is left is
//! one path down to a hole, and the two paths along the ends of the window: logarithmic time.

use super::node::NodeAlloc;
use super::tree::{Link, VmaTree};

/// From which end of the window to look for room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The lowest room (Linux: `arch_get_unmapped_area`).
    BottomUp,
    /// The highest room (Linux: `arch_get_unmapped_area_topdown`).
    TopDown,
}

struct Search {
    len_bytes: u64,
    low: u64,
    high: u64,
    direction: Direction,
}

impl Search {
    /// The place in the hole `start..end`, if it has room inside the window.
    fn place(&self, start: u64, end: u64) -> Option<u64> {
        let (start, end) = (start.max(self.low), end.min(self.high));
        let room = end.checked_sub(start)?;
        (room >= self.len_bytes).then(|| match self.direction {
            Direction::BottomUp => start,
            Direction::TopDown => end - self.len_bytes,
        })
    }

    /// Looks through a subtree and the holes at its ends: it lies between `before`, where the area before it ends, and
    /// `after`, where the one after it starts.
    fn subtree<A>(&self, link: &Link<A>, before: u64, after: u64) -> Option<u64> {
        let Some(node) = link else { return self.place(before, after) };
        let largest = node.hole.max(node.first - before).max(after - node.last);
        if largest < self.len_bytes || after <= self.low || before >= self.high {
            return None;
        }
        let left = || self.subtree(&node.left, before, node.vma.start());
        let right = || self.subtree(&node.right, node.vma.end(), after);
        match self.direction {
            Direction::BottomUp => left().or_else(right),
            Direction::TopDown => right().or_else(left),
        }
    }
}

impl<A: NodeAlloc> VmaTree<A> {
    /// The lowest or highest address in `low..high` from which on `len_bytes` bytes belong to no area, all in the window
    /// (Linux: `vm_unmapped_area`).
    pub fn find_room(&self, len_bytes: u64, low: u64, high: u64, direction: Direction) -> Option<u64> {
        let search = Search { len_bytes, low, high, direction };
        // Beyond all areas there is room up to the end of the number.
        search.subtree(&self.root, 0, u64::MAX)
    }
}
