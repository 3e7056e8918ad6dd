mod devices;

use super::*;
use crate::addr::PHYS_LIMIT;
use crate::e820;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

fn r(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end).unwrap()
}

fn all() -> PhysRange {
    r(0, PHYS_LIMIT)
}

#[track_caller]
fn inserted(ranges: &[(u64, u64)], want: &str) {
    let mut slots = vec![Slot::EMPTY; 32];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    for &(s, e) in ranges {
        let _ = tree.insert(r(s, e), "x");
        tree.validate();
    }
    let got: Vec<String> = tree
        .iter()
        .map(|i| format!("{}{:x}-{:x}", ".".repeat(i.level), i.range.start(), i.range.end()))
        .collect();
    assert_eq!(got.join(" "), want);
}

#[test]
fn insertion_goes_into_the_smallest_and_around_smaller_ones() {
    inserted(&[(0x10, 0x20), (0x30, 0x40), (0x0, 0x8)], "0-8 10-20 30-40");
    inserted(&[(0x10, 0x20), (0x12, 0x14), (0x15, 0x16)], "10-20 .12-14 .15-16");
    inserted(&[(0x12, 0x14), (0x15, 0x16), (0x10, 0x20)], "10-20 .12-14 .15-16");
    inserted(&[(0x8, 0x9), (0x12, 0x14), (0x30, 0x31), (0x10, 0x20)], "8-9 10-20 .12-14 30-31");
    inserted(&[(0x10, 0x40), (0x12, 0x14), (0x20, 0x24), (0x11, 0x30)], "10-40 .11-30 ..12-14 ..20-24");
    inserted(&[(0x10, 0x20), (0x0, 0x100), (0x40, 0x50)], "0-100 .10-20 .40-50");
}

#[test]
fn the_same_range_again_goes_around() {
    let mut slots = vec![Slot::EMPTY; 8];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    tree.insert(r(0, 16), "inner").unwrap();
    tree.insert(r(0, 16), "outer").unwrap();
    tree.validate();
    assert_eq!(tree.to_string(), "00000000-0000000f : outer\n  00000000-0000000f : inner\n");
}

#[test]
fn what_would_cut_another_is_refused() {
    let mut slots = vec![Slot::EMPTY; 8];
    let mut tree = Tree::new(&mut slots, r(0, 0x1000)).unwrap();
    let id = tree.insert(r(0x10, 0x20), "a").unwrap();
    for (s, e) in [(0x8, 0x18), (0x18, 0x28)] {
        assert_eq!(tree.insert(r(s, e), "b"), Err(Error::Conflict(id)));
    }
    let last = tree.insert(r(0x30, 0x40), "c").unwrap();
    assert_eq!(tree.insert(r(0x8, 0x38), "b"), Err(Error::Conflict(last)));
    assert_eq!(tree.insert(r(0x8, 0x8), "b"), Err(Error::Outside));
    assert_eq!(tree.insert(r(0x800, 0x1001), "b"), Err(Error::Outside));
    assert_eq!(tree.request(Id::ROOT, r(0x12, 0x13), "b"), Err(Error::Conflict(id)));
    assert_eq!(tree.request(id, r(0x12, 0x21), "b"), Err(Error::Outside));
    assert!(tree.request(id, r(0x12, 0x13), "b").is_ok());
    tree.validate();
}

#[test]
fn a_full_tree_says_so_and_stays_as_it_is() {
    let mut slots = vec![Slot::EMPTY; 2];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    tree.insert(r(0x10, 0x20), "a").unwrap();
    for (s, e) in [(0x0, 0x8), (0x12, 0x14), (0, 0x100)] {
        assert_eq!(tree.insert(r(s, e), "b"), Err(Error::Full));
        tree.validate();
    }
    assert_eq!(tree.iter().count(), 1);
    assert!(Tree::new(&mut [], all()).is_none());
}

#[test]
fn splitting_takes_what_is_left() {
    let mut slots = vec![Slot::EMPTY; 8];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    tree.insert(r(0x10, 0x20), "a").unwrap();
    tree.insert(r(0x30, 0x40), "a").unwrap();
    tree.reserve_with_split(r(0x18, 0x48), "b").unwrap();
    assert_eq!(shown(&tree), "10-20 a, 20-30 b, 30-40 a, 40-48 b");
    tree.reserve_with_split(r(0x11, 0x12), "c").unwrap();
    assert_eq!(tree.iter().count(), 4);
}

