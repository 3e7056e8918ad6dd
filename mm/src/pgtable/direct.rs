//! What of physical memory the direct map covers.
//!
//! Linux maps the first MiB whole, RAM or not (firmware tables are there), and above it RAM only, each region with the
//! largest pages that lie in it entirely: `init_mem_mapping`. [`PageTable::map_range`] with the region does just that.

use super::entry::Prot;
use super::level::{PageSize, VirtRange};
use super::map::PageCounts;
use super::table::TableSource;
use super::tree::{MapError, PageTable};
use crate::addr::{PhysAddr, PhysRange, VirtAddr};
use crate::pfn::PfnRange;

/// End of what is mapped without being asked (Linux: `ISA_END_ADDRESS`).
const ISA_END: u64 = 1 << 20;

/// The ranges to map for `ram`, a list of regions in ascending order that do not touch: the first MiB, then the whole
/// pages of each region above it.
pub fn direct_map_ranges(ram: impl Iterator<Item = PhysRange>) -> impl Iterator<Item = PhysRange> {
    let first = PhysRange::new(0, ISA_END);
    let above = ram.filter_map(|region| {
        let pages = PfnRange::inside(region);
        PhysRange::new(pages.start.byte().max(ISA_END), pages.end.byte())
    });
    first.into_iter().chain(above).filter(|range| !range.is_empty())
}

impl PageTable {
    /// Maps all that [`direct_map_ranges`] names of `ram`, physical address p at `base + p`, read-write and not
    /// executable. Returns how many pages of each size that took.
    ///
    /// # Errors
    /// As [`map_range`](Self::map_range); `BadPhys` also when `base + p` leaves the address space.
    pub fn map_direct(
        &mut self,
        base: VirtAddr,
        ram: impl Iterator<Item = PhysRange>,
        largest: PageSize,
        tables: &mut impl TableSource,
    ) -> Result<PageCounts, MapError> {
        let mut counts = PageCounts::default();
        for range in direct_map_ranges(ram) {
            let start = base.as_u64().checked_add(range.start()).and_then(|at| VirtAddr::try_new(at).ok());
            let virt = start.and_then(|start| VirtRange::new(start, range.len_bytes()));
            let virt = virt.ok_or(MapError::BadPhys)?;
            counts += self.map_range(virt, PhysAddr::new(range.start()), Prot::KERNEL_RW, largest, tables)?;
        }
        Ok(counts)
    }
}
