//! Adding, removing, marking: each way in which a range can lie to what is there.

use super::*;

#[track_caller]
fn after_adding(ranges: &[(u64, u64)], want: &[(u64, u64)]) {
    let mut storage = Storage::new(16);
    let mut m = storage.memblock();
    for &(s, e) in ranges {
        m.add(r(s, e)).unwrap();
        m.reserve(r(s, e)).unwrap();
        m.validate();
    }
    assert_eq!(pairs(m.memory()), want);
    assert_eq!(pairs(m.reserved()), want);
}

#[test]
fn adding_covers_what_was_not_covered() {
    after_adding(&[(10, 20)], &[(10, 20)]);
    after_adding(&[(10, 20), (10, 20)], &[(10, 20)]);
    after_adding(&[(10, 20), (30, 40)], &[(10, 20), (30, 40)]);
    after_adding(&[(30, 40), (10, 20)], &[(10, 20), (30, 40)]);
    after_adding(&[(10, 20), (5, 15)], &[(5, 20)]);
    after_adding(&[(10, 20), (15, 25)], &[(10, 25)]);
    after_adding(&[(10, 20), (12, 15)], &[(10, 20)]);
    after_adding(&[(10, 20), (5, 25)], &[(5, 25)]);
    after_adding(&[(10, 20), (20, 30)], &[(10, 30)]);
    after_adding(&[(10, 20), (0, 10)], &[(0, 20)]);
    after_adding(&[(10, 20), (30, 40), (20, 30)], &[(10, 40)]);
    after_adding(&[(10, 20), (30, 40), (50, 60), (15, 55)], &[(10, 60)]);
    after_adding(&[(10, 20), (30, 40), (0, 100)], &[(0, 100)]);
    after_adding(&[(10, 20), (15, 15), (0, 0)], &[(10, 20)]);
    after_adding(
        &[(PHYS_LIMIT - 10, PHYS_LIMIT), (PHYS_LIMIT - 20, PHYS_LIMIT)],
        &[(PHYS_LIMIT - 20, PHYS_LIMIT)],
    );
}

#[track_caller]
fn after_removing(ranges: &[(u64, u64)], remove: (u64, u64), want: &[(u64, u64)]) {
    let mut storage = Storage::new(16);
    let mut m = storage.memblock();
    for &(s, e) in ranges {
        m.add(r(s, e)).unwrap();
        m.reserve(r(s, e)).unwrap();
    }
    m.remove(r(remove.0, remove.1)).unwrap();
    m.free(r(remove.0, remove.1)).unwrap();
    m.validate();
    assert_eq!(pairs(m.memory()), want);
    assert_eq!(pairs(m.reserved()), want);
}

#[test]
fn removing_cuts_at_both_ends() {
    after_removing(&[(10, 20)], (10, 20), &[]);
    after_removing(&[(10, 20)], (0, 100), &[]);
    after_removing(&[(10, 20)], (5, 15), &[(15, 20)]);
    after_removing(&[(10, 20)], (15, 25), &[(10, 15)]);
    after_removing(&[(10, 20)], (12, 15), &[(10, 12), (15, 20)]);
    after_removing(&[(10, 20)], (20, 30), &[(10, 20)]);
    after_removing(&[(10, 20)], (0, 10), &[(10, 20)]);
    after_removing(&[(10, 20), (30, 40), (50, 60)], (15, 55), &[(10, 15), (55, 60)]);
    after_removing(&[(10, 20)], (15, 15), &[(10, 20)]);
    after_removing(&[], (15, 25), &[]);
    after_removing(
        &[(PHYS_LIMIT - 20, PHYS_LIMIT)],
        (PHYS_LIMIT - 10, PHYS_LIMIT),
        &[(PHYS_LIMIT - 20, PHYS_LIMIT - 10)],
    );
}

