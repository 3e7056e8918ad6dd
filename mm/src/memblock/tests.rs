use super::*;
use crate::arch::SimMachine;
use crate::testlog::capture;
use std::vec;
use std::vec::Vec;

const PAGE: u64 = PAGE_SIZE as u64;
const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);

pub(super) fn r(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end).unwrap()
}

pub(super) struct Storage(Vec<Region>, Vec<Region>);

impl Storage {
    pub(super) fn new(slots: usize) -> Self {
        Self(vec![Region::EMPTY; slots], vec![Region::EMPTY; slots])
    }

    pub(super) fn memblock(&mut self) -> Memblock<'_> {
        Memblock::new(&mut self.0, &mut self.1)
    }
}

fn pairs(regions: &[Region]) -> Vec<(u64, u64)> {
    regions.iter().map(|x| (x.range.start(), x.range.end())).collect()
}

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
fn trimming_keeps_whole_pages_and_linuxs_total() {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    for (s, e) in [(0x1000, 0x9fc00), (0xa0100, 0xa0200), (0xff_ff80, 0x100_1000)] {
        m.add(r(s, e)).unwrap();
    }
    m.trim_memory(PAGE);
    m.validate();
    assert_eq!(pairs(m.memory()), [(0x1000, 0x9f000), (0x100_0000, 0x100_1000)]);
    assert_eq!(m.memory_bytes(), 0x9e000 + 0x1000);
}

#[test]
fn limits_cut_memory_and_reservations() {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add(r(0x1000, 0x3000)).unwrap();
    m.add(r(0x8000, 0xa000)).unwrap();
    m.reserve(r(0x2000, 0xf000)).unwrap();
    m.enforce_memory_limit(0).unwrap();
    m.enforce_memory_limit(0x5000).unwrap();
    assert_eq!(m.end_of_dram(), 0xa000);
    m.enforce_memory_limit(0x3000).unwrap();
    m.validate();
    assert_eq!(
        (pairs(m.memory()), pairs(m.reserved())),
        (vec![(0x1000, 0x3000), (0x8000, 0x9000)], vec![(0x2000, 0x9000)])
    );
    m.mark(r(0x8800, 0x9000), Flags::NOMAP).unwrap();
    m.cap_memory_range(r(0x1800, 0x2800)).unwrap();
    m.validate();
    assert_eq!(pairs(m.memory()), [(0x1800, 0x2800), (0x8800, 0x9000)]);
    assert_eq!(pairs(m.reserved()), [(0x2000, 0x2800)]);
}

#[test]
fn arrays_grow_out_of_themselves() {
    let sim = SimMachine::new(16 << 20);
    let mut storage = Storage::new(2);
    let mut m = storage.memblock();
    m.add(r(0, 16 << 20)).unwrap();
    // SAFETY: the simulated RAM outlives `m`, and nobody else uses it.
    unsafe { m.allow_resize(sim.machine()) };
    for i in 0..500 {
        m.reserve(r(0x10_0000 + i * 64, 0x10_0000 + i * 64 + 32)).unwrap();
        m.set_node(r(0x20_0000 + i * 64, 0x20_0000 + i * 64 + 32), Some(N0)).unwrap();
        m.validate();
    }
    assert_eq!(m.memory().len(), 1001);
    assert_eq!(m.own_arrays().count(), 2);
    // Old arrays were given back: what is reserved is the 500 and the two arrays.
    let arrays: u64 = m.own_arrays().map(PhysRange::len_bytes).sum();
    assert_eq!(m.reserved_bytes(), 500 * 32 + arrays);
    let numbers = m.alloc_slice(1000, 7u32, OnNode::Any).unwrap();
    numbers[999] = 8;
    let at = m.range_of(numbers).unwrap();
    assert!(m.is_region_reserved(at) && at.len_bytes() == 4000);
    assert_eq!(numbers.iter().sum::<u32>(), 7001);
}

#[test]
fn an_array_that_finds_no_room_to_grow_is_full() {
    let sim = SimMachine::new(1 << 20);
    let mut storage = Storage::new(2);
    let mut m = storage.memblock();
    m.add(r(0, 0x2000)).unwrap();
    // SAFETY: the simulated RAM outlives `m`, and nobody else uses it.
    unsafe { m.allow_resize(sim.machine()) };
    // The one page that could become the array is about to be reserved itself.
    m.reserve(r(0, 0x10)).unwrap();
    m.reserve(r(0x20, 0x30)).unwrap();
    assert_eq!(m.reserve(r(0x1000, 0x2000)), Err(Error::Full));
    m.validate();
    assert_eq!(m.reserved().len(), 2);
    m.reserve(r(0x40, 0x50)).unwrap();
    m.validate();
    assert!(m.is_reserved(0x1800), "the array took the page");
}

