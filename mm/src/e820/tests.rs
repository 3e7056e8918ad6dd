use super::*;
use crate::testlog::capture;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn map_of<'a>(storage: &'a mut Vec<Entry>, capacity: usize, raw: &[(u64, u64, Kind)]) -> Map<'a> {
    *storage = vec![Entry::EMPTY; 3 * capacity];
    let mut map = Map::new(storage);
    for &(start, end, kind) in raw {
        map.add(start, end - start, kind).unwrap();
    }
    map.validate(false);
    map
}

#[track_caller]
fn sanitised(raw: &[(u64, u64, Kind)], want: &[(u64, u64, Kind)]) {
    let mut storage = Vec::new();
    let mut map = map_of(&mut storage, 64, raw);
    map.sanitise().unwrap();
    map.validate(true);
    assert_eq!(triples(&map), want);
}

fn triples(map: &Map<'_>) -> Vec<(u64, u64, Kind)> {
    map.entries().iter().map(|e| (e.range.start(), e.range.end(), e.kind)).collect()
}

const RAM: Kind = Kind::RAM;
const RSV: Kind = Kind::RESERVED;

#[test]
fn the_higher_type_number_wins_an_overlap() {
    sanitised(&[(0, 100, RAM), (50, 60, RSV)], &[(0, 50, RAM), (50, 60, RSV), (60, 100, RAM)]);
    sanitised(&[(50, 60, RAM), (0, 100, RSV)], &[(0, 100, RSV)]);
    sanitised(
        &[(0, 10, Kind::NVS), (5, 20, RAM), (8, 30, Kind::ACPI)],
        &[(0, 10, Kind::NVS), (10, 30, Kind::ACPI)],
    );
    sanitised(&[(0, 10, RSV), (0, 10, RAM), (0, 10, RSV)], &[(0, 10, RSV)]);
    sanitised(&[(0, 10, Kind::from_raw(99)), (0, 10, RAM)], &[(0, 10, Kind::from_raw(99))]);
}

#[test]
fn entries_come_out_sorted_and_neighbours_of_a_kind_merged() {
    sanitised(&[(20, 30, RAM), (0, 10, RAM), (10, 20, RAM)], &[(0, 30, RAM)]);
    sanitised(&[(20, 30, RAM), (0, 10, RAM)], &[(0, 10, RAM), (20, 30, RAM)]);
    sanitised(&[(0, 20, RAM), (10, 30, RAM)], &[(0, 30, RAM)]);
    sanitised(&[], &[]);
}

#[test]
fn legacy_persistent_and_soft_reserved_memory_keep_their_bounds() {
    for kind in [Kind::PRAM, Kind::SOFT_RESERVED] {
        sanitised(&[(0, 10, kind), (10, 20, kind)], &[(0, 10, kind), (10, 20, kind)]);
        sanitised(&[(0, 10, kind), (4, 6, RAM)], &[(0, 4, kind), (4, 6, kind), (6, 10, kind)]);
    }
    sanitised(&[(0, 10, Kind::PMEM), (10, 20, Kind::PMEM)], &[(0, 20, Kind::PMEM)]);
}

#[test]
fn empty_wrapping_unreachable_and_kindless_entries_are_dropped() {
    let mut storage = vec![Entry::EMPTY; 12];
    let mut map = Map::new(&mut storage);
    for (start, size) in [(5, 0), (u64::MAX, 2), (crate::addr::PHYS_LIMIT - 1, 2), (1 << 60, 1)] {
        map.add(start, size, RAM).unwrap();
    }
    map.add(0, 10, Kind::from_raw(0)).unwrap();
    assert_eq!(map.entries(), []);
    map.add(crate::addr::PHYS_LIMIT - 1, 1, RAM).unwrap();
    assert_eq!(map.entries().len(), 1);
}

#[test]
fn a_full_map_says_so_and_keeps_its_entries() {
    let mut storage = Vec::new();
    let mut map = map_of(&mut storage, 2, &[(0, 100, RAM), (50, 60, RSV)]);
    assert_eq!(map.add(200, 1, RAM), Err(Error::Full));
    assert_eq!(map.sanitise(), Err(Error::Full));
    let mut left = triples(&map);
    left.sort_by_key(|e| e.0);
    assert_eq!(left, [(0, 100, RAM), (50, 60, RSV)]);
    assert_eq!(map.range_remove(10, 5, Some(RAM)), Err(Error::Full));
}