#[test]
fn neighbours_merge_only_when_node_and_flags_agree() {
    let mut storage = Storage::new(16);
    let mut m = storage.memblock();
    m.add_node(r(0, 10), N0, Flags::empty()).unwrap();
    m.add_node(r(10, 20), N1, Flags::empty()).unwrap();
    m.add_node(r(20, 30), N1, Flags::HOTPLUG).unwrap();
    assert_eq!(pairs(m.memory()), [(0, 10), (10, 20), (20, 30)]);
    m.clear(r(0, 30), Flags::HOTPLUG).unwrap();
    assert_eq!(pairs(m.memory()), [(0, 10), (10, 30)]);
    m.set_node(r(5, 15), None).unwrap();
    m.validate();
    let nodes: Vec<_> = m.memory().iter().map(|x| x.node).collect();
    assert_eq!((pairs(m.memory()), nodes), (vec![(0, 5), (5, 15), (15, 30)], vec![Some(N0), None, Some(N1)]));
    m.set_node(ALL, Some(N0)).unwrap();
    assert_eq!(pairs(m.memory()), [(0, 30)]);
    assert_eq!((m.node_of(29), m.node_of(30)), (Some(N0), None));
    m.mark(r(10, 20), Flags::NOMAP).unwrap();
    m.validate();
    assert!(m.is_memory(15) && !m.is_map_memory(15) && m.is_map_memory(20));
}

#[test]
fn memory_that_is_added_again_keeps_its_node() {
    let mut storage = Storage::new(16);
    let mut m = storage.memblock();
    m.add_node(r(10, 20), N1, Flags::empty()).unwrap();
    m.add_node(r(0, 30), N0, Flags::empty()).unwrap();
    m.validate();
    let nodes: Vec<_> = m.memory().iter().map(|x| x.node.unwrap().0).collect();
    assert_eq!((pairs(m.memory()), nodes), (vec![(0, 10), (10, 20), (20, 30)], vec![0, 1, 0]));
}

#[test]
fn a_full_array_that_cannot_grow_is_an_error_and_changes_nothing() {
    let mut storage = Storage::new(2);
    let mut m = storage.memblock();
    m.add(r(0, 10)).unwrap();
    m.add(r(20, 30)).unwrap();
    assert_eq!(m.add(r(40, 50)), Err(Error::Full));
    assert_eq!(m.remove(r(3, 5)), Err(Error::Full));
    assert_eq!(m.set_node(r(3, 5), Some(N0)), Err(Error::Full));
    assert_eq!(pairs(m.memory()), [(0, 10), (20, 30)]);
    m.add(r(10, 15)).unwrap_err();
    m.add(r(0, 30)).unwrap_err();
    m.remove(r(20, 30)).unwrap();
    m.add(r(0, 20)).unwrap();
    m.validate();
    assert_eq!(pairs(m.memory()), [(0, 20)]);
}

#[test]
fn look_ups_know_regions_and_bounds() {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add(r(10, 20)).unwrap();
    m.add(r(30, 40)).unwrap();
    m.reserve(r(15, 35)).unwrap();
    assert!(!m.is_memory(9) && m.is_memory(10) && m.is_memory(19) && !m.is_memory(20));
    assert!(!m.is_reserved(14) && m.is_reserved(34) && !m.is_reserved(35));
    assert!(m.is_region_memory(r(10, 20)) && !m.is_region_memory(r(10, 31)) && !m.is_region_memory(r(5, 12)));
    assert!(m.is_region_reserved(r(34, 50)) && !m.is_region_reserved(r(35, 50)));
    assert!(m.overlaps_memory(r(19, 25)) && !m.overlaps_memory(r(20, 30)) && !m.overlaps_memory(r(12, 12)));
    assert_eq!((m.start_of_dram(), m.end_of_dram(), m.memory_bytes(), m.reserved_bytes()), (10, 40, 20, 20));
}

