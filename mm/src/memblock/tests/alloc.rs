//! Allocation: places, windows, nodes, flags, in both directions.

use super::*;

#[track_caller]
fn allocated(reserved: &[(u64, u64)], request: Request, down: Option<u64>, up: Option<u64>) {
    for (direction, want) in [(Direction::TopDown, down), (Direction::BottomUp, up)] {
        let mut storage = Storage::new(16);
        let mut m = storage.memblock();
        m.add_node(r(0, 0x8000), N0, Flags::empty()).unwrap();
        m.add_node(r(0x8000, 0x10000), N1, Flags::empty()).unwrap();
        m.set_direction(direction);
        for &(s, e) in reserved {
            m.reserve(r(s, e)).unwrap();
        }
        let got = m.alloc(request);
        m.validate();
        assert_eq!(got.ok().map(PhysRange::start), want, "{direction:?}");
        assert!(got.is_ok() || got == Err(Error::NoMemory));
        assert!(got.is_err() || m.is_region_reserved(got.unwrap()));
    }
}

#[test]
fn allocation_takes_the_first_place_that_fits() {
    let small = Request::new(0x100).align(0x100);
    allocated(&[], small, Some(0xff00), Some(0x1000));
    allocated(&[(0xff80, 0x10000), (0, 0x1080)], small, Some(0xfe00), Some(0x1100));
    allocated(
        &[(0x1000, 0x1001), (0xffff, 0x10000)],
        Request::new(0x6f00).align(0x100),
        Some(0x9000),
        Some(0x1100),
    );
    // Larger than a node's memory, though not than all of it.
    allocated(&[], Request::new(0x9000), None, None);
    // The only gap is too small, then just right; an alignment can spoil it.
    allocated(&[(0, 0x4000), (0x40ff, 0x10000)], small, None, None);
    allocated(&[(0, 0x4000), (0x4100, 0x10000)], small, Some(0x4000), Some(0x4000));
    allocated(&[(0, 0x4001), (0x4101, 0x10000)], small, None, None);
    // Everything reserved; larger than all.
    allocated(&[(0, 0x10000)], small, None, None);
    allocated(&[], Request::new(0x10000), None, None);
    allocated(&[], Request::new(u64::MAX), None, None);
    // Second fits.
    allocated(&[(0xf000, 0xff80), (0x1080, 0x2000)], small, Some(0xef00), Some(0x2000));
}

#[test]
fn allocation_keeps_to_its_bounds() {
    let small = Request::new(0x100).align(0x100);
    allocated(&[], small.from(0x3000).below(0x5000), Some(0x4f00), Some(0x3000));
    allocated(&[], small.from(0x3010).below(0x5010), Some(0x4f00), Some(0x3100));
    // A lower bound that cannot be held is dropped.
    allocated(&[(0x3000, 0x10000)], small.from(0x3000), Some(0x2f00), Some(0x1000));
    allocated(&[(0, 0x5000)], small.below(0x5000), None, None);
    // Never the first page.
    allocated(&[(0x1000, 0x10000)], small, None, None);
    allocated(&[], small.below(0x1000), None, None);
}

#[test]
fn allocation_on_a_node_falls_back_unless_exact() {
    let small = Request::new(0x100).align(0x100);
    let on = |on| small.on(on);
    allocated(&[], on(OnNode::Exact(N0)), Some(0x7f00), Some(0x1000));
    allocated(&[], on(OnNode::Exact(N1)), Some(0xff00), Some(0x8000));
    allocated(&[(0, 0x8000)], on(OnNode::Exact(N0)), None, None);
    allocated(&[(0, 0x8000)], on(OnNode::Prefer(N0)), Some(0xff00), Some(0x8000));
    allocated(&[], on(OnNode::Prefer(NodeId(7))), Some(0xff00), Some(0x1000));
    allocated(&[], on(OnNode::Exact(NodeId(7))), None, None);
    // A range outside of the node.
    allocated(&[], on(OnNode::Exact(N0)).from(0x9000), Some(0x7f00), Some(0x1000));
    allocated(&[], on(OnNode::Exact(N1)).below(0x8000), None, None);
    allocated(&[], on(OnNode::Prefer(N1)).below(0x8000), Some(0x7f00), Some(0x1000));
}

#[test]
fn the_lower_bound_of_a_range_allocation_holds() {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add(r(0, 0x10000)).unwrap();
    m.reserve(r(0x8000, 0x10000)).unwrap();
    assert_eq!(m.alloc_in_range(Request::pages(1).from(0x8000)), Err(Error::NoMemory));
    m.set_current_limit(0x4000);
    assert_eq!(m.alloc(Request::pages(1)), Ok(r(0x3000, 0x4000)));
}

