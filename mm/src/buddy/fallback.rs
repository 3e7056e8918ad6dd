//! Taking pages of another migratetype when the wanted one has none: as many at once as make sense, so that it happens
//! seldom, and from the largest block, so that types mix in few pageblocks.
//!
//! ```text
//! wanted        taken from, in this order
//! Unmovable     Reclaimable, Movable
//! Movable       Reclaimable, Unmovable
//! Reclaimable   Unmovable, Movable
//! ```
//! `HighAtomic`, `Cma` and `Isolate` are neither taken from nor served this way; movable requests may have `Cma` blocks as
//! they are (see [`FreeAreas::alloc`]).

use super::{BadPage, End, Fragment, FreeAreas, Pageblocks, block};
use crate::gfp::MigrateType;
use crate::order::{Order, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use crate::page::{PageFlags, PagePtr};
use crate::pfn::{Pfn, PfnRange};

/// Types to take from, best first.
const fn fallbacks(wanted: MigrateType) -> &'static [MigrateType] {
    use MigrateType::{Cma, HighAtomic, Isolate, Movable, Reclaimable, Unmovable};
    match wanted {
        Unmovable => &[Reclaimable, Movable],
        Movable => &[Reclaimable, Unmovable],
        Reclaimable => &[Unmovable, Movable],
        HighAtomic | Cma | Isolate => &[],
    }
}

/// How much of a pageblock an allocation may claim (Linux: `can_steal_fallback`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claim {
    /// All its free pages, perhaps the block itself.
    Whole,
    /// Only the block found.
    Block,
}

/// Unmovable and reclaimable pages claim all they can, since they are what breaks pageblocks up for good; movable ones
/// only when the block is large, since they can move away.
fn claim(order: Order, wanted: MigrateType) -> Claim {
    if order.get() >= PAGEBLOCK_ORDER.get() / 2 || wanted != MigrateType::Movable {
        Claim::Whole
    } else {
        Claim::Block
    }
}

/// What moving a pageblock's free blocks to another list found there.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Free pages moved.
    pub(super) free: u64,
    /// Pages in use that could be moved.
    movable: u64,
}

impl FreeAreas {
    /// Moves blocks of another type, one of at least `order` among them, to the lists of `wanted`; whether there was one
    /// (Linux: `__rmqueue_fallback`).
    #[cold]
    pub(super) fn steal(
        &mut self,
        order: Order,
        wanted: MigrateType,
        fragment: Fragment,
        blocks: &impl Pageblocks,
    ) -> Result<bool, BadPage> {
        let least = match fragment {
            Fragment::Avoided => order.max(PAGEBLOCK_ORDER),
            Fragment::Allowed => order,
        };
        let Some((mut from, mut page)) = least.and_up().rev().find_map(|o| self.fallback_block(o, wanted))
        else {
            return Ok(false);
        };
        if claim(from, wanted) == Claim::Block && from > order {
            // Movable, and no large block: rather the smallest one.
            (from, page) =
                order.and_up().find_map(|o| self.fallback_block(o, wanted)).unwrap_or((from, page));
        }
        self.claim_block(page, from, wanted, blocks)?;
        Ok(true)
    }

    fn fallback_block(&self, order: Order, wanted: MigrateType) -> Option<(Order, PagePtr)> {
        let area = self.area(order);
        fallbacks(wanted).iter().find_map(|&t| area.list(t).first()).map(|page| (order, page))
    }

    /// Linux: `steal_suitable_fallback`.
    fn claim_block(
        &mut self,
        page: PagePtr,
        order: Order,
        wanted: MigrateType,
        blocks: &impl Pageblocks,
    ) -> Result<(), BadPage> {
        let pfn = page.pfn(self.zone.machine);
        let old = blocks.migrate_type(pfn);
        if old == MigrateType::HighAtomic {
            return self.move_block(page, order, wanted);
        }
        if order >= PAGEBLOCK_ORDER {
            for pageblock in (0..order.nr_pages()).step_by(PAGEBLOCK_NR_PAGES as usize) {
                blocks.set_migrate_type(pfn + pageblock, wanted);
            }
            return self.move_block(page, order, wanted);
        }
        blocks.types_mix(self);
        if claim(order, wanted) == Claim::Block {
            return self.move_block(page, order, wanted);
        }
        let Some(pageblock) = self.pageblock_inside(pfn) else { return self.move_block(page, order, wanted) };
        let moved = self.move_pageblock(page, pageblock, wanted)?;
        // Pages in use that suit the new type as well: known for movable ones; of a movable pageblock, all the others.
        let alike = match (wanted, old) {
            (MigrateType::Movable, _) => moved.movable,
            (_, MigrateType::Movable) => PAGEBLOCK_NR_PAGES - (moved.free + moved.movable),
            _ => 0,
        };
        if moved.free + alike >= PAGEBLOCK_NR_PAGES / 2 {
            blocks.set_migrate_type(pfn, wanted);
        }
        Ok(())
    }

    fn move_block(&mut self, page: PagePtr, order: Order, to: MigrateType) -> Result<(), BadPage> {
        let block = self.take(page, order)?;
        self.push(block, to, End::Tail);
        Ok(())
    }

    /// The pageblock around `pfn`, from `pfn` on when the zone's start cuts it; `None` when the zone's end does (Linux has
    /// it so in `move_freepages_block`).
    fn pageblock_inside(&self, pfn: Pfn) -> Option<PfnRange> {
        let (start, span) = (pfn.align_down(PAGEBLOCK_NR_PAGES), self.zone.span);
        let end = start + PAGEBLOCK_NR_PAGES;
        let from = if start < span.start { pfn } else { start };
        (end <= span.end).then(|| PfnRange::new(from, end))
    }

    /// Moves all free blocks of a pageblock to the lists of `to` (Linux: `move_freepages_block`). Looks at each of its
    /// blocks and used pages once. `page` is any page of it.
    pub(super) fn move_pageblock(
        &mut self,
        page: PagePtr,
        pageblock: PfnRange,
        to: MigrateType,
    ) -> Result<Moved, BadPage> {
        let (mut moved, mut pfn) = (Moved::default(), pageblock.start);
        while pfn < pageblock.end {
            let at = block::in_same_pageblock(&self.zone, page, pfn);
            match block::free_order(at).filter(|_| at.same_zone(&page)) {
                Some(order) => {
                    self.move_block(at, order, to)?;
                    moved.free += order.nr_pages();
                    pfn = pfn + order.nr_pages();
                }
                None => {
                    moved.movable += at.flags().contains(PageFlags::LRU) as u64;
                    pfn = pfn + 1;
                }
            }
        }
        Ok(moved)
    }
}
