//! Modes of ranges against a list of entries.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::areas::tests::Heap;

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start << 12, end << 12).unwrap()
}

#[test]
fn an_overlapping_range_gets_the_mode_that_is_there() {
    let (mut types, mut heap) = (MemTypes::new(), Heap::default());
    let [wc, uc, wb] = [CacheMode::WriteCombining, CacheMode::UncachedMinus, CacheMode::WriteBack];
    assert_eq!(types.reserve(range(10, 20), wc, &mut heap), Ok(wc));
    assert_eq!(types.reserve(range(15, 30), uc, &mut heap), Ok(wc));
    assert_eq!(types.reserve(range(30, 40), uc, &mut heap), Ok(uc), "they only touch");
    let conflict = Error::Conflict { first: wc, other: uc };
    assert_eq!(types.reserve(range(29, 31), wb, &mut heap), Err(conflict));
    assert_eq!(types.reserve(range(5, 5), wb, &mut heap), Err(Error::Empty));
    types.free(range(10, 20), &mut heap);
    assert_eq!(types.mode_at(12 << 12), None);
    assert_eq!(types.mode_at(15 << 12), Some(wc), "still mapped by the other");
    types.free(range(15, 30), &mut heap);
    types.free(range(30, 40), &mut heap);
    types.validate();
    assert_eq!(heap.out, 0);
}

#[test]
fn a_mapping_is_never_cached_more_than_was_asked_for() {
    use CacheMode::*;
    let refused = |wanted| CacheMode::ALL.into_iter().filter(|&given| !is_allowed(wanted, given)).collect();
    let cases: [(CacheMode, Vec<CacheMode>); 4] = [
        (UncachedMinus, refused(UncachedMinus)),
        (WriteCombining, refused(WriteCombining)),
        (WriteThrough, refused(WriteThrough)),
        (WriteBack, refused(WriteBack)),
    ];
    for ((wanted, refused), linux) in
        cases.into_iter().zip([&[WriteBack][..], &[WriteBack], &[WriteBack, WriteCombining], &[]])
    {
        assert_eq!(refused, linux, "{wanted}");
    }
}

const NR_PAGES: u64 = 48;
const MODES: [CacheMode; 3] = [CacheMode::UncachedMinus, CacheMode::WriteCombining, CacheMode::WriteBack];

type Model = Vec<(u64, u64, CacheMode)>;

/// The modes of what overlaps, each once, by address.
fn modes_in(model: &Model, start: u64, end: u64) -> Vec<CacheMode> {
    let at = |page: u64| model.iter().find(|&&(s, e, _)| (s..e).contains(&page)).map(|&(_, _, mode)| mode);
    let mut modes: Vec<_> = (start..end).filter_map(at).collect();
    modes.dedup();
    modes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_sequence_enters_what_a_list_enters(
        ops in prop::collection::vec(
            (0u64..NR_PAGES, 1u64..16, 0usize..3, any::<prop::sample::Index>(), 0u8..8, 0usize..4), 1..80)
    ) {
        let (mut types, mut heap, mut model) = (MemTypes::new(), Heap::default(), Model::new());
        for (start, len, mode, index, what, budget) in ops {
            if what < 3 && !model.is_empty() {
                let (start, end, _) = model.swap_remove(index.index(model.len()));
                types.free(range(start, end), &mut heap);
            } else {
                let (end, wanted) = (start + len, MODES[mode]);
                heap.budget = if what == 3 { budget } else { usize::MAX };
                let result = types.reserve(range(start, end), wanted, &mut heap);
                heap.budget = usize::MAX;
                match (&modes_in(&model, start, end)[..], result) {
                    (_, Err(Error::OutOfMemory)) => prop_assert_eq!(what, 3),
                    ([first, other, ..], result) => {
                        prop_assert_eq!(result, Err(Error::Conflict { first: *first, other: *other }));
                    }
                    (there, result) => {
                        let given = there.first().copied().unwrap_or(wanted);
                        prop_assert_eq!(result, Ok(given));
                        model.push((start, end, given));
                    }
                }
            }
            types.validate();
            for page in 0..NR_PAGES + 16 {
                prop_assert_eq!(types.mode_at(page << 12), modes_in(&model, page, page + 1).first().copied());
            }
        }
        for (start, end, _) in model {
            types.free(range(start, end), &mut heap);
        }
        prop_assert_eq!(heap.out, 0);
    }
}
