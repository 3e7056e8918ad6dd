//! Arrays that are full, and where larger ones come from.

use super::*;
use crate::testlog::capture;

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
fn arrays_of_linuxs_size_grow_at_the_129th_region() {
    let sim = SimMachine::new(16 << 20);
    let mut storage = Storage::new(128);
    let mut m = storage.growing(&sim);
    m.add(r(8 << 20, 16 << 20)).unwrap();
    for i in 0..128 {
        m.reserve(r(0x2000 * i, 0x2000 * i + 0x1000)).unwrap();
        assert!(i == 127 || m.add(r(0x2000 * i, 0x2000 * i + 0x1000)).is_ok());
    }
    assert_eq!((m.memory().len(), m.reserved().len(), m.own_arrays().count()), (128, 128, 0));
    // What is covered, or merges with a region, needs no room.
    m.reserve(r(0, 0x1000)).unwrap();
    m.free(r(0x4000, 0x5000)).unwrap();
    m.reserve(r(0x4000, 0x5000)).unwrap();
    assert_eq!(m.own_arrays().count(), 0);
    m.reserve(r(0x20_0000, 0x20_1000)).unwrap();
    assert_eq!((m.reserved().len(), m.own_arrays().count()), (130, 1));
    m.add(r(0x20_0000, 0x20_1000)).unwrap();
    assert_eq!((m.memory().len(), m.own_arrays().count()), (129, 2));
    m.validate();
    assert_eq!(m.own_arrays().map(PhysRange::len_bytes).collect::<Vec<_>>(), [0x2000; 2]);
}

/// Where the reserved array goes when `incoming` is the range too many: memory is 0x1000..0x10000, page 1 is in use.
#[track_caller]
fn array_goes_to(incoming: (u64, u64), down: Option<u64>, up: Option<u64>) {
    for (direction, want) in [(Direction::TopDown, down), (Direction::BottomUp, up)] {
        let sim = SimMachine::new(0x10000);
        let mut storage = Storage::new(2);
        let mut m = storage.growing(&sim);
        m.set_direction(direction);
        m.add(r(0x1000, 0x10000)).unwrap();
        m.reserve(r(0x1000, 0x1010)).unwrap();
        m.reserve(r(0x1020, 0x1030)).unwrap();
        let before = cases(m.reserved());
        let (result, log) = capture(|| m.reserve(r(incoming.0, incoming.1)));
        m.validate();
        assert_eq!(m.own_arrays().next().map(PhysRange::start), want, "{direction:?}");
        if want.is_none() {
            assert_eq!((result, cases(m.reserved())), (Err(Error::Full), before));
            assert_eq!(log, ["memblock: Failed to double reserved array from 2 to 4 entries !"]);
        } else {
            assert!(result.is_ok() && m.is_region_reserved(r(incoming.0, incoming.1)));
            assert_eq!(m.reserved_bytes(), 0x20 + 0x1000 + incoming.1 - incoming.0);
        }
    }
}

#[test]
fn the_new_array_stays_clear_of_what_is_being_reserved() {
    array_goes_to((0x4000, 0x8000), Some(0xf000), Some(0x8000));
    array_goes_to((0x8000, 0x10000), Some(0x7000), Some(0x2000));
    array_goes_to((0x2000, 0x8000), Some(0xf000), Some(0x8000));
    array_goes_to((0x2000, 0xf000), Some(0xf000), Some(0xf000));
    array_goes_to((0x3000, 0x10000), Some(0x2000), Some(0x2000));
    array_goes_to((0x2000, 0x10000), None, None);
    array_goes_to((0x2800, 0xf800), None, None);
    array_goes_to((0x20000, 0x30000), Some(0xf000), Some(0x2000));
}

#[test]
fn what_is_allocated_does_not_become_the_array() {
    let sim = SimMachine::new(0x10000);
    let mut storage = Storage::new(2);
    let mut m = storage.growing(&sim);
    m.add(r(0x1000, 0x10000)).unwrap();
    m.reserve(r(0x1000, 0x1010)).unwrap();
    m.reserve(r(0x1020, 0x1030)).unwrap();
    let got = m.alloc(Request::pages(2)).unwrap();
    let array = m.own_arrays().next().unwrap();
    assert_eq!((got, array), (r(0xe000, 0x10000), r(0xd000, 0xe000)));
    m.validate();
}