#[test]
fn nonsense_requests_are_refused() {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add(r(0, 0x10000)).unwrap();
    for request in [Request::new(0), Request::new(8).align(0), Request::new(8).align(3)] {
        assert_eq!(m.alloc(request), Err(Error::BadRequest));
    }
    assert_eq!(m.alloc_zeroed(Request::new(8)), Err(Error::NotMapped));
    assert_eq!(m.alloc_slice(8, 0u8, OnNode::Any), Err(Error::NotMapped));
}

#[test]
fn flags_keep_memory_from_being_allocated() {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add(r(0, 0x10000)).unwrap();
    m.mark(r(0xf000, 0x10000), Flags::NOMAP).unwrap();
    m.mark(r(0xe000, 0xf000), Flags::HOTPLUG).unwrap();
    m.mark(r(0x2000, 0x3000), Flags::MIRROR).unwrap();
    let page = Request::pages(1);
    assert_eq!(m.alloc(page), Ok(r(0x2000, 0x3000)), "mirrored first");
    assert_eq!(m.alloc(page), Ok(r(0xe000, 0xf000)), "then the highest, mapped");
    m.free(r(0xe000, 0xf000)).unwrap();
    m.avoid_hotplug();
    assert_eq!(m.alloc(page), Ok(r(0xd000, 0xe000)));
    m.validate();
}

#[test]
fn allocation_minds_alignment_and_windows_that_are_not_aligned() {
    let small = Request::new(0x100).align(0x100);
    // An alignment larger than the size.
    let sparse = Request::new(0x10).align(0x1000);
    allocated(&[], sparse, Some(0xf000), Some(0x1000));
    allocated(&[(0x1000, 0x1001), (0xf00f, 0xf010)], sparse, Some(0xe000), Some(0x2000));
    allocated(&[], Request::new(1).align(1), Some(0xffff), Some(0x1000));
    allocated(&[], Request::new(0x100).align(0x8000), Some(0x8000), Some(0x8000));
    allocated(&[], Request::new(0x100).align(0x1_0000), None, None);
    allocated(&[], Request::new(0x100).align(1 << 63), None, None);
    // A window that fits exactly, and some that do not: then below.
    allocated(&[], small.from(0x3000).below(0x3100), Some(0x3000), Some(0x3000));
    allocated(&[], small.from(0x3000).below(0x3080), Some(0x2f00), Some(0x1000));
    allocated(&[], small.from(0x3001).below(0x31ff), Some(0x3000), Some(0x1000));
    allocated(&[], small.from(0x5000).below(0x4000), Some(0x3f00), Some(0x1000));
    // Bounds outside of memory.
    allocated(&[], small.from(0x2_0000), Some(0xff00), Some(0x1000));
    allocated(&[], small.from(u64::MAX), Some(0xff00), Some(0x1000));
    allocated(&[], small.below(u64::MAX), Some(0xff00), Some(0x1000));
    allocated(&[], small.below(0), None, None);
    // A window across both nodes has room on each, but not for one range on both.
    let large = Request::new(0x400).align(0x100);
    allocated(&[], large.from(0x7e00).below(0x8200), Some(0x7c00), Some(0x1000));
    allocated(&[], large.from(0x7e00).below(0x8400), Some(0x8000), Some(0x8000));
}

#[test]
fn windows_and_nodes_narrow_each_other() {
    let across = Request::new(0x100).align(0x100).from(0x7000).below(0x9000);
    allocated(&[], across, Some(0x8f00), Some(0x7000));
    allocated(&[], across.on(OnNode::Exact(N0)), Some(0x7f00), Some(0x7000));
    allocated(&[], across.on(OnNode::Exact(N1)), Some(0x8f00), Some(0x8000));
    // The node's part of the window is taken: the other node's, or below the window.
    let full = [(0x7000, 0x8000)];
    allocated(&full, across.on(OnNode::Prefer(N0)), Some(0x8f00), Some(0x8000));
    allocated(&full, across.on(OnNode::Exact(N0)), Some(0x6f00), Some(0x1000));
    // The window lies on the other node.
    let low = Request::new(0x100).align(0x100).from(0x2000).below(0x4000);
    allocated(&[], low.on(OnNode::Exact(N1)), None, None);
    allocated(&[], low.on(OnNode::Prefer(N1)), Some(0x3f00), Some(0x2000));
    // Larger than the node, or than what is left of it.
    let large = Request::new(0x6000).align(0x1000);
    allocated(&[], Request::new(0x7001).align(0x1000).on(OnNode::Exact(N0)), None, None);
    allocated(&[], Request::new(0x7001).on(OnNode::Prefer(N0)), Some(0x8fc0), Some(0x8000));
    allocated(&[(0x4000, 0x4001)], large.on(OnNode::Exact(N0)), None, None);
    allocated(&[(0x4000, 0x4001)], large.on(OnNode::Prefer(N0)), Some(0xa000), Some(0x8000));
    allocated(&[(0x4000, 0x4001), (0xc000, 0xc001)], large.on(OnNode::Prefer(N0)), None, None);
    // Second fits on the node, and everything of it reserved.
    let small = Request::new(0x100).align(0x100);
    allocated(&[(0x7f80, 0x8000), (0x1000, 0x1080)], small.on(OnNode::Exact(N0)), Some(0x7e00), Some(0x1100));
    allocated(&[(0x8000, 0x1_0000)], small.on(OnNode::Exact(N1)), None, None);
    allocated(&[(0x8000, 0x1_0000)], small.on(OnNode::Prefer(N1)), Some(0x7f00), Some(0x1000));
}

