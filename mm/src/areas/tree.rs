//! The tree: an AVL tree ordered by address, in which each node knows the bounds and the largest hole of its subtree.
//!
//! ```text
//!            [ 40..50 | first 10, last 90, hole 20 ]
//!             /                                   \
//! [ 10..20 | 10, 20, 0 ]                 [ 60..70 | 60, 90, 10 ]      holes 20..40, 50..60, 70..80:
//!                                                    \                the largest between areas of a subtree,
//!                                             [ 80..90 | 80, 90, 0 ]  what lies outside of it not counted
//! ```
//!
//! # Invariants
//! - I1: areas do not overlap, and come in order of their addresses.
//! - I2: the heights of a node's subtrees differ by at most one.
//! - I3: `height`, `first`, `last` and `hole` of each node follow from its children's: see [`Node::update`].
//!
//! All operations take time logarithmic in the number of areas. Only [`SpareNode::new`] allocates, so what has its spare
//! nodes cannot fail half-way.

use core::alloc::Layout;
use core::mem;

use super::Area;
use super::node::{NodeAlloc, Own};
use crate::pgtable::OutOfMemory;

pub(super) type Link<T, A> = Option<Own<Node<T, A>, A>>;

/// An area in the tree.
#[derive(Debug)]
pub(super) struct Node<T, A> {
    pub(super) area: T,
    pub(super) left: Link<T, A>,
    pub(super) right: Link<T, A>,
    height: u32,
    /// Start of the subtree's first area.
    pub(super) first: u64,
    /// End of the subtree's last area.
    pub(super) last: u64,
    /// Bytes of the largest hole between two areas of the subtree.
    pub(super) hole: u64,
}

fn height<T, A>(link: &Link<T, A>) -> u32 {
    link.as_ref().map_or(0, |node| node.height)
}

impl<T: Area, A> Node<T, A> {
    fn new(area: T) -> Self {
        Self { area, left: None, right: None, height: 1, first: area.start(), last: area.end(), hole: 0 }
    }

    /// Restores I3 after a change of the area or of a child.
    fn update(&mut self) {
        let (mut first, mut last, mut hole) = (self.area.start(), self.area.end(), 0);
        if let Some(left) = &self.left {
            hole = left.hole.max(first - left.last);
            first = left.first;
        }
        if let Some(right) = &self.right {
            hole = hole.max(right.hole).max(right.first - last);
            last = right.last;
        }
        (self.first, self.last, self.hole) = (first, last, hole);
        self.height = 1 + height(&self.left).max(height(&self.right));
    }
}

/// Makes the left child the subtree's root.
fn rotate_right<T: Area, A>(link: &mut Link<T, A>) {
    let Some(mut top) = link.take() else { return };
    let Some(mut left) = top.left.take() else {
        *link = Some(top);
        return;
    };
    top.left = left.right.take();
    top.update();
    left.right = Some(top);
    left.update();
    *link = Some(left);
}

/// Makes the right child the subtree's root.
fn rotate_left<T: Area, A>(link: &mut Link<T, A>) {
    let Some(mut top) = link.take() else { return };
    let Some(mut right) = top.right.take() else {
        *link = Some(top);
        return;
    };
    top.right = right.left.take();
    top.update();
    right.left = Some(top);
    right.update();
    *link = Some(right);
}

/// Restores I2 and I3 at the subtree's root, the children being right and at most one level out of balance.
fn rebalance<T: Area, A>(link: &mut Link<T, A>) {
    let Some(node) = link else { return };
    node.update();
    let (left, right) = (height(&node.left), height(&node.right));
    if left > right + 1 {
        if node.left.as_ref().is_some_and(|l| height(&l.left) < height(&l.right)) {
            rotate_left(&mut node.left);
        }
        rotate_right(link);
    } else if right > left + 1 {
        if node.right.as_ref().is_some_and(|r| height(&r.right) < height(&r.left)) {
            rotate_right(&mut node.right);
        }
        rotate_left(link);
    }
}

fn insert<T: Area, A>(link: &mut Link<T, A>, new: Own<Node<T, A>, A>) {
    match link {
        None => *link = Some(new),
        Some(node) => {
            insert(if new.area.start() < node.area.start() { &mut node.left } else { &mut node.right }, new);
            rebalance(link);
        }
    }
}

fn remove_first<T: Area, A>(link: &mut Link<T, A>) -> Link<T, A> {
    let node = link.as_mut()?;
    let first = if node.left.is_some() {
        remove_first(&mut node.left)
    } else {
        let right = node.right.take();
        mem::replace(link, right)
    };
    rebalance(link);
    first
}

fn remove<T: Area, A>(link: &mut Link<T, A>, start: u64) -> Link<T, A> {
    let node = link.as_mut()?;
    let removed = if start < node.area.start() {
        remove(&mut node.left, start)
    } else if start > node.area.start() {
        remove(&mut node.right, start)
    } else {
        let mut removed = link.take()?;
        let (left, mut right) = (removed.left.take(), removed.right.take());
        *link = match remove_first(&mut right) {
            Some(mut next) => {
                (next.left, next.right) = (left, right);
                Some(next)
            }
            None => left,
        };
        Some(removed)
    };
    rebalance(link);
    removed
}