#[test]
fn an_array_of_memory_leaves_what_is_being_removed() {
    let sim = SimMachine::new(0x10000);
    let mut storage = Storage::new(1);
    let mut m = storage.growing(&sim);
    m.add(r(0x1000, 0x10000)).unwrap();
    m.remove(r(0x8000, 0xf800)).unwrap();
    m.validate();
    assert_eq!(pairs(m.memory()), [(0x1000, 0x8000), (0xf800, 0x10000)]);
    assert_eq!(m.own_arrays().collect::<Vec<_>>(), [r(0x7000, 0x8000)]);
}

#[test]
fn arrays_grow_in_other_memory_when_no_mirrored_is_left() {
    let sim = SimMachine::new(0x10000);
    let mut storage = Storage::new(3);
    let mut m = storage.growing(&sim);
    m.add(r(0x1000, 0x10000)).unwrap();
    m.mark(r(0x4000, 0x5000), Flags::MIRROR).unwrap();
    for i in 0..4 {
        m.reserve(r(0x1000 + 32 * i, 0x1010 + 32 * i)).unwrap();
    }
    assert_eq!(m.own_arrays().collect::<Vec<_>>(), [r(0x4000, 0x5000)], "mirrored memory first");
    m.set_node(r(0x8000, 0x9000), Some(N0)).unwrap();
    assert_eq!(m.own_arrays().next(), Some(r(0xf000, 0x10000)));
    m.validate();
}

#[test]
fn all_three_arrays_grow_and_are_given_back_at_the_end() {
    let sim = SimMachine::new(1 << 20);
    let (mut storage, mut slots) = (Storage::new(1), []);
    let mut m = storage.growing(&sim);
    m.add(r(0, 1 << 20)).unwrap();
    m.keep_physmem(&mut slots);
    for i in 0..200 {
        m.add_physmem(r(0x1000 * i, 0x1000 * i + 1)).unwrap();
        m.add(r(0x10_0000 + 0x1000 * i, 0x10_0000 + 0x1000 * i + 1)).unwrap();
        m.validate();
    }
    assert_eq!((m.physmem().len(), m.memory().len()), (200, 200));
    let arrays: Vec<_> = m.own_arrays().collect();
    assert_eq!(arrays.len(), 3);
    let total: u64 = arrays.iter().map(|a| a.len_bytes()).sum();
    assert_eq!(m.reserved_bytes(), total, "the old arrays were freed");
    m.set_debug(Debug::On);
    let (given, log) = capture(|| m.discard().collect::<Vec<_>>());
    assert_eq!(given, arrays);
    assert_eq!(log.iter().filter(|l| l.starts_with("memblock_free_late: [0x")).count(), 3);
}

#[test]
fn an_array_in_memory_that_is_not_to_be_mapped_is_not_given_back() {
    for (flags, given) in [(Flags::HOTPLUG, 1), (Flags::NOMAP, 0), (Flags::DRIVER_MANAGED, 0)] {
        let sim = SimMachine::new(1 << 20);
        let mut storage = Storage::new(4);
        let mut m = storage.growing(&sim);
        m.add(r(0, 1 << 20)).unwrap();
        (0..5).for_each(|i| m.reserve(r(16 * i, 16 * i + 8)).unwrap());
        m.mark(r(0xf_f800, 0x10_0000), flags).unwrap();
        assert_eq!((m.own_arrays().count(), m.discard().count()), (1, given), "{flags:?}");
    }
}

#[test]
fn growing_is_logged_in_linuxs_words() {
    let sim = SimMachine::new(1 << 20);
    let mut storage = Storage::new(128);
    let mut m = storage.growing(&sim);
    m.add(r(0, 1 << 20)).unwrap();
    m.set_debug(Debug::On);
    let (_, log) = capture(|| (0..300).for_each(|i| m.reserve(r(16 * i, 16 * i + 8)).unwrap()));
    let mut lines: Vec<_> = log.iter().map(|l| l.split(" mm/src").next().unwrap()).collect();
    lines.retain(|line| {
        !line.starts_with("memblock_reserve: [0x0000000000000")
            && !line.starts_with("memblock_reserve: [0x0000000000001")
    });
    assert_eq!(
        lines,
        [
            "memblock: reserved is doubled to 256 at [0x00000000000fe000-0x00000000000ff7ff]",
            "memblock_reserve: [0x00000000000fe000-0x00000000000fffff]",
            "memblock: reserved is doubled to 512 at [0x00000000000fb000-0x00000000000fdfff]",
            "memblock_phys_free: [0x00000000000fe000-0x00000000000fffff]",
            "memblock_reserve: [0x00000000000fb000-0x00000000000fdfff]",
        ]
    );
}
