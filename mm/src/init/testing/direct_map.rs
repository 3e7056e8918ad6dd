//! The direct map of a simulated machine, as `debug_pagealloc=on` changes it.
//!
//! # Invariants
//! - I1: what is not mapped is inaccessible in the host's page tables, too: touching it ends the process.

use core::sync::atomic::{AtomicBool, Ordering};
use std::boxed::Box;
use std::vec::Vec;

use crate::arch::Machine;
use crate::page_alloc::MapPages;
use crate::pfn::{Pfn, PfnRange};
use crate::pgtable::Presence;

/// Which frames of a machine can be accessed; at first all.
#[derive(Debug)]
pub struct SimDirectMap {
    machine: Machine,
    mapped: Vec<AtomicBool>,
}

impl SimDirectMap {
    /// That of `machine`, for good. To be used as long as the machine is.
    pub(super) fn leak(machine: Machine, end_bytes: u64) -> &'static Self {
        let mapped = (0..Pfn::up(end_bytes).get()).map(|_| AtomicBool::new(true)).collect();
        Box::leak(Box::new(Self { machine, mapped }))
    }

    /// Whether a frame can be accessed.
    pub fn is_mapped(&self, pfn: Pfn) -> bool {
        // Relaxed: who asks is who changes it, or has the page from him.
        self.mapped[pfn.get() as usize].load(Ordering::Relaxed)
    }

    fn set(&self, pages: PfnRange, presence: Presence) {
        let mapped = presence == Presence::Present;
        for pfn in pages.iter() {
            let was = self.mapped[pfn.get() as usize].swap(mapped, Ordering::Relaxed);
            assert_ne!(was, mapped, "{pfn} is made {presence:?} a second time");
        }
        self.machine.set_presence(pages, presence);
    }
}

// SAFETY: the host makes whole frames of the machine's RAM accessible, at once for all its threads; contents stay.
unsafe impl MapPages for SimDirectMap {
    fn map(&self, pages: PfnRange) {
        self.set(pages, Presence::Present);
    }

    fn unmap(&self, pages: PfnRange) {
        self.set(pages, Presence::Absent);
    }
}
