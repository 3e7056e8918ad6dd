//! Making the section tables from memblock's memory.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{
    MAX_PFN, ROOT_PFN_SHIFT, Root, SECTION_NR_PAGES, SECTION_PFN_SHIFT, SUBSECTION_NR_PAGES, Section,
    SectionUsage, Sparse, section_of, section_pages,
};
use crate::addr::{PhysAddr, PhysRange};
use crate::arch::Machine;
use crate::id::{NodeId, SectionNr};
use crate::memblock::{self, Memblock, OnNode, Request};
use crate::pfn::{Pfn, PfnRange};

/// Why the section tables could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Memory that memblock could not give.
    Memblock(memblock::Error),
    /// RAM that ends at this frame, above what sections and the direct map reach: to be cut off before.
    BeyondLimit(Pfn),
    /// The vmemmap could not be mapped.
    Vmemmap,
}

impl From<memblock::Error> for Error {
    fn from(e: memblock::Error) -> Self {
        Self::Memblock(e)
    }
}

/// Puts memory behind the struct pages of sections (Linux: `__populate_section_memmap`).
pub trait PopulateVmemmap {
    /// Makes the struct pages of `pages`, whole sections, writable: 2 MiB of vmemmap for each, from memblock, on `node` if
    /// possible, in one piece if possible. Contents do not matter: they are written afterwards.
    ///
    /// # Errors
    /// When memory for them or for page tables is missing.
    fn populate(&mut self, memblock: &mut Memblock<'_>, pages: PfnRange, node: NodeId) -> Result<(), Error>;
}

/// For machines whose vmemmap is there anyway, as the simulated one's.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlreadyPopulated;

impl PopulateVmemmap for AlreadyPopulated {
    fn populate(&mut self, _: &mut Memblock<'_>, _: PfnRange, _: NodeId) -> Result<(), Error> {
        Ok(())
    }
}

impl Sparse {
    /// The tables for all memory that memblock has, each part on the node of its memory, and their vmemmap (Linux:
    /// `sparse_init`). Struct pages are not initialised yet: [`crate::init::struct_pages`]. Takes time by the sections
    /// present.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Safety
    /// Memblock's memory is mapped by `machine`, and what memblock hands out here is used by nobody else as long as the
    /// machine runs.
    pub unsafe fn init(
        memblock: &mut Memblock<'_>,
        machine: Machine,
        vmemmap: &mut dyn PopulateVmemmap,
    ) -> Result<Self, Error> {
        let end = Self::end_of_ram(memblock)?;
        let nr_roots = end.align_up(1 << ROOT_PFN_SHIFT).get() >> ROOT_PFN_SHIFT;
        let roots = zeroed(memblock, machine, nr_roots.max(1) as usize * size_of::<*mut Root>(), None)?;
        let sparse = Self { machine, roots: roots.cast(), nr_roots };
        let mut done = Pfn::default();
        while let Some((ram, node)) = next_ram(memblock, done) {
            // A section that two ranges touch is the first one's.
            let first = ram.start.max(done).align_down(SECTION_NR_PAGES);
            let pages = PfnRange::new(first.max(done), ram.end.align_up(SECTION_NR_PAGES));
            sparse.add_sections(memblock, pages, node, vmemmap)?;
            done = pages.end;
        }
        for (ram, _) in memblock.memory_pfn_ranges(None) {
            sparse.mark_subsections(ram);
        }
        Ok(sparse)
    }

    /// One past the last frame of RAM.
    ///
    /// # Errors
    /// [`Error::BeyondLimit`] when it has no section.
    pub fn end_of_ram(memblock: &Memblock<'_>) -> Result<Pfn, Error> {
        let end = memblock.memory_pfn_ranges(None).map(|(pages, _)| pages.end).max().unwrap_or_default();
        if end > MAX_PFN { Err(Error::BeyondLimit(end)) } else { Ok(end) }
    }

    /// Makes the sections in `pages` present (Linux: `sparse_init_nid`).
    fn add_sections(
        &self,
        memblock: &mut Memblock<'_>,
        pages: PfnRange,
        node: NodeId,
        vmemmap: &mut dyn PopulateVmemmap,
    ) -> Result<(), Error> {
        let nr = (pages.nr_pages() >> SECTION_PFN_SHIFT) as usize;
        let usages: NonNull<SectionUsage> =
            zeroed(memblock, self.machine, nr * size_of::<SectionUsage>(), Some(node))?.cast();
        vmemmap.populate(memblock, pages, node)?;
        for i in 0..nr {
            let at = section_pages(SectionNr(section_of(pages.start).0 + i as u32)).start;
            let section = self.section_or_new_root(memblock, at, node)?;
            section.node.store(node.0, Ordering::Relaxed);
            // SAFETY: one of the `nr` usages just allocated; zeroes are a usage.
            let usage = unsafe { usages.add(i) };
            // Release: pairs with the acquire of who looks the section up.
            section.usage.store(usage.as_ptr(), Ordering::Release);
        }
        Ok(())
    }

