//! Random operations against a map that says of each unit who has it.

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

use super::*;
use crate::PAGE_SIZE;
use crate::id::CpuId;

#[derive(Clone, Debug)]
enum Op {
    Alloc { size: usize, align: usize, gfp: Gfp },
    Free(usize),
    Balance,
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![3 => 1usize..=256, 2 => 1usize..=4096, 1 => 1usize..=MAX_BYTES];
    let gfp = prop_oneof![Just(Gfp::KERNEL), Just(Gfp::NOWAIT | Gfp::NOWARN)];
    prop_oneof![
        10 => (size, 0u32..=12, gfp).prop_map(|(size, shift, gfp)| Op::Alloc { size, align: 1 << shift, gfp }),
        8 => any::<usize>().prop_map(Op::Free),
        1 => Just(Op::Balance),
    ]
}

struct Held {
    memory: Allocation,
    at: usize,
    size: usize,
    tag: u8,
}

impl Held {
    fn units(&self) -> core::ops::Range<usize> {
        self.at / 4..(self.at + self.size).div_ceil(4)
    }
}

struct Model {
    machine: Machine,
    held: Vec<Held>,
    next_tag: u8,
}

impl Model {
    /// Addresses of pages with memory, of the first unit.
    fn pages(&self) -> BTreeSet<usize> {
        let first = self.machine.first.base().as_ptr().addr();
        let of_first = (0..6).map(|page| first + page * PAGE_SIZE);
        let dynamic = self.machine.alloc.source.chunks();
        let of_dynamic =
            dynamic.iter().flat_map(|(base, pages)| pages.iter().map(move |page| base + page * PAGE_SIZE));
        of_first.chain(of_dynamic).collect()
    }

    /// Whether a place of pages with memory is free.
    fn fits(&self, size: usize, align: usize) -> bool {
        let mut taken: BTreeSet<usize> = self.held.iter().flat_map(Held::units).collect();
        let first = self.machine.first.base().as_ptr().addr();
        taken.extend(first / 4..(first + STATIC_BYTES) / 4);
        let pages = self.pages();
        // Chunks never touch each other: between regions of the host there is a part that is never opened.
        let is_free =
            |unit: usize| pages.contains(&(unit * 4 / PAGE_SIZE * PAGE_SIZE)) && !taken.contains(&unit);
        let (need, align) = (size.div_ceil(4), align.div_ceil(4));
        let mut run = 0;
        for unit in pages.iter().flat_map(|page| page / 4..(page + PAGE_SIZE) / 4) {
            let follows = run > 0 && is_free(unit - 1);
            run = if !is_free(unit) {
                0
            } else if follows {
                run + 1
            } else {
                1
            };
            if run >= need && (unit + 1 - run).next_multiple_of(align) + need <= unit + 1 {
                return true;
            }
        }
        false
    }

    fn alloc(&mut self, size: usize, align: usize, gfp: Gfp) -> Result<(), TestCaseError> {
        let Ok(memory) = self.machine.alloc(size, align, gfp) else {
            prop_assert!(!gfp.contains(Gfp::KERNEL), "who may sleep always gets something");
            prop_assert!(!self.fits(size, align), "there is room for {} aligned to {}", size, align);
            return Ok(());
        };
        let at = self.machine.alloc.copy_of(&memory, CpuId(0)).as_ptr().addr();
        prop_assert!(at.is_multiple_of(align), "{:#x}, {}", at, align);
        self.next_tag = self.next_tag.wrapping_add(1);
        let tag = self.next_tag;
        let mut all_zero = true;
        self.machine.copies(&memory, size, |cpu, bytes| {
            all_zero &= bytes.iter().all(|&byte| byte == 0);
            bytes.fill(tag.wrapping_add(cpu as u8));
        });
        prop_assert!(all_zero);
        let new = Held { memory, at, size, tag };
        let pages = self.pages();
        prop_assert!(new.units().all(|unit| pages.contains(&(unit * 4 / PAGE_SIZE * PAGE_SIZE))));
        for other in &self.held {
            let (a, b) = (other.units(), new.units());
            prop_assert!(a.end <= b.start || b.end <= a.start, "{:?} and {:?} overlap", a, b);
        }
        self.held.push(new);
        Ok(())
    }

    fn free(&mut self, which: usize) {
        if self.held.is_empty() {
            return;
        }
        let Held { memory, size, tag, .. } = self.held.swap_remove(which % self.held.len());
        self.machine.copies(&memory, size, |cpu, bytes| {
            assert!(
                bytes.iter().all(|&byte| byte == tag.wrapping_add(cpu as u8)),
                "somebody else has written there"
            );
        });
        self.machine.free(memory);
    }
}

fn run(nodes: &[u16], atom: usize, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut model = Model { machine: Machine::new(nodes, atom), held: Vec::new(), next_tag: 0 };
    assert!(model.machine.span > 0);
    for op in ops {
        match *op {
            Op::Alloc { size, align, gfp } => model.alloc(size, align, gfp)?,
            Op::Free(which) => model.free(which),
            Op::Balance => {
                model.machine.alloc.balance();
                prop_assert!(model.machine.alloc.nr_empty_pop_pages() >= 4);
            }
        }
        model.machine.alloc.validate();
        let units = if nodes.len() == 3 { 4 } else { nodes.len() };
        prop_assert_eq!(model.machine.alloc.nr_pages() as usize, model.pages().len() * units);
    }
    while !model.held.is_empty() {
        model.free(0);
    }
    model.machine.alloc.balance();
    model.machine.alloc.validate();
    prop_assert!(model.machine.alloc.nr_chunks() <= 2);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn small_units_behave_as_the_map_says(ops in prop::collection::vec(op(), 1..120)) {
        run(&[0, 1], 32 << 10, &ops)?;
    }

    #[test]
    fn large_units_behave_as_the_map_says(ops in prop::collection::vec(op(), 1..120)) {
        run(&[0, 0, 0], 256 << 10, &ops)?;
    }
}
