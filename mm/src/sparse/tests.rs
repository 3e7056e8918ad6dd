use std::vec;
use std::vec::Vec;

use super::*;
use crate::PhysRange;
use crate::arch::SimMachine;
use crate::memblock::{Flags, Memblock, Region};
use proptest::prelude::*;

#[derive(Default)]
struct Recorder(Vec<(PfnRange, NodeId)>);

impl PopulateVmemmap for Recorder {
    fn populate(&mut self, _: &mut Memblock<'_>, pages: PfnRange, node: NodeId) -> Result<(), Error> {
        self.0.push((pages, node));
        Ok(())
    }
}

/// Tables for RAM at those frames, and what was populated.
fn with_sparse(ram: &[(u16, u64, u64)], check: impl FnOnce(Sparse, &[(PfnRange, NodeId)])) {
    let end = ram.iter().map(|r| r.2).max().unwrap_or(1);
    let sim = SimMachine::new(end << crate::PAGE_SHIFT);
    let (mut memory, mut reserved) = (vec![Region::EMPTY; 64], vec![Region::EMPTY; 64]);
    let mut memblock = Memblock::new(&mut memory, &mut reserved);
    for (node, start, end) in ram {
        let bytes = PhysRange::new(start << crate::PAGE_SHIFT, end << crate::PAGE_SHIFT).unwrap();
        memblock.add_node(bytes, NodeId(*node), Flags::empty()).unwrap();
    }
    let mut populated = Recorder::default();
    // SAFETY: simulated RAM of this machine, nobody else's; it outlives the tables.
    let sparse = unsafe {
        memblock.allow_resize(sim.machine());
        Sparse::init(&mut memblock, sim.machine(), &mut populated).unwrap()
    };
    sparse.validate(&memblock);
    check(sparse, &populated.0);
}

const S: u64 = SECTION_NR_PAGES;

#[test]
fn a_section_that_two_nodes_touch_is_the_first_ones() {
    with_sparse(&[(0, 1, S + 10), (1, S + 10, 3 * S), (0, 5 * S, 5 * S + 1)], |sparse, populated| {
        let sections: Vec<_> = sparse.sections().map(|(nr, node)| (nr.0, node.0)).collect();
        assert_eq!(sections, [(0, 0), (1, 0), (2, 1), (5, 0)]);
        let range = |a: u64, b: u64| PfnRange::new(Pfn::new(a * S), Pfn::new(b * S));
        assert_eq!(populated, [(range(0, 2), NodeId(0)), (range(2, 3), NodeId(1)), (range(5, 6), NodeId(0))]);
    });
}

#[test]
fn frames_outside_of_sections_are_not_valid() {
    with_sparse(&[(0, 256, 2 * S), (0, 300 * S, 300 * S + 1)], |sparse, _| {
        let cases = [(0, true), (2 * S - 1, true), (2 * S, false), (299 * S, false), (301 * S - 1, true)];
        for (pfn, valid) in cases.into_iter().chain([(301 * S, false), (512 * S, false), (u64::MAX, false)]) {
            assert_eq!(sparse.pfn_valid(Pfn::new(pfn)), valid, "frame {pfn:#x}");
        }
        let all = PfnRange::new(Pfn::new(5), Pfn::new(1 << 30));
        assert_eq!(sparse.valid_in(all).map(PfnRange::nr_pages).sum::<u64>(), 3 * S - 5);
    });
}

#[test]
fn subsections_have_ram_where_a_page_of_theirs_is() {
    with_sparse(&[(0, 511, 513), (0, 2048, 2049), (0, S - 1, S + 1), (1, 3 * S, 4 * S)], |sparse, _| {
        let has_ram = |pfn: u64| sparse.subsection_has_ram(Pfn::new(pfn));
        assert!([0, 511, 512, 1023, 2048, 2559, S - 512, S - 1, S, S + 511].into_iter().all(has_ram));
        assert!((3 * S..4 * S).step_by(512).all(has_ram));
        assert!(![1024, 2047, 2560, S - 513, S + 512, 2 * S, 4 * S, 1 << 40].into_iter().any(has_ram));
    });
}

#[test]
fn no_frame_is_valid_without_ram() {
    let (mut memory, mut reserved) = (vec![Region::EMPTY; 4], vec![Region::EMPTY; 4]);
    let sim = SimMachine::new(1 << 20);
    let mut memblock = Memblock::new(&mut memory, &mut reserved);
    // SAFETY: nothing can be handed out.
    let got = unsafe {
        memblock.allow_resize(sim.machine());
        Sparse::init(&mut memblock, sim.machine(), &mut AlreadyPopulated)
    };
    assert_eq!(got.unwrap_err(), Error::Memblock(crate::memblock::Error::NoMemory));
}

proptest! {
    #[test]
    fn pageblocks_keep_their_types_and_marks(ops in prop::collection::vec((0u64..192, 0usize..5, any::<bool>()), 0..200)) {
        with_sparse(&[(0, 256, 3 * S)], |sparse, _| {
            let mut model = vec![(MigrateType::Unmovable, false); 192];
            for (block, migrate_type, skip) in ops {
                let (pfn, migrate_type) = (Pfn::new(block * 512 + 77), MigrateType::ALL[migrate_type]);
                sparse.set_migrate_type(pfn, migrate_type);
                sparse.set_skip(pfn, if skip { Skip::Yes } else { Skip::No });
                model[block as usize] = (migrate_type, skip);
            }
            for (block, want) in model.into_iter().enumerate() {
                let pfn = Pfn::new(block as u64 * 512);
                assert_eq!((sparse.migrate_type(pfn), sparse.skip(pfn)), want);
            }
        });
    }
}
