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
    tree.validate();
    let got: Vec<_> = tree.iter().map(|i| (i.range.start(), i.range.end(), i.name)).collect();
    assert_eq!(got, [(0x10, 0x20, "a"), (0x20, 0x30, "b"), (0x30, 0x40, "a"), (0x40, 0x48, "b")]);
    tree.reserve_with_split(r(0x11, 0x12), "c").unwrap();
    assert_eq!(tree.iter().count(), 4);
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

proptest! {
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
