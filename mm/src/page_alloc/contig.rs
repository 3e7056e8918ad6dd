//! Ranges of pages at a given place: all of them free, or the allocation fails.
//!
//! ```text
//! isolate the pageblocks -> all CPUs give back what they hold of the zone -> take the range off the free lists
//!                        -> the pageblocks can be allocated from again
//! ```
//!
//! # Not here
//! Moving pages out of the way: as long as there is no migration, a page in use makes the allocation fail.

use super::check::check_new;
use super::rmqueue::{sound, with_free};
use super::{PageAllocator, PageBlock, bug};
use crate::arch::IrqGuard;
use crate::buddy::{FreeBlock, TakeError};
use crate::gfp::{Gfp, MigrateType};
use crate::order::{Order, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use crate::page::PagePtr;
use crate::pfn::{Pfn, PfnRange};
use crate::smp::CallCpus;

#[cfg(test)]
mod tests;

/// What the pageblocks of a range are, before and after it was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContigType {
    /// Of a contiguous-memory area.
    Cma,
    /// Anything: they become movable.
    Movable,
}

impl ContigType {
    const fn migrate_type(self) -> MigrateType {
        match self {
            Self::Cma => MigrateType::Cma,
            Self::Movable => MigrateType::Movable,
        }
    }
}

/// Why a range could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContigError {
    /// It is empty, or not all of it is memory of one zone, or two zones share a pageblock that it touches.
    NotOneZone,
    /// This page of it is in use, or of a contiguous-memory area that the caller does not ask for.
    InUse(Pfn),
    /// Somebody else works on the pageblock of this page of it: it may be free in a moment.
    Contended(Pfn),
}

/// Pages from [`PageAllocator::alloc_contig_range`], each with one reference.
#[must_use = "give them back with `free_contig_range`"]
#[derive(Debug)]
pub struct ContigPages {
    pages: PfnRange,
}

impl ContigPages {
    /// The frames.
    pub fn pages(&self) -> PfnRange {
        self.pages
    }
}

impl PageAllocator {
    /// Just these pages, each with one reference, none part of a compound block (Linux: `alloc_contig_range`). Asks all CPUs,
    /// through `cpus`, to give back what they hold; may sleep later, when pages can be moved. Takes time by the pages. Of
    /// `gfp`, [`Gfp::ZERO`] counts.
    ///
    /// # Errors
    /// See [`ContigError`].
    pub fn alloc_contig_range(
        &self,
        range: PfnRange,
        contig_type: ContigType,
        gfp: Gfp,
        cpus: &dyn CallCpus,
    ) -> Result<ContigPages, ContigError> {
        let restore = contig_type.migrate_type();
        let isolated = self.isolate_range(range, restore)?;
        let taken = self.take_isolated(range, cpus);
        self.restore_range(isolated, restore);
        taken?;
        for block in self.pages_of(range) {
            self.prepare_contig(block, gfp);
        }
        Ok(ContigPages { pages: range })
    }

    /// Takes the range off the free lists, or nothing.
    fn take_isolated(&self, range: PfnRange, cpus: &dyn CallCpus) -> Result<(), ContigError> {
        let zone = self.zone_of_range(range).ok_or(ContigError::NotOneZone)?;
        self.drain_zone_all(zone, cpus);
        let page_of = |pfn| zone.sparse().page(pfn).expect("isolated pages have struct pages");
        let irq = IrqGuard::new();
        match with_free(zone, &irq, |free| free.take_range(range, page_of, drop)) {
            Ok(()) => Ok(()),
            Err(TakeError::InUse(pfn)) => Err(ContigError::InUse(pfn)),
            Err(TakeError::Bad(bad)) => bug(bad),
        }
    }

    fn pages_of(&self, range: PfnRange) -> impl Iterator<Item = PagePtr> + '_ {
        range.iter().filter_map(|pfn| self.nodes().sparse().page(pfn))
    }

    /// A page that was taken off the free lists goes to its user.
    fn prepare_contig(&self, page: PagePtr, gfp: Gfp) {
        // SAFETY: just taken, alone, and nobody else's.
        let block = unsafe { FreeBlock::from_raw(page, Order::ZERO) };
        sound(check_new(self.machine(), &block));
        let (page, _) = self.hand_out_slow(block, gfp - Gfp::COMP).into_raw();
        debug_assert_eq!(page.refcount(), 1);
    }

    /// Gives pages back (Linux: `free_contig_range`). Those that somebody else still uses come free when he gives up his
    /// reference. Any context; in blocks as large as the range allows, up to a pageblock.
    pub fn free_contig_range(&self, pages: ContigPages) {
        let range = pages.pages;
        let mut at = range.start;
        while let Some(page) = self.nodes().sparse().page(at).filter(|_| at < range.end) {
            let order = self.clean_block(PfnRange::new(at, range.end));
            // SAFETY: one of the range's references a page; a block of more than one has no other (`clean_block`).
            let block = unsafe { PageBlock::from_raw(page, order) };
            for tail in &block.pages()[1..] {
                tail.set_refcount(0);
            }
            self.free_pages(block);
            at = at + order.nr_pages();
        }
    }

    /// The largest block at the start of the range whose pages nobody else uses.
    fn clean_block(&self, range: PfnRange) -> Order {
        let most = range.nr_pages().min(PAGEBLOCK_NR_PAGES);
        let clean = self.pages_of(PfnRange::new(range.start, range.start + most));
        let run = clean.take_while(|page| page.refcount() == 1).count() as u64;
        let aligned = range.start.get().trailing_zeros();
        Order::new(run.max(1).ilog2().min(aligned) as u8).unwrap_or(PAGEBLOCK_ORDER).min(PAGEBLOCK_ORDER)
    }
}
