//! Recomputing what zones keep free and what per-CPU lists hold, over all nodes: after the hand-over, when CPUs come up,
//! and when a sysctl changes. The formulas are in [`limits`].
//!
//! ```text
//! boot:  init_watermarks (square root) -> [huge pages: raise_min_free] -> what the user sets
//! ```
//!
//! # Locking
//! One caller at a time (the sysctl layer); readers see each value change on its own.

use super::Nodes;
use crate::id::{NodeId, ZoneIdx};
use crate::zone::{OutOfRange, Setting, Sysctl, Watermark, Zone, limits};

/// The CPUs that are online.
#[derive(Clone, Copy)]
pub struct Cpus<'a> {
    /// How many, of all nodes.
    pub online: u32,
    /// How many of a node.
    pub of_node: &'a dyn Fn(NodeId) -> u32,
}

/// Whether transparent huge pages are wanted, now or on request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugePages {
    /// `transparent_hugepage=always` or `madvise`.
    Wanted,
    /// `transparent_hugepage=never`.
    Never,
}

impl Nodes {
    /// Pages that the zones manage (Linux: `totalram_pages`).
    pub fn managed(&self) -> u64 {
        self.populated_zones().map(Zone::managed).sum()
    }

    /// Pages that are kept free or protected in all zones (Linux: `totalreserve_pages`).
    pub fn reserve_pages(&self) -> u64 {
        self.populated_zones().map(Zone::reserve_pages).sum()
    }

    /// Managed zones up to Normal, and their pages above the high watermarks (Linux: `nr_free_buffer_pages`).
    fn lowmem(&self) -> (u64, u64) {
        let low = self.populated_zones().filter(|z| z.idx() <= ZoneIdx::Normal && z.managed() != 0);
        low.fold((0, 0), |(zones, pages), z| {
            (zones + 1, pages + z.managed().saturating_sub(z.watermark(Watermark::High)))
        })
    }

    /// Computes everything: once memory is handed over and all CPUs are up, and again when a zone's size has changed (Linux:
    /// `init_per_zone_wmark_min`, at boot and by memory hotplug).
    pub fn init_watermarks(&self, sysctl: &mut Sysctl, cpus: Cpus<'_>) {
        self.calculate_min_free(sysctl);
        self.set_watermarks(sysctl, cpus);
        self.set_stat_thresholds(cpus);
        self.set_lowmem_reserve(sysctl);
    }

    /// Raises `min_free_kbytes` to what huge pages need, on machines that are large enough for them (Linux:
    /// `set_recommended_min_free_kbytes`).
    pub fn raise_min_free(&self, sysctl: &mut Sysctl, huge: HugePages, cpus: Cpus<'_>) {
        if self.managed() < limits::HUGE_PAGES_MIN_TOTAL {
            return;
        }
        let (zones, pages) = self.lowmem();
        match huge {
            HugePages::Never => self.calculate_min_free(sysctl),
            HugePages::Wanted => {
                let wanted = limits::min_free_kbytes_huge(zones, pages);
                if wanted > sysctl.min_free_kbytes {
                    if let Some(set) = sysctl.user_min_free_kbytes {
                        log::info!(
                            "raising min_free_kbytes from {set} to {wanted} to help transparent hugepage allocations"
                        );
                    }
                    sysctl.min_free_kbytes = wanted;
                }
            }
        }
        self.set_watermarks(sysctl, cpus);
    }

    /// Changes a setting to what `text` says, and what is computed from it (Linux: the sysctls' handlers).
    ///
    /// # Errors
    /// [`OutOfRange`]; nothing changes then.
    pub fn set(
        &self,
        setting: Setting,
        text: &str,
        sysctl: &mut Sysctl,
        cpus: Cpus<'_>,
    ) -> Result<(), OutOfRange> {
        setting.store(sysctl, text)?;
        match setting {
            Setting::MinFreeKbytes | Setting::WatermarkScaleFactor => self.set_watermarks(sysctl, cpus),
            Setting::PercpuPagelistHighFraction => self.set_pcp_limits(sysctl, cpus),
            Setting::LowmemReserveRatio => self.set_lowmem_reserve(sysctl),
            Setting::WatermarkBoostFactor => self.set_max_boost(sysctl),
            // Nothing of the nodes' follows from these.
            Setting::NumaStat | Setting::StatInterval => {}
        }
        Ok(())
    }