fn change<T: Area, A>(link: &mut Link<T, A>, start: u64, to: T) -> bool {
    let Some(node) = link else { return false };
    let changed = if start < node.area.start() {
        change(&mut node.left, start, to)
    } else if start > node.area.start() {
        change(&mut node.right, start, to)
    } else {
        node.area = to;
        true
    };
    node.update();
    changed
}

/// A node that is not in a tree yet: having one makes an insertion infallible.
#[derive(Debug)]
pub(crate) struct SpareNode<T, A>(Own<Node<T, A>, A>);

impl<T: Area, A: NodeAlloc> SpareNode<T, A> {
    /// A node for `area`.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn new(area: T, alloc: &mut A) -> Result<Self, OutOfMemory> {
        Own::new(Node::new(area), alloc).map(Self)
    }

    /// Gives it back unused.
    pub(crate) fn free(self, alloc: &mut A) {
        self.0.free(alloc);
    }
}

/// Areas by address (Linux: `mm_mt`, `vmap_area_root`). `A` is the type of the allocator of its nodes.
#[derive(Debug)]
pub struct AreaTree<T, A> {
    pub(super) root: Link<T, A>,
    nr_areas: usize,
}

impl<T, A> Default for AreaTree<T, A> {
    fn default() -> Self {
        Self { root: None, nr_areas: 0 }
    }
}

impl<T: Area, A: NodeAlloc> AreaTree<T, A> {
    /// A tree without areas.
    pub fn new() -> Self {
        Self::default()
    }

    /// Size and alignment of all blocks that it asks of a [`NodeAlloc`]: for a cache of them.
    pub const NODE_LAYOUT: Layout = Layout::new::<Node<T, A>>();

    /// How many areas there are (Linux: `map_count`).
    pub fn nr_areas(&self) -> usize {
        self.nr_areas
    }

    /// The first area that ends above `addr`, `None` when all end below (Linux: `find_vma`).
    pub fn find(&self, addr: u64) -> Option<T> {
        let (mut link, mut best) = (&self.root, None);
        while let Some(node) = link {
            if node.area.end() > addr {
                best = Some(node.area);
                if node.area.start() <= addr {
                    break;
                }
                link = &node.left;
            } else {
                link = &node.right;
            }
        }
        best
    }

    /// The last area that starts below `addr`.
    pub fn find_before(&self, addr: u64) -> Option<T> {
        let (mut link, mut best) = (&self.root, None);
        while let Some(node) = link {
            if node.area.start() < addr {
                best = Some(node.area);
                link = &node.right;
            } else {
                link = &node.left;
            }
        }
        best
    }

    /// The area that holds `addr` (Linux: `vma_lookup`).
    #[inline]
    pub fn lookup(&self, addr: u64) -> Option<T> {
        self.find(addr).filter(|area| area.start() <= addr)
    }

    /// All areas by address. Each step costs a search.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        core::iter::successors(self.find(0), |area| self.find(area.end()))
    }

    /// Puts an area in; it overlaps none (I1).
    pub(crate) fn insert(&mut self, spare: SpareNode<T, A>) {
        let area = spare.0.area;
        debug_assert!(
            self.find(area.start()).is_none_or(|next| next.start() >= area.end()),
            "{area:?} overlaps"
        );
        insert(&mut self.root, spare.0);
        self.nr_areas += 1;
    }

    /// Takes the area that starts at `start` out.
    pub(crate) fn remove(&mut self, start: u64, alloc: &mut A) -> Option<T> {
        let node = remove(&mut self.root, start)?;
        self.nr_areas -= 1;
        Some(node.free(alloc).area)
    }

    /// Replaces the area `from` by `to`, which keeps its place among the others (I1).
    pub(crate) fn change(&mut self, from: T, to: T) {
        let changed = change(&mut self.root, from.start(), to);
        debug_assert!(changed, "{from:?} is not in the tree");
    }

    /// Recounts everything: I1, I2, I3, and the number of areas.
    ///
    /// # Panics
    /// When something does not add up.
    pub fn validate(&self) {
        fn subtree<T: Area, A>(link: &Link<T, A>, before: &mut Option<u64>, hole: &mut u64) -> (u32, usize) {
            let Some(node) = link else { return (0, 0) };
            let mut own_hole = 0;
            let left = subtree(&node.left, before, &mut own_hole);
            if let Some(before) = *before {
                assert!(before <= node.area.start(), "{:?} overlaps the area before", node.area);
            }
            if let Some(left) = &node.left {
                own_hole = own_hole.max(node.area.start() - left.last);
            }
            assert_eq!(node.first, node.left.as_ref().map_or(node.area.start(), |l| l.first));
            *before = Some(node.area.end());
            let right = subtree(&node.right, before, &mut own_hole);
            if let Some(right) = &node.right {
                own_hole = own_hole.max(right.first - node.area.end());
            }
            assert_eq!((node.last, node.hole), (before.unwrap_or(0), own_hole), "at {:?}", node.area);
            assert!(left.0.abs_diff(right.0) <= 1, "out of balance at {:?}", node.area);
            assert_eq!(node.height, 1 + left.0.max(right.0));
            *hole = (*hole).max(own_hole);
            (node.height, left.1 + right.1 + 1)
        }
        let (_, nr_areas) = subtree(&self.root, &mut None, &mut 0);
        assert_eq!(nr_areas, self.nr_areas);
    }
}
