//! The first contents of all struct pages: RAM is free but on no list, holes are reserved.
//!
//! ```text
//! sections  |        present        |   absent   |        present        |
//! RAM          |=====|      |=======|            |====|
//! pages     hhhfffffffhhhhhhffffffff              fffffhhhhhhhhhhhhhhhhhh      f free, h hole: reserved, logged
//! ```
//! A hole is filed under the zone of the RAM after it, the last one under the highest zone of the node of the RAM before.

use core::mem::transmute;

use crate::arch::Machine;
use crate::gfp::MigrateType;
use crate::id::{NodeId, ZoneIdx};
use crate::memblock::Memblock;
use crate::node::{Nodes, ram};
use crate::order::PAGEBLOCK_NR_PAGES;
use crate::page::Page;
use crate::pfn::{Pfn, PfnRange};
use crate::sparse::{SECTION_NR_PAGES, Sparse};
use crate::zone::NodeRam;

/// Initialises the struct pages of all present sections, and makes pageblocks of RAM movable (Linux: `memmap_init`).
/// Eleven instructions a page.
///
/// # Safety
/// Nobody uses the struct pages yet, the vmemmap of all present sections is writable, and `memblock` is what the sections
/// and `nodes` were made from.
pub unsafe fn struct_pages(memblock: &Memblock<'_>, nodes: &Nodes) {
    parts(ram(memblock), nodes, |part, pages, node, zone| {
        // SAFETY: sections with RAM are present, and the caller's promise.
        unsafe {
            match part {
                Part::Ram => init_ram(nodes.sparse(), pages, node, zone),
                Part::Hole => init_hole(nodes.sparse(), pages, node, zone),
            }
        }
    });
}

/// What a range of frames is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Memory.
    Ram,
    /// No memory, perhaps with struct pages all the same.
    Hole,
}

/// Gives `visit` each range of RAM, cut at zones' borders, and each hole, with the zone that it is filed under.
pub(super) fn parts(
    ram: impl Iterator<Item = NodeRam>,
    nodes: &Nodes,
    mut visit: impl FnMut(Part, PfnRange, NodeId, ZoneIdx),
) {
    let (mut hole, mut last) = (Pfn::default(), None);
    for range in ram {
        for zone in nodes.get(range.node).into_iter().flat_map(|n| n.populated_zones()) {
            last = Some((range.node, zone.idx()));
            let pages = range.pages.intersect(zone.span());
            if pages.is_empty() {
                continue;
            }
            visit(Part::Ram, pages, range.node, zone.idx());
            visit(Part::Hole, PfnRange::new(hole, pages.start), range.node, zone.idx());
            hole = pages.end;
        }
    }
    if let Some((node, zone)) = last {
        visit(Part::Hole, PfnRange::new(hole, hole.align_up(SECTION_NR_PAGES)), node, zone);
    }
}

/// Gives `visit` the struct pages that exist in each hole, as the boot log counts them.
#[cfg(test)]
pub(crate) fn holes(memblock: &Memblock<'_>, nodes: &Nodes, mut visit: impl FnMut(NodeId, ZoneIdx, u64)) {
    parts(ram(memblock), nodes, |part, pages, node, zone| {
        let unavailable: u64 = nodes.sparse().valid_in(pages).map(PfnRange::nr_pages).sum();
        if part == Part::Hole && unavailable != 0 {
            visit(node, zone, unavailable);
        }
    });
}

/// # Safety
/// As [`struct_pages`]; `pages` lie in present sections.
unsafe fn init_ram(sparse: &Sparse, pages: PfnRange, node: NodeId, zone: ZoneIdx) {
    // SAFETY: the caller's promise.
    unsafe { fill(sparse.machine(), pages, Page::free(node, zone)) };
    // A pageblock whose first page is not RAM stays unmovable, as in Linux.
    let mut block = pages.start.align_up(PAGEBLOCK_NR_PAGES);
    while block < pages.end {
        sparse.set_migrate_type(block, MigrateType::Movable);
        block = block + PAGEBLOCK_NR_PAGES;
    }
}

/// Reserves the pages of a hole that have struct pages (Linux: `init_unavailable_range`).
///
/// # Safety
/// As [`struct_pages`].
unsafe fn init_hole(sparse: &Sparse, hole: PfnRange, node: NodeId, zone: ZoneIdx) {
    let mut unavailable = 0;
    for pages in sparse.valid_in(hole) {
        // SAFETY: they have struct pages, and the caller's promise.
        unsafe { fill(sparse.machine(), pages, Page::reserved(node, zone)) };
        unavailable += pages.nr_pages();
    }
    if unavailable != 0 {
        log::info!("On node {node}, zone {}: {unavailable} pages in unavailable ranges", zone.name());
    }
}

/// A page as words, so that each is one store.
type Words = [u64; size_of::<Page>() / 8];

/// Writes `page` to the struct pages of `pages`.
///
/// # Safety
/// The vmemmap of `pages` is writable, and nobody uses it.
unsafe fn fill(machine: Machine, pages: PfnRange, page: Page) {
    // SAFETY: a page consists of integers of 4 and 8 bytes, without padding (its size is asserted).
    let words: Words = unsafe { transmute::<Page, Words>(page) };
    let mut at = machine.page(pages.start).cast::<Words>();
    let end = machine.page(pages.end).cast::<Words>();
    while at != end {
        // SAFETY: the struct page of one of `pages`, which the vmemmap has side by side.
        unsafe {
            at.write(words);
            at = at.add(1);
        }
    }
}
