//! Linux 6.1's limits of zones, computed anew from managed pages.
//!
//! The kernel under test has formulas of its own; these are written apart from them, to see that both agree.

use crate::zoneinfo::{NAMES, Zone};

/// What decides besides the zones.
#[derive(Clone)]
pub(crate) struct Given<'a> {
    /// Online CPUs.
    pub(crate) online: u64,
    /// Online CPUs of a node.
    pub(crate) local: &'a dyn Fn(u32) -> u64,
    /// Whether huge pages are wanted (`transparent_hugepage=`).
    pub(crate) huge_pages: bool,
    /// `vm.min_free_kbytes` when the user has set it.
    pub(crate) min_free_kbytes: Option<u64>,
    /// `vm.watermark_scale_factor`
    pub(crate) scale: u64,
    /// `vm.percpu_pagelist_high_fraction`
    pub(crate) fraction: u64,
    /// `vm.lowmem_reserve_ratio`
    pub(crate) ratio: [u64; 5],
}

/// The pages of the zones from DMA to Normal: what kernel memory can come from.
fn lowmem(zones: &[Zone]) -> impl Iterator<Item = u64> {
    zones.iter().filter(|zone| zone.index() <= 2 && zone.managed > 0).map(|zone| zone.managed)
}

fn all(zones: &[Zone]) -> u64 {
    zones.iter().map(|zone| zone.managed).sum()
}

/// `vm.min_free_kbytes` once the machine has booted.
pub(crate) fn min_free_kbytes(zones: &[Zone], given: &Given<'_>) -> u64 {
    if let Some(set) = given.min_free_kbytes {
        return set;
    }
    let square_root = |pages: u64| (pages * 64).isqrt().clamp(128, 262_144);
    let first = square_root(lowmem(zones).sum());
    // khugepaged stays away from machines below 512 MiB.
    if all(zones) < 131_072 {
        return first;
    }
    let above_high = |pages| u64::saturating_sub(pages, marks(pages, all(zones), first, given.scale)[2]);
    let left: u64 = lowmem(zones).map(above_high).sum();
    if !given.huge_pages {
        return square_root(left);
    }
    // In each zone two pageblocks of 512 pages, and one for each of the 3 x 3 pairs of migratetypes.
    let wanted = lowmem(zones).count() as u64 * (2 + 3 * 3) * 512;
    first.max(wanted.min(left / 20) * 4)
}

/// The watermarks min, low and high.
pub(crate) fn watermarks(zone: &Zone, zones: &[Zone], given: &Given<'_>) -> [u64; 3] {
    marks(zone.managed, all(zones), min_free_kbytes(zones, given), given.scale)
}

fn marks(managed: u64, total: u64, min_free_kbytes: u64, scale: u64) -> [u64; 3] {
    let min = min_free_kbytes / 4 * managed / total.max(1);
    let step = u64::max(min / 4, managed * scale / 10_000);
    [0, 1, 2].map(|steps| min + steps * step)
}

/// By each zone that an allocation may use: the pages of this one that it leaves alone.
pub(crate) fn protection(zone: &Zone, zones: &[Zone], given: &Given<'_>) -> Vec<u64> {
    let ratio = given.ratio[zone.index()];
    let above = |highest: usize| -> u64 {
        let between = |other: &&Zone| other.index() > zone.index() && other.index() <= highest;
        let of_node = zones.iter().filter(|other| other.node == zone.node);
        of_node.filter(between).map(|other| other.managed).sum()
    };
    let reserve =
        |highest| if zone.managed == 0 { 0 } else { above(highest).checked_div(ratio).unwrap_or(0) };
    (0..NAMES.len()).map(reserve).collect()
}

/// How many pages a pageset takes from its zone at once.
pub(crate) fn batch(zone: &Zone) -> u64 {
    let quarter = ((zone.managed / 1024).min(256) / 4).max(1);
    let power = 1 << (quarter * 3 / 2).ilog2();
    u64::max(power - 1, 1)
}

/// How many pages a pageset may hold.
pub(crate) fn high(zone: &Zone, zones: &[Zone], given: &Given<'_>) -> u64 {
    let low = watermarks(zone, zones, given)[1];
    let together = zone.managed.checked_div(given.fraction).unwrap_or(low);
    let cpus = match (given.local)(zone.node) {
        0 => given.online,
        local => local,
    };
    u64::max(together / cpus, 4 * batch(zone))
}

/// How far a CPU's part of a counter may drift.
pub(crate) fn stat_threshold(zone: &Zone, given: &Given<'_>) -> u64 {
    let digits = |number: u64| u64::from(u64::BITS - number.leading_zeros());
    (2 * digits(given.online) * (1 + digits(zone.managed / 32_768))).min(125)
}