#[test]
fn sizes_that_wrap_end_with_the_address_space() {
    let end = PHYS_LIMIT;
    for (base, size, want) in [
        (0, u64::MAX, (0, end)),
        (0x1000, u64::MAX, (0x1000, end)),
        (end - 0x1000, 0x2000, (end - 0x1000, end)),
        (end - 0x1000, u64::MAX - 0x1000, (end - 0x1000, end)),
        (end, 1, (end, end)),
        (u64::MAX, u64::MAX, (end, end)),
        (u64::MAX - 0xfff, 0x1000, (end, end)),
        (0x1000, 0, (0x1000, 0x1000)),
    ] {
        let got = capped(base, size);
        assert_eq!((got.start(), got.end()), want, "{base:#x} + {size:#x}");
    }
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add(capped(end - 0x2000, u64::MAX)).unwrap();
    m.reserve(capped(end - 0x1000, u64::MAX)).unwrap();
    m.add(capped(u64::MAX, u64::MAX)).unwrap();
    assert!(m.is_memory(end - 1) && !m.is_memory(end) && !m.is_memory(u64::MAX));
    assert!(m.is_region_memory(capped(end - 0x2000, u64::MAX)));
    assert_eq!(m.alloc(Request::new(0x1000).align(0x1000)), Ok(r(end - 0x2000, end - 0x1000)));
    m.remove(capped(end - 0x800, u64::MAX)).unwrap();
    m.free(capped(end - 0x800, u64::MAX)).unwrap();
    m.validate();
    assert_eq!(pairs(m.memory()), [(end - 0x2000, end - 0x800)]);
    assert_eq!(pairs(m.reserved()), [(end - 0x2000, end - 0x800)]);
}

const NONE: Flags = Flags::empty();
const HOT: Flags = Flags::HOTPLUG;

