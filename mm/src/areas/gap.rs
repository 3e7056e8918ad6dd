//! Finding room between areas without looking at each of them.
//!
//! A subtree is passed over when neither its largest hole nor the holes at its two ends are large enough. What is left is
//! one path down to a hole, and the two paths along the ends of the window: logarithmic time. Only with an alignment above
//! a page may a hole be long enough and lie badly, and then the next one is looked at.

use super::Area;
use super::node::NodeAlloc;
use super::tree::{AreaTree, Link};
use crate::addr::{align_down, align_up};

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
    align: u64,
    low: u64,
    high: u64,
    direction: Direction,
}

impl Search {
    /// The place in the hole `start..end`, if it has room inside the window.
    fn place(&self, start: u64, end: u64) -> Option<u64> {
        let (start, end) = (start.max(self.low), end.min(self.high));
        let at = match self.direction {
            Direction::BottomUp => align_up(start, self.align)?,
            Direction::TopDown => align_down(end.checked_sub(self.len_bytes)?, self.align),
        };
        (at >= start && at.checked_add(self.len_bytes)? <= end).then_some(at)
    }

    /// Looks through a subtree and the holes at its ends: it lies between `before`, where the area before it ends, and
    /// `after`, where the one after it starts.
    fn subtree<T: Area, A>(&self, link: &Link<T, A>, before: u64, after: u64) -> Option<u64> {
        let Some(node) = link else { return self.place(before, after) };
        let largest = node.hole.max(node.first - before).max(after - node.last);
        if largest < self.len_bytes || after <= self.low || before >= self.high {
            return None;
        }
        let left = || self.subtree(&node.left, before, node.area.start());
        let right = || self.subtree(&node.right, node.area.end(), after);
        match self.direction {
            Direction::BottomUp => left().or_else(right),
            Direction::TopDown => right().or_else(left),
        }
    }
}

impl<T: Area, A: NodeAlloc> AreaTree<T, A> {
    /// The lowest or highest address in `low..high` from which on `len_bytes` bytes belong to no area, all in the window
    /// (Linux: `vm_unmapped_area`).
    pub fn find_room(&self, len_bytes: u64, low: u64, high: u64, direction: Direction) -> Option<u64> {
        self.find_aligned_room(len_bytes, 1, low, high, direction)
    }

    /// The same among multiples of `align`, a power of two.
    pub fn find_aligned_room(
        &self,
        len_bytes: u64,
        align: u64,
        low: u64,
        high: u64,
        direction: Direction,
    ) -> Option<u64> {
        let search = Search { len_bytes, align, low, high, direction };
        // Beyond all areas there is room up to the end of the number.
        search.subtree(&self.root, 0, u64::MAX)
    }
}
