//! Pages made absent and present again, against a list of which are.

use super::*;
use crate::pgtable::{LeafEntries, NotLeaves, Presence};
use proptest::prelude::*;
use std::vec;

/// Across a page of 1 GiB's end, so that walks turn back up to the second level.
const START: u64 = DIRECT + G - 2 * M;
const PAGES: u64 = 1536;

fn leaves(f: &mut Fixture, largest: PageSize) -> LeafEntries {
    let all = range(START, PAGES << 12);
    f.tree.map_range(all, PhysAddr::new(G - 2 * M), Prot::KERNEL_RW, largest, &mut f.tables).unwrap();
    // SAFETY: the fixture's tree, which nobody changes meanwhile but by the result.
    unsafe { LeafEntries::new(f.tree.machine(), f.tree.root_pfn()) }
}

/// Of the fixture's range.
fn set(leaves: &LeafEntries, range: VirtRange, presence: Presence) -> Result<(), NotLeaves> {
    // SAFETY: the fixture's tree is in no CR3: nobody uses a page by it.
    unsafe { leaves.set_presence(range, presence) }
}

fn pages(first: u64, nr: u64) -> VirtRange {
    range(START + (first << 12), nr << 12)
}

#[test]
fn what_is_no_page_of_4_kib_is_refused() {
    let mut f = Fixture::new();
    let leaves = leaves(&mut f, PageSize::Size2M);
    let large = VirtAddr::new(START);
    assert_eq!(set(&leaves, pages(0, 1), Presence::Absent), Err(NotLeaves { at: large }));
    let hole = range(START - 4096, 4096);
    assert_eq!(set(&leaves, hole, Presence::Absent), Err(NotLeaves { at: hole.start() }));
    assert!(!leaves.is_absent(large) && !leaves.is_absent(hole.start()));
    assert!(f.tree.translate(large).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn just_the_pages_asked_for_are_absent(
        ops in prop::collection::vec((0..PAGES, 1..1100u64, any::<bool>()), 1..20),
    ) {
        let mut f = Fixture::new();
        let leaves = leaves(&mut f, PageSize::Size4K);
        let before = f.leaves();
        let mut is_absent = vec![false; PAGES as usize];
        for (first, nr, absent) in ops {
            let nr = nr.min(PAGES - first);
            let presence = if absent { Presence::Absent } else { Presence::Present };
            prop_assert_eq!(set(&leaves, pages(first, nr), presence), Ok(()));
            is_absent[first as usize..][..nr as usize].fill(absent);
            let present = before.iter().zip(&is_absent).filter(|(_, absent)| !**absent).map(|(leaf, _)| *leaf);
            prop_assert_eq!(f.leaves(), present.collect::<Vec<_>>());
            for (page, absent) in (0..).zip(&is_absent) {
                prop_assert_eq!(leaves.is_absent(pages(page, 1).start()), *absent);
            }
        }
        set(&leaves, pages(0, PAGES), Presence::Present).unwrap();
        prop_assert_eq!(f.leaves(), before, "nothing of an entry is lost");
        f.validate();
    }
}
