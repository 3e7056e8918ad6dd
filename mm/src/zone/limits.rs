//! How much of a zone is kept free, and how much its per-CPU lists hold: Linux 6.1's formulas, as pure functions of the
//! pages that zones manage.

use crate::gfp::MigrateType;
use crate::id::ZoneIdx;
use crate::order::PAGEBLOCK_NR_PAGES;

const KIB_PER_PAGE: u64 = (crate::PAGE_SIZE >> 10) as u64;

/// Machines below this many managed pages (512 MiB) do without khugepaged.
pub const HUGE_PAGES_MIN_TOTAL: u64 = (512 << 20) / crate::PAGE_SIZE as u64;

/// `vm.min_free_kbytes` as first computed, in KiB (Linux: `calculate_min_free_kbytes`): four times the square root of
/// lowmem, since the need grows slower than memory. `lowmem_pages`: managed pages of the zones up to Normal of all nodes,
/// less their high watermarks.
pub const fn min_free_kbytes(lowmem_pages: u64) -> u64 {
    let root = (lowmem_pages * KIB_PER_PAGE * 16).isqrt();
    match root {
        0..128 => 128,
        128..262_144 => root,
        _ => 262_144,
    }
}

/// `vm.min_free_kbytes` that khugepaged wants, in KiB (Linux: `set_recommended_min_free_kbytes`): in each zone two
/// pageblocks free, and one more for every pair of migratetypes, so that fallbacks seldom mix them; at most a twentieth of
/// the memory. `zones`: populated ones up to Normal of all nodes; `lowmem_pages` as for [`min_free_kbytes`].
pub fn min_free_kbytes_huge(zones: u64, lowmem_pages: u64) -> u64 {
    let pairs = (MigrateType::PCP_COUNT * MigrateType::PCP_COUNT) as u64;
    (PAGEBLOCK_NR_PAGES * zones * (2 + pairs)).min(lowmem_pages / 20) * KIB_PER_PAGE
}

/// The watermarks min, low and high of a zone, in pages (Linux: `__setup_per_zone_wmarks`). `total`: managed pages of all
/// zones; `scale`: the distance between watermarks, in ten-thousandths of the zone.
pub fn watermarks(managed: u64, total: u64, min_free_kbytes: u64, scale: u64) -> [u64; 3] {
    let min = (min_free_kbytes / KIB_PER_PAGE) * managed / total.max(1);
    let step = (min / 4).max(managed * scale / 10_000);
    [min, min + step, min + 2 * step]
}

/// How far a zone's watermarks may be boosted, in pages: `factor` ten-thousandths of its high watermark, at least a
/// pageblock; nothing before that watermark is known (Linux: `boost_watermark`).
pub fn max_boost(high: u64, factor: u32) -> u64 {
    match high / 10_000 * u64::from(factor) + high % 10_000 * u64::from(factor) / 10_000 {
        0 => 0,
        boost => boost.max(PAGEBLOCK_NR_PAGES),
    }
}

/// Pages of zone `zone` that allocations able to use a higher zone leave alone, by that zone (Linux:
/// `setup_per_zone_lowmem_reserve`). `managed`: pages of the node's zones; `ratio`: `vm.lowmem_reserve_ratio`.
pub fn lowmem_reserve(
    managed: &[u64; ZoneIdx::COUNT],
    zone: ZoneIdx,
    ratio: &[u32; ZoneIdx::COUNT],
) -> [u64; ZoneIdx::COUNT] {
    let mut reserve = [0; ZoneIdx::COUNT];
    let ratio = ratio[zone.index()] as u64;
    if ratio == 0 || managed[zone.index()] == 0 {
        return reserve;
    }
    let mut above = 0;
    for higher in zone.index() + 1..ZoneIdx::COUNT {
        above += managed[higher];
        reserve[higher] = above / ratio;
    }
    reserve
}

/// How many pages move between a CPU's lists and the zone at a time (Linux: `zone_batchsize`): about a quarter of a
/// thousandth of the zone, at most 256 KiB, and one less than a power of two, which spreads cache colours better.
pub fn pcp_batch(managed: u64) -> u32 {
    let largest = (1 << 20) / crate::PAGE_SIZE as u64;
    let batch = ((managed >> 10).min(largest) / 4).max(1);
    let power = 1u32 << (batch + batch / 2).ilog2();
    (power - 1).max(1)
}

/// How many pages a CPU's lists may hold (Linux: `zone_highsize`). Without `fraction` the lists of all the zone's CPUs
/// hold its low watermark together, with it that part of the zone. `local_cpus`: online ones of the zone's node.
pub fn pcp_high(managed: u64, low: u64, batch: u32, local_cpus: u32, online_cpus: u32, fraction: u32) -> u32 {
    let total = match fraction {
        0 => low,
        n => managed / n as u64,
    };
    let cpus = if local_cpus == 0 { online_cpus } else { local_cpus };
    let high = (total / cpus.max(1) as u64).max(batch as u64 * 4);
    u32::try_from(high).unwrap_or(u32::MAX)
}

/// How far a CPU's part of a counter may drift (Linux: `calculate_normal_threshold`): more with more CPUs, which makes
/// folding dearer, and with more memory (by 128 MiB steps), where a small error matters less.
pub fn stat_threshold(managed: u64, online_cpus: u32) -> u32 {
    let memory = managed >> (27 - crate::PAGE_SHIFT);
    (2 * fls(online_cpus as u64) * (1 + fls(memory))).min(125)
}

/// Position of the highest set bit, counted from 1; 0 when none is.
const fn fls(n: u64) -> u32 {
    64 - n.leading_zeros()
}
