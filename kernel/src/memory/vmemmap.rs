//! Memory behind the struct pages: 2 MiB pages of the vmemmap, one for each section, or small ones where memory is too
//! much in pieces for that.

use mm::addr::VirtAddr;
use mm::arch::Machine;
use mm::memblock::{self, Memblock, OnNode, Request};
use mm::pfn::PfnRange;
use mm::pgtable::{PageSize, PageTable, Prot, VirtRange};
use mm::sparse::{Error, PopulateVmemmap};
use mm::{NodeId, PAGE_SIZE, Page, PhysAddr};

use super::kernel_map::EarlyTables;

const HUGE: u64 = PageSize::Size2M.bytes();

/// Maps the vmemmap in the kernel's page tables.
#[derive(Debug)]
pub(super) struct Populate<'t> {
    pub(super) tree: &'t mut PageTable,
}

impl PopulateVmemmap for Populate<'_> {
    fn populate(&mut self, memblock: &mut Memblock<'_>, pages: PfnRange, node: NodeId) -> Result<(), Error> {
        let len = pages.nr_pages() * size_of::<Page>() as u64;
        let start = VirtAddr::from_ptr(Machine.page(pages.start));
        for offset in (0..len).step_by(HUGE as usize) {
            let range = VirtRange::new(start + offset, HUGE.min(len - offset)).ok_or(Error::Vmemmap)?;
            match self.back(memblock, range, HUGE, node) {
                Err(Error::Memblock(memblock::Error::NoMemory)) => {
                    self.back_with_base_pages(memblock, range, node)?
                }
                done => done?,
            }
        }
        Ok(())
    }
}

impl Populate<'_> {
    /// (Linux: `vmemmap_populate_basepages`.)
    fn back_with_base_pages(
        &mut self,
        memblock: &mut Memblock<'_>,
        range: VirtRange,
        node: NodeId,
    ) -> Result<(), Error> {
        for offset in (0..range.len_bytes()).step_by(PAGE_SIZE) {
            let page = VirtRange::new(range.start() + offset, PAGE_SIZE as u64).ok_or(Error::Vmemmap)?;
            self.back(memblock, page, PAGE_SIZE as u64, node)?;
        }
        Ok(())
    }

    /// Maps `range` to new memory in one piece, aligned to `align`.
    fn back(
        &mut self,
        memblock: &mut Memblock<'_>,
        range: VirtRange,
        align: u64,
        node: NodeId,
    ) -> Result<(), Error> {
        let request = Request::new(range.len_bytes()).align(align).on(OnNode::Prefer(node));
        let phys = PhysAddr::new(memblock.alloc(request)?.start());
        let mut tables = EarlyTables { memblock, on: OnNode::Prefer(node) };
        let mapped = self.tree.map_range(range, phys, Prot::KERNEL_RW, PageSize::Size2M, &mut tables);
        mapped.map(drop).map_err(|_| Error::Vmemmap)
    }
}
