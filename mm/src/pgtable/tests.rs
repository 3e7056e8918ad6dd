//! Page tables in simulated RAM: cases, and a model that maps page by page.

mod direct;
mod model;
mod pages;
mod presence;

use core::ops::ControlFlow;
use std::collections::HashSet;
use std::vec::Vec;

use super::*;
use crate::addr::{PhysAddr, PhysRange, VirtAddr};
use crate::arch::{Machine, SimMachine};
use crate::pfn::Pfn;

/// Gives tables from the simulated RAM, fails on demand, and notices leaks and double frees.
struct Tables {
    machine: Machine,
    free: Vec<Pfn>,
    out: HashSet<Pfn>,
    /// How many more tables there are.
    budget: usize,
    /// What the tables asked for now map.
    near: Option<PhysRange>,
    /// What was mapped when each table was asked for.
    asked: Vec<(Level, Option<PhysRange>)>,
}

const NR_TABLES: u64 = 4096;

impl Tables {
    fn new(sim: &SimMachine) -> Self {
        let free = (0..NR_TABLES).map(Pfn::new).collect();
        let machine = sim.machine();
        Self { machine, free, out: HashSet::new(), budget: usize::MAX, near: None, asked: Vec::new() }
    }
}

// SAFETY: each frame of the simulated RAM is out once, and zeroed before.
unsafe impl TableSource for Tables {
    fn alloc_table(&mut self, level: Level) -> Result<Pfn, OutOfMemory> {
        self.asked.push((level, self.near));
        if self.budget == 0 {
            return Err(OutOfMemory);
        }
        self.budget -= 1;
        let pfn = self.free.pop().ok_or(OutOfMemory)?;
        // SAFETY: a frame of ours that is not out.
        unsafe { crate::arch::clear_page(self.machine.phys_to_virt(pfn.phys())) };
        assert!(self.out.insert(pfn));
        Ok(pfn)
    }

    unsafe fn free_table(&mut self, pfn: Pfn) {
        assert!(self.out.remove(&pfn), "{pfn} is not out");
        self.free.push(pfn);
    }
}

impl NearTables for Tables {
    fn near(&mut self, range: PhysRange) {
        self.near = Some(range);
    }
}

struct Fixture {
    tables: Tables,
    tree: PageTable,
    _sim: SimMachine,
}

impl Fixture {
    fn new() -> Self {
        let sim = SimMachine::new(NR_TABLES << 12);
        let mut tables = Tables::new(&sim);
        let tree = PageTable::new(sim.machine(), &mut tables).unwrap();
        Self { tables, tree, _sim: sim }
    }

    fn map(&mut self, range: VirtRange, phys: u64, prot: Prot) -> Result<PageCounts, MapError> {
        self.tree.map_range(range, PhysAddr::new(phys), prot, PageSize::Size1G, &mut self.tables)
    }

    fn unmap(&mut self, range: VirtRange) -> Result<(), OutOfMemory> {
        let unmapped = self.tree.unmap_range(range, &mut self.tables)?;
        // SAFETY: all tables are from there, and no CPU walks them.
        unsafe { unmapped.finish(&mut LocalTlb, &mut self.tables) };
        Ok(())
    }

    fn leaves(&self) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        for half in [VirtRange::USER, VirtRange::KERNEL] {
            let _: ControlFlow<()> = self.tree.walk(half, |leaf| {
                leaves.push(leaf);
                ControlFlow::Continue(())
            });
        }
        leaves
    }

    /// Every table is reachable, and no other is out.
    fn validate(&self) {
        let reachable = self.tree.count_tables(VirtRange::USER) + self.tree.count_tables(VirtRange::KERNEL);
        assert_eq!(reachable as usize + 1, self.tables.out.len(), "tables in the tree, and out");
    }
}

const DIRECT: u64 = 0xffff_8880_0000_0000;
const M: u64 = 1 << 20;
const G: u64 = 1 << 30;

fn range(start: u64, len_bytes: u64) -> VirtRange {
    VirtRange::new(VirtAddr::new(start), len_bytes).unwrap()
}

fn sizes(counts: PageCounts) -> [u64; 3] {
    PageSize::ALL.map(|size| counts.nr_pages(size))
}

#[test]
fn pages_are_as_large_as_alignment_allows() {
    #[track_caller]
    fn case(virt: u64, phys: u64, len_bytes: u64, largest: PageSize, wanted: [u64; 3]) {
        let mut f = Fixture::new();
        let counts = f
            .tree
            .map_range(range(virt, len_bytes), PhysAddr::new(phys), Prot::KERNEL_RW, largest, &mut f.tables)
            .unwrap();
        assert_eq!(sizes(counts), wanted);
        assert_eq!(f.tree.count_pages(VirtRange::KERNEL), counts);
        f.validate();
    }
    use PageSize::*;
    case(DIRECT, 0, 6 * G, Size1G, [0, 0, 6]);
    case(DIRECT, 0, 6 * G, Size2M, [0, 3072, 0]);
    case(DIRECT, 0, 2 * M, Size4K, [512, 0, 0]);
    case(DIRECT + M, M, 2 * G, Size1G, [512, 511, 1]);
    case(DIRECT, 4096, 4 * M, Size1G, [1024, 0, 0]);
    case(DIRECT, 2 * M, 2 * G, Size1G, [0, 1024, 0]);
    case(0xffff_ffff_ffe0_0000, 0, 2 * M, Size1G, [0, 1, 0]);
}

