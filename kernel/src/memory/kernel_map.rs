//! The kernel's own page tables: the direct map, the kernel image, and nothing else.
//!
//! ```text
//! direct map     RAM and the first MiB    RW NX   1 GiB / 2 MiB / 4 KiB pages; the image's text and rodata R NX;
//!                                                 4 KiB pages with debug_pagealloc=on, free ones not present
//! vmalloc        empty                            root entries present, so that every address space shares them
//! vmemmap        filled by `sparse`
//! fixmap         the image's own tables, see `fixmap`
//! kernel image   text R X, rodata R NX, data RW NX; holes around each stack
//! ```
//!
//! # Invariants
//! - I1: the tables come from memblock, those of the vmalloc space from the page allocator; root entries' tables live as
//!   long as the machine.
//! - I2: nothing is mapped both writable and executable, and nothing below the kernel's half.
//! - I3: what the image maps read-only is writable nowhere else.
//! - I4: after [`build`] the direct map's tables and entries stay as they are, but for what `debug_pagealloc` changes in entries
//!   of 4 KiB pages that the page allocator has free. Other mappings of RAM do not reach it: `ioremap` refuses RAM, and the
//!   vmalloc space and processes have entries of their own.
//!
//! Tables come from the node of what they map. Linux takes them from the memory mapped last, from the top down, because it
//! has only that mapped and knows no nodes yet; here the boot loader has mapped everything.

use mm::addr::{PhysAddr, PhysRange, VirtAddr};
use mm::arch::{Machine, layout};
use mm::memblock::{Memblock, OnNode, Region, Request};
use mm::page_alloc::PageAllocator;
use mm::pgtable::{
    Level, NearTables, OutOfMemory, PageCounts, PageSize, PageTable, Prot, TableSource, VirtRange,
};
use mm::{PAGE_SIZE, Pfn};

use super::{Error, early, fixmap};
use crate::cpu::paging;
use crate::firmware::boot::{self, Boot};
use crate::firmware::translate;
use crate::{debug::stacks, image};

/// Page tables taken from memblock.
#[derive(Debug)]
pub(super) struct EarlyTables<'m, 'a> {
    pub(super) memblock: &'m mut Memblock<'a>,
    /// Where they are to be.
    pub(super) on: OnNode,
}

// SAFETY: memblock gives each range out once, below its limit, where everything is mapped; it is zeroed.
unsafe impl TableSource for EarlyTables<'_, '_> {
    fn alloc_table(&mut self, _level: Level) -> Result<Pfn, OutOfMemory> {
        let range = self.memblock.alloc_zeroed(Request::pages(1).on(self.on)).map_err(|_| OutOfMemory)?;
        Ok(Pfn::containing(PhysAddr::new(range.start())))
    }

    unsafe fn free_table(&mut self, pfn: Pfn) {
        let range = PhysRange::from_size(pfn.byte(), PAGE_SIZE as u64);
        if range.is_none_or(|range| self.memblock.free(range).is_err()) {
            log::warn!("page table at pfn {pfn:#x} could not be given back");
        }
    }
}

impl NearTables for EarlyTables<'_, '_> {
    fn near(&mut self, range: PhysRange) {
        self.on = self.memblock.node_of(range.start()).map_or(OnNode::Any, OnNode::Prefer);
    }
}

/// The kernel's tree, and what the direct map took.
#[derive(Debug)]
pub(super) struct KernelMap {
    pub(super) tree: PageTable,
    pub(super) direct: PageCounts,
}

/// Builds the kernel's page tables (Linux: `init_mem_mapping`, and what `head_64.S` prepares).
pub(super) fn build(memblock: &mut Memblock<'static>, largest: PageSize) -> Result<KernelMap, Error> {
    let ram = copy_of_ram(memblock)?;
    let mut tables = EarlyTables { memblock, on: OnNode::Any };
    let mut tree = PageTable::new(Machine, &mut tables)?;
    let base = VirtAddr::new(layout::DIRECT_MAP);
    tree.map_direct(base, ram.iter().copied(), largest, &mut tables)?;
    map_image(&mut tree, &mut tables)?;
    fixmap::link(&mut tree, &mut tables)?;
    protect_image_in_direct_map(&mut tree, &mut tables)?;
    let direct = tree.count_pages(DIRECT_MAP);
    populate_root(&mut tree, layout::VMEMMAP, layout::VMEMMAP_END, &mut tables)?;
    if let Some(range) = memblock.range_of(ram) {
        memblock.free(range)?;
    }
    Ok(KernelMap { tree, direct })
}

/// Makes the vmalloc space's root entries present, so that every address space shares what will be mapped there (Linux:
/// `preallocate_vmalloc_pages`). Their tables come from the page allocator: they are nothing that boot keeps back.
pub(super) fn share_vmalloc_space(tree: &mut PageTable, mut pages: &PageAllocator) -> Result<(), Error> {
    populate_root(tree, layout::VMALLOC, layout::VMALLOC_END, &mut pages)
}

