//! The space against a list of areas.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::areas::tests::Heap;

const PAGE: u64 = PAGE_SIZE as u64;
const BASE: u64 = 0xffff_c900_0000_0000;
const NR_PAGES: u64 = 256;

type Space = VmapSpace<Heap>;

fn space() -> Space {
    Space::new(VirtRange::from_bounds(BASE, BASE + NR_PAGES * PAGE).unwrap())
}

fn request(pages: u64) -> Request {
    Request::new(pages * PAGE, Purpose::Stack)
}

/// The page that an address is in.
fn page(addr: u64) -> u64 {
    (addr - BASE) / PAGE
}

fn addr(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE)
}

fn clear(mut space: Space, mut heap: Heap) {
    for area in space.iter().collect::<Vec<_>>() {
        assert_eq!(space.free(area.range().start(), &mut heap), Some(area));
        space.validate();
    }
    assert_eq!(heap.out, 0);
}

#[test]
fn a_page_is_left_free_after_each_area() {
    let (mut space, mut heap) = (space(), Heap::default());
    let places = [1, 4, 2].map(|pages| space.alloc(request(pages), &mut heap).unwrap().start());
    assert_eq!(places.map(page), [0, 2, 7]);
    assert_eq!(space.used_bytes(), 7 * PAGE);
    for (at, found) in [(0, Some(0)), (1, None), (2, Some(2)), (5, Some(2)), (6, None), (9, None)] {
        assert_eq!(space.find(addr(at)).map(|area| page(area.start())), found, "page {at}");
    }
    clear(space, heap);
}

#[test]
fn the_lowest_hole_with_room_for_the_guard_page_too_is_taken() {
    let (mut space, mut heap) = (space(), Heap::default());
    let places = [3, 3, 3].map(|pages| space.alloc(request(pages), &mut heap).unwrap().range().start());
    space.free(places[1], &mut heap).unwrap();
    // Pages 4 to 7 are free: room for three pages and their guard.
    assert_eq!(page(space.alloc(request(4), &mut heap).unwrap().start()), 12);
    assert_eq!(page(space.alloc(request(1), &mut heap).unwrap().start()), 4);
    assert_eq!(page(space.alloc(request(1).align(2 * PAGE), &mut heap).unwrap().start()), 6);
    space.validate();
    clear(space, heap);
}

#[test]
fn sizes_are_rounded_up_and_alignments_kept() {
    let (mut space, mut heap) = (space(), Heap::default());
    assert_eq!(space.alloc(Request::new(1, Purpose::Stack), &mut heap).unwrap().range().len_bytes(), PAGE);
    let area = space.alloc(request(3).align(64 * PAGE), &mut heap).unwrap();
    assert_eq!(page(area.start()), 64);
    clear(space, heap);
}

#[test]
fn what_cannot_be_is_refused_and_takes_nothing() {
    let (mut space, mut heap) = (space(), Heap::default());
    for (bad, why) in [
        (request(0), Error::BadRequest),
        (request(1).align(3 * PAGE), Error::BadRequest),
        (request(NR_PAGES), Error::NoRoom),
        (Request::new(u64::MAX, Purpose::Stack), Error::NoRoom),
        (Request::new(u64::MAX - PAGE + 1, Purpose::Stack), Error::NoRoom),
        (request(1).align(1 << 63), Error::NoRoom),
    ] {
        assert_eq!(space.alloc(bad, &mut heap), Err(why), "{bad:?}");
    }
    let all = space.alloc(request(NR_PAGES - 1), &mut heap).unwrap();
    assert_eq!(space.alloc(request(1), &mut heap), Err(Error::NoRoom));
    assert_eq!(space.free(addr(1), &mut heap), None, "no area starts there");
    assert_eq!(space.iter().collect::<Vec<_>>(), [all]);
    clear(space, heap);
}

/// Pages of the model's areas: start, length.
type Model = Vec<(u64, u64)>;

fn naive_place(model: &Model, pages: u64, align: u64) -> Option<u64> {
    let free = |at: u64| model.iter().all(|&(start, len)| at + pages < start || start + len < at);
    (0..NR_PAGES).find(|&at| at % align == 0 && at + pages < NR_PAGES && free(at))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_sequence_places_what_a_list_places(
        ops in prop::collection::vec((1u64..24, 0u32..6, any::<prop::sample::Index>(), 0u8..8), 1..100)
    ) {
        let (mut space, mut heap, mut model) = (space(), Heap::default(), Model::new());
        for (pages, align, index, what) in ops {
            match what {
                0..3 if !model.is_empty() => {
                    let (start, len) = model.swap_remove(index.index(model.len()));
                    let freed = space.free(addr(start), &mut heap).unwrap();
                    prop_assert_eq!(freed.range().len_bytes(), len * PAGE);
                }
                // No memory for the node.
                3 => {
                    heap.budget = 0;
                    let result = space.alloc(request(pages).align(PAGE << align), &mut heap);
                    heap.budget = usize::MAX;
                    let room = naive_place(&model, pages, 1 << align).is_some();
                    prop_assert_eq!(result, Err(if room { Error::OutOfMemory } else { Error::NoRoom }));
                }
                _ => {
                    let got = space.alloc(request(pages).align(PAGE << align), &mut heap);
                    let wanted = naive_place(&model, pages, 1 << align);
                    prop_assert_eq!(got.ok().map(|area| page(area.start())), wanted);
                    model.extend(wanted.map(|at| (at, pages)));
                }
            }
            space.validate();
            prop_assert_eq!(heap.out, model.len());
            for at in 0..NR_PAGES {
                let inside = |&&(start, len): &&(u64, u64)| (start..start + len).contains(&at);
                let wanted = model.iter().find(inside).map(|&(start, _)| start);
                prop_assert_eq!(space.find(addr(at)).map(|area| page(area.start())), wanted);
            }
        }
        clear(space, heap);
    }
}

