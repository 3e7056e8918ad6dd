//! Limits, trimming, and what the firmware's map becomes.

use super::*;

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

/// Memory 0x1000..0x3000, 0x8000..0xa000 (its last page not to be mapped), 0xc000..0xd000; 0x2000..0xf000 reserved.
#[track_caller]
fn limited(
    limit: impl Fn(&mut Memblock<'_>) -> Result<(), Error>,
    memory: &[(u64, u64)],
    reserved: &[(u64, u64)],
) {
    for (memory_slots, reserved_slots) in [(8, 8), (4, 8), (8, 1)] {
        let mut storage = Storage(vec![Region::EMPTY; memory_slots], vec![Region::EMPTY; reserved_slots]);
        let mut m = storage.memblock();
        for (s, e) in [(0x1000, 0x3000), (0x8000, 0xa000), (0xc000, 0xd000)] {
            m.add(r(s, e)).unwrap();
        }
        m.mark(r(0x9000, 0xa000), Flags::NOMAP).unwrap();
        m.reserve(r(0x2000, 0xf000)).unwrap();
        let before = (cases(m.memory()), cases(m.reserved()));
        let result = limit(&mut m);
        m.validate();
        if (memory_slots, reserved_slots) != (8, 8) && result == Err(Error::Full) {
            assert_eq!((cases(m.memory()), cases(m.reserved())), before, "an error changes nothing");
        } else {
            assert_eq!((pairs(m.memory()), pairs(m.reserved())), (memory.to_vec(), reserved.to_vec()));
        }
    }
}

#[test]
fn limits_end_inside_between_and_outside_of_regions() {
    let all = [(0x1000, 0x3000), (0x8000, 0x9000), (0x9000, 0xa000), (0xc000, 0xd000)];
    let kept = [(0x2000, 0xf000)];
    let enforce = |bytes| move |m: &mut Memblock<'_>| m.enforce_memory_limit(bytes);
    limited(enforce(0), &all, &kept);
    limited(enforce(0x5001), &all, &kept);
    limited(enforce(u64::MAX), &all, &kept);
    limited(enforce(0x5000), &all, &[(0x2000, 0xd000)]);
    limited(enforce(0x4800), &[all[0], all[1], all[2], (0xc000, 0xc800)], &[(0x2000, 0xc800)]);
    limited(enforce(0x2000), &all[..1], &[(0x2000, 0x3000)]);
    limited(enforce(1), &[(0x1000, 0x1001)], &[]);
    // Memory that is not mapped stays.
    let unmap = |bytes| move |m: &mut Memblock<'_>| m.mem_limit_remove_map(bytes);
    limited(unmap(0), &all, &kept);
    limited(unmap(0x5001), &all, &kept);
    limited(unmap(0x2000), &[all[0], all[2]], &[(0x2000, 0x3000)]);
    limited(unmap(0x3800), &all[..3], &[(0x2000, 0x9800)]);
    let cap = |s, e| move |m: &mut Memblock<'_>| m.cap_memory_range(r(s, e));
    limited(cap(0x2000, 0x2000), &all, &kept);
    limited(cap(0, PHYS_LIMIT), &all, &kept);
    limited(cap(0x3000, 0x8000), &[all[2]], &[(0x3000, 0x8000)]);
    limited(cap(0x2000, 0xc800), &[(0x2000, 0x3000), all[1], all[2], (0xc000, 0xc800)], &[(0x2000, 0xc800)]);
    limited(cap(0x8400, 0x8800), &[(0x8400, 0x8800), all[2]], &[(0x8400, 0x8800)]);
    limited(cap(0xe000, 0x1_0000), &[all[2]], &[(0xe000, 0xf000)]);
}

#[test]
fn a_cap_without_memory_is_refused_with_a_word() {
    let mut storage = Storage::new(2);
    let mut m = storage.memblock();
    m.reserve(r(0, 10)).unwrap();
    let (result, log) = crate::testlog::capture(|| m.cap_memory_range(r(5, 8)));
    assert_eq!((result, pairs(m.reserved())), (Ok(()), vec![(0, 10)]));
    assert_eq!(log, ["memblock_cap_memory_range: No memory registered yet"]);
}

#[test]
fn arrays_stay_reserved_under_limits() {
    let sim = SimMachine::new(1 << 20);
    let mut storage = Storage::new(2);
    let mut m = storage.growing(&sim);
    m.add(r(0, 1 << 20)).unwrap();
    (0..8).for_each(|i| m.reserve(r(0x1000 * i, 0x1000 * i + 8)).unwrap());
    let array = m.own_arrays().next().unwrap();
    assert_eq!(array.end(), 1 << 20);
    m.free(ALL).unwrap();
    m.validate();
    m.reserve(r(0x1000, 0x2000)).unwrap();
    m.enforce_memory_limit(0x8000).unwrap();
    m.validate();
    assert_eq!(pairs(m.reserved()), [(0x1000, 0x2000), (array.start(), array.end())]);
    assert_eq!(m.discard().count(), 0, "it is not memory any more");
}
