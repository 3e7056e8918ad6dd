//! `debug_pagealloc=on`: free pages are not mapped, so that who uses one faults at once (Linux: `CONFIG_DEBUG_PAGEALLOC`).
//!
//! ```text
//! free, not mapped --hand_out: map, then look at the contents--> in use, mapped
//!                  <--take_back: leave the contents, then unmap--
//! ```
//! With `debug_guardpage_minorder=N`, halves of split blocks below order N are kept back, too: see `buddy`'s `guard`.
//!
//! # Invariants
//! - M1: a page is mapped while it is in use and while it goes from hand to hand in `hand_out_unrecorded` and
//!   `take_back_debugged`; between the two it is not, on whatever list it is. Memory of memblock is mapped until the hand-over.

use core::fmt;

use crate::cmdline::Cmdline;
use crate::order::Order;
use crate::pfn::{Pfn, PfnRange};

use super::super::PageAllocator;
use super::DebugOptions;
use crate::buddy::FreeBlock;

/// Who makes pages of the direct map accessible and inaccessible. Called in any context, without a lock of the allocator's;
/// must neither sleep nor allocate. The pages belong to the caller, which calls for each in turn.
///
/// # Safety
/// After [`map`](Self::map) the pages can be read and written, on every CPU, until [`unmap`](Self::unmap) is called for them. Neither
/// changes what they contain, nor anything about other pages.
#[allow(unsafe_code, reason = "the allocator writes to pages that it has had mapped")]
pub unsafe trait MapPages: Sync + fmt::Debug {
    /// The pages can be read and written from now on (Linux: `__kernel_map_pages` with 1).
    fn map(&self, pages: PfnRange);
    /// Whoever touches the pages from now on faults, at least on this CPU (Linux: `__kernel_map_pages` with 0).
    fn unmap(&self, pages: PfnRange);
}

/// Blocks below which order are kept back as guard pages (Linux: `_debug_guardpage_minorder`); order 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuardMinorder(Order);

impl Default for GuardMinorder {
    fn default() -> Self {
        Self::NONE
    }
}

impl GuardMinorder {
    /// No guard pages.
    pub const NONE: Self = Self(Order::ZERO);

    /// The largest that there can be: half of the number of orders, as Linux has it (`MAX_ORDER / 2`).
    pub const MOST: u8 = Order::COUNT as u8 / 2;

    /// Blocks below order `n`; `None` when that is more than [`MOST`](Self::MOST).
    pub fn new(n: u8) -> Option<Self> {
        Order::new(n).filter(|order| order.get() <= Self::MOST).map(Self)
    }

    /// The order below which blocks are kept back.
    pub fn order(self) -> Order {
        self.0
    }

    /// What `debug_guardpage_minorder=` on the command line says: the last good one. Each good one is logged, and so is each bad
    /// one, which is ignored (Linux: `debug_guardpage_minorder_setup`).
    pub fn from_cmdline(cmdline: &Cmdline<'_>) -> Self {
        let mut minorder = Self::NONE;
        for param in cmdline.all("debug_guardpage_minorder") {
            match param.value.and_then(Self::parse) {
                Some(good) => {
                    log::info!("Setting debug_guardpage_minorder to {}", good.0.get());
                    minorder = good;
                }
                None => log::error!("Bad debug_guardpage_minorder value"),
            }
        }
        minorder
    }

    /// A decimal number (Linux: `kstrtoul`).
    fn parse(text: &str) -> Option<Self> {
        Self::new(text.parse().ok()?)
    }
}

impl PageAllocator {
    /// From now on free pages are unmapped by `mapper`, before the first page is handed over (D2). After
    /// [`set_debugging`](Self::set_debugging).
    pub fn set_debug_pagealloc(&mut self, mapper: &'static dyn MapPages, guards: GuardMinorder) {
        self.debugging.options |= DebugOptions::PAGEALLOC;
        self.debugging.mapper = Some(mapper);
        for zone in self.nodes().populated_zones() {
            zone.free().lock().set_guard_minorder(guards.order());
        }
        self.forget_lists();
    }

    /// Pages that are kept back between blocks in use: neither free nor anybody's (Linux: those that `PageGuard` is true for).
    pub fn guard_pages(&self) -> u64 {
        self.nodes().populated_zones().map(|zone| zone.free().lock().guard_pages()).sum()
    }

    fn frames_of(&self, block: &FreeBlock) -> PfnRange {
        let start: Pfn = block.page().pfn(self.machine);
        PfnRange::new(start, start + block.order().nr_pages())
    }

    /// A block that was free can be accessed from now on (Linux: `debug_pagealloc_map_pages`).
    #[inline]
    pub(super) fn map(&self, block: &FreeBlock) {
        if let Some(mapper) = self.debugging.mapper {
            mapper.map(self.frames_of(block));
        }
    }

    /// A block becomes free: nobody is to access it (Linux: `debug_pagealloc_unmap_pages`).
    #[inline]
    pub(super) fn unmap(&self, block: &FreeBlock) {
        if let Some(mapper) = self.debugging.mapper {
            mapper.unmap(self.frames_of(block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testlog::capture;

    #[track_caller]
    fn asks_for(text: &str, n: u8, wanted: &[&str]) {
        let (minorder, lines) = capture(|| GuardMinorder::from_cmdline(&Cmdline::new(text)));
        assert_eq!(minorder.order().get(), n, "{text}");
        assert_eq!(lines, wanted, "{text}");
    }

    #[test]
    fn guard_pages_are_of_orders_that_linux_takes() {
        const BAD: &str = "Bad debug_guardpage_minorder value";
        asks_for("", 0, &[]);
        asks_for("debug_pagealloc=on", 0, &[]);
        asks_for("debug_guardpage_minorder=0", 0, &["Setting debug_guardpage_minorder to 0"]);
        asks_for("debug-guardpage-minorder=5", 5, &["Setting debug_guardpage_minorder to 5"]);
        for bad in ["=6", "=-1", "=one", "=0x1", "=", "", "=1k", "=99999999999999999999"] {
            asks_for(&std::format!("debug_guardpage_minorder{bad}"), 0, &[BAD]);
        }
        asks_for(
            "debug_guardpage_minorder=2 debug_guardpage_minorder=11",
            2,
            &["Setting debug_guardpage_minorder to 2", BAD],
        );
    }
}
