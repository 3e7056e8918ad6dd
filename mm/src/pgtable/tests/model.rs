//! Random maps, unmaps and protections against a page-by-page model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Map { at: u64, nr: u64, phys: u64, prot: usize, largest: usize },
    Unmap { at: u64, nr: u64 },
    Protect { at: u64, nr: u64, prot: usize },
}

const PROTS: [Prot; 3] = [Prot::KERNEL_RW, Prot::KERNEL_RO, Prot::KERNEL_RX];
/// Pages of the window: 6 MiB around a GiB's end.
const WINDOW: u64 = 3 * 512;
const BASE: u64 = DIRECT + G - 3 * M;

fn ops() -> impl Strategy<Value = Op> {
    // Half of the bounds are aligned, so that large pages occur.
    let page = prop_oneof![0..WINDOW, (0..6u64).prop_map(|n| n * 256)];
    let nr = prop_oneof![1..40u64, (1..4u64).prop_map(|n| n * 512)];
    let phys = prop_oneof![0..64u64, (0..8u64).prop_map(|n| n * 256)];
    prop_oneof![
        (page.clone(), nr.clone(), phys, 0..3usize, 0..3usize)
            .prop_map(|(at, nr, phys, prot, largest)| Op::Map { at, nr, phys, prot, largest }),
        (page.clone(), nr.clone()).prop_map(|(at, nr)| Op::Unmap { at, nr }),
        (page, nr, 0..3usize).prop_map(|(at, nr, prot)| Op::Protect { at, nr, prot }),
    ]
}

type Model = BTreeMap<u64, (u64, usize)>;

fn window(at: u64, nr: u64) -> (VirtRange, core::ops::Range<u64>) {
    let pages = at..(at + nr).min(WINDOW);
    (range(BASE + at * 4096, (pages.end - pages.start) * 4096), pages)
}

fn apply(f: &mut Fixture, model: &mut Model, op: Op) {
    match op {
        Op::Map { at, nr, phys, prot, largest } => {
            let (virt, pages) = window(at, nr);
            let largest = PageSize::ALL[largest];
            let result =
                f.tree.map_range(virt, PhysAddr::new(phys * 4096), PROTS[prot], largest, &mut f.tables);
            let mut conflict = false;
            for page in pages {
                let wanted = (phys + page - at, prot);
                if *model.entry(page).or_insert(wanted) != wanted {
                    conflict = true;
                    let at = VirtAddr::new(BASE + page * 4096);
                    assert_eq!(result, Err(MapError::Conflict { at }));
                    break;
                }
            }
            assert_eq!(result.is_err(), conflict);
        }
        Op::Unmap { at, nr } => {
            let (virt, pages) = window(at, nr);
            f.unmap(virt).unwrap();
            model.retain(|page, _| !pages.contains(page));
        }
        Op::Protect { at, nr, prot } => {
            let (virt, pages) = window(at, nr);
            f.tree.protect_range(virt, PROTS[prot], &mut f.tables).unwrap().never_used();
            model.range_mut(pages).for_each(|(_, (_, p))| *p = prot);
        }
    }
}

fn compare(f: &Fixture, model: &Model) {
    for page in 0..WINDOW {
        let there = f.tree.translate(VirtAddr::new(BASE + page * 4096 + 5));
        let wanted = model.get(&page);
        assert_eq!(there.map(|t| t.phys.as_u64()), wanted.map(|(phys, _)| phys * 4096 + 5), "page {page}");
        if let (Some(there), Some((_, prot))) = (there, wanted) {
            let rights = EntryFlags::WRITABLE | EntryFlags::NO_EXECUTE;
            assert_eq!(there.flags & rights, PROTS[*prot].leaf_flags(there.level) & rights, "page {page}");
        }
    }
    f.validate();
    assert!(f.tree.check_wx().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_sequence_maps_what_a_page_by_page_model_maps(ops in prop::collection::vec(ops(), 1..30)) {
        let mut f = Fixture::new();
        let mut model = Model::new();
        for op in ops {
            apply(&mut f, &mut model, op);
            compare(&f, &model);
        }
        f.unmap(range(BASE, WINDOW * 4096)).unwrap();
        prop_assert!(f.leaves().is_empty());
        prop_assert!(f.tables.out.len() <= 2, "the root and the table below its entry");
    }
}
