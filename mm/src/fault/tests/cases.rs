//! One fact a test.

use super::*;
use crate::aspace::{MMAP_BASE, MmError};
use crate::fault::FaultAccess::{Exec, Read, Write};

const AT: u64 = 0x40_0000;

#[test]
fn a_read_sees_the_zero_page_and_a_write_gets_a_frame() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 4, RW);
    assert_eq!(w.touch(AT + 5, Read), Ok(Served::ZeroPage));
    let zero = w.space.translate(VirtAddr::new(AT)).unwrap();
    assert_eq!(zero.phys, w.zero.pfn().phys());
    assert!(!zero.flags.contains(EntryFlags::WRITABLE));
    assert_eq!(w.space.nr_anon_pages(), 0);
    assert_eq!(w.touch(AT + 0x1005, Write), Ok(Served::NewPage));
    assert_eq!(w.read(AT + 0x1005), Ok(0));
    assert_eq!(w.space.nr_anon_pages(), 1);
    assert_eq!(w.space.nr_tables(), 3);
    assert_eq!(w.sim.flushes, [], "nothing was cached");
    w.end();
}

#[test]
fn a_write_to_the_zero_page_copies_it() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 1, RW);
    assert_eq!(w.read(AT), Ok(0));
    assert_eq!(w.touch(AT, Write), Ok(Served::ZeroPageCopied));
    assert_eq!(w.sim.flushes.len(), 1);
    w.write(AT, 7).unwrap();
    assert_eq!(w.read(AT), Ok(7));
    let zero = w.sim.machine.phys_to_virt(w.zero.pfn().phys());
    // SAFETY: inside the simulated RAM.
    assert_eq!(unsafe { zero.read() }, 0);
    w.end();
}

#[test]
fn accesses_outside_of_areas_and_against_their_protection_are_refused() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 1, VmFlags::READ);
    w.mmap(Placement::Fixed(AT + 0x1000), 1, VmFlags::empty());
    w.mmap(Placement::Fixed(AT + 0x2000), 1, RX);
    let bad_area = |addr, access| Err(Fault::BadArea { addr, kind: user(access) });
    let bad_access = |addr, access| Err(Fault::BadAccess { addr, kind: user(access) });
    for (addr, access, wanted) in [
        (AT - 1, Read, bad_area(AT - 1, Read)),
        (0, Read, bad_area(0, Read)),
        (0xffff_8880_0000_0000, Write, bad_area(0xffff_8880_0000_0000, Write)),
        (AT + 0x3000, Exec, bad_area(AT + 0x3000, Exec)),
        (AT, Write, bad_access(AT, Write)),
        (AT, Exec, bad_access(AT, Exec)),
        (AT + 0x1000, Read, bad_access(AT + 0x1000, Read)),
        (AT + 0x2000, Write, bad_access(AT + 0x2000, Write)),
        (AT, Read, Ok(Served::ZeroPage)),
        (AT + 0x2000, Exec, Ok(Served::ZeroPage)),
    ] {
        assert_eq!(w.touch(addr, access), wanted, "{addr:#x} {access:?}");
    }
    let counts = w.space.faults();
    assert_eq!((counts.all, counts.refused, counts.zero_page), (10, 8, 2));
    let kernel = FaultKind { access: Exec, mode: Mode::Kernel };
    let (mm, sim) = w.mm();
    let refused = mm.handle_fault(AT + 0x2000, kernel, sim);
    assert_eq!(refused, Err(Fault::BadAccess { addr: AT + 0x2000, kind: kernel }), "never for the kernel");
    w.end();
}

#[test]
fn a_fault_that_another_cpu_has_served_is_spurious() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 1, RW);
    assert_eq!(w.touch(AT, Write), Ok(Served::NewPage));
    assert_eq!(w.touch(AT, Write), Ok(Served::Spurious));
    assert_eq!(w.touch(AT, Read), Ok(Served::Spurious));
    w.end();
}

#[test]
fn a_write_to_a_page_that_others_map_copies_it() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 1, RW);
    w.write(AT, 42).unwrap();
    let shared = w.space.translate(VirtAddr::new(AT)).unwrap().phys;
    // SAFETY: a frame that is mapped.
    let page = unsafe { PagePtr::new(w.sim.machine, Pfn::containing(shared)) };
    page.get();
    page.add_mapping();
    w.mprotect(AT, 1, VmFlags::READ);
    w.mprotect(AT, 1, RW);
    assert_eq!(w.touch(AT, Write), Ok(Served::Copied));
    w.write(AT, 43).unwrap();
    // SAFETY: inside the simulated RAM.
    assert_eq!(unsafe { w.sim.machine.phys_to_virt(shared).read() }, 42);
    assert_eq!((page.refcount(), page.mapcount()), (1, 1));
    assert!(page.remove_mapping());
    w.sim.give(page);
    w.end();
}

#[test]
fn pages_keep_their_contents_through_protections() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 3, RW);
    w.write(AT + 0x1000, 9).unwrap();
    assert_eq!(w.read(AT), Ok(0));
    w.mprotect(AT, 3, VmFlags::empty());
    assert_eq!(w.space.translate(VirtAddr::new(AT + 0x1000)), None);
    assert!(matches!(w.read(AT + 0x1000), Err(Fault::BadAccess { .. })));
    w.mprotect(AT, 2, RW);
    let before = w.space.faults().all;
    assert_eq!(w.read(AT + 0x1000), Ok(9));
    w.write(AT + 0x1000, 10).unwrap();
    assert_eq!(w.space.faults().all, before, "writable at once");
    assert_eq!(w.touch(AT, Write), Ok(Served::ZeroPageCopied), "but not the zero page");
    assert_eq!(w.space.areas().nr_areas(), 2);
    w.end();
}

