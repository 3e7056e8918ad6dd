//! What the log says of allocations that fail and of pages in a wrong state.

use core::fmt;

use crate::arch;
use crate::buddy::BadPage;
use crate::gfp::{Gfp, MigrateType};
use crate::order::Order;
use crate::zone::{Watermark, Zone};

use super::PageAllocator;
use super::slow::Request;

/// Reports of failures are at least so far apart (Linux: `nopage_rs`).
pub(super) const REPORT_MILLISECONDS: u64 = 10_000;

/// A page is in a wrong state: the kernel has a bug and cannot trust its memory. Reports the page in Linux's words
/// (`bad_page`) and panics.
///
/// # Panics
/// Always; the machine's panic handler says who was running, and how it came here.
#[cold]
#[inline(never)]
#[track_caller]
pub fn bug(bad: BadPage) -> ! {
    log::error!("BUG: Bad page state  pfn:{:05x}", bad.pfn);
    log::error!("{:?}", bad.page);
    log::error!("page dumped because: {}", bad.reason.as_str());
    panic!("BUG: Bad page state  pfn:{:05x} ({})", bad.pfn, bad.reason.as_str());
}

impl PageAllocator {
    /// Linux's `warn_alloc` with `show_mem`.
    #[cold]
    pub(super) fn report_failure(&self, request: &Request) {
        if !self.reports.may_say(arch::ticks()) {
            return;
        }
        let (order, gfp) = (request.order.get(), request.gfp);
        log::warn!(
            "page allocation failure: order:{order}, mode:{:#x}({}), nodemask=(null)",
            gfp.bits(),
            GfpNames(gfp)
        );
        self.show_mem();
    }

    /// Logs the state of every zone (Linux: `show_free_areas`). Any context; takes each zone's lock for a moment, and
    /// leaves a zone out whose lock is held.
    pub fn show_mem(&self) {
        log::warn!("Mem-Info:");
        log::warn!(
            " free:{} free_pcp:{}",
            self.free_pages_total(),
            self.nodes().populated_zones().map(|z| self.pcp_pages(z)).sum::<u64>()
        );
        for zone in self.nodes().populated_zones() {
            let kb = |pages: u64| pages * 4;
            log::warn!(
                "Node {} {} free:{}kB boost:{}kB min:{}kB low:{}kB high:{}kB present:{}kB managed:{}kB free_pcp:{}kB",
                zone.node(),
                zone.idx().name(),
                kb(zone.nr_free()),
                kb(zone.watermark_boost()),
                kb(zone.watermark(Watermark::Min)),
                kb(zone.watermark(Watermark::Low)),
                kb(zone.watermark(Watermark::High)),
                kb(zone.present()),
                kb(zone.managed()),
                kb(self.pcp_pages(zone)),
            );
        }
        for zone in self.nodes().populated_zones() {
            log::warn!("Node {} {}: {}", zone.node(), zone.idx().name(), FreeBlocks(zone));
        }
    }
}

/// `3*4kB (UM) 1*8kB (U) ... = 2048kB`.
struct FreeBlocks<'a>(&'a Zone);

impl fmt::Display for FreeBlocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(free) = self.0.free().try_lock() else { return f.write_str("(locked)") };
        let mut total_kb = 0;
        for order in Order::all() {
            let (area, size_kb) = (free.area(order), order.nr_pages() * 4);
            write!(f, "{}*{size_kb}kB ", area.nr_free())?;
            total_kb += area.nr_free() * size_kb;
            if area.nr_free() > 0 {
                f.write_str("(")?;
                for (migrate_type, letter) in MigrateType::ALL.iter().zip(["U", "M", "E", "H", "I"]) {
                    f.write_str(if area.nr(*migrate_type) > 0 { letter } else { "" })?;
                }
                f.write_str(") ")?;
            }
        }
        write!(f, "= {total_kb}kB")
    }
}

/// Flags in Linux's words, the usual combinations by their name: `GFP_KERNEL|__GFP_ZERO`.
#[derive(Clone, Copy, Debug)]
pub struct GfpNames(pub Gfp);

const COMBINATIONS: &[(Gfp, &str)] = &[
    (Gfp::HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"),
    (Gfp::USER, "GFP_USER"),
    (Gfp::KERNEL, "GFP_KERNEL"),
    (Gfp::RECLAIM.union(Gfp::IO), "GFP_NOFS"),
    (Gfp::ATOMIC_CONTEXT, "GFP_ATOMIC"),
    (Gfp::RECLAIM, "GFP_NOIO"),
    (Gfp::NOWAIT, "GFP_NOWAIT"),
];

impl fmt::Display for GfpNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut separator) = (self.0, "");
        for &(combination, name) in COMBINATIONS {
            if rest.contains(combination) {
                write!(f, "{separator}{name}")?;
                (rest, separator) = (rest - combination, "|");
            }
        }
        for (name, _) in rest.iter_names().filter(|(_, flag)| flag.bits().is_power_of_two()) {
            let prefix = if matches!(name, "DMA" | "DMA32") { "GFP_" } else { "__GFP_" };
            write!(f, "{separator}{prefix}{name}")?;
            separator = "|";
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}
