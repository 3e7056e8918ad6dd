//! Who has each page of a machine, as simply as it can be: the naive side of models. Any thread may ask.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::vec::Vec;

use crate::page_alloc::PageBlock;
use crate::pfn::{Pfn, PfnRange};
use crate::testing::TestMachine;

const NOBODY: u32 = 0;

/// The owner of each frame, by a number that is not 0.
#[derive(Debug)]
pub(crate) struct PageMap {
    owners: Vec<AtomicU32>,
    nr_taken: AtomicU64,
}

impl PageMap {
    /// For frames `0..nr_frames`, all of them nobody's.
    pub(crate) fn new(nr_frames: u64) -> Self {
        Self { owners: (0..nr_frames).map(|_| AtomicU32::new(NOBODY)).collect(), nr_taken: AtomicU64::new(0) }
    }

    /// Frames of `from`'s become `to`'s.
    pub(crate) fn pass(&self, pages: PfnRange, from: u32, to: u32) {
        self.change(pages, from, to);
    }

    fn change(&self, pages: PfnRange, from: u32, to: u32) {
        for pfn in pages.iter() {
            // Relaxed: who passes a page on passes the block on by other means, which order it.
            let was = self.owners[pfn.get() as usize].swap(to, Ordering::Relaxed);
            assert_eq!(was, from, "owner of {pfn}, which {to} takes from {from}");
        }
    }

    /// Frames that nobody had become `owner`'s.
    #[track_caller]
    pub(crate) fn take(&self, pages: PfnRange, owner: u32) {
        self.change(pages, NOBODY, owner);
        self.nr_taken.fetch_add(pages.nr_pages(), Ordering::Relaxed);
    }

    /// Frames of `owner`'s become nobody's.
    #[track_caller]
    pub(crate) fn give_up(&self, pages: PfnRange, owner: u32) {
        self.nr_taken.fetch_sub(pages.nr_pages(), Ordering::Relaxed);
        self.change(pages, owner, NOBODY);
    }

    /// Frames that somebody has.
    pub(crate) fn nr_taken(&self) -> u64 {
        self.nr_taken.load(Ordering::Relaxed)
    }

    /// Who has a frame.
    pub(crate) fn owner(&self, pfn: Pfn) -> Option<u32> {
        let owner = self.owners[pfn.get() as usize].load(Ordering::Relaxed);
        (owner != NOBODY).then_some(owner)
    }
}

/// The frames of a block.
pub(crate) fn frames(m: &TestMachine, block: &PageBlock) -> PfnRange {
    let start = block.pfn(m.machine());
    PfnRange::new(start, start + block.order().nr_pages())
}