    fn calculate_min_free(&self, sysctl: &mut Sysctl) {
        let computed = limits::min_free_kbytes(self.lowmem().1);
        match sysctl.user_min_free_kbytes {
            Some(set) if set >= computed => log::warn!(
                "min_free_kbytes is not updated to {computed} because user defined value {set} is preferred"
            ),
            _ => sysctl.min_free_kbytes = computed,
        }
    }

    /// Sets all watermarks, and the limits of per-CPU lists, which depend on them (Linux: `setup_per_zone_wmarks`). To be
    /// called when `min_free_kbytes`, `watermark_scale_factor` or a zone's size change.
    pub fn set_watermarks(&self, sysctl: &Sysctl, cpus: Cpus<'_>) {
        let total = self.managed();
        for zone in self.populated_zones() {
            let managed = zone.managed();
            let scale = sysctl.watermark_scale_factor as u64;
            zone.set_watermark_boost(0);
            zone.set_watermarks(limits::watermarks(managed, total, sysctl.min_free_kbytes, scale));
        }
        self.set_max_boost(sysctl);
        self.set_pcp_limits(sysctl, cpus);
    }

    /// Sets how far watermarks may be boosted. What they are boosted by now stays (Linux: `watermark_boost_factor`).
    fn set_max_boost(&self, sysctl: &Sysctl) {
        for zone in self.populated_zones() {
            let high = zone.watermark_unboosted(Watermark::High);
            zone.set_max_boost(limits::max_boost(high, sysctl.watermark_boost_factor));
        }
    }

    /// Sets how much per-CPU lists hold (Linux: `zone_set_pageset_high_and_batch`). To be called when
    /// `percpu_pagelist_high_fraction`, the watermarks or the CPUs change.
    pub fn set_pcp_limits(&self, sysctl: &Sysctl, cpus: Cpus<'_>) {
        for zone in self.populated_zones() {
            let batch = limits::pcp_batch(zone.managed());
            let high = limits::pcp_high(
                zone.managed(),
                zone.watermark(Watermark::Low),
                batch,
                (cpus.of_node)(zone.node()),
                cpus.online,
                sysctl.percpu_pagelist_high_fraction,
            );
            zone.set_pcp_limits(high, batch);
        }
    }

    /// Sets how far per-CPU parts of counters may drift (Linux: `refresh_zone_stat_thresholds`). To be called when CPUs come
    /// up, too.
    pub fn set_stat_thresholds(&self, cpus: Cpus<'_>) {
        for node in self.iter() {
            let mut largest = 0;
            for zone in node.populated_zones() {
                let threshold = limits::stat_threshold(zone.managed(), cpus.online);
                zone.set_stat_threshold(threshold);
                largest = largest.max(threshold);
            }
            node.counters().set_threshold(largest);
        }
    }

    /// Sets what zones keep from allocations that higher zones can serve (Linux: `setup_per_zone_lowmem_reserve`). To be
    /// called when `lowmem_reserve_ratio` changes.
    pub fn set_lowmem_reserve(&self, sysctl: &Sysctl) {
        for node in self.iter() {
            let managed = ZoneIdx::ALL.map(|z| node.zone(z).managed());
            for zone in node.zones() {
                zone.set_lowmem_reserve(limits::lowmem_reserve(
                    &managed,
                    zone.idx(),
                    &sysctl.lowmem_reserve_ratio,
                ));
            }
        }
    }
}