#[test]
fn where_tables_are_made_ahead_mapping_needs_none() {
    let mut f = Fixture::new();
    let slots = range(0xffff_ffff_ff40_0000, 4 * M);
    f.tables.budget = 3;
    assert_eq!(f.tree.populate_tables(slots, &mut f.tables), Err(OutOfMemory));
    f.tables.budget = 1;
    f.tree.populate_tables(slots, &mut f.tables).unwrap();
    assert_eq!(f.tables.asked.iter().filter(|(level, _)| *level == Level::Pte).count(), 3, "one failed");
    f.validate();
    f.tree
        .map_range(slots, PhysAddr::new(4096), Prot::KERNEL_RW, PageSize::Size4K, &mut f.tables)
        .expect("nothing is left to allocate, and nothing is needed");
}

#[test]
fn another_mapping_in_the_way_is_an_error_and_the_same_is_none() {
    let mut f = Fixture::new();
    f.map(range(DIRECT, 2 * G), 0, Prot::KERNEL_RW).unwrap();
    assert_eq!(sizes(f.map(range(DIRECT, 2 * G), 0, Prot::KERNEL_RW).unwrap()), [0; 3]);
    assert_eq!(sizes(f.map(range(DIRECT + 4096, 8 * M), 4096, Prot::KERNEL_RW).unwrap()), [0; 3]);
    for (start, phys, prot) in
        [(DIRECT, G, Prot::KERNEL_RW), (DIRECT + G, G, Prot::KERNEL_RO), (DIRECT + G, 0, Prot::KERNEL_RW)]
    {
        let at = VirtAddr::new(start);
        assert_eq!(f.map(range(start, 4096), phys, prot), Err(MapError::Conflict { at }));
    }
    f.map(range(DIRECT + 2 * G + 4096, 4096), 0, Prot::KERNEL_RW).unwrap();
    let at = VirtAddr::new(DIRECT + 2 * G + 4096);
    assert_eq!(f.map(range(DIRECT + 2 * G, G), 2 * G, Prot::KERNEL_RW), Err(MapError::Conflict { at }));
}

#[test]
fn physical_addresses_that_do_not_exist_are_refused() {
    let mut f = Fixture::new();
    assert_eq!(f.map(range(DIRECT, 4096), 0x800, Prot::KERNEL_RW), Err(MapError::BadPhys));
    assert_eq!(f.map(range(DIRECT, 8192), (1 << 52) - 4096, Prot::KERNEL_RW), Err(MapError::BadPhys));
}

#[test]
fn unmapping_part_of_a_large_page_splits_it() {
    let mut f = Fixture::new();
    f.map(range(DIRECT, 2 * G), 4 * G, Prot::KERNEL_RW).unwrap();
    f.unmap(range(DIRECT + 3 * M, 4096)).unwrap();
    assert_eq!(sizes(f.tree.count_pages(VirtRange::KERNEL)), [511, 511, 1]);
    assert_eq!(f.tree.translate(VirtAddr::new(DIRECT + 3 * M)), None);
    let near = f.tree.translate(VirtAddr::new(DIRECT + 3 * M + 4097)).unwrap();
    assert_eq!(near.phys, PhysAddr::new(4 * G + 3 * M + 4097));
    f.validate();
    f.unmap(range(DIRECT, 2 * G)).unwrap();
    assert_eq!(f.leaves(), []);
    assert_eq!(
        f.tree.count_tables(VirtRange::KERNEL),
        1,
        "the table of the root entry stays for other roots"
    );
    f.validate();
}

#[test]
fn protecting_part_of_a_large_page_splits_it_and_leaves_the_rest_alone() {
    let mut f = Fixture::new();
    let text = 0xffff_ffff_8000_0000;
    f.map(range(text, 8 * M), 16 * M, Prot::KERNEL_RW).unwrap();
    f.tree.protect_range(range(text, 3 * M), Prot::KERNEL_RX, &mut f.tables).unwrap().never_used();
    f.tree.protect_range(range(text + 4 * M, 2 * M), Prot::KERNEL_RO, &mut f.tables).unwrap().never_used();
    let report = f.tree.check_wx().unwrap();
    assert_eq!(sizes(report.mapped), [512, 3, 0]);
    assert_eq!(sizes(report.executable), [256, 1, 0]);
    assert_eq!(sizes(report.writable), [256, 1, 0]);
    let at = |offset| f.tree.translate(VirtAddr::new(text + offset)).unwrap();
    assert!(!at(3 * M - 1).flags.contains(EntryFlags::NO_EXECUTE));
    assert!(at(3 * M).flags.contains(EntryFlags::NO_EXECUTE | EntryFlags::WRITABLE));
    assert_eq!(at(5 * M).phys, PhysAddr::new(21 * M));
}