/// The same with bounds that hold; finding and allocating agree.
#[track_caller]
fn allocated_in_range(request: Request, down: Option<u64>, up: Option<u64>) {
    for (direction, want) in [(Direction::TopDown, down), (Direction::BottomUp, up)] {
        let mut storage = Storage::new(16);
        let mut m = storage.memblock();
        m.add_node(r(0, 0x8000), N0, Flags::empty()).unwrap();
        m.add_node(r(0x8000, 0x10000), N1, Flags::empty()).unwrap();
        m.set_current_limit(0xc000);
        m.set_direction(direction);
        let found = m.find_in_range(request);
        assert_eq!(m.reserved(), [], "finding reserves nothing");
        assert_eq!(found, m.alloc_in_range(request).ok());
        assert_eq!(found.map(PhysRange::start), want, "{direction:?}");
    }
}

#[test]
fn the_bounds_of_a_range_allocation_hold() {
    let small = Request::new(0x100).align(0x100);
    allocated_in_range(small, Some(0xbf00), Some(0x1000));
    allocated_in_range(small.from(0x3010).below(0x5010), Some(0x4f00), Some(0x3100));
    allocated_in_range(small.from(0x3001).below(0x30ff), None, None);
    allocated_in_range(small.from(0x5000).below(0x4000), None, None);
    allocated_in_range(small.from(0x1_0000), None, None);
    allocated_in_range(small.below(0x1000), None, None);
    allocated_in_range(Request::new(0x400).from(0x7e00).below(0x8200), None, None);
    // The current limit is only for those who name none.
    allocated_in_range(small.from(0xc000), None, None);
    allocated_in_range(small.from(0xc000).below(0xe000), Some(0xdf00), Some(0xc000));
    allocated_in_range(small.from(0xc000).below(u64::MAX), Some(0xff00), Some(0xc000));
    // With a node.
    allocated_in_range(small.on(OnNode::Prefer(N0)), Some(0x7f00), Some(0x1000));
    allocated_in_range(small.from(0x9000).on(OnNode::Prefer(N0)), Some(0xbf00), Some(0x9000));
    allocated_in_range(small.from(0x9000).on(OnNode::Exact(N0)), None, None);
    // Nonsense.
    assert_eq!(Storage::new(1).memblock().find_in_range(Request::new(0)), None);
}

#[track_caller]
fn reserved_after(reserved: &[(u64, u64)], direction: Direction, want: &[(u64, u64)]) {
    let mut storage = Storage::new(16);
    let mut m = storage.memblock();
    m.add(r(0, 0x10000)).unwrap();
    m.set_direction(direction);
    reserved.iter().for_each(|&(s, e)| m.reserve(r(s, e)).unwrap());
    m.alloc(Request::new(0x100).align(0x100)).unwrap();
    m.validate();
    assert_eq!(pairs(m.reserved()), want);
}

#[test]
fn what_is_allocated_merges_with_its_reserved_neighbours() {
    use Direction::{BottomUp, TopDown};
    reserved_after(&[], TopDown, &[(0xff00, 0x1_0000)]);
    reserved_after(&[(0x8000, 0xff00)], TopDown, &[(0x8000, 0x1_0000)]);
    reserved_after(&[(0x8000, 0xfe00)], TopDown, &[(0x8000, 0xfe00), (0xff00, 0x1_0000)]);
    reserved_after(&[(0xe000, 0x1_0000)], TopDown, &[(0xdf00, 0x1_0000)]);
    reserved_after(&[(0x8000, 0x9000), (0x9100, 0x1_0000)], TopDown, &[(0x8000, 0x1_0000)]);
    reserved_after(&[(0x8000, 0x9000), (0x90ff, 0x1_0000)], TopDown, &[(0x7f00, 0x9000), (0x90ff, 0x1_0000)]);
    reserved_after(&[], BottomUp, &[(0x1000, 0x1100)]);
    reserved_after(&[(0, 0x1000)], BottomUp, &[(0, 0x1100)]);
    reserved_after(&[(0, 0x1001)], BottomUp, &[(0, 0x1001), (0x1100, 0x1200)]);
    reserved_after(&[(0, 0x2000), (0x2100, 0x3000)], BottomUp, &[(0, 0x3000)]);
    reserved_after(&[(0, 0x2000), (0x20ff, 0x3000)], BottomUp, &[(0, 0x2000), (0x20ff, 0x3100)]);
}

