//! The direct map: what it covers, with which pages.

use super::*;

fn ranges(ram: &[(u64, u64)]) -> impl Iterator<Item = PhysRange> + '_ {
    ram.iter().map(|&(start, end)| PhysRange::new(start, end).unwrap())
}

#[test]
fn the_direct_map_is_cut_as_linux_cuts_it() {
    let ram = [(0, 0x9fc00), (M, 0x1ffd_f000), (4 * G, 5 * G + 0x1234)];
    let ram = || ram.into_iter().map(|(start, end)| PhysRange::new(start, end).unwrap());
    let ranges: Vec<_> = direct_map_ranges(ram()).map(|r| (r.start(), r.end())).collect();
    assert_eq!(ranges, [(0, M), (M, 0x1ffd_f000), (4 * G, 5 * G + 0x1000)]);
    let mut f = Fixture::new();
    let counts = f.tree.map_direct(VirtAddr::new(DIRECT), ram(), PageSize::Size1G, &mut f.tables).unwrap();
    // 2 MiB in small pages at the start, 0x1df at the end of low memory, one at the end of high memory.
    assert_eq!(sizes(counts), [512 + 0x1df + 1, 254, 1]);
    assert_eq!(counts.kb(PageSize::Size2M), 254 * 2048);
    let at = f.tree.translate(VirtAddr::new(DIRECT + 0x1234_5678)).unwrap();
    assert_eq!((at.phys, at.level), (PhysAddr::new(0x1234_5678), Level::Pmd));
    assert_eq!(f.tree.translate(VirtAddr::new(DIRECT + 0x1ffd_f000)), None);
}

#[test]
fn regions_that_touch_share_large_pages() {
    // Two nodes meet in the middle of a GiB, two others in the middle of a page of 2 MiB.
    let ram = [(M, 3 * G / 2), (3 * G / 2, 3 * G + M), (3 * G + M, 4 * G), (5 * G, 6 * G)];
    let ram = || ram.into_iter().map(|(start, end)| PhysRange::new(start, end).unwrap());
    let ranges: Vec<_> = direct_map_ranges(ram()).map(|r| (r.start(), r.end())).collect();
    assert_eq!(ranges, [(0, M), (M, 4 * G), (5 * G, 6 * G)]);
    let mut f = Fixture::new();
    let counts = f.tree.map_direct(VirtAddr::new(DIRECT), ram(), PageSize::Size1G, &mut f.tables).unwrap();
    assert_eq!(sizes(counts), [512, 511, 4]);
    f.validate();
}

#[test]
fn tables_of_the_direct_map_are_asked_for_near_what_they_map() {
    let mut f = Fixture::new();
    f.tables.asked.clear();
    let ram = [(0, 2 * G + 4 * M)].into_iter().map(|(start, end)| PhysRange::new(start, end).unwrap());
    f.tree.map_direct(VirtAddr::new(DIRECT), ram, PageSize::Size2M, &mut f.tables).unwrap();
    let asked: Vec<_> = f.tables.asked.iter().map(|(level, near)| (*level, near.unwrap().start())).collect();
    use Level::*;
    assert_eq!(asked, [(Pud, 0), (Pmd, 0), (Pte, 0), (Pmd, G), (Pmd, 2 * G)]);
}

/// Memory of a machine, and the kB that Linux reports as `DirectMap4k`, `DirectMap2M`, `DirectMap1G`.
type Reported = (&'static str, &'static [(u64, u64)], [u64; 3]);

const LINUX: [Reported; 9] = [
    ("128 MiB", &[(M, 128 * M - 0x2_0000)], [24448, 106_496, 0]),
    ("512 MiB", &[(M, 512 * M - 0x2_0000)], [24448, 499_712, 0]),
    ("570 MiB", &[(M, 570 * M - 0x2_0000)], [24448, 559_104, 0]),
    ("mem=512M", &[(M, 512 * M)], [22528, 501_760, 0]),
    ("3 GiB", &[(M, 3 * G - 0x2_0000)], [24448, 2_072_576, 1_048_576]),
    ("4 GiB", &[(M, 3 * G - 0x2_0000), (4 * G, 5 * G)], [24448, 3_121_152, 3_145_728]),
    ("low 1 GiB of 4", &[(M, G - 0x2_0000), (4 * G, 7 * G)], [24448, 3_121_152, 3_145_728]),
    ("12 GiB", &[(M, 3 * G - 0x2_0000), (4 * G, 13 * G)], [24448, 4_169_728, 10_485_760]),
    ("two nodes", &[(M, 2 * G), (2 * G, 3 * G - 0x2_0000), (4 * G, 5 * G)], [28544, 4_165_632, 2_097_152]),
];

/// After mapping, Linux splits pages where it changes rights: one of 2 MiB becomes 512 of 4 KiB, one of 1 GiB 512 of 2 MiB.
/// And it counts a page of 1 GiB again for each step of its mapping that touches it.
#[test]
fn linux_maps_with_the_same_pages_before_it_splits_some() {
    for (name, ram, [small, large, huge]) in LINUX {
        let mut f = Fixture::new();
        let counts =
            f.tree.map_direct(VirtAddr::new(DIRECT), ranges(ram), PageSize::Size1G, &mut f.tables).unwrap();
        let [ours_small, ours_large, ours_huge] = sizes(counts);
        let [small, large, huge] = [small / 4, large / 2048, huge / (1 << 20)];
        let split_large = (small - ours_small) / 512;
        assert_eq!(ours_small + 512 * split_large, small, "{name}");
        let split_huge = (large + split_large - ours_large) / 512;
        assert_eq!(ours_large + 512 * split_huge - split_large, large, "{name}");
        let counted_again = huge + split_huge - ours_huge;
        let has_high_memory = ram.iter().any(|&(_, end)| end > 4 * G);
        assert_eq!(counted_again, if has_high_memory { 2 } else { 0 }, "{name}");
    }
}
