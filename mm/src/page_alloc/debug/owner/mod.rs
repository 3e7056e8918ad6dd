//! `page_owner=on`: who allocated each page, and who freed it last (Linux: `mm/page_owner.c`).
//!
//! ```text
//! struct Page.owner --> Record: flags, order, thread, times --> stacks in the depot
//! ```
//!
//! # Invariants
//! - O1: `owner` of a struct page is 0 or the address of its [`Record`], boot memory on the page's node that is for good.
//! - O2: records come before the first page is handed over, so no page is in use that has none but memblock's, which are
//!   nobody's (Linux calls pages that were allocated before its records early ones).
//! - O3: what the depot takes is not recorded, so that the depot is not asked for stacks of its own.
//!
//! # Locking
//! Records are written by the block's owner; the depot has a lock of its own, which is taken under no other but those that
//! pages may be allocated under.

mod record;
mod show;
#[cfg(test)]
mod tests;

pub(in crate::page_alloc) use show::report;

use core::fmt::{self, Write};
use core::ptr::NonNull;

use crate::arch::Machine;
use crate::buddy::FreeBlock;
use crate::gfp::Gfp;
use crate::memblock::{Memblock, OnNode, Request};
use crate::node::Nodes;
use crate::order::Order;
use crate::page::Page;
use crate::pfn::Pfn;
use crate::sparse::{SECTION_NR_PAGES, section_pages};
use crate::stackdepot::{DepotMemory, Stack, StackDepot, tracer};
use crate::{PhysAddr, PhysRange};

use super::super::hooks::Context;
use super::super::walk::Request as PageRequest;
use super::super::watermark::Depth;
use super::super::{PageAllocator, PageBlock};
use record::{Allocation, NAME_BYTES, Record};

/// Functions of a stack that are kept (Linux: `PAGE_OWNER_STACK_DEPTH`).
const STACK_DEPTH: usize = 16;

/// Records for all pages of a machine, to be given to the page allocator.
#[derive(Debug)]
#[must_use = "the records are lost"]
pub struct PageOwner {
    pub(super) depot: StackDepot,
}

/// The record of a page, when there are records.
fn record_of(page: &Page) -> Option<&'static Record> {
    // SAFETY: O1.
    unsafe { (page.owner() as *const Record).as_ref() }
}

impl PageOwner {
    /// Makes records for all struct pages, each section's on its node; `None` when there is no room, which is logged (Linux:
    /// `page_ext_init`). Takes 64 bytes of memory a page, and time by the pages.
    ///
    /// # Safety
    /// As for [`init::build`](crate::init::build), which has made `nodes`; nothing of `memblock` was handed over yet.
    pub unsafe fn allocate(memblock: &mut Memblock<'_>, nodes: &Nodes) -> Option<Self> {
        let (sparse, machine) = (nodes.sparse(), nodes.sparse().machine());
        let size_bytes = SECTION_NR_PAGES * size_of::<Record>() as u64;
        let mut total = 0;
        for (nr, node) in sparse.sections() {
            let request = Request::new(size_bytes).align(size_of::<Record>() as u64).on(OnNode::Prefer(node));
            let Ok(range) = memblock.alloc_zeroed(request) else {
                log::error!("page_owner: no memory for the records of section {}: it is off", nr.0);
                give_back(memblock, nodes);
                return None;
            };
            let records = machine.phys_to_virt(PhysAddr::new(range.start())).cast::<Record>();
            for (nr, pfn) in section_pages(nr).iter().enumerate() {
                set_record(nodes, pfn, records.wrapping_add(nr) as u64);
            }
            total += size_bytes;
        }
        log::info!("allocated {total} bytes of page_ext");
        Some(Self { depot: StackDepot::new() })
    }
}

fn set_record(nodes: &Nodes, pfn: Pfn, record: u64) {
    if let Some(page) = nodes.sparse().page(pfn) {
        page.set_owner(record);
    }
}

/// Frees the records of the sections that have got some.
fn give_back(memblock: &mut Memblock<'_>, nodes: &Nodes) {
    let machine: Machine = nodes.sparse().machine();
    for (nr, _) in nodes.sparse().sections() {
        let first = section_pages(nr).start;
        let Some(at) = nodes.sparse().page(first).map(|page| page.owner()).filter(|at| *at != 0) else {
            continue;
        };
        section_pages(nr).iter().for_each(|pfn| set_record(nodes, pfn, 0));
        let start = machine.virt_to_phys(at as *const u8).as_u64();
        let range = PhysRange::from_size(start, SECTION_NR_PAGES * size_of::<Record>() as u64);
        if range.is_none_or(|range| memblock.free(range).is_err()) {
            log::warn!("page_owner: records at {start:#x} could not be given back");
        }
    }
}