const DIRECT_MAP: VirtRange = match VirtRange::from_bounds(layout::DIRECT_MAP, layout::DIRECT_MAP_END) {
    Some(range) => range,
    None => unreachable!(),
};

fn populate_root(
    tree: &mut PageTable,
    start: u64,
    end: u64,
    tables: &mut impl TableSource,
) -> Result<(), Error> {
    let range = VirtRange::from_bounds(start, end).ok_or(Error::Layout)?;
    Ok(tree.populate_root(range, tables)?)
}

/// Memblock's memory, copied: tables are taken from memblock while the ranges are walked.
fn copy_of_ram(memblock: &mut Memblock<'static>) -> Result<&'static mut [PhysRange], Error> {
    let nr = memblock.memory().len();
    let ram = memblock.alloc_slice(nr, Region::EMPTY.range, OnNode::Any)?;
    for (copy, region) in ram.iter_mut().zip(memblock.memory()) {
        *copy = region.range;
    }
    Ok(ram)
}

/// Maps the image's sections where they are linked to the frames that the boot loader put them in.
fn map_image(tree: &mut PageTable, tables: &mut EarlyTables<'_, '_>) -> Result<(), Error> {
    for (section, prot) in image::sections() {
        for (page, phys) in translate::pages(section) {
            if stacks::is_guard_page(page.as_u64()) {
                continue;
            }
            let range = VirtRange::new(page, PAGE_SIZE as u64).ok_or(Error::Layout)?;
            tree.map_range(range, phys, prot, PageSize::Size4K, tables)?;
        }
    }
    Ok(())
}

/// Makes read-only in the direct map what is so in the image (I3; Linux: `set_memory_ro` and its alias).
fn protect_image_in_direct_map(tree: &mut PageTable, tables: &mut EarlyTables<'_, '_>) -> Result<(), Error> {
    for frames in image::frames_of(image::text()).chain(image::frames_of(image::rodata())) {
        tables.near(frames);
        let at = VirtAddr::new(layout::DIRECT_MAP + frames.start());
        let range = VirtRange::new(at, frames.len_bytes()).ok_or(Error::Layout)?;
        tree.protect_range(range, Prot::KERNEL_RO, tables)?.never_used();
    }
    Ok(())
}

/// Leaves the boot loader's page tables for our own.
///
/// # Safety
/// The stack in use is part of the kernel image, and nothing outside image, direct map and vmemmap is used afterwards.
pub(super) unsafe fn activate(tree: &PageTable) {
    // SAFETY: the tree maps the image as it is mapped now, less what the caller promises not to use.
    unsafe { paging::set_root(tree.root_pfn()) };
    boot::set_loader_left();
    fixmap::set_live();
}

/// The ranges that the boot loader used, copied: its own list is not mapped any more after [`activate`].
pub(super) fn copy_of_loader_ranges(
    memblock: &mut Memblock<'static>,
    boot: &Boot,
) -> Result<&'static mut [PhysRange], Error> {
    let nr = boot.loader_ranges().count();
    let ranges = memblock.alloc_slice(nr, Region::EMPTY.range, OnNode::Any)?;
    for (copy, range) in ranges.iter_mut().zip(boot.loader_ranges()) {
        *copy = range;
    }
    Ok(ranges)
}

/// Gives the memory back that the boot loader used, but for what is kept ([`early::kept_ranges`]).
/// Only after [`activate`]. Returns how many bytes that is.
pub(super) fn give_back_loader_memory(
    memblock: &mut Memblock<'static>,
    loader: &'static mut [PhysRange],
    symbols: Option<PhysRange>,
) -> Result<u64, Error> {
    let before = memblock.reserved_bytes();
    for &range in &*loader {
        memblock.free(range)?;
    }
    for range in early::kept_ranges(symbols) {
        memblock.reserve(range)?;
    }
    if let Some(range) = memblock.range_of(loader) {
        memblock.free(range)?;
    }
    Ok(before.saturating_sub(memblock.reserved_bytes()))
}

/// Checks I2 over the whole tree, and that nothing is mapped below the kernel's half.
pub fn check(tree: &PageTable, user: &[VirtRange]) -> Result<(), Error> {
    let report = tree.check_wx().map_err(Error::WritableAndExecutable)?;
    tree.check_user_half(user).map_err(Error::Stray)?;
    log::info!(
        "x86/mm: Checked W+X mappings: passed, no W+X pages found ({} kB mapped, {} kB executable).",
        kb(&report.mapped),
        kb(&report.executable)
    );
    Ok(())
}

fn kb(counts: &PageCounts) -> u64 {
    PageSize::ALL.iter().map(|&size| counts.kb(size)).sum()
}
