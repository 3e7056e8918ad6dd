//! What of physical memory the direct map covers.
//!
//! Linux maps the first MiB whole, RAM or not (firmware tables are there), and above it RAM only, each region with the
//! largest pages that lie in it entirely: `init_mem_mapping`. [`PageTable::map_range`] with the region does just that.
//! Linux does not know of nodes then: regions that touch are one here, whatever their nodes are.

use super::entry::Prot;
use super::level::{PageSize, VirtRange};
use super::map::PageCounts;
use super::table::TableSource;
use super::tree::{MapError, PageTable};
use crate::addr::{PhysAddr, PhysRange, VirtAddr};
use crate::pfn::PfnRange;

/// End of what is mapped without being asked (Linux: `ISA_END_ADDRESS`).
const ISA_END: u64 = 1 << 20;

/// Tables that can come from near the memory that they map.
pub trait NearTables: TableSource {
    /// From now on, until the next call, tables map memory in `range`.
    fn near(&mut self, range: PhysRange);
}

/// The ranges to map for `ram`, a list of regions in ascending order: the first MiB, then the whole pages above it of each
/// run of regions that touch.
pub fn direct_map_ranges(ram: impl Iterator<Item = PhysRange>) -> impl Iterator<Item = PhysRange> {
    let first = PhysRange::new(0, ISA_END);
    let mut ram = ram.peekable();
    let runs = core::iter::from_fn(move || {
        let mut run = ram.next()?;
        while let Some(next) = ram.next_if(|next| next.start() == run.end()) {
            run = PhysRange::new(run.start(), next.end())?;
        }
        Some(run)
    });
    let above = runs.filter_map(|run| {
        let pages = PfnRange::inside(run);
        PhysRange::new(pages.start.byte().max(ISA_END), pages.end.byte())
    });
    first.into_iter().chain(above).filter(|range| !range.is_empty())
}

/// A range cut where 1 GiB pages end: no table below the root's maps more than one piece, but for those that map 512 GiB.
fn pieces(range: PhysRange) -> impl Iterator<Item = PhysRange> {
    let span = PageSize::Size1G.bytes();
    (range.start() / span..range.end().div_ceil(span))
        .filter_map(move |n| range.intersect(PhysRange::from_size(n * span, span)?))
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
        tables: &mut impl NearTables,
    ) -> Result<PageCounts, MapError> {
        let mut counts = PageCounts::default();
        for range in direct_map_ranges(ram).flat_map(pieces) {
            tables.near(range);
            let start = base.as_u64().checked_add(range.start()).and_then(|at| VirtAddr::try_new(at).ok());
            let virt = start.and_then(|start| VirtRange::new(start, range.len_bytes()));
            let virt = virt.ok_or(MapError::BadPhys)?;
            counts += self.map_range(virt, PhysAddr::new(range.start()), Prot::KERNEL_RW, largest, tables)?;
        }
        Ok(counts)
    }
}