fn shown(tree: &Tree<'_>) -> String {
    tree.validate();
    let lines = tree
        .iter()
        .map(|i| format!("{}{:x}-{:x} {}", ".".repeat(i.level), i.range.start(), i.range.end(), i.name));
    lines.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_released_resource_goes_with_what_is_inside_it() {
    let mut slots = vec![Slot::EMPTY; 6];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    let outer = tree.insert(r(0x10, 0x40), "outer").unwrap();
    let inner = tree.insert(r(0x10, 0x20), "inner").unwrap();
    tree.insert(r(0x11, 0x12), "innermost").unwrap();
    tree.insert(r(0x30, 0x40), "other").unwrap();
    tree.insert(r(0x50, 0x60), "next").unwrap();
    assert_eq!((tree.room(), tree.insert(r(0, 1), "full")), (0, Err(Error::Full)));
    tree.release(inner);
    assert_eq!(shown(&tree), "10-40 outer, .30-40 other, 50-60 next");
    assert_eq!(tree.room(), 2);
    tree.release(outer);
    assert_eq!((shown(&tree).as_str(), tree.room()), ("50-60 next", 4));
    tree.release(Id::ROOT);
    assert_eq!(shown(&tree), "50-60 next", "the root stays");
    for (start, name) in [(0x10, "a"), (0x70, "b"), (0x30, "c"), (0x55, "d")] {
        tree.insert(r(start, start + 4), name).unwrap();
    }
    assert_eq!(shown(&tree), "10-14 a, 30-34 c, 50-60 next, .55-59 d, 70-74 b");
}

#[test]
fn what_was_inside_a_removed_resource_moves_up() {
    let mut slots = vec![Slot::EMPTY; 8];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    tree.insert(r(0x0, 0x8), "before").unwrap();
    let outer = tree.insert(r(0x10, 0x40), "outer").unwrap();
    tree.insert(r(0x10, 0x20), "a").unwrap();
    tree.insert(r(0x11, 0x12), "in a").unwrap();
    let b = tree.insert(r(0x30, 0x40), "b").unwrap();
    tree.insert(r(0x50, 0x60), "after").unwrap();
    tree.remove(outer);
    assert_eq!(shown(&tree), "0-8 before, 10-20 a, .11-12 in a, 30-40 b, 50-60 after");
    assert_eq!(tree.parent(b), Some(Id::ROOT));
    tree.remove(b);
    tree.remove(Id::ROOT);
    assert_eq!(shown(&tree), "0-8 before, 10-20 a, .11-12 in a, 50-60 after");
}

#[test]
fn an_expanding_resource_takes_in_what_it_would_cut() {
    let mut slots = vec![Slot::EMPTY; 8];
    let mut tree = Tree::new(&mut slots, r(0, 0x100)).unwrap();
    tree.insert(r(0x10, 0x20), "a").unwrap();
    tree.insert(r(0x28, 0x30), "b").unwrap();
    tree.insert(r(0x38, 0x50), "c").unwrap();
    let (_, log) = crate::testlog::capture(|| tree.insert_expanded(r(0x18, 0x40), "wide").unwrap());
    assert_eq!(shown(&tree), "10-50 wide, .10-20 a, .28-30 b, .38-50 c");
    let want =
        ["Expanded resource wide due to conflict with a", "Expanded resource wide due to conflict with c"];
    assert_eq!(log, want);
    assert_eq!(tree.insert_expanded(r(0xf0, 0x101), "x"), Err(Error::Outside));
}

#[test]
fn the_smallest_that_holds_a_range_is_found() {
    let mut slots = vec![Slot::EMPTY; 8];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    let outer = tree.insert(r(0x10, 0x40), "outer").unwrap();
    let inner = tree.insert(r(0x10, 0x20), "inner").unwrap();
    let found = [r(0x12, 0x13), r(0x10, 0x20), r(0x1f, 0x21), r(0x3f, 0x41)].map(|range| tree.find(range));
    assert_eq!(found, [inner, inner, outer, Id::ROOT]);
}

#[test]
fn a_tree_grows_into_larger_storage() {
    let (mut small, mut large) = (vec![Slot::EMPTY; 3], vec![Slot::EMPTY; 5]);
    let mut other = vec![Slot::EMPTY; 3];
    let mut tree = Tree::new(&mut small, all()).unwrap();
    let outer = tree.insert(r(0x10, 0x20), "outer").unwrap();
    tree.insert(r(0x12, 0x13), "inner").unwrap();
    assert_eq!(tree.insert(r(0x14, 0x15), "more"), Err(Error::Full));
    assert!(tree.grow(&mut other).is_err(), "not larger");
    assert_eq!(tree.grow(&mut large).unwrap().len(), 3);
    tree.request(outer, r(0x14, 0x15), "more").unwrap();
    assert_eq!(shown(&tree), "10-20 outer, .12-13 inner, .14-15 more");
}

fn iomem_of(raw: &[(u64, u64, u32)], image: &[(PhysRange, &'static str)]) -> String {
    let mut entries = vec![e820::Entry::EMPTY; 96];
    let mut map = e820::Map::new(&mut entries);
    for &(start, last, kind) in raw {
        map.add(start, last - start + 1, e820::Kind::from_raw(kind)).unwrap();
    }
    map.sanitise().unwrap();
    map.trim_bios_range().unwrap();
    let mut slots = vec![Slot::EMPTY; 64];
    let mut tree = Tree::new(&mut slots, r(0, 1 << 40)).unwrap();
    tree.add_kernel(image.iter().copied()).unwrap();
    tree.add_firmware_map(&map).unwrap();
    tree.add_firmware_map_late(&map).unwrap();
    tree.validate();
    tree.to_string()
}

#[test]
fn a_pc_with_4_gib_reads_as_under_linux() {
    let raw = [
        (0x0, 0x9fbff, 1),
        (0x9fc00, 0x9ffff, 2),
        (0xf0000, 0xfffff, 2),
        (0x100000, 0xbffdffff, 1),
        (0xbffe0000, 0xbfffffff, 2),
        (0xfffc0000, 0xffffffff, 2),
        (0x100000000, 0x13fffffff, 1),
        (0xfd00000000, 0xffffffffff, 2),
    ];
    let image = [
        (r(0x100_0000, 0x1e0_1ef2), "Kernel code"),
        (r(0x200_0000, 0x282_7000), "Kernel rodata"),
        (r(0x2a0_0000, 0x2c4_5e00), "Kernel data"),
        (r(0x32b_1000, 0x380_0000), "Kernel bss"),
    ];
    // Linux's, without the windows of devices.
    let want = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
000f0000-000fffff : Reserved
00100000-bffdffff : System RAM
  01000000-01e01ef1 : Kernel code
  02000000-02826fff : Kernel rodata
  02a00000-02c45dff : Kernel data
  032b1000-037fffff : Kernel bss
bffe0000-bfffffff : Reserved
fffc0000-ffffffff : Reserved
100000000-13fffffff : System RAM
fd00000000-ffffffffff : Reserved
";
    assert_eq!(iomem_of(&raw, &image), want);
}

#[test]
fn the_gap_after_memory_becomes_a_buffer() {
    let raw = [
        (0x0, 0x9fbff, 1),
        (0x100000, 0x1fffffff, 1),
        (0x20000000, 0x20000fff, 3),
        (0x20001000, 0x20001fff, 4),
    ];
    let want = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : RAM buffer
00100000-1fffffff : System RAM
20000000-20000fff : ACPI Tables
20001000-20001fff : ACPI Non-volatile Storage
";
    assert_eq!(iomem_of(&raw, &[]), want);
}

#[test]
fn deep_levels_are_indented_as_linux_does() {
    let mut slots = vec![Slot::EMPTY; 16];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    for i in 0..8 {
        tree.insert(r(i, 0x100 - i), "x").unwrap();
    }
    let text = tree.to_string();
    let indents: Vec<_> = text.lines().map(|l| l.len() - l.trim_start().len()).collect();
    assert_eq!(indents, [0, 2, 4, 6, 8, 10, 10, 10]);
}

/// A tree as a list of ranges, the outer one of two equal ones later.
#[derive(Default)]
struct Model(Vec<PhysRange>);

impl Model {
    fn inside(outer: PhysRange, inner: PhysRange) -> bool {
        outer.intersect(inner) == Some(inner)
    }

    fn nests(&self, range: PhysRange) -> bool {
        let nests = |o: &PhysRange| match o.intersect(range) {
            Some(both) => both == *o || both == range,
            None => true,
        };
        !range.is_empty() && self.0.iter().all(nests)
    }

    /// Takes out the `index`th of the ranges in the tree's order.
    fn take(&mut self, range: PhysRange) {
        let at = self.0.iter().rposition(|&o| o == range).unwrap();
        self.0.remove(at);
    }
}

proptest! {
    #[test]
    fn random_changes_agree_with_a_list(
        changes in prop::collection::vec((0u8..4, 0u64..64, 0u64..24, any::<prop::sample::Index>()), 0..60),
    ) {
        let mut slots = vec![Slot::EMPTY; 24];
        let mut tree = Tree::new(&mut slots, r(0, 100)).unwrap();
        let mut model = Model::default();
        for (kind, start, size, index) in changes {
            let range = r(start, start + size);
            let some = tree.iter().nth(index.index(tree.iter().count().max(1)));
            match (kind, some) {
                (0, Some(item)) => {
                    tree.remove(item.id);
                    model.take(item.range);
                }
                (1, Some(item)) => {
                    let mut inner: Vec<_> = Vec::new();
                    let from = tree.iter().skip_while(|i| i.id != item.id);
                    inner.extend(from.skip(1).take_while(|i| i.level > item.level).map(|i| i.range));
                    tree.release(item.id);
                    inner.into_iter().chain([item.range]).for_each(|range| model.take(range));
                }
                _ => {
                    let result = tree.insert(range, "x");
                    prop_assert_eq!(result.is_ok(), model.nests(range) && model.0.len() < 23, "{:?}", result);
                    if result.is_ok() {
                        model.0.push(range);
                    }
                }
            }
            tree.validate();
            prop_assert_eq!(tree.room(), 23 - model.0.len());
        }
        let mut shown: Vec<_> = tree.iter().map(|i| i.range).collect();
        shown.sort();
        model.0.sort();
        prop_assert_eq!(&shown, &model.0);
        for &range in &model.0 {
            let found = tree.range(tree.find(range));
            prop_assert_eq!(found, range);
            prop_assert!(model.0.iter().all(|&o| !Model::inside(o, range) || Model::inside(o, found)));
        }
    }

    #[test]
    fn an_expanding_resource_always_fits(ranges in prop::collection::vec((0u64..64, 1u64..24), 0..40)) {
        let mut slots = vec![Slot::EMPTY; 64];
        let mut tree = Tree::new(&mut slots, r(0, 100)).unwrap();
        for (start, size) in ranges {
            let range = r(start, start + size);
            let id = tree.insert_expanded(range, "x").unwrap();
            tree.validate();
            prop_assert!(Model::inside(tree.range(id), range));
        }
    }

    #[test]
    fn random_insertions_nest_or_fail(ranges in prop::collection::vec((0u64..64, 0u64..24), 0..40)) {
        let mut slots = vec![Slot::EMPTY; 64];
        let mut tree = Tree::new(&mut slots, r(0, 100)).unwrap();
        let mut taken: Vec<PhysRange> = Vec::new();
        for (start, size) in ranges {
            let range = r(start, start + size);
            let nests = |o: &PhysRange| match o.intersect(range) {
                Some(both) => both == *o || both == range,
                None => true,
            };
            let want = !range.is_empty() && taken.iter().all(nests);
            prop_assert_eq!(tree.insert(range, "x").is_ok(), want);
            if want {
                taken.push(range);
            }
            tree.validate();
        }
        let mut shown: Vec<_> = tree.iter().map(|i| i.range).collect();
        shown.sort();
        taken.sort();
        prop_assert_eq!(shown, taken);
    }
}