#[test]
fn frames_and_tables_are_freed_after_the_flush() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 200, RW);
    for page in 0..200 {
        w.write(AT + page * 4096, 1).unwrap();
    }
    (w.sim.flushes, w.sim.freed_after) = (Vec::new(), Vec::new());
    w.munmap(AT, 200);
    assert_eq!(w.sim.freed_after.len(), 200 + 3, "frames and tables");
    assert!(w.sim.freed_after.iter().all(|&(_, flushes)| flushes > 0));
    let flushed: u64 = w.sim.flushes.iter().map(|range| range.len_bytes() >> 12).sum();
    assert!(flushed >= 200);
    let (mm, _) = w.mm();
    assert_eq!((mm.nr_anon_pages(), mm.nr_tables()), (0, 0));
    w.end();
}

#[test]
fn tables_stay_while_a_neighbour_needs_them() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 3, RW);
    for page in 0..3 {
        w.write(AT + page * 4096, page as u8).unwrap();
    }
    w.munmap(AT + 0x1000, 1);
    assert_eq!(w.space.nr_tables(), 3);
    assert_eq!((w.read(AT), w.read(AT + 0x2000)), (Ok(0), Ok(2)));
    assert!(matches!(w.read(AT + 0x1000), Err(Fault::BadArea { .. })));
    w.munmap(AT, 3);
    assert_eq!(w.space.nr_tables(), 0);
    w.end();
}

#[test]
fn areas_merge_and_split() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 10, RW);
    w.mmap(Placement::Fixed(AT + 0xb000), 10, RW);
    assert_eq!(w.space.areas().nr_areas(), 2);
    w.mmap(Placement::Fixed(AT + 0xa000), 1, RW);
    assert_eq!(w.space.areas().nr_areas(), 1, "the hole is filled");
    w.mprotect(AT + 0x5000, 5, VmFlags::READ);
    assert_eq!(w.space.areas().nr_areas(), 3);
    w.mprotect(AT + 0xa000, 1, VmFlags::READ);
    assert_eq!(w.space.areas().nr_areas(), 3, "the neighbour grows");
    w.mprotect(AT + 0x4000, 8, RW);
    assert_eq!(w.space.areas().nr_areas(), 1);
    w.end();
}

#[test]
fn room_is_found_downwards_and_hints_are_followed() {
    let mut w = World::new();
    assert_eq!(w.mmap(Placement::Any, 4, RW), MMAP_BASE - 0x4000);
    assert_eq!(w.mmap(Placement::Any, 1, VmFlags::READ), MMAP_BASE - 0x5000);
    assert_eq!(w.mmap(Placement::Hint(AT + 123), 1, RW), AT);
    assert_eq!(w.mmap(Placement::Hint(AT), 1, RW), MMAP_BASE - 0x6000, "taken");
    assert_eq!(w.mmap(Placement::Hint(0x1000), 1, RW), 65536, "too low");
    assert_eq!(w.mmap(Placement::Any, MMAP_BASE >> 13, VmFlags::READ), {
        let len = MMAP_BASE >> 13 << 12;
        MMAP_BASE - 0x6000 - len
    });
    w.end();
}

#[test]
fn bad_arguments_get_linux_errors() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 2, RW);
    let (mm, sim) = w.mm();
    use Placement::*;
    let top = 0x7fff_ffff_f000;
    for (len, access, placement, error) in [
        (0, RW, Any, MmError::Invalid),
        (u64::MAX, RW, Any, MmError::NoMemory),
        (top + 4096, RW, Any, MmError::NoMemory),
        (4096, RW, Fixed(AT + 1), MmError::Invalid),
        (4096, RW, Fixed(0), MmError::NotPermitted),
        (4096, RW, Fixed(top), MmError::NoMemory),
        (4096, RW, FixedNoReplace(AT + 4096), MmError::Exists),
        (4096, RW | VmFlags::EXEC, Any, MmError::AccessDenied),
        (4096, VmFlags::SHARED, Any, MmError::Invalid),
    ] {
        assert_eq!(mm.mmap(len, access, placement, sim), Err(error), "{len:#x} {placement:?}");
    }
    for (start, len) in [(AT + 1, 4096), (AT, 0), (top, 4096), (AT, u64::MAX)] {
        assert_eq!(mm.munmap(start, len, sim), Err(MmError::Invalid), "{start:#x} {len:#x}");
    }
    assert_eq!(mm.mprotect(AT + 1, 4096, RW, sim), Err(MmError::Invalid));
    assert_eq!(mm.mprotect(AT, 0, RW, sim), Ok(()));
    assert_eq!(mm.mprotect(AT, 3 << 12, VmFlags::READ, sim), Err(MmError::NoMemory), "a hole at the end");
    mm.validate();
    mm.set_max_map_count(1);
    assert_eq!(mm.mprotect(AT, 4096, RW, sim), Err(MmError::NoMemory), "one area too many");
    assert_eq!(mm.mprotect(AT, 2 << 12, RW, sim), Ok(()));
    w.end();
}

#[test]
fn a_fixed_mapping_replaces_what_is_there() {
    let mut w = World::new();
    w.mmap(Placement::Fixed(AT), 4, RW);
    w.write(AT + 0x1000, 5).unwrap();
    w.mmap(Placement::Fixed(AT + 0x1000), 2, RW);
    assert_eq!(w.space.areas().nr_areas(), 1, "merged again");
    assert_eq!(w.read(AT + 0x1000), Ok(0));
    w.end();
}
