//! Memory behind the struct pages: 2 MiB pages of the vmemmap, one for each section.

use mm::addr::VirtAddr;
use mm::arch::Machine;
use mm::memblock::{Memblock, OnNode, Request};
use mm::pfn::PfnRange;
use mm::pgtable::{PageSize, PageTable, Prot, VirtRange};
use mm::sparse::{Error, PopulateVmemmap};
use mm::{NodeId, Page, PhysAddr};

use super::kernel_map::EarlyTables;

/// Maps the vmemmap in the kernel's page tables.
#[derive(Debug)]
pub(super) struct Populate<'t> {
    pub(super) tree: &'t mut PageTable,
}

impl PopulateVmemmap for Populate<'_> {
    fn populate(&mut self, memblock: &mut Memblock<'_>, pages: PfnRange, node: NodeId) -> Result<(), Error> {
        let len = pages.nr_pages() * size_of::<Page>() as u64;
        let start = VirtAddr::from_ptr(Machine.page(pages.start));
        let huge = PageSize::Size2M.bytes();
        for offset in (0..len).step_by(huge as usize) {
            let range = VirtRange::new(start + offset, huge.min(len - offset)).ok_or(Error::Vmemmap)?;
            let request = Request::new(range.len_bytes()).align(huge).on(OnNode::Prefer(node));
            let memory = memblock.alloc(request)?;
            let phys = PhysAddr::new(memory.start());
            let mut tables = EarlyTables { memblock, on: OnNode::Prefer(node) };
            self.tree
                .map_range(range, phys, Prot::KERNEL_RW, PageSize::Size2M, &mut tables)
                .map_err(|_| Error::Vmemmap)?;
        }
        Ok(())
    }
}
