//! Address spaces and their page faults in simulated RAM, on a backing that can fail at any step.

mod cases;
mod model;
mod oom;
mod real;

use core::alloc::Layout;
use core::ptr::NonNull;
use std::alloc::{alloc, dealloc};
use std::collections::BTreeSet;
use std::vec::Vec;

use super::*;
use crate::arch::{self, SimMachine};
use crate::areas::NodeAlloc;
use crate::aspace::{AddressSpace, FrameSource, Placement, ZeroPage};
use crate::id::{NodeId, ZoneIdx};
use crate::order::Order;
use crate::page::{Page, PagePtr, PageType};
use crate::page_alloc::PageBlock;
use crate::pfn::Pfn;
use crate::pgtable::{PageTable, TableSource, Tlb};

const NR_FRAMES: u64 = 8192;

/// Frames, tables and nodes of a simulated machine, each counted.
struct Sim {
    machine: arch::Machine,
    free: BTreeSet<Pfn>,
    nr_nodes: usize,
    /// How many more allocations succeed.
    budget: usize,
    flushes: Vec<VirtRange>,
    /// Frames that were freed, with the number of flushes until then.
    freed_after: Vec<(Pfn, usize)>,
}

impl Sim {
    fn pay(&mut self) -> Result<(), OutOfMemory> {
        self.budget = self.budget.checked_sub(1).ok_or(OutOfMemory)?;
        Ok(())
    }

    fn take(&mut self) -> Result<PagePtr, OutOfMemory> {
        self.pay()?;
        let pfn = self.free.pop_first().ok_or(OutOfMemory)?;
        // SAFETY: inside the simulated vmemmap, initialised by `World::new`.
        let page = unsafe { PagePtr::new(self.machine, pfn) };
        assert_eq!((page.refcount(), page.mapcount(), page.page_type()), (0, 0, PageType::NONE), "{pfn}");
        page.set_refcount(1);
        Ok(page)
    }

    fn give(&mut self, page: PagePtr) {
        if page.put() {
            assert_eq!((page.mapcount(), page.page_type()), (0, PageType::NONE), "freed while mapped");
            let pfn = page.pfn(self.machine);
            // Whoever still reads it sees it.
            // SAFETY: a free frame.
            unsafe { self.machine.phys_to_virt(pfn.phys()).write_bytes(0xaa, PAGE_SIZE) };
            self.freed_after.push((pfn, self.flushes.len()));
            assert!(self.free.insert(pfn), "{pfn} freed twice");
        }
    }

    fn clear(&self, page: PagePtr) {
        // SAFETY: just taken, nobody else's.
        unsafe { arch::clear_page(self.machine.phys_to_virt(page.pfn(self.machine).phys())) };
    }
}

impl FrameSource for Sim {
    fn alloc_frame(&mut self, gfp: Gfp) -> Result<PageBlock, OutOfMemory> {
        let page = self.take()?;
        if gfp.contains(Gfp::ZERO) {
            self.clear(page);
        }
        // SAFETY: the reference was made just now.
        Ok(unsafe { PageBlock::from_raw(page, Order::ZERO) })
    }

    fn free_frame(&mut self, frame: PageBlock) {
        self.give(frame.into_raw().0);
    }
}

// SAFETY: each frame is out once, and zeroed.
unsafe impl TableSource for Sim {
    fn alloc_table(&mut self, _level: Level) -> Result<Pfn, OutOfMemory> {
        let page = self.take()?;
        self.clear(page);
        page.set_page_type(PageType::TABLE);
        Ok(page.pfn(self.machine))
    }

    unsafe fn free_table(&mut self, pfn: Pfn) {
        // SAFETY: a frame that `take` gave out.
        let page = unsafe { PagePtr::new(self.machine, pfn) };
        assert_eq!(page.page_type(), PageType::TABLE);
        page.set_page_type(PageType::NONE);
        self.give(page);
    }
}

// SAFETY: the host's heap.
unsafe impl NodeAlloc for Sim {
    fn alloc_node(&mut self, layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
        self.pay()?;
        self.nr_nodes += 1;
        // SAFETY: nodes are not of size zero.
        NonNull::new(unsafe { alloc(layout) }).ok_or(OutOfMemory)
    }

    unsafe fn free_node(&mut self, block: NonNull<u8>, layout: Layout) {
        self.nr_nodes -= 1;
        // SAFETY: from `alloc_node`.
        unsafe { dealloc(block.as_ptr(), layout) };
    }
}

impl Tlb for Sim {
    fn flush(&mut self, range: VirtRange) {
        self.flushes.push(range);
    }
}

