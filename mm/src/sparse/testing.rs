//! Section tables for tests: every section of a simulated machine is there.

use std::boxed::Box;
use std::vec::Vec;

use super::*;

impl Sparse {
    /// Tables for frames `0..end`, all pageblocks movable. The tables are leaked: a few kilobytes a test.
    pub(crate) fn for_test(machine: Machine, end: Pfn) -> Self {
        let nr_roots = end.align_up(1 << ROOT_PFN_SHIFT).get() >> ROOT_PFN_SHIFT;
        let section = |nr: u64| {
            let start = Pfn::new(nr << SECTION_PFN_SHIFT);
            let usage = if start < end {
                Box::into_raw(Box::new(SectionUsage {
                    blocks: [const { AtomicU8::new(MigrateType::Movable as u8) }; BLOCKS_PER_SECTION],
                }))
            } else {
                core::ptr::null_mut()
            };
            Section { usage: AtomicPtr::new(usage), node: AtomicU16::new(0), _unused: [0; 3] }
        };
        let roots: Vec<AtomicPtr<Root>> = (0..nr_roots)
            .map(|root| {
                let first = root * SECTIONS_PER_ROOT as u64;
                let root = Root { sections: core::array::from_fn(|s| section(first + s as u64)) };
                AtomicPtr::new(Box::into_raw(Box::new(root)))
            })
            .collect();
        Self { machine, roots: NonNull::from_mut(roots.leak()).cast(), nr_roots }
    }
}