    /// Records the subsections that `ram` touches (Linux: `subsection_map_init`).
    fn mark_subsections(&self, ram: PfnRange) {
        let mut rest = ram;
        while !rest.is_empty() {
            let pages = section_pages(section_of(rest.start));
            let part = rest.intersect(pages);
            let first = (part.start - pages.start) / SUBSECTION_NR_PAGES;
            let end = (part.end - pages.start).div_ceil(SUBSECTION_NR_PAGES);
            if let Some(section) = self.section(part.start) {
                let bits = (u64::MAX << first) & (u64::MAX >> (u64::from(u64::BITS) - end));
                section.subsections.fetch_or(bits, Ordering::Relaxed);
            }
            rest = PfnRange::new(part.end, rest.end);
        }
    }

    fn section_or_new_root(
        &self,
        memblock: &mut Memblock<'_>,
        pfn: Pfn,
        node: NodeId,
    ) -> Result<&Section, Error> {
        if self.section(pfn).is_none() {
            let root = zeroed(memblock, self.machine, size_of::<Root>(), Some(node))?.cast::<Root>();
            // SAFETY: `pfn` is below the end that `nr_roots` was made for (I1).
            let slot = unsafe { &*self.roots.as_ptr().add((pfn.get() >> ROOT_PFN_SHIFT) as usize) };
            // Release: pairs with the acquire of who looks it up. Zeroes are a root without sections.
            slot.store(root.as_ptr(), Ordering::Release);
        }
        self.section(pfn).ok_or(Error::BeyondLimit(pfn))
    }

    /// Checks that a section is present exactly when it has RAM, on the node of its first RAM, and I3.
    ///
    /// # Panics
    /// When it is not.
    pub fn validate(&self, memblock: &Memblock<'_>) {
        let mut wanted = 0;
        let mut done = Pfn::default();
        while let Some((ram, node)) = next_ram(memblock, done) {
            let mut at = ram.start.max(done).align_down(SECTION_NR_PAGES).max(done);
            while at < ram.end {
                let section = self.section(at).filter(|s| !s.usage.load(Ordering::Acquire).is_null());
                assert!(section.is_some(), "section of {at:?} is missing");
                let on = section.map(|s| NodeId(s.node.load(Ordering::Relaxed)));
                assert_eq!(on, Some(node), "node of the section of {at:?}");
                (wanted, at) = (wanted + 1, at + SECTION_NR_PAGES);
            }
            done = at;
        }
        assert_eq!(self.sections().count(), wanted, "sections without RAM");
        for (nr, _) in self.sections() {
            let pages = section_pages(nr);
            for at in (0..SECTION_NR_PAGES).step_by(SUBSECTION_NR_PAGES as usize).map(|i| pages.start + i) {
                let subsection = PfnRange::new(at, at + SUBSECTION_NR_PAGES);
                let has_ram = memblock.absent_pages_in(subsection) != SUBSECTION_NR_PAGES;
                assert_eq!(self.subsection_has_ram(at), has_ram, "I3: subsection at {at:?}");
            }
        }
    }
}

/// The first RAM that has pages at or after `from`.
fn next_ram(memblock: &Memblock<'_>, from: Pfn) -> Option<(PfnRange, NodeId)> {
    let (ram, node) = memblock.memory_pfn_ranges(None).find(|(pages, _)| pages.end > from)?;
    Some((ram, node.unwrap_or(NodeId::FIRST)))
}

/// Boot memory filled with zeroes, aligned to its size up to a page.
fn zeroed(
    memblock: &mut Memblock<'_>,
    machine: Machine,
    size_bytes: usize,
    node: Option<NodeId>,
) -> Result<NonNull<u8>, memblock::Error> {
    let align = size_bytes.next_power_of_two().clamp(64, crate::PAGE_SIZE) as u64;
    let on = node.map_or(OnNode::Any, OnNode::Prefer);
    let range: PhysRange = memblock.alloc_zeroed(Request::new(size_bytes as u64).align(align).on(on))?;
    NonNull::new(machine.phys_to_virt(PhysAddr::new(range.start()))).ok_or(memblock::Error::NotMapped)
}
