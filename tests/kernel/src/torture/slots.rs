//! Where the blocks that are held lie, for every CPU to take, and which pages they have.
//!
//! ```text
//! SLOTS    a word each: 0, or a block (frame, order)     swap: whoever takes a word out owns its block
//! Ledger   a bit for each page frame: held               set when a block comes, cleared before it goes
//! ```
//!
//! # Invariants
//! - S1: a word of [`SLOTS`] that is not 0 is a block that was put there, the reference included.
//! - S2: the pages of all blocks in slots or in a worker's hands, and no others, have their bit.

use core::sync::atomic::{AtomicU64, Ordering};

use mm::arch::Machine;
use mm::page_alloc::{PageAllocator, PageBlock, PageMemory};
use mm::{Gfp, Order, PAGE_SIZE, Pfn};

use crate::support::order;

/// For each CPU.
pub(super) const PER_CPU: usize = 1024;

const NR_SLOTS: usize = 4 * PER_CPU;

/// The table.
pub(super) static SLOTS: [AtomicU64; NR_SLOTS] = [const { AtomicU64::new(0) }; NR_SLOTS];

/// Puts a block in a slot; what was there.
pub(super) fn exchange(slot: usize, block: Option<PageBlock>) -> Option<PageBlock> {
    let word = block.map_or(0, |block| {
        let (pfn, order) = (block.pfn(Machine).get(), block.order().get());
        let _ = block.into_raw();
        // One more than the order, so that no block is 0.
        pfn << 8 | u64::from(order + 1)
    });
    // Both ways: what was written in the block before is seen by who takes it.
    match SLOTS[slot % NR_SLOTS].swap(word, Ordering::AcqRel) {
        0 => None,
        // SAFETY: the vmemmap has this page; S1: its reference was put here, and the word is out now.
        word => Some(unsafe {
            PageBlock::from_raw(
                mm::PagePtr::new(Machine, Pfn::new(word >> 8)),
                order((word & 0xff) as u8 - 1),
            )
        }),
    }
}

/// Which pages are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ledger {
    bits: &'static [AtomicU64],
}

impl Ledger {
    /// For all page frames of the machine.
    pub(super) fn new(pages: &PageAllocator) -> (Self, PageMemory) {
        let end = pages.nodes().populated_zones().map(|zone| zone.span().end.get()).max().unwrap_or(0);
        let bytes = (end as usize).div_ceil(64) * 8;
        let size = Order::for_size(bytes).expect("a bit for each page fits in a block");
        let memory = pages.get_free_pages(Gfp::KERNEL | Gfp::ZERO, size).expect("plenty is free");
        // SAFETY: zeros, mapped, and ours until the torture has ended; atomics are shared.
        let bits = unsafe {
            core::slice::from_raw_parts(memory.address().cast::<AtomicU64>().as_ptr(), size.size_bytes() / 8)
        };
        (Self { bits }, memory)
    }

    /// Calls `f` with each word and the bits in it of `nr` pages from `pfn` on.
    fn each(&self, pfn: Pfn, nr: u64, f: impl Fn(&AtomicU64, u64)) {
        let (mut at, end) = (pfn.get(), pfn.get() + nr);
        while at < end {
            let nr = (64 - at % 64).min(end - at);
            f(&self.bits[(at / 64) as usize], (u64::MAX >> (64 - nr)) << (at % 64));
            at += nr;
        }
    }

    /// Pages have come.
    #[track_caller]
    pub(super) fn claim(&self, pfn: Pfn, nr: u64) {
        self.each(pfn, nr, |word, mask| {
            let before = word.fetch_or(mask, Ordering::Relaxed);
            assert_eq!(
                before & mask,
                0,
                "{nr} pages from {pfn:?} on were handed out while somebody has them"
            );
        });
    }

    /// Pages go.
    #[track_caller]
    pub(super) fn release(&self, pfn: Pfn, nr: u64) {
        self.each(pfn, nr, |word, mask| {
            let before = word.fetch_and(!mask, Ordering::Relaxed);
            assert_eq!(before & mask, mask, "{nr} pages from {pfn:?} on are not held");
        });
    }

    /// Pages held.
    pub(super) fn nr_held(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }
}

/// The words of a block that say whose it is: the first of the first, the middle and the last page.
fn marks(block: &PageBlock) -> [*mut u64; 3] {
    let start = block.address(Machine).as_ptr();
    let last = block.order().nr_pages() as usize - 1;
    [0, last / 2, last].map(|nr| start.wrapping_add(nr * PAGE_SIZE).cast())
}

fn mark_of(at: *mut u64) -> u64 {
    (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// Writes a page's own mark where [`check`] looks for it.
pub(super) fn mark(block: &PageBlock) {
    for at in marks(block) {
        // SAFETY: the block's memory is the caller's, mapped, aligned.
        unsafe { at.write_volatile(mark_of(at)) };
    }
}

/// The marks are there as they were written. Pages of a block that was split have the mark of their own first word only if
/// it was one of the block's: they are marked again when they are split off.
#[track_caller]
pub(super) fn check(block: &PageBlock) {
    for at in marks(block) {
        // SAFETY: as in `mark`.
        let found = unsafe { at.read_volatile() };
        assert_eq!(found, mark_of(at), "somebody has written to {block:?}");
    }
}