/// A name, as far as it fits.
struct Name {
    bytes: [u8; NAME_BYTES],
    length: usize,
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars().take_while(char::is_ascii) {
            // The last byte stays 0.
            if self.length == NAME_BYTES - 1 {
                break;
            }
            self.bytes[self.length] = c as u8;
            self.length += 1;
        }
        Ok(())
    }
}

impl Name {
    fn of(context: &dyn Context) -> [u8; NAME_BYTES] {
        let mut name = Self { bytes: [0; NAME_BYTES], length: 0 };
        let _ = context.write_name(&mut name);
        name.bytes
    }
}

fn now_ns() -> u64 {
    tracer().map_or(0, |tracer| tracer.now_ns())
}

/// Memory for the depot: pages that are not recorded (O3).
struct Unrecorded<'a>(&'a PageAllocator);

// SAFETY: the page allocator's blocks, which are nobody else's.
unsafe impl DepotMemory for Unrecorded<'_> {
    fn alloc(&self, order: Order) -> Option<NonNull<u8>> {
        let gfp = Gfp::NOWAIT | Gfp::NOWARN | Gfp::ZERO;
        let request = PageRequest::new(gfp, order, None);
        let block = self.0.walk(self.0.zonelist(&request)?, &request, Depth::first(gfp))?;
        block.pages().iter().filter_map(record_of).for_each(Record::forget);
        Some(self.0.hand_out_unrecorded(block, gfp).address(self.0.machine()))
    }

    fn free(&self, block: NonNull<u8>, order: Order) {
        let pfn = Pfn::containing(self.0.machine().virt_to_phys(block.as_ptr()));
        if let Some(page) = self.0.nodes().sparse().page(pfn) {
            // SAFETY: from `alloc`, and the depot does not use it any more.
            self.0.free_pages(unsafe { PageBlock::from_raw(page, order) });
        }
    }
}

impl PageAllocator {
    /// Whether it is recorded who allocates pages.
    pub fn has_page_owner(&self) -> bool {
        self.debugging.owner.is_some()
    }

    /// Pages that debugging keeps for itself: what it remembers, more over time with what there is, and guard pages. They are
    /// not free, and nobody's.
    pub fn nr_debug_pages(&self) -> u64 {
        self.guard_pages() + self.debugging.owner.as_ref().map_or(0, |owner| owner.depot.nr_pages())
    }

    fn save_stack(&self, owner: &PageOwner) -> Option<Stack> {
        let mut entries = [0; STACK_DEPTH];
        let nr_entries = tracer()?.save(&mut entries).min(STACK_DEPTH);
        owner.depot.save(&entries[..nr_entries], &Unrecorded(self))
    }

    /// A block goes to its user (Linux: `__set_page_owner`).
    pub(super) fn record_allocation(&self, block: &PageBlock, gfp: Gfp) {
        let Some(owner) = &self.debugging.owner else { return };
        let context = self.hooks.context();
        let allocation = Allocation {
            gfp,
            order: block.order(),
            stack: self.save_stack(owner),
            ts_ns: now_ns(),
            pid: context.pid(),
            // There are no processes of several threads yet.
            tgid: context.pid(),
            name: Name::of(context),
        };
        block.pages().iter().filter_map(record_of).for_each(|record| record.set(&allocation));
    }

    /// A block is freed (Linux: `__reset_page_owner`). Boot's pages were nobody's, and stay so.
    pub(super) fn record_free(&self, block: &FreeBlock) {
        let Some(owner) = &self.debugging.owner else { return };
        if !block.pages().iter().filter_map(record_of).any(Record::is_allocated) {
            return;
        }
        let (stack, ts_ns) = (self.save_stack(owner), now_ns());
        block.pages().iter().filter_map(record_of).for_each(|record| record.set_freed(stack, ts_ns));
    }
}

/// A part of a block is a block of its own from now on (Linux: `split_page_owner`, for each part).
#[inline(always)]
pub(in crate::page_alloc) fn note_part(page: &Page, order: Order) {
    if let Some(record) = record_of(page) {
        record.set_order(order);
    }
}
