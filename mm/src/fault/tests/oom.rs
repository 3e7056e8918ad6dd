//! Memory running out at each step.

use super::*;
use crate::aspace::MmError;

const AT: u64 = 0x40_0000;

/// A life of an address space; what fails is tried once more with memory.
fn life(w: &mut World) -> Result<(), MmError> {
    let fault = |w: &mut World, addr, access| match w.touch(addr, access) {
        Ok(_) => Ok(()),
        Err(Fault::Oom) => Err(MmError::NoMemory),
        Err(other) => panic!("{other:?}"),
    };
    let (mm, sim) = w.mm();
    mm.mmap(64 << 12, RW, Placement::Fixed(AT), sim)?;
    fault(w, AT, FaultAccess::Read)?;
    fault(w, AT, FaultAccess::Write)?;
    fault(w, AT + 0x9000, FaultAccess::Write)?;
    let (mm, sim) = w.mm();
    mm.mmap(8 << 12, RX, Placement::Fixed(AT + 0x8000), sim)?;
    mm.mprotect(AT + 0x2000, 0x2000, VmFlags::READ, sim)?;
    mm.mprotect(AT, 0x2000, VmFlags::empty(), sim)?;
    mm.munmap(AT + 0x2_0000, 0x1000, sim)?;
    mm.mmap(4096, RW, Placement::Any, sim)?;
    Ok(())
}

#[test]
fn nothing_is_lost_whatever_allocation_fails() {
    for budget in 0.. {
        let mut w = World::new();
        w.sim.budget = budget;
        let result = life(&mut w);
        w.space.validate();
        if result.is_err() {
            w.sim.budget = usize::MAX;
            life(&mut w).unwrap();
            w.space.validate();
        }
        w.end();
        if result.is_ok() {
            return assert!(budget > 10, "{budget} allocations");
        }
    }
}

#[test]
fn a_process_that_fills_memory_gets_an_error_and_gives_all_back() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 2 * NR_FRAMES, RW);
    let mut nr_pages = 0;
    let (mm, sim) = w.mm();
    while mm.handle_fault(AT + (nr_pages << 12), user(FaultAccess::Write), sim).is_ok() {
        nr_pages += 1;
    }
    assert_eq!(mm.faults().oom, 1);
    assert!(sim.free.is_empty());
    assert_eq!(mm.nr_anon_pages(), nr_pages);
    mm.validate();
    w.munmap(AT, NR_FRAMES);
    assert_eq!(w.touch(AT + (NR_FRAMES << 12), FaultAccess::Write), Ok(Served::NewPage));
    w.end();
}