#[test]
fn a_writable_and_executable_page_is_found() {
    let mut f = Fixture::new();
    f.map(range(DIRECT, 2 * M), 0, Prot::KERNEL_RW).unwrap();
    f.map(range(DIRECT + 2 * M, 4096), 2 * M, Prot::KERNEL_RX).unwrap();
    assert!(f.tree.check_wx().is_ok());
    f.tree
        .update_range(range(DIRECT + 2 * M, 4096), |entry, _| entry.with(EntryFlags::WRITABLE))
        .never_used();
    let WxViolation(leaf) = f.tree.check_wx().unwrap_err();
    assert_eq!((leaf.addr, leaf.phys), (VirtAddr::new(DIRECT + 2 * M), PhysAddr::new(2 * M)));
}

#[test]
fn a_page_in_the_user_half_that_nobody_claims_is_found() {
    let mut f = Fixture::new();
    let user = Prot::user(Access::ReadWrite);
    f.map(range(0x40_0000, 0x3000), 0, user).unwrap();
    assert_eq!(f.tree.check_user_half(&[range(0x40_0000, 0x4000)]), Ok(()));
    let StrayMapping(leaf) = f.tree.check_user_half(&[range(0x40_0000, 0x2000)]).unwrap_err();
    assert_eq!(leaf.addr, VirtAddr::new(0x40_2000));
    assert!(leaf.rights.contains(EntryFlags::USER));
    f.map(range(DIRECT, 0x1000), 0, Prot::KERNEL_RW).unwrap();
    let kernel = f.leaves().pop().unwrap();
    assert!(!kernel.rights.contains(EntryFlags::USER));
}

#[test]
fn a_new_tree_shares_what_the_kernel_maps_later() {
    let mut f = Fixture::new();
    let vmalloc = range(0xffff_c900_0000_0000, 32 << 40);
    f.tree.populate_root(vmalloc, &mut f.tables).unwrap();
    assert_eq!(f.tree.count_tables(VirtRange::KERNEL), 64);
    let process = PageTable::with_kernel_half_of(&f.tree, &mut f.tables).unwrap();
    let at = range(0xffff_c980_0000_1000, 0x1000);
    f.map(at, 0x5000, Prot::KERNEL_RW).unwrap();
    assert_eq!(process.translate(at.start()).unwrap().phys, PhysAddr::new(0x5000));
    f.unmap(at).unwrap();
    assert_eq!(process.translate(at.start()), None);
    f.map(at, 0x6000, Prot::KERNEL_RO).unwrap();
    assert_eq!(process.translate(at.start()).unwrap().phys, PhysAddr::new(0x6000));
    // SAFETY: no CPU uses it.
    unsafe { process.free_root(&mut f.tables) };
    f.validate();
}

#[test]
fn running_out_of_tables_loses_none_at_any_step() {
    for budget in 0.. {
        let mut f = Fixture::new();
        f.tables.budget = budget;
        let target = range(DIRECT + G - 4096, G + 8192);
        let mapped = f.map(target, G - 4096, Prot::KERNEL_RW);
        f.validate();
        match mapped {
            Ok(counts) => {
                assert_eq!(sizes(counts), [2, 0, 1]);
                return assert!(budget >= 5, "two tables at each end and one above");
            }
            Err(MapError::OutOfMemory { at }) => {
                let pages = f.leaves();
                assert!(pages.iter().all(|leaf| leaf.addr < at), "nothing from the failed address on");
                f.tables.budget = usize::MAX;
                f.map(target, G - 4096, Prot::KERNEL_RW).unwrap();
                f.unmap(target).unwrap();
                f.validate();
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_split_that_finds_no_table_changes_nothing() {
    let mut f = Fixture::new();
    f.map(range(DIRECT, G), 0, Prot::KERNEL_RW).unwrap();
    for budget in 0..4 {
        f.tables.budget = budget;
        let part = range(DIRECT + 4096, 512 * M);
        let before = f.leaves().iter().map(|leaf| leaf.size().bytes()).sum::<u64>();
        match f.unmap(part) {
            Ok(()) => return assert!(budget > 0),
            Err(OutOfMemory) => {
                assert_eq!(f.leaves().iter().map(|leaf| leaf.size().bytes()).sum::<u64>(), before);
                assert!(f.leaves().iter().all(|leaf| leaf.phys.as_u64() + DIRECT == leaf.addr.as_u64()));
            }
        }
        f.validate();
    }
    panic!("never enough tables");
}