#[track_caller]
fn updated(raw: &[(u64, u64, Kind)], range: (u64, u64), want: &[(u64, u64, Kind)], bytes: u64) {
    let mut storage = Vec::new();
    let mut map = map_of(&mut storage, 64, raw);
    assert_eq!(map.range_update(range.0, range.1 - range.0, RAM, RSV), Ok(bytes));
    map.sanitise().unwrap();
    map.validate(true);
    assert_eq!(triples(&map), want);
}

#[test]
fn updates_split_what_they_cut() {
    updated(&[(0, 100, RAM)], (0, 100), &[(0, 100, RSV)], 100);
    updated(&[(0, 100, RAM)], (20, 30), &[(0, 20, RAM), (20, 30, RSV), (30, 100, RAM)], 10);
    updated(
        &[(10, 20, RAM), (30, 40, RAM)],
        (15, 35),
        &[(10, 15, RAM), (15, 20, RSV), (30, 35, RSV), (35, 40, RAM)],
        10,
    );
    updated(&[(10, 20, Kind::ACPI)], (0, 100), &[(10, 20, Kind::ACPI)], 0);
}

#[test]
fn removing_leaves_a_hole_and_other_kinds() {
    let mut storage = Vec::new();
    let mut map = map_of(&mut storage, 8, &[(0, 10, RAM), (10, 20, RSV), (20, 30, RAM), (30, 40, RAM)]);
    assert_eq!(map.range_remove(5, u64::MAX, Some(RAM)), Ok(25));
    map.sanitise().unwrap();
    assert_eq!(triples(&map), [(0, 5, RAM), (10, 20, RSV)]);
    assert_eq!(map.range_remove(0, 15, None), Ok(10));
    assert_eq!(triples(&map), [(15, 20, RSV)]);
}

#[test]
fn a_pc_with_4_gib_ends_where_linux_says() {
    let raw = [
        (0, 0x9fc00, RAM),
        (0x9fc00, 0xa0000, RSV),
        (0xf0000, 0x10_0000, RSV),
        (0x10_0000, 0xbffe_0000, RAM),
        (0xbffe_0000, 0xc000_0000, RSV),
        (0x1_0000_0000, 0x1_4000_0000, RAM),
        (0xfd_0000_0000, 0x100_0000_0000, RSV),
    ];
    let mut storage = Vec::new();
    let mut map = map_of(&mut storage, 32, &raw);
    map.sanitise().unwrap();
    map.trim_bios_range().unwrap();
    assert_eq!(map.end_of_ram_pfn(), Pfn::new(0x14_0000));
    assert_eq!(map.end_of_low_ram_pfn(), Pfn::new(0xb_ffe0));
    assert_eq!(triples(&map)[..2], [(0, 0x1000, RSV), (0x1000, 0x9fc00, RAM)]);
    let range = |s, e| PhysRange::new(s, e).unwrap();
    assert!(map.mapped_all(range(0, 0xa0000), None));
    assert!(!map.mapped_all(range(0, 0xa0000), Some(RAM)));
    assert!(!map.mapped_all(range(0x9f000, 0x10_0000), None));
    assert!(map.mapped_any(range(0x9f000, 0x10_0000), Some(RAM)));
    assert!(!map.mapped_any(range(0xa0000, 0xf0000), None));
}

#[test]
fn the_log_is_worded_as_linuxs() {
    let mut storage = Vec::new();
    let raw = [
        (0, 0x9fc00, RAM),
        (0x10_0000, 0x20_0000, Kind::NVS),
        (0x20_0000, 0x20_1000, Kind::PMEM),
        (0x30_0000, 0x30_1000, Kind::from_raw(42)),
    ];
    let mut map = map_of(&mut storage, 16, &raw);
    let (_, log) = capture(|| {
        map.print_bios_map();
        map.add(u64::MAX, 2, RAM).unwrap();
        map.trim_bios_range().unwrap();
        map.range_remove(0x2000_0000, u64::MAX, Some(RAM)).unwrap();
        map.end_of_ram_pfn()
    });
    let want = [
        "BIOS-provided physical RAM map:",
        "BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable",
        "BIOS-e820: [mem 0x0000000000100000-0x00000000001fffff] ACPI NVS",
        "BIOS-e820: [mem 0x0000000000200000-0x0000000000200fff] persistent (type 7)",
        "BIOS-e820: [mem 0x0000000000300000-0x0000000000300fff] type 42",
        "e820: ignored entry at 0xffffffffffffffff of 0x2 bytes (usable)",
        "e820: update [mem 0x00000000-0x00000fff] usable ==> reserved",
        "e820: remove [mem 0x000a0000-0x000fffff] usable",
        "e820: remove [mem 0x20000000-0xfffffffffffffffe] usable",
        "last_pfn = 0x9f max_arch_pfn = 0x400000000",
    ];
    assert_eq!(log, want);
}