fn parts(parts: &[(u64, u64)]) -> impl Iterator<Item = Part> + Clone {
    parts.iter().map(|&(offset, pages)| Part { offset: offset * PAGE, size_bytes: pages * PAGE })
}

#[test]
fn congruent_areas_lie_at_the_top_at_their_distances() {
    let (mut space, mut heap) = (space(), Heap::default());
    let two = parts(&[(0, 4), (8, 4)]);
    let base = space.alloc_congruent(two.clone(), 4 * PAGE, Caller(0), &mut heap).unwrap();
    assert_eq!(page(base.as_u64()), NR_PAGES - 12);
    // The next two fit between them, without guards.
    let next = space.alloc_congruent(parts(&[(0, 4)]), 4 * PAGE, Caller(0), &mut heap).unwrap();
    assert_eq!(page(next.as_u64()), NR_PAGES - 8);
    let below = space.alloc_congruent(two.clone(), 4 * PAGE, Caller(0), &mut heap).unwrap();
    assert_eq!(page(below.as_u64()), NR_PAGES - 24);
    assert_eq!((space.nr_areas(), heap.out), (5, 5));
    space.validate();
    space.free_congruent(base, two, &mut heap);
    assert_eq!((space.nr_areas(), heap.out), (3, 3));
    clear(space, heap);
}

#[test]
fn congruent_areas_that_cannot_be_leave_nothing_behind() {
    let (mut space, mut heap) = (space(), Heap::default());
    let all = space.alloc_congruent(parts(&[(0, NR_PAGES)]), PAGE, Caller(0), &mut heap).unwrap();
    assert_eq!(space.alloc_congruent(parts(&[(0, 1)]), PAGE, Caller(0), &mut heap), Err(Error::NoRoom));
    space.free_congruent(all, parts(&[(0, NR_PAGES)]), &mut heap);
    let bad = [(parts(&[(0, NR_PAGES + 1)]), PAGE, Error::NoRoom), (parts(&[(0, 1)]), 3, Error::BadRequest)];
    for (bad, align, why) in bad {
        assert_eq!(space.alloc_congruent(bad, align, Caller(0), &mut heap), Err(why));
    }
    assert_eq!(space.alloc_congruent(parts(&[]), PAGE, Caller(0), &mut heap), Err(Error::BadRequest));
    for budget in 0..3 {
        heap.budget = budget;
        let result = space.alloc_congruent(parts(&[(0, 1), (2, 1), (4, 1)]), PAGE, Caller(0), &mut heap);
        assert_eq!((result, space.nr_areas(), heap.out), (Err(Error::OutOfMemory), 0, 0));
    }
    heap.budget = usize::MAX;
    clear(space, heap);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn congruent_areas_take_the_highest_base_that_fits(
        ops in prop::collection::vec((prop::collection::vec((0u64..6, 1u64..6), 1..4), 0u32..4), 1..12)
    ) {
        let (mut space, mut heap) = (space(), Heap::default());
        let mut taken = [false; NR_PAGES as usize];
        for (gaps, align) in ops {
            // Each begins a gap behind the one before it, the first at the base.
            let (mut list, mut at) = (Vec::new(), 0);
            for (index, (gap, pages)) in gaps.into_iter().enumerate() {
                at += if index == 0 { 0 } else { gap };
                list.push((at, pages));
                at += pages;
            }
            let fits = |base: u64| {
                base.is_multiple_of(1 << align)
                    && list.iter().all(|&(offset, pages)| {
                        (base + offset..base + offset + pages).all(|page| taken.get(page as usize) == Some(&false))
                    })
            };
            let wanted = (0..NR_PAGES).rev().find(|&base| fits(base));
            let got = space.alloc_congruent(parts(&list), PAGE << align, Caller(0), &mut heap);
            prop_assert_eq!(got.ok().map(|base| page(base.as_u64())), wanted);
            if let Some(base) = wanted {
                for &(offset, pages) in &list {
                    taken[(base + offset) as usize..(base + offset + pages) as usize].fill(true);
                }
            }
            space.validate();
        }
        clear(space, heap);
    }
}
