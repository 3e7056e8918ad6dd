//! `debug_pagealloc=on`: free pages leave the direct map (Linux: `__kernel_map_pages`).
//!
//! ```text
//! page allocator --MapPages--> entry of the page in the direct map: PRESENT set, or cleared and this CPU's TLB flushed
//! fault on a page that is not present --> freed_page: whose last owner the report names
//! ```
//!
//! # Invariants
//! - I1: with the option the direct map is of 4 KiB pages (`direct_map_page`), and I4 of `kernel_map` holds: nobody else changes
//!   its entries or its tables.
//!
//! # Locking
//! None, in any context: see I1. Other CPUs are not told that a page is gone, as in Linux, for who frees may hold locks that
//! they wait for: what they have in their TLBs they can use until it is displaced there.

use core::fmt;

use mm::arch::{IrqGuard, Machine, layout};
use mm::page_alloc::{DebugOptions, MapPages, dump_page};
use mm::pfn::PfnRange;
use mm::pgtable::{LeafEntries, LocalTlb, PageSize, PageTable, Presence, Tlb, VirtRange};
use mm::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use spin::Once;

/// The largest page that the direct map may have (Linux: `probe_page_size_mask`).
pub(super) fn direct_map_page(largest: PageSize, options: DebugOptions) -> PageSize {
    if options.contains(DebugOptions::PAGEALLOC) { PageSize::Size4K } else { largest }
}

/// The direct map's entries.
#[derive(Debug)]
struct DirectMap(LeafEntries);

static DIRECT_MAP: Once<DirectMap> = Once::new();

/// The direct map of `tree`, for the page allocator to take free pages out of.
///
/// # Safety
/// As I1 says.
pub(super) unsafe fn mapper(tree: &PageTable) -> &'static dyn MapPages {
    // SAFETY: the kernel's tables are there for good, and those of the direct map do not change any more (I1).
    DIRECT_MAP.call_once(|| DirectMap(unsafe { LeafEntries::new(Machine, tree.root_pfn()) }))
}

fn range_of(pages: PfnRange) -> Option<VirtRange> {
    VirtRange::from_bounds(layout::DIRECT_MAP + pages.start.byte(), layout::DIRECT_MAP + pages.end.byte())
}

impl DirectMap {
    fn set(&self, pages: PfnRange, presence: Presence) -> Option<VirtRange> {
        let range = range_of(pages)?;
        // SAFETY: the page allocator's pages, of which nobody else changes the entries (I1); it touches none that is absent, and
        // nor may anybody else.
        if let Err(error) = unsafe { self.0.set_presence(range, presence) } {
            panic!("{pages:?} to be made {presence:?}: no page of 4 KiB at {:?}", error.at);
        }
        Some(range)
    }
}

// SAFETY: `map` makes the pages present in the kernel's tables; no TLB has a page as absent.
unsafe impl MapPages for DirectMap {
    fn map(&self, pages: PfnRange) {
        // Nothing to flush: what is not present is in no TLB.
        self.set(pages, Presence::Present);
    }

    fn unmap(&self, pages: PfnRange) {
        // On one CPU, whose TLB it is.
        let _irq = IrqGuard::new();
        if let Some(range) = self.set(pages, Presence::Absent) {
            LocalTlb.flush(range);
        }
    }
}

/// Whether free pages leave the direct map.
pub fn debug_pagealloc_enabled() -> bool {
    DIRECT_MAP.is_completed()
}

/// The free page that an access to `address` hit, when that is why it has failed. Any context.
pub fn freed_page(address: u64) -> Option<Pfn> {
    let direct = (layout::DIRECT_MAP..layout::DIRECT_MAP_END).contains(&address);
    let absent = direct && DIRECT_MAP.get()?.0.is_absent(VirtAddr::new(address & !(PAGE_SIZE as u64 - 1)));
    absent.then(|| Pfn::containing(PhysAddr::new(address - layout::DIRECT_MAP)))
}

/// Calls `line` with what is known of such a page, and of who freed it, if that is recorded. Any context, without a lock.
pub fn dump_freed(pfn: Pfn, line: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let page = super::memory().and_then(|memory| memory.pages.nodes().sparse().page(pfn));
    if let Some(page) = page {
        dump_page(page, pfn, "access to a free page", line);
    }
}
