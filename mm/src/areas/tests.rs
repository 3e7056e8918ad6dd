//! The tree against a sorted list.

use core::alloc::Layout;
use core::ptr::NonNull;
use std::alloc::{alloc, dealloc};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::pgtable::OutOfMemory;

/// The host's heap, counting what is out.
pub(crate) struct Heap {
    pub(crate) out: usize,
    /// How many more nodes there are.
    pub(crate) budget: usize,
}

impl Default for Heap {
    fn default() -> Self {
        Self { out: 0, budget: usize::MAX }
    }
}

// SAFETY: the host's heap does what is asked.
unsafe impl NodeAlloc for Heap {
    fn alloc_node(&mut self, layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
        self.budget = self.budget.checked_sub(1).ok_or(OutOfMemory)?;
        self.out += 1;
        // SAFETY: no node is of size zero.
        NonNull::new(unsafe { alloc(layout) }).ok_or(OutOfMemory)
    }

    unsafe fn free_node(&mut self, block: NonNull<u8>, layout: Layout) {
        self.out -= 1;
        // SAFETY: from `alloc_node` with this layout.
        unsafe { dealloc(block.as_ptr(), layout) };
    }
}

/// An area by its pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pages(u64, u64);

impl Area for Pages {
    fn start(&self) -> u64 {
        self.0 << 12
    }

    fn end(&self) -> u64 {
        self.1 << 12
    }
}

type Tree = AreaTree<Pages, Heap>;

fn tree(heap: &mut Heap, areas: &[(u64, u64)]) -> Tree {
    let mut tree = Tree::new();
    for &(start, end) in areas {
        tree.insert(SpareNode::new(Pages(start, end), heap).unwrap());
        tree.validate();
    }
    tree
}

fn clear(mut tree: Tree, mut heap: Heap) {
    while let Some(area) = tree.find(0) {
        assert_eq!(tree.remove(area.start(), &mut heap), Some(area));
        tree.validate();
    }
    assert_eq!(heap.out, 0);
}

#[test]
fn find_returns_the_area_or_the_next_one() {
    let mut heap = Heap::default();
    let tree = tree(&mut heap, &[(16, 18), (20, 24)]);
    for (addr, wanted) in [(0, Some(16)), (17, Some(16)), (18, Some(20)), (23, Some(20)), (24, None)] {
        assert_eq!(tree.find(addr << 12).map(|v| v.start() >> 12), wanted, "from page {addr}");
    }
    assert_eq!(tree.lookup(19 << 12), None);
    assert_eq!(tree.find_before(20 << 12), Some(Pages(16, 18)));
    assert_eq!(tree.find_before(16 << 12), None);
    clear(tree, heap);
}

#[test]
fn room_is_found_from_either_end() {
    let mut heap = Heap::default();
    let tree = tree(&mut heap, &[(10, 20), (40, 50), (60, 70), (80, 90)]);
    let find = |len: u64, low: u64, high: u64, direction| {
        tree.find_room(len << 12, low << 12, high << 12, direction).map(|at| at >> 12)
    };
    use Direction::*;
    assert_eq!(find(10, 1, 100, BottomUp), Some(20));
    assert_eq!(find(9, 1, 100, BottomUp), Some(1));
    assert_eq!(find(10, 1, 100, TopDown), Some(90));
    assert_eq!(find(11, 1, 100, TopDown), Some(29));
    assert_eq!(find(10, 45, 85, BottomUp), Some(50));
    assert_eq!(find(10, 45, 75, TopDown), Some(50));
    assert_eq!(find(21, 1, 95, BottomUp), None);
    assert_eq!(find(5, 10, 20, BottomUp), None);
    clear(tree, heap);
}

#[test]
fn hundreds_of_thousands_of_areas_stay_shallow() {
    let mut heap = Heap::default();
    let mut tree = Tree::new();
    for n in 0..200_000 {
        tree.insert(SpareNode::new(Pages(16 + 2 * n, 17 + 2 * n), &mut heap).unwrap());
    }
    tree.validate();
    assert_eq!(tree.nr_areas(), 200_000);
    assert_eq!(tree.find_room(8192, 1 << 16, 1 << 40, Direction::BottomUp), Some((16 + 400_000 - 1) << 12));
    for n in 0..200_000 {
        tree.remove((16 + 2 * n) << 12, &mut heap);
    }
    clear(tree, heap);
}

/// Addresses, sizes and the alignment in pages.
fn naive_room(
    areas: &[(u64, u64)],
    len: u64,
    align: u64,
    (low, high): (u64, u64),
    direction: Direction,
) -> Option<u64> {
    let free = |at: u64| areas.iter().all(|&(start, end)| at + len <= start || end <= at);
    let fits = |at: &u64| at.is_multiple_of(align) && free(*at);
    let mut places = low..(high + 1).saturating_sub(len);
    match direction {
        Direction::BottomUp => places.find(fits),
        Direction::TopDown => places.rev().find(fits),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn behaves_like_a_sorted_list(ops in prop::collection::vec((0u64..256, 1u64..8, any::<bool>()), 1..120),
                                  rooms in prop::collection::vec((1u64..40, 0u32..6, 0u64..256, 0u64..256, any::<bool>()), 20)) {
        let mut heap = Heap::default();
        let mut tree = Tree::new();
        let mut model: Vec<(u64, u64)> = Vec::new();
        for (at, len, remove) in ops {
            if remove && !model.is_empty() {
                let (start, end) = model.remove(at as usize % model.len());
                prop_assert_eq!(tree.remove(start << 12, &mut heap), Some(Pages(start, end)));
            } else if model.iter().all(|&(start, end)| at + len <= start || end <= at) {
                tree.insert(SpareNode::new(Pages(at, at + len), &mut heap).unwrap());
                model.push((at, at + len));
                model.sort_unstable();
            }
            tree.validate();
            prop_assert!(tree.iter().eq(model.iter().map(|&(start, end)| Pages(start, end))));
            prop_assert_eq!(heap.out, model.len());
        }
        for (len, align, low, high, up) in rooms {
            let direction = if up { Direction::BottomUp } else { Direction::TopDown };
            let align = 1 << align;
            let found = tree.find_aligned_room(len << 12, align << 12, low << 12, high << 12, direction);
            prop_assert_eq!(found.map(|at| at >> 12), naive_room(&model, len, align, (low, high), direction));
        }
        clear(tree, heap);
    }
}
