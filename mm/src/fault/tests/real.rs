//! On the page allocator itself.

use super::*;
use crate::aspace::Parts;
use crate::counters::NodeStat;
use crate::pgtable::LocalTlb;
use crate::testing::TestMachine;

#[derive(Clone, Copy)]
struct Heap;

// SAFETY: the host's heap.
unsafe impl NodeAlloc for Heap {
    fn alloc_node(&mut self, layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
        // SAFETY: nodes are not of size zero.
        NonNull::new(unsafe { alloc(layout) }).ok_or(OutOfMemory)
    }

    unsafe fn free_node(&mut self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: from `alloc_node`.
        unsafe { dealloc(block.as_ptr(), layout) };
    }
}

#[test]
fn thousands_of_faults_give_every_page_back_to_the_page_allocator() {
    let m = TestMachine::new(64);
    let before = m.free_pages();
    let mut backing = Parts { pages: &m.pages, nodes: Heap, tlb: LocalTlb };
    let kernel = PageTable::new(m.machine(), &mut backing).unwrap();
    let zero = ZeroPage::new(m.machine(), &mut backing).unwrap();
    for _ in 0..3 {
        let mut space = AddressSpace::new(&kernel, &zero, &mut backing).unwrap();
        let mm = &mut *space;
        for n in 0..8 {
            let start = mm.mmap(600 << 12, RW, Placement::Hint(n << 32), &mut backing).unwrap().as_u64();
            for page in 0..600 {
                let kind = user(if page % 3 == 0 { FaultAccess::Read } else { FaultAccess::Write });
                mm.handle_fault(start + (page << 12), kind, &mut backing).unwrap();
            }
            mm.munmap(start + (100 << 12), n << 12 | 4096, &mut backing).unwrap();
        }
        mm.validate();
        assert_eq!(mm.faults().all, 4800);
        let used = mm.nr_anon_pages() + mm.nr_tables() + 1;
        // The kernel's root and the zero page besides.
        assert_eq!(m.free_pages() + used + 2, before);
        let node = m.pages.nodes().iter().next().unwrap();
        assert_eq!(node.counters().exact(NodeStat::PageTable), mm.nr_tables() + 2);
        // SAFETY: no CPU uses the simulated tables.
        unsafe { space.destroy(&mut backing) };
        assert_eq!(m.free_pages() + 2, before);
    }
    zero.free(&mut backing);
    // SAFETY: as above.
    unsafe { kernel.free_root(&mut backing) };
}