#[test]
fn efi_types_become_kinds_as_linux_maps_them() {
    let kinds: Vec<_> = (0..17).map(|t| Kind::from_efi(t).raw()).collect();
    assert_eq!(kinds, [2, 1, 1, 1, 1, 2, 2, 1, 5, 3, 4, 2, 2, 2, 7, 2, 2]);
}

#[test]
fn memory_past_the_direct_map_does_not_count() {
    let mut storage = Vec::new();
    let map = map_of(&mut storage, 4, &[(0, 1 << 30, RAM), (1 << 47, 1 << 48, RAM)]);
    assert_eq!(map.end_of_ram_pfn(), Pfn::new(1 << 18));
    let map = map_of(&mut storage, 4, &[(0, 1 << 47, RAM)]);
    assert_eq!(map.end_of_ram_pfn(), MAX_ARCH_PFN);
}

#[test]
fn thousands_of_entries_are_no_matter() {
    // Each lies over the end of the one before, kinds taking turns; given from the top down.
    let raw: Vec<_> = (0..3000u64).rev().map(|i| (i * 10, i * 10 + 12, [RAM, RSV][i as usize % 2])).collect();
    let mut storage = Vec::new();
    let mut map = map_of(&mut storage, 6000, &raw);
    map.sanitise().unwrap();
    map.validate(true);
    assert_eq!(triples(&map)[..3], [(0, 10, RAM), (10, 22, RSV), (22, 30, RAM)]);
    assert_eq!(map.entries().len(), 3000);
}

/// The kind of each of the first 64 bytes by definition: the highest that covers it.
fn naive(raw: &[(u64, u64, u32)]) -> Vec<Option<Kind>> {
    (0..64u64)
        .map(|b| {
            raw.iter()
                .filter(|&&(s, len, kind)| s <= b && b < s + len && kind != 0)
                .map(|r| Kind::from_raw(r.2))
                .max()
        })
        .collect()
}

proptest! {
    #[test]
    fn each_byte_gets_the_highest_kind_that_covers_it(
        raw in prop::collection::vec((0u64..48, 0u64..16, prop::sample::select(vec![0, 1, 2, 3, 4, 5, 6, 7, 12])), 0..24),
    ) {
        let mut storage = vec![Entry::EMPTY; 3 * 64];
        let mut map = Map::new(&mut storage);
        for &(start, size, kind) in &raw {
            map.add(start, size, Kind::from_raw(kind)).unwrap();
        }
        map.sanitise().unwrap();
        map.validate(true);
        let got: Vec<_> = (0..64u64)
            .map(|b| map.entries().iter().find(|e| e.range.contains(b)).map(|e| e.kind))
            .collect();
        prop_assert_eq!(got, naive(&raw));
        let once = map.entries().to_vec();
        map.sanitise().unwrap();
        prop_assert_eq!(map.entries(), &once[..]);
    }

    #[test]
    fn arbitrary_raw_entries_never_panic(raw in prop::collection::vec(any::<(u64, u64, u32)>(), 0..40)) {
        let mut storage = vec![Entry::EMPTY; 3 * 32];
        let mut map = Map::new(&mut storage);
        for &(start, size, kind) in &raw {
            let _ = map.add(start, size, Kind::from_raw(kind));
        }
        if map.sanitise().is_ok() {
            map.validate(true);
        }
        for &(start, size, kind) in &raw {
            let _ = map.range_update(start, size, Kind::RAM, Kind::from_raw(kind));
            let _ = map.range_remove(size, start, Some(Kind::from_raw(kind)));
        }
        map.validate(false);
    }
}
