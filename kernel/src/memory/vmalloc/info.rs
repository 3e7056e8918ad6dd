//! `/proc/vmallocinfo`: the areas of the vmalloc space and whose pages they map, as they are at one moment.

use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;

use mm::arch::Machine;
use mm::pgtable::{Level, PageTable};
use mm::stat::VmallocAreas;
use mm::stat::vmallocinfo::{AreaKind, VmallocInfo};
use mm::vmalloc::{Purpose, VmapArea};
use mm::{PagePtr, Pfn};

use crate::debug::symbols;
use crate::memory::{Error, Memory};

/// The areas at one moment: taken before the console, under whose lock nobody may sleep.
#[derive(Debug)]
pub struct Snapshot {
    areas: Vec<VmapArea>,
    /// Pages of each area on each node, `nr_nodes` an area.
    on_nodes: Vec<u64>,
    nr_nodes: usize,
}

impl Snapshot {
    /// None.
    pub const fn empty() -> Self {
        Self { areas: Vec::new(), on_nodes: Vec::new(), nr_nodes: 0 }
    }

    /// The areas as they are. Takes the areas' lock and under it the tables', which nobody else does. Cost: by the page.
    ///
    /// # Errors
    /// No memory for the copy.
    pub fn new(memory: &'static Memory) -> Result<Self, Error> {
        let nr_nodes = memory.pages.nodes().nr_ids();
        let mut new = Self { nr_nodes, ..Self::empty() };
        let space = memory.vmalloc.lock();
        let nr = space.nr_areas();
        new.areas.try_reserve_exact(nr).map_err(|_| Error::OutOfMemory)?;
        new.on_nodes.try_reserve_exact(nr * nr_nodes).map_err(|_| Error::OutOfMemory)?;
        new.areas.extend(space.iter());
        new.on_nodes.resize(nr * nr_nodes, 0);
        let tables = memory.kernel_map.lock();
        for (area, counts) in new.areas.iter().zip(new.on_nodes.chunks_mut(nr_nodes)) {
            if area.purpose().has_own_pages() {
                count_pages(&tables, area, counts);
            }
        }
        Ok(new)
    }
}

/// Counts an area's pages by node.
fn count_pages(tables: &PageTable, area: &VmapArea, counts: &mut [u64]) {
    let _: ControlFlow<()> = tables.walk(area.range(), |leaf| {
        // SAFETY: pages of such an area come from the page allocator, so there are struct pages of them.
        let page = unsafe { PagePtr::new(Machine, Pfn::containing(leaf.phys)) };
        if let Some(count) = counts.get_mut(usize::from(page.node().0)) {
            *count += leaf.level.span_bytes() / Level::Pte.span_bytes();
        }
        ControlFlow::Continue(())
    });
}

impl VmallocAreas for Snapshot {
    fn for_each(&self, show: &mut dyn FnMut(&VmallocInfo<'_>) -> fmt::Result) -> fmt::Result {
        for (nr, area) in self.areas.iter().enumerate() {
            let on_nodes = &self.on_nodes[nr * self.nr_nodes..][..self.nr_nodes];
            let (kind, phys) = match area.purpose() {
                Purpose::Ioremap { phys, .. } => (AreaKind::Ioremap, Some(phys)),
                Purpose::Vmalloc | Purpose::Stack | Purpose::PerCpu => (AreaKind::Vmalloc, None),
                Purpose::Vmap => (AreaKind::Vmap, None),
            };
            let caller = symbols::Return(area.caller().0);
            show(&VmallocInfo { addresses: area.with_guard(), caller: &caller, phys, kind, on_nodes })?;
        }
        Ok(())
    }
}
