//! Pages from anywhere, mapped and taken out again, against a map by page.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Across the end of a page of 1 GiB, so that there are two tables of the second level.
const START: u64 = DIRECT + G - 2 * M;
/// Pages of the window: three large ones.
const PAGES: u64 = 1536;

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(START + (page << 12))
}

fn pages(first: u64, nr: u64) -> VirtRange {
    range(START + (first << 12), nr << 12)
}

/// Which frame each page has.
type Model = BTreeMap<u64, u64>;

fn compare(f: &Fixture, model: &Model) {
    for page in 0..PAGES {
        let found = f.tree.translate(at(page)).map(|to| to.phys.as_u64() >> 12);
        assert_eq!(found, model.get(&page).copied(), "page {page}");
    }
}

#[test]
fn what_is_in_the_way_stays_and_the_rest_is_not_mapped() {
    let mut f = Fixture::new();
    f.map(pages(515, 1), 77 << 12, Prot::KERNEL_RO).unwrap();
    let mut frames = (1000..).map(Pfn::new);
    let result = f.tree.map_pages(pages(510, 10), Prot::KERNEL_RW, &mut frames, &mut f.tables);
    assert_eq!(result, Err(MapError::Conflict { at: at(515) }));
    assert_eq!(frames.next(), Some(Pfn::new(1005)), "the first that is not mapped");
    compare(&f, &(510..515).map(|page| (page, page + 490)).chain([(515, 77)]).collect());
}

#[test]
fn a_large_page_needs_an_aligned_place_without_a_table() {
    let mut f = Fixture::new();
    let mut map = |page, pfn| {
        let pfn = Pfn::new(pfn);
        f.tree.map_large(at(page), PageSize::Size2M, pfn, Prot::KERNEL_RW, &mut f.tables)
    };
    assert_eq!(map(1, 512), Err(MapError::BadPhys));
    assert_eq!(map(0, 513), Err(MapError::BadPhys));
    assert_eq!(map(512, 1024), Ok(()));
    assert_eq!(map(512, 512), Err(MapError::Conflict { at: at(512) }));
    let mut frames = [Pfn::new(3)].into_iter();
    f.tree.map_pages(pages(5, 1), Prot::KERNEL_RW, &mut frames, &mut f.tables).unwrap();
    f.tree.take_leaves(pages(5, 1), |_, _| ());
    let large = f.tree.map_large(at(0), PageSize::Size2M, Pfn::new(512), Prot::KERNEL_RW, &mut f.tables);
    assert_eq!(large, Err(MapError::Conflict { at: at(0) }), "an empty table is in the way, too");
    let mut frames = (0..).map(Pfn::new);
    let small = f.tree.map_pages(pages(511, 2), Prot::KERNEL_RW, &mut frames, &mut f.tables);
    assert_eq!(small, Err(MapError::Conflict { at: at(512) }));
    f.tree.take_leaves(pages(513, 511), |entry, _| panic!("{entry:?} reaches across the start"));
    f.validate();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_maps_what_a_map_by_page_has(
        ops in prop::collection::vec((0..PAGES, 1..700u64, 0..4u8, 0..3usize), 1..24),
    ) {
        let (mut f, mut model, mut next) = (Fixture::new(), Model::new(), 0);
        for (first, nr, what, budget) in ops {
            let nr = nr.min(PAGES - first);
            match what {
                // Memory for few tables or none: some of it is mapped, up to where the error says.
                0 | 1 => {
                    f.tables.budget = if what == 0 { usize::MAX } else { budget };
                    let mut frames = (next..).map(Pfn::new);
                    let result = f.tree.map_pages(pages(first, nr), Prot::KERNEL_RW, &mut frames, &mut f.tables);
                    f.tables.budget = usize::MAX;
                    let end = match result {
                        Ok(()) => first + nr,
                        Err(MapError::Conflict { at }) => {
                            let page = (at.as_u64() - START) >> 12;
                            prop_assert!(model.contains_key(&page), "{page} is free");
                            page
                        }
                        Err(MapError::OutOfMemory { at }) => (at.as_u64() - START) >> 12,
                        Err(other) => panic!("{other:?}"),
                    };
                    for page in first..end {
                        prop_assert_eq!(model.insert(page, next), None);
                        next += 1;
                    }
                    prop_assert_eq!(frames.next(), Some(Pfn::new(next)));
                }
                // A large page, when its place is free.
                2 => {
                    let first = first & !511;
                    let frame = next.next_multiple_of(512);
                    let pfn = Pfn::new(frame);
                    if f.tree.map_large(at(first), PageSize::Size2M, pfn, Prot::KERNEL_RW, &mut f.tables).is_ok() {
                        for nr in 0..512 {
                            prop_assert_eq!(model.insert(first + nr, frame + nr), None);
                        }
                        next = frame + 512;
                    }
                }
                _ => {
                    let mut taken = Model::new();
                    let mut start = first;
                    f.tree.take_leaves(pages(first, nr), |entry, level| {
                        let frame = entry.phys(level).as_u64() >> 12;
                        let page = model.range(start..).find(|(_, f)| **f == frame).map(|(page, _)| *page);
                        let page = page.expect("mapped, and by address");
                        start = page;
                        taken.extend((0..level.span_bytes() >> 12).map(|nr| (page + nr, frame + nr)));
                    });
                    // Large pages across an end stay.
                    let reaches = |page: u64| f.tree.translate(at(page)).is_some();
                    for page in first..first + nr {
                        prop_assert_eq!(taken.contains_key(&page), model.contains_key(&page) && !reaches(page));
                    }
                    prop_assert!(taken.keys().all(|page| (first..first + nr).contains(page)));
                    model.retain(|page, _| !taken.contains_key(page));
                }
            }
            compare(&f, &model);
            f.validate();
        }
        f.unmap(pages(0, PAGES)).unwrap();
        prop_assert!(f.leaves().is_empty());
    }
}
