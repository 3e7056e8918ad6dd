//! High-atomic reserves: pageblocks set apart for large blocks of those who cannot wait, and what becomes of them when
//! memory is short.
//!
//! ```text
//! large atomic block below the low watermark -> its pageblock becomes HighAtomic, at most 1 % of the zone and one
//! reclaim freed something but no block       -> one goes back, but for the zone's last
//! before the OOM killer                      -> one goes back, the last too
//! ```
//!
//! # Invariants
//! - H1: `Zone::nr_reserved_highatomic` counts the pages of all pageblocks of type `HighAtomic`. It and the types change
//!   under the zone's lock.

use crate::arch::IrqGuard;
use crate::buddy::{FreeAreas, FreeBlock, Pageblocks};
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_NR_PAGES};
use crate::page::PagePtr;
use crate::pfn::Pfn;
use crate::zone::Zone;

use super::PageAllocator;
use super::hooks::{Progress, Shortage};
use super::rmqueue::{sound, with_free};

/// What of the reserves may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Release {
    /// A zone keeps its last pageblock.
    AllButLast,
    /// All.
    Any,
}

/// At most so many pages are set apart (Linux: `max_managed`).
fn limit(zone: &Zone) -> u64 {
    zone.managed() / 100 + PAGEBLOCK_NR_PAGES
}

/// Whether a frame's pageblock lies in the zone with all its frames. Free blocks of others are not moved between types
/// (`buddy`, as in Linux): they would stay set apart for good.
fn is_whole(zone: &Zone, pfn: Pfn) -> bool {
    let start = pfn.align_down(PAGEBLOCK_NR_PAGES);
    let span = zone.span();
    span.start <= start && start + PAGEBLOCK_NR_PAGES <= span.end
}

impl PageAllocator {
    /// Sets the pageblock of a block that was just allocated apart (Linux: `reserve_highatomic_pageblock`). Takes the
    /// zone's lock.
    #[cold]
    pub(super) fn reserve_highatomic(&self, zone: &Zone, block: &FreeBlock) {
        let page = block.page();
        if zone.nr_reserved_highatomic() >= limit(zone) || !is_whole(zone, page.pfn(self.machine())) {
            return;
        }
        let irq = IrqGuard::new();
        with_free(zone, &irq, |free| {
            let of = zone.sparse().migrate_type(page.pfn(self.machine()));
            if zone.nr_reserved_highatomic() < limit(zone) && of.index() < MigrateType::PCP_COUNT {
                zone.add_reserved_highatomic(free, PAGEBLOCK_NR_PAGES as i64);
                sound(free.retype_pageblock(page, MigrateType::HighAtomic, zone.sparse()));
            }
        });
    }

    /// Gives one pageblock that has free pages back to allocations of `migrate_type`: from the first zone that has one.
    /// Whether pages came free by it (Linux: `unreserve_highatomic_pageblock`). Takes each zone's lock.
    #[cold]
    pub(super) fn unreserve_highatomic(
        &self,
        what: &Shortage<'_>,
        migrate_type: MigrateType,
        release: Release,
    ) -> Progress {
        for zone in what.zones() {
            // When any will do, also pages that came back after their pageblock was given away.
            if release != Release::Any && zone.nr_reserved_highatomic() <= PAGEBLOCK_NR_PAGES {
                continue;
            }
            let irq = IrqGuard::new();
            let moved = with_free(zone, &irq, |free| {
                Order::all().find_map(|order| {
                    let page = free.area(order).list(MigrateType::HighAtomic).first()?;
                    Some(self.give_back(zone, free, page, order, migrate_type)).filter(|&moved| moved > 0)
                })
            });
            if moved.is_some() {
                return Progress::Made;
            }
        }
        Progress::None
    }

    /// All pageblocks of a free block, and their other free pages, become of type `to`; how many pages.
    fn give_back(
        &self,
        zone: &Zone,
        free: &mut FreeAreas,
        page: PagePtr,
        order: Order,
        to: MigrateType,
    ) -> u64 {
        let pfn = page.pfn(self.machine());
        for at in (0..order.nr_pages()).step_by(PAGEBLOCK_NR_PAGES as usize) {
            if zone.sparse().migrate_type(pfn + at) == MigrateType::HighAtomic {
                zone.add_reserved_highatomic(free, -(PAGEBLOCK_NR_PAGES as i64));
            }
            Pageblocks::set_migrate_type(zone.sparse(), pfn + at, to);
        }
        sound(free.retype_pageblock(page, to, zone.sparse()))
    }
}
