//! Debugging: what is done with each block on its way from the free lists to its user and back, when an option asks for it.
//!
//! ```text
//!              hand_out_slow: mapped, poison checked, zeroed, owner recorded
//! free lists -----------------------------------------------> user
//!            <-----------------------------------------------
//!              take_back: owner recorded, poisoned or zeroed, unmapped
//! ```
//!
//! # Invariants
//! - D1: an allocator with an option on has no per-CPU short cut: each block is given out by
//!   [`hand_out_slow`](PageAllocator::hand_out_slow) and taken back by [`take_back`](PageAllocator::take_back). One without
//!   does not look at options where it has a short cut.
//! - D2: options are chosen before the first page is handed over, so every free page has come by `take_back`.
//!
//! # Locking
//! None: both are called without a lock, by the block's owner.

mod options;
#[allow(unsafe_code, reason = "follows addresses to records")]
mod owner;
mod pagealloc;
#[allow(unsafe_code, reason = "writes to free memory that it owns")]
mod poison;
#[cfg(test)]
#[allow(unsafe_code, reason = "writes to memory that is not its own")]
mod tests;

pub use options::DebugOptions;
pub use owner::PageOwner;
pub(super) use owner::{note_part, report};
pub use pagealloc::{GuardMinorder, MapPages};

use crate::buddy::FreeBlock;
use crate::gfp::Gfp;

use super::{PageAllocator, PageBlock};

/// What is on.
#[derive(Debug)]
pub(super) struct Debugging {
    options: DebugOptions,
    owner: Option<PageOwner>,
    mapper: Option<&'static dyn MapPages>,
}

impl Debugging {
    pub(super) const fn new() -> Self {
        Self { options: DebugOptions::empty(), owner: None, mapper: None }
    }

    #[inline(always)]
    pub(super) fn is_off(&self) -> bool {
        self.options.is_empty()
    }
}

impl PageAllocator {
    /// Says which options are on, before the first page is handed over (D2); [`DebugOptions::OWNER`] is when `owner` is there,
    /// [`DebugOptions::PAGEALLOC`] from [`set_debug_pagealloc`](Self::set_debug_pagealloc) on. Allocations and frees take a multiple of their time from then on.
    pub fn set_debugging(&mut self, mut options: DebugOptions, owner: Option<PageOwner>) {
        options.set(DebugOptions::OWNER, owner.is_some());
        options.remove(DebugOptions::PAGEALLOC);
        self.debugging = Debugging { options, owner, mapper: None };
        if !options.is_empty() {
            self.forget_lists();
        }
    }

    /// A block goes to its user, by a path that is not a CPU's short cut (Linux: `post_alloc_hook`).
    #[inline]
    pub(super) fn hand_out_slow(&self, block: FreeBlock, gfp: Gfp) -> PageBlock {
        if self.debugging.is_off() { self.hand_out(block, gfp) } else { self.hand_out_debugged(block, gfp) }
    }

    #[cold]
    fn hand_out_debugged(&self, block: FreeBlock, gfp: Gfp) -> PageBlock {
        let block = self.hand_out_unrecorded(block, gfp);
        self.record_allocation(&block, gfp);
        block
    }

    #[allow(unsafe_code, reason = "looks at the block's memory")]
    fn hand_out_unrecorded(&self, block: FreeBlock, gfp: Gfp) -> PageBlock {
        let options = self.debugging.options;
        self.map(&block);
        if options.contains(DebugOptions::POISON) {
            // SAFETY: mapped, from just now if not for ever (M1 of `pagealloc`).
            unsafe { self.check_poison(&block) };
        }
        let gfp = if options.contains(DebugOptions::INIT_ON_FREE) {
            // It is zero since it was freed.
            gfp - Gfp::ZERO
        } else if options.contains(DebugOptions::INIT_ON_ALLOC) {
            gfp | Gfp::ZERO
        } else {
            gfp
        };
        self.hand_out(block, gfp)
    }

    /// A block has no user any more (Linux: the end of `free_pages_prepare`). Not for the short cut of a CPU's own lists.
    #[inline]
    pub(super) fn take_back(&self, block: &FreeBlock) {
        if !self.debugging.is_off() {
            self.take_back_debugged(block);
        }
    }

    #[cold]
    #[allow(unsafe_code, reason = "writes to the block's memory")]
    fn take_back_debugged(&self, block: &FreeBlock) {
        let options = self.debugging.options;
        self.record_free(block);
        if options.contains(DebugOptions::POISON) {
            // SAFETY: still mapped (M1 of `pagealloc`).
            unsafe { self.poison(block) };
        }
        if options.contains(DebugOptions::INIT_ON_FREE) {
            self.clear(block);
        }
        self.unmap(block);
    }
}