/// Whether each way to allocate takes the flagged one of two pages, when that would come first, and when it is the only.
#[track_caller]
fn flagged_page_is_taken(
    prepare: impl Fn(&mut Memblock<'_>),
    flags: Flags,
    first: Option<bool>,
    alone: bool,
) {
    type Way = fn(&mut Memblock<'_>, Request) -> Result<PhysRange, Error>;
    let ways: [Way; 6] = [
        |m, q| m.alloc(q),
        |m, q| m.alloc_in_range(q),
        |m, q| m.alloc_zeroed(q),
        |m, q| m.alloc(q.on(OnNode::Exact(N0))),
        |m, q| m.alloc(q.on(OnNode::Prefer(N1))),
        |m, q| m.alloc_slice(q.size_bytes as usize, 0u8, q.on).map(|s| m.range_of(s).unwrap()),
    ];
    for direction in [Direction::TopDown, Direction::BottomUp] {
        for (i, way) in ways.iter().enumerate() {
            let sim = SimMachine::new(0x3000);
            let mut storage = Storage::new(8);
            let mut m = storage.growing(&sim);
            m.set_direction(direction);
            m.add_node(r(0x1000, 0x3000), N0, Flags::empty()).unwrap();
            let down = direction == Direction::TopDown;
            let (flagged, plain) = if down { (0x2000, 0x1000) } else { (0x1000, 0x2000) };
            // Mirrored memory is to be preferred where it would come last.
            let (flagged, plain) = if first.is_none() { (plain, flagged) } else { (flagged, plain) };
            m.mark(r(flagged, flagged + PAGE), flags).unwrap();
            prepare(&mut m);
            let got = way(&mut m, Request::pages(1)).unwrap().start();
            assert_eq!(got == flagged, first.unwrap_or(true), "way {i}, {direction:?}, both free");
            let rest = way(&mut m, Request::pages(1)).ok().map(PhysRange::start);
            let other = if got == flagged { plain } else { flagged };
            assert_eq!(rest, Some(other).filter(|_| alone), "way {i}, {direction:?}, one left");
            m.validate();
        }
    }
}

#[test]
fn each_way_to_allocate_minds_the_flags() {
    let nothing = |_: &mut Memblock<'_>| {};
    flagged_page_is_taken(nothing, Flags::NOMAP, Some(false), false);
    flagged_page_is_taken(nothing, Flags::DRIVER_MANAGED, Some(false), false);
    flagged_page_is_taken(nothing, Flags::HOTPLUG, Some(true), true);
    flagged_page_is_taken(|m| m.avoid_hotplug(), Flags::HOTPLUG, Some(false), false);
    flagged_page_is_taken(nothing, Flags::MIRROR, None, true);
    flagged_page_is_taken(nothing, Flags::MIRROR | Flags::NOMAP, Some(false), false);
}

#[test]
fn raw_memory_is_as_it_was_and_zeroed_memory_zero() {
    let sim = SimMachine::new(0x10000);
    let mut storage = Storage::new(8);
    let mut m = storage.growing(&sim);
    m.add(r(0, 0x10000)).unwrap();
    let byte = |at: u64| sim.machine().phys_to_virt(crate::PhysAddr::new(at));
    for at in 0x1000..0x10000 {
        // SAFETY: RAM of this machine, free in `m`.
        unsafe { byte(at).write(0xa5) };
    }
    let read = |range: PhysRange| {
        // SAFETY: RAM that was written above.
        (range.start()..range.end()).map(|at| unsafe { byte(at).read() }).collect::<Vec<_>>()
    };
    for on in [OnNode::Any, OnNode::Prefer(N0)] {
        let request = Request::new(0x123).align(1).on(on);
        let raw = m.alloc(request).unwrap();
        assert_eq!(read(raw), [0xa5; 0x123]);
        let zeroed = m.alloc_zeroed(request).unwrap();
        assert_eq!(read(zeroed), [0; 0x123]);
        assert_eq!(read(r(zeroed.start() - 1, zeroed.start())), [0xa5]);
        assert_eq!(read(raw), [0xa5; 0x123]);
    }
    assert_eq!(
        m.alloc(Request::new(8).on(OnNode::Exact(N0))),
        Err(Error::NoMemory),
        "the node is not known yet"
    );
    assert_eq!(m.alloc_slice(0, 7u32, OnNode::Any).unwrap(), []);
    assert_eq!(m.alloc_slice(3, 7u32, OnNode::Any).unwrap(), [7; 3]);
}