/// Memory 0..10 on node 0, 10..20 on node 1, 30..40 on no node, then the change.
#[track_caller]
fn after(change: impl FnOnce(&mut Memblock<'_>), want: &[Case]) {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add_node(r(0, 10), N0, NONE).unwrap();
    m.add_node(r(10, 20), N1, NONE).unwrap();
    m.add(r(30, 40)).unwrap();
    change(&mut m);
    m.validate();
    assert_eq!(cases(m.memory()), want);
}

#[test]
fn marks_and_nodes_are_set_where_the_range_has_memory() {
    let (a, b, c) = ((0, 10, Some(0), NONE), (10, 20, Some(1), NONE), (30, 40, None, NONE));
    let mark = |s, e| move |m: &mut Memblock<'_>| m.mark(r(s, e), HOT).unwrap();
    // All of a region, its start, its end, its middle, two halves, a hole, more than there is.
    after(mark(10, 20), &[a, (10, 20, Some(1), HOT), c]);
    after(mark(10, 15), &[a, (10, 15, Some(1), HOT), (15, 20, Some(1), NONE), c]);
    after(mark(15, 30), &[a, (10, 15, Some(1), NONE), (15, 20, Some(1), HOT), c]);
    after(mark(2, 4), &[(0, 2, Some(0), NONE), (2, 4, Some(0), HOT), (4, 10, Some(0), NONE), b, c]);
    after(
        mark(5, 15),
        &[(0, 5, Some(0), NONE), (5, 10, Some(0), HOT), (10, 15, Some(1), HOT), (15, 20, Some(1), NONE), c],
    );
    after(mark(20, 30), &[a, b, c]);
    after(mark(15, 15), &[a, b, c]);
    after(
        |m| m.mark(ALL, HOT).unwrap(),
        &[(0, 10, Some(0), HOT), (10, 20, Some(1), HOT), (30, 40, None, HOT)],
    );
    // What was marked in pieces is one again when it is cleared; other flags stay.
    after(
        |m| {
            m.mark(r(2, 8), HOT).unwrap();
            m.mark(r(4, 6), Flags::NOMAP).unwrap();
            m.clear(r(3, 20), HOT).unwrap();
        },
        &[
            (0, 2, Some(0), NONE),
            (2, 3, Some(0), HOT),
            (3, 4, Some(0), NONE),
            (4, 6, Some(0), Flags::NOMAP),
            (6, 10, Some(0), NONE),
            b,
            c,
        ],
    );
    let node = |s, e, n: u16| move |m: &mut Memblock<'_>| m.set_node(r(s, e), Some(NodeId(n))).unwrap();
    after(node(0, 20, 1), &[(0, 20, Some(1), NONE), c]);
    after(node(5, 10, 1), &[(0, 5, Some(0), NONE), (5, 20, Some(1), NONE), c]);
    after(
        node(15, 35, 0),
        &[a, (10, 15, Some(1), NONE), (15, 20, Some(0), NONE), (30, 35, Some(0), NONE), (35, 40, None, NONE)],
    );
    // New memory keeps apart from neighbours of other nodes and flags, and joins those that agree.
    after(|m| m.add_node(r(20, 30), N1, NONE).unwrap(), &[a, (10, 30, Some(1), NONE), c]);
    after(|m| m.add_node(r(20, 30), N0, NONE).unwrap(), &[a, b, (20, 30, Some(0), NONE), c]);
    after(|m| m.add_node(r(20, 30), N1, HOT).unwrap(), &[a, b, (20, 30, Some(1), HOT), c]);
    after(|m| m.add(r(20, 35)).unwrap(), &[a, b, (20, 40, None, NONE)]);
}

#[test]
fn reserved_ranges_have_nodes_of_their_own() {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add_node(r(0, 100), N1, NONE).unwrap();
    m.reserve(r(10, 40)).unwrap();
    m.set_reserved_node(r(0, 20), Some(N0)).unwrap();
    assert_eq!(cases(m.reserved()), [(10, 20, Some(0), NONE), (20, 40, None, NONE)]);
    m.reserve(r(5, 15)).unwrap();
    m.validate();
    assert_eq!(
        cases(m.reserved()),
        [(5, 10, None, NONE), (10, 20, Some(0), NONE), (20, 40, None, NONE)],
        "what is reserved already keeps its node"
    );
    m.set_reserved_node(ALL, None).unwrap();
    assert_eq!(cases(m.reserved()), [(5, 40, None, NONE)]);
    assert_eq!(cases(m.memory()), [(0, 100, Some(1), NONE)]);
}

#[test]
fn what_the_firmware_called_memory_outlives_limits() {
    let (mut storage, mut slots) = (Storage::new(8), [Region::EMPTY; 4]);
    let mut m = storage.memblock();
    m.add_physmem(r(0, 5)).unwrap();
    assert_eq!(m.physmem(), [], "nobody asked for it");
    m.keep_physmem(&mut slots);
    for range in [r(0, 50), r(80, 100), r(50, 60)] {
        m.add_physmem(range).unwrap();
        m.add(range).unwrap();
    }
    m.enforce_memory_limit(40).unwrap();
    m.remove(r(0, 10)).unwrap();
    m.validate();
    assert_eq!(pairs(m.physmem()), [(0, 60), (80, 100)]);
    let cut_off: Vec<_> = m.physmem_ranges(m.memory()).map(|f| (f.range.start(), f.range.end())).collect();
    assert_eq!(cut_off, [(0, 10), (40, 60), (80, 100)]);
    assert_eq!(m.physmem_ranges(&[]).count(), 2);
    for start in [200, 300] {
        m.add_physmem(r(start, start + 1)).unwrap();
    }
    assert_eq!(m.add_physmem(r(400, 401)), Err(Error::Full));
    assert_eq!(m.physmem().len(), 4);
}

#[test]
fn one_operation_over_many_regions_moves_each_once() {
    // Were it each time for each region, this would take minutes.
    const NR: u64 = 100_000;
    let mut storage = Storage::new(2 * NR as usize + 2);
    let mut m = storage.memblock();
    let all = r(0, NR * 0x2000);
    let fill = |m: &mut Memblock<'_>| {
        for i in 0..NR {
            m.add(r(i * 0x2000, i * 0x2000 + 0x1000)).unwrap();
            m.reserve(r(i * 0x2000, i * 0x2000 + 0x1800)).unwrap();
        }
    };
    fill(&mut m);
    m.set_node(all, Some(N0)).unwrap();
    m.add(r(0x800, NR * 0x2000)).unwrap();
    assert_eq!(m.memory().len() as u64, 2 * NR);
    m.set_node(all, None).unwrap();
    assert_eq!(m.memory().len(), 1);
    m.remove(all).unwrap();
    fill(&mut m);
    m.trim_memory(0x2000);
    assert_eq!(m.memory(), []);
    m.add(all).unwrap();
    // Low memory is found without a look at what is reserved above.
    m.free(r(0x1000, 0x80_0000)).unwrap();
    for _ in 0..0x3ff {
        m.alloc(Request::pages(1).below(0x40_0000)).unwrap();
    }
    assert_eq!(m.alloc(Request::pages(1).below(0x40_0000)), Err(Error::NoMemory));
    m.cap_memory_range(r(0x1000, 0x2000)).unwrap();
    assert_eq!((m.memory().len(), m.reserved().len()), (1, 1));
    m.validate();
}