#[test]
fn the_firmware_map_gives_linuxs_memory() {
    let mut entries = vec![e820::Entry::EMPTY; 96];
    let mut map = e820::Map::new(&mut entries);
    map.add(0, 0x9fc00, e820::Kind::RAM).unwrap();
    map.add(0x9fc00, 0x400, e820::Kind::RESERVED).unwrap();
    map.add(0x10_0000, 0xbfee_0000, e820::Kind::RAM).unwrap();
    map.add(0x1_0000_0000, 0x4000_0000, e820::Kind::RAM).unwrap();
    map.add(0x2_0000_0000, 0x1000, e820::Kind::SOFT_RESERVED).unwrap();
    map.sanitise().unwrap();
    map.trim_bios_range().unwrap();
    let mut storage = Storage::new(128);
    let mut m = storage.memblock();
    m.add_usable(&map).unwrap();
    m.validate();
    assert_eq!(
        pairs(m.memory()),
        [(0x1000, 0x9f000), (0x10_0000, 0xbffe_0000), (0x1_0000_0000, 0x1_4000_0000)]
    );
    assert_eq!(pairs(m.reserved()), [(0x2_0000_0000, 0x2_0000_1000)]);
    // Linux prints 0xfff7ec00: trimming does not change its total.
    assert_eq!(m.memory.total_bytes(), 0xfff7_ec00);
    assert_eq!(
        m.absent_pages_in(crate::PfnRange::new(crate::Pfn::new(0), crate::Pfn::new(0x100))),
        0x100 - 0x9e
    );
}

#[test]
fn the_dump_is_worded_as_linuxs() {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add(r(0x1000, 0x9fc00)).unwrap();
    m.add_node(r(0x10_0000, 0x4000_0000), N1, Flags::HOTPLUG).unwrap();
    m.trim_memory(PAGE);
    let (_, log) = capture(|| m.dump_all());
    assert_eq!(log, [""; 0], "only when asked for");
    m.set_debug(Debug::On);
    let (_, log) = capture(|| {
        m.reserve(r(0, 0x1_0000)).unwrap();
        m.alloc(Request::pages(1).below(0x10_0000).on(OnNode::Prefer(N1))).unwrap();
        let at = m.alloc_in_range(Request::new(64).from(0x2_0000).below(0x3_0000)).unwrap();
        m.free(at).unwrap();
        m.alloc(Request::new(64).on(OnNode::Exact(NodeId(3)))).unwrap_err();
        m.dump_all();
    });
    let callers_cut: Vec<_> = log.iter().map(|l| l.split(" mm/src").next().unwrap()).collect();
    let want = [
        "memblock_reserve: [0x0000000000000000-0x000000000000ffff]",
        "memblock_alloc_try_nid_raw: 4096 bytes align=0x1000 nid=1 from=0x0000000000000000 max_addr=0x0000000000100000",
        "memblock_reserve: [0x000000000009e000-0x000000000009efff]",
        "memblock_phys_alloc_range: 64 bytes align=0x40 from=0x0000000000020000 max_addr=0x0000000000030000",
        "memblock_reserve: [0x000000000002ffc0-0x000000000002ffff]",
        "memblock_phys_free: [0x000000000002ffc0-0x000000000002ffff]",
        "memblock_alloc_exact_nid_raw: 64 bytes align=0x40 nid=3 from=0x0000000000000000 max_addr=0x0000000000000000",
        "MEMBLOCK configuration:",
        " memory size = 0x000000003ff9ec00 reserved size = 0x0000000000011000",
        " memory.cnt  = 0x2",
        " memory[0x0]\t[0x0000000000001000-0x000000000009efff], 0x000000000009e000 bytes flags: 0x0",
        " memory[0x1]\t[0x0000000000100000-0x000000003fffffff], 0x000000003ff00000 bytes on node 1 flags: 0x1",
        " reserved.cnt  = 0x2",
        " reserved[0x0]\t[0x0000000000000000-0x000000000000ffff], 0x0000000000010000 bytes flags: 0x0",
        " reserved[0x1]\t[0x000000000009e000-0x000000000009efff], 0x0000000000001000 bytes flags: 0x0",
    ];
    assert_eq!(callers_cut, want);
}
