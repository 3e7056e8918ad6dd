//! Walks by node and flags, both ways; and look-ups by frame.

use super::*;
use crate::pfn::{Pfn, PfnRange};

/// Free ranges up; the walk down must give the same, reversed.
#[track_caller]
fn free(node: Option<NodeId>, flags: Flags, want: &[(u64, u64)]) {
    let mut storage = Storage::new(16);
    let mut m = storage.memblock();
    m.add_node(r(0, 20), N0, Flags::empty()).unwrap();
    m.add_node(r(20, 40), N1, Flags::empty()).unwrap();
    m.add_node(r(50, 60), N0, Flags::HOTPLUG).unwrap();
    m.add_node(r(60, 70), N1, Flags::NOMAP).unwrap();
    m.add_node(r(70, 80), N1, Flags::MIRROR).unwrap();
    m.add_node(r(80, 90), N0, Flags::DRIVER_MANAGED).unwrap();
    m.avoid_hotplug();
    for (s, e) in [(0, 5), (10, 12), (18, 22), (45, 48), (50, 51), (79, 95)] {
        m.reserve(r(s, e)).unwrap();
    }
    let up: Vec<_> = m.free_ranges_with(node, flags).collect();
    let mut down: Vec<_> = m.free_ranges_down_with(node, flags).collect();
    down.reverse();
    assert_eq!(up, down);
    assert_eq!(up.iter().map(|f| (f.range.start(), f.range.end())).collect::<Vec<_>>(), want);
    for f in up {
        let region = *m
            .memory_ranges(node, flags)
            .collect::<Vec<_>>()
            .iter()
            .find(|x| x.range.overlaps(f.range))
            .unwrap();
        assert_eq!((region.node, region.flags), (f.node, f.flags));
    }
}

#[test]
fn free_ranges_are_of_the_node_and_flags_asked_for() {
    let none = Flags::empty();
    free(None, none, &[(5, 10), (12, 18), (22, 40), (70, 79)]);
    free(Some(N0), none, &[(5, 10), (12, 18)]);
    free(Some(N1), none, &[(22, 40), (70, 79)]);
    free(Some(NodeId(9)), none, &[]);
    free(None, Flags::MIRROR, &[(70, 79)]);
    free(Some(N0), Flags::MIRROR, &[]);
    free(Some(N0), Flags::HOTPLUG, &[(5, 10), (12, 18), (51, 60)]);
    free(Some(N1), Flags::NOMAP, &[(22, 40), (60, 70), (70, 79)]);
    free(Some(N0), Flags::DRIVER_MANAGED, &[(5, 10), (12, 18)]);
    free(None, Flags::all() - Flags::MIRROR, &[(5, 10), (12, 18), (22, 40), (51, 60), (60, 70), (70, 79)]);
}

#[test]
fn memory_and_reserved_ranges_are_walked_both_ways() {
    let mut storage = Storage::new(16);
    let mut m = storage.memblock();
    m.add_node(r(0, 20), N0, Flags::empty()).unwrap();
    m.add_node(r(20, 40), N1, Flags::HOTPLUG).unwrap();
    m.add_node(r(50, 60), N0, Flags::NOMAP).unwrap();
    m.reserve(r(0, 10)).unwrap();
    m.reserve(r(30, 55)).unwrap();
    m.set_reserved_node(r(30, 55), Some(N1)).unwrap();
    let starts = |node, flags| m.memory_ranges(node, flags).map(|x| x.range.start()).collect::<Vec<_>>();
    assert_eq!(starts(None, Flags::empty()), [0, 20]);
    assert_eq!(starts(None, Flags::NOMAP), [0, 20, 50]);
    assert_eq!(starts(Some(N0), Flags::NOMAP), [0, 50]);
    assert_eq!(starts(Some(N0), Flags::MIRROR), [0; 0]);
    let down: Vec<_> = m.memory_ranges(None, Flags::NOMAP).rev().map(|x| x.range.start()).collect();
    assert_eq!(down, [50, 20, 0]);
    let reserved = |node| m.reserved_ranges(node).rev().map(|x| x.range.start()).collect::<Vec<_>>();
    assert_eq!((reserved(None), reserved(Some(N1)), reserved(Some(N0))), (vec![30, 0], vec![30], vec![]));
}

#[test]
fn walks_end_with_the_address_space() {
    let mut storage = Storage::new(4);
    let mut m = storage.memblock();
    assert_eq!((m.free_ranges(None).next(), m.free_ranges_down(None).next()), (None, None));
    m.add(ALL).unwrap();
    assert_eq!(m.free_ranges(None).map(|f| f.range).collect::<Vec<_>>(), [ALL]);
    m.reserve(r(PHYS_LIMIT - 1, PHYS_LIMIT)).unwrap();
    m.reserve(r(0, 1)).unwrap();
    assert_eq!(m.free_ranges_down(None).map(|f| f.range).collect::<Vec<_>>(), [r(1, PHYS_LIMIT - 1)]);
    m.reserve(ALL).unwrap();
    assert_eq!((m.free_ranges(None).next(), m.free_ranges_down(None).next()), (None, None));
}

#[test]
fn a_frame_is_looked_up_with_its_node_and_region() {
    let mut storage = Storage::new(4);
    let mut m = storage.memblock();
    m.add_node(r(0x1000, 0x9fc00), N0, Flags::empty()).unwrap();
    m.add(r(0x10_0000, 0x20_0000)).unwrap();
    let frames = |s, e| PfnRange::new(Pfn::new(s), Pfn::new(e));
    assert_eq!(m.search_pfn(Pfn::new(0)), None);
    assert_eq!(m.search_pfn(Pfn::new(1)), Some((frames(1, 0x9f), Some(N0))));
    assert_eq!(m.search_pfn(Pfn::new(0x9f)), Some((frames(1, 0x9f), Some(N0))), "a part of it is memory");
    assert_eq!(m.search_pfn(Pfn::new(0xa0)), None);
    assert_eq!(m.search_pfn(Pfn::new(0x1ff)), Some((frames(0x100, 0x200), None)));
    assert_eq!(m.memory_pfn_ranges(Some(N0)).collect::<Vec<_>>(), [(frames(1, 0x9f), Some(N0))]);
}