/// A machine with a kernel and one process. [`World::end`] fails on any leak.
struct World {
    sim: Sim,
    kernel: PageTable,
    zero: ZeroPage,
    space: AddressSpace<Sim>,
    _machine: SimMachine,
}

const RW: VmFlags = VmFlags::READ.union(VmFlags::WRITE);
const RX: VmFlags = VmFlags::READ.union(VmFlags::EXEC);

const fn user(access: FaultAccess) -> FaultKind {
    FaultKind { access, mode: Mode::User }
}

impl World {
    fn new() -> Self {
        let ram = SimMachine::new(NR_FRAMES << 12);
        let machine = ram.machine();
        for pfn in (0..NR_FRAMES).map(Pfn::new) {
            // SAFETY: inside the reserved vmemmap.
            unsafe { machine.page(pfn).write(Page::free(NodeId(0), ZoneIdx::Normal)) };
        }
        let mut sim = Sim {
            machine,
            free: (0..NR_FRAMES).map(Pfn::new).collect(),
            nr_nodes: 0,
            budget: usize::MAX,
            flushes: Vec::new(),
            freed_after: Vec::new(),
        };
        let mut kernel = PageTable::new(machine, &mut sim).unwrap();
        let all = VirtRange::new(VirtAddr::new(0xffff_8880_0000_0000), 64 << 30).unwrap();
        kernel.populate_root(all, &mut sim).unwrap();
        let zero = ZeroPage::new(machine, &mut sim).unwrap();
        let space = AddressSpace::new(&kernel, &zero, &mut sim).unwrap();
        Self { sim, kernel, zero, space, _machine: ram }
    }

    /// The address space and what it lives on.
    fn mm(&mut self) -> (&mut Mm<Sim>, &mut Sim) {
        (&mut self.space, &mut self.sim)
    }

    fn mmap(&mut self, at: Placement, nr_pages: u64, access: VmFlags) -> u64 {
        let (mm, sim) = self.mm();
        let start = mm.mmap(nr_pages << 12, access, at, sim).unwrap().as_u64();
        mm.validate();
        start
    }

    fn munmap(&mut self, start: u64, nr_pages: u64) {
        let (mm, sim) = self.mm();
        mm.munmap(start, nr_pages << 12, sim).unwrap();
        mm.validate();
    }

    fn mprotect(&mut self, start: u64, nr_pages: u64, access: VmFlags) {
        let (mm, sim) = self.mm();
        mm.mprotect(start, nr_pages << 12, access, sim).unwrap();
        mm.validate();
    }

    fn touch(&mut self, addr: u64, access: FaultAccess) -> Result<Served, Fault> {
        let (mm, sim) = self.mm();
        let served = mm.handle_fault(addr, user(access), sim);
        mm.validate();
        served
    }

    /// Does what a process's access does: faults until the MMU allows it. The byte's place in the simulated RAM.
    fn access(&mut self, addr: u64, access: FaultAccess) -> Result<*mut u8, Fault> {
        for _ in 0..2 {
            let found = self.space.translate(VirtAddr::new(addr));
            let allowed = found.filter(|t| match access {
                FaultAccess::Read => true,
                FaultAccess::Write => t.flags.contains(EntryFlags::WRITABLE),
                FaultAccess::Exec => !t.flags.contains(EntryFlags::NO_EXECUTE),
            });
            if let Some(found) = allowed {
                return Ok(self.sim.machine.phys_to_virt(found.phys));
            }
            self.touch(addr, access)?;
        }
        panic!("{addr:#x}: served, but not allowed");
    }

    fn read(&mut self, addr: u64) -> Result<u8, Fault> {
        // SAFETY: inside the simulated RAM.
        self.access(addr, FaultAccess::Read).map(|at| unsafe { at.read() })
    }

    fn write(&mut self, addr: u64, value: u8) -> Result<(), Fault> {
        // SAFETY: inside the simulated RAM, of a frame that the address space may write.
        self.access(addr, FaultAccess::Write).map(|at| unsafe { at.write(value) })
    }

    /// Ends everything; all frames and nodes must be back.
    #[track_caller]
    fn end(mut self) {
        // SAFETY: no CPU uses the simulated tables.
        unsafe { self.space.destroy(&mut self.sim) };
        self.zero.free(&mut self.sim);
        assert_eq!(self.sim.nr_nodes, 0, "nodes");
        let of_kernel = 1 + self.kernel.count_tables(VirtRange::KERNEL);
        assert_eq!(self.sim.free.len() as u64 + of_kernel, NR_FRAMES, "frames");
    }
}
