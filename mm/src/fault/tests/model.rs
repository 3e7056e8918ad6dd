//! Random operations against a map of pages: which addresses can be read and written, and what is there.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::aspace::MmError;

/// Pages of the window, across the end of a table's span.
const WINDOW: u64 = 48;
const BASE: u64 = 0x4000_0000 - 24 * 4096;

#[derive(Clone, Debug)]
enum Op {
    Map {
        at: u64,
        nr: u64,
        access: usize,
        replace: bool,
    },
    Unmap {
        at: u64,
        nr: u64,
    },
    Protect {
        at: u64,
        nr: u64,
        access: usize,
    },
    Read {
        at: u64,
    },
    Write {
        at: u64,
        value: u8,
    },
    /// From here on so many allocations succeed, until the next of these.
    Budget {
        nr: usize,
    },
}

const ACCESS: [VmFlags; 4] = [VmFlags::empty(), VmFlags::READ, RW, RX];

fn ops() -> impl Strategy<Value = Op> {
    let at = 0..WINDOW;
    let nr = 1..16u64;
    prop_oneof![
        2 => (at.clone(), nr.clone(), 0..4usize, any::<bool>())
            .prop_map(|(at, nr, access, replace)| Op::Map { at, nr, access, replace }),
        1 => (at.clone(), nr.clone()).prop_map(|(at, nr)| Op::Unmap { at, nr }),
        2 => (at.clone(), nr, 0..4usize).prop_map(|(at, nr, access)| Op::Protect { at, nr, access }),
        3 => at.clone().prop_map(|at| Op::Read { at }),
        4 => (at, any::<u8>()).prop_map(|(at, value)| Op::Write { at, value }),
        1 => prop_oneof![Just(usize::MAX), 0..4usize].prop_map(|nr| Op::Budget { nr }),
    ]
}

/// Page -> how it may be used, and its first byte.
type Model = BTreeMap<u64, (VmFlags, u8)>;

fn address(page: u64) -> u64 {
    BASE + page * 4096
}

fn map(w: &mut World, model: &mut Model, at: u64, nr: u64, access: VmFlags, replace: bool) {
    let pages = at..at + nr;
    let placement =
        if replace { Placement::Fixed(address(at)) } else { Placement::FixedNoReplace(address(at)) };
    let (mm, sim) = w.mm();
    match mm.mmap(nr << 12, access, placement, sim) {
        Ok(start) => {
            assert_eq!(start.as_u64(), address(at));
            assert!(replace || model.range(pages.clone()).next().is_none());
            model.extend(pages.map(|page| (page, (access, 0))));
        }
        Err(MmError::Exists) => assert!(!replace && model.range(pages).next().is_some()),
        // The spare node is paid for first, so nothing has been replaced.
        Err(error) => assert_eq!((error, sim.budget), (MmError::NoMemory, 0)),
    }
}

fn protect(w: &mut World, model: &mut Model, at: u64, nr: u64, access: VmFlags) {
    let (mm, sim) = w.mm();
    let result = mm.mprotect(address(at), nr << 12, access, sim);
    let hole = (at..at + nr).find(|page| !model.contains_key(page));
    match result {
        Ok(()) => assert_eq!(hole, None),
        Err(error) => assert!(error == MmError::NoMemory && (hole.is_some() || sim.budget == 0)),
    }
    // Some of the areas before the one that failed have changed: the areas themselves say which.
    for page in at..at + nr {
        if let Some((flags, _)) = model.get_mut(&page) {
            let now = mm.areas().lookup(address(page)).unwrap().flags() & VmFlags::ACCESS;
            assert!(now == access || (now == *flags && result.is_err()));
            assert!(sim.budget == 0 || hole.is_some_and(|hole| page > hole) || now == access);
            *flags = now;
        }
    }
}

fn touch(w: &mut World, model: &mut Model, page: u64, write: Option<u8>) {
    let addr = address(page);
    let allowed = model.get(&page).map(|(flags, _)| match write {
        Some(_) => flags.contains(VmFlags::WRITE),
        None => !flags.is_empty(),
    });
    let result = match write {
        Some(value) => w.write(addr, value).map(|()| value),
        None => w.read(addr),
    };
    match result {
        Ok(value) => {
            assert_eq!(allowed, Some(true), "page {page}");
            if let Some((_, byte)) = model.get_mut(&page) {
                *byte = write.unwrap_or(*byte);
                assert_eq!(*byte, value, "page {page}");
            }
        }
        Err(Fault::BadArea { .. }) => assert_eq!(allowed, None, "page {page}"),
        Err(Fault::BadAccess { .. }) => assert_eq!(allowed, Some(false), "page {page}"),
        Err(Fault::Oom) => assert_eq!((allowed, w.sim.budget), (Some(true), 0), "page {page}"),
    }
}

fn apply(w: &mut World, model: &mut Model, op: Op) {
    match op {
        Op::Map { at, nr, access, replace } => map(w, model, at, nr, ACCESS[access], replace),
        Op::Unmap { at, nr } => {
            let (mm, sim) = w.mm();
            match mm.munmap(address(at), nr << 12, sim) {
                Ok(()) => model.retain(|page, _| !(at..at + nr).contains(page)),
                Err(error) => assert_eq!((error, sim.budget), (MmError::NoMemory, 0)),
            }
        }
        Op::Protect { at, nr, access } => protect(w, model, at, nr, ACCESS[access]),
        Op::Read { at } => touch(w, model, at, None),
        Op::Write { at, value } => touch(w, model, at, Some(value)),
        Op::Budget { nr } => w.sim.budget = nr,
    }
}

fn compare(w: &World, model: &Model) {
    let mm = &w.space;
    mm.validate();
    for page in 0..WINDOW + 16 {
        let area = mm.areas().lookup(address(page)).map(|vma| vma.flags() & VmFlags::ACCESS);
        assert_eq!(area, model.get(&page).map(|(flags, _)| *flags), "page {page}");
        if let (Some(found), Some((_, byte))) = (mm.translate(VirtAddr::new(address(page))), model.get(&page))
        {
            // SAFETY: inside the simulated RAM.
            assert_eq!(unsafe { w.sim.machine.phys_to_virt(found.phys).read() }, *byte, "page {page}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_life_of_an_address_space_is_that_of_a_map_of_pages(ops in prop::collection::vec(ops(), 1..80)) {
        let mut w = World::new();
        let mut model = Model::new();
        for op in ops {
            apply(&mut w, &mut model, op);
            compare(&w, &model);
        }
        w.end();
    }
}
