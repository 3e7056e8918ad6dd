//! The text of `/proc/zoneinfo`.
//!
//! ```text
//! Node 0, zone    DMA32
//!   per-node stats            with the first zone of the node that has memory
//!   pages free ...            watermarks, span
//!         protection: (...)   an empty zone ends here
//!       nr_free_pages ...     counters
//!   pagesets                  per CPU
//!   start_pfn: ...
//! ```

use core::fmt::{self, Write};

use super::HUGE_PAGE_NR;
use crate::counters::{Item, NodeStat, NumaEvent, ZoneStat};
use crate::counters::{NodeValues, ZoneValues};
use crate::id::{NodeId, ZoneIdx};

/// A zone as `/proc/zoneinfo` shows it. Sizes in pages.
#[derive(Clone, Debug)]
pub struct ZoneInfo {
    /// Its node.
    pub node: NodeId,
    /// Which zone of the node.
    pub zone: ZoneIdx,
    /// What is added to the watermarks for now.
    pub boost: u64,
    /// Watermarks min, low, high, boost included.
    pub watermarks: [u64; 3],
    /// From the first frame to the last.
    pub spanned: u64,
    /// RAM.
    pub present: u64,
    /// RAM that the page allocator has or gave out.
    pub managed: u64,
    /// Pages of CMA areas.
    pub cma: u64,
    /// What is kept from allocations that a higher zone could serve, by zone.
    pub protection: [u64; ZoneIdx::COUNT],
    /// Its counters.
    pub stats: ZoneValues,
    /// Where allocations found their pages.
    pub numa: [u64; NumaEvent::COUNT],
    /// Whether reclaim has given up on the node.
    pub node_unreclaimable: u32,
    /// First frame.
    pub start_pfn: u64,
}

/// A CPU's lists of a zone as `/proc/zoneinfo` shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSet {
    /// The CPU.
    pub cpu: u32,
    /// Pages on the lists.
    pub count: u32,
    /// How many there may be.
    pub high: u32,
    /// How many move at a time.
    pub batch: u32,
    /// How far the CPU's part of a counter may be from zero.
    pub stat_threshold: u32,
}

/// Writes the paragraph of one zone (Linux: `zoneinfo_show_print`). `node_stats` are given with the first zone of a node
/// that has memory, `pagesets` one for each online CPU.
///
/// # Errors
/// Those of `out`.
pub fn write_zone(
    out: &mut dyn Write,
    zone: &ZoneInfo,
    node_stats: Option<&NodeValues>,
    pagesets: impl Iterator<Item = PageSet>,
) -> fmt::Result {
    write!(out, "Node {}, zone {:>8}", zone.node, zone.zone.name())?;
    if let Some(values) = node_stats {
        write!(out, "\n  per-node stats")?;
        for (&item, &value) in NodeStat::ALL.iter().zip(values) {
            write_value(out, item.name(), shown(item, value))?;
        }
    }
    write_limits(out, zone)?;
    if zone.present == 0 {
        return writeln!(out);
    }
    for (item, &value) in ZoneStat::ALL.iter().zip(&zone.stats) {
        write_value(out, item.name(), value)?;
    }
    for (item, &value) in NumaEvent::ALL.iter().zip(&zone.numa) {
        write_value(out, item.name(), value)?;
    }
    write!(out, "\n  pagesets")?;
    for set in pagesets {
        write_pageset(out, set)?;
    }
    write!(out, "\n  node_unreclaimable:  {}", zone.node_unreclaimable)?;
    writeln!(out, "\n  start_pfn:           {}", zone.start_pfn)
}

/// A node's counter in the unit in which `/proc` shows it.
pub(super) fn shown(item: NodeStat, value: u64) -> u64 {
    if item.shown_in_huge_pages() { value / HUGE_PAGE_NR } else { value }
}

fn write_value(out: &mut dyn Write, name: &str, value: u64) -> fmt::Result {
    write!(out, "\n      {name:<12} {value}")
}

fn write_limits(out: &mut dyn Write, zone: &ZoneInfo) -> fmt::Result {
    let [min, low, high] = zone.watermarks;
    write!(out, "\n  pages free     {}", zone.stats[ZoneStat::FreePages.index()])?;
    let rows = [
        ("boost", zone.boost),
        ("min", min),
        ("low", low),
        ("high", high),
        ("spanned", zone.spanned),
        ("present", zone.present),
        ("managed", zone.managed),
        ("cma", zone.cma),
    ];
    for (name, value) in rows {
        write!(out, "\n        {name:<8} {value}")?;
    }
    write!(out, "\n        protection: (")?;
    for (n, pages) in zone.protection.iter().enumerate() {
        write!(out, "{}{pages}", if n == 0 { "" } else { ", " })?;
    }
    out.write_char(')')
}

fn write_pageset(out: &mut dyn Write, set: PageSet) -> fmt::Result {
    write!(out, "\n    cpu: {}", set.cpu)?;
    write!(out, "\n              count: {}", set.count)?;
    write!(out, "\n              high:  {}", set.high)?;
    write!(out, "\n              batch: {}", set.batch)?;
    write!(out, "\n  vm stats threshold: {}", set.stat_threshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    /// The DMA zone of the reference boot `uma-4g`.
    fn dma() -> ZoneInfo {
        let mut stats = [0; ZoneStat::COUNT];
        stats[ZoneStat::FreePages.index()] = 3712;
        ZoneInfo {
            node: NodeId(0),
            zone: ZoneIdx::Dma,
            boost: 0,
            watermarks: [64, 80, 96],
            spanned: 4095,
            present: 3998,
            managed: 3840,
            cma: 0,
            protection: [0, 2951, 3904, 3904, 3904],
            stats,
            numa: [1, 0, 0, 1, 1, 0],
            node_unreclaimable: 0,
            start_pfn: 1,
        }
    }

    #[test]
    fn a_populated_zone_reads_as_in_linux() {
        let sets = [
            PageSet { cpu: 0, count: 0, high: 80, batch: 1, stat_threshold: 2 },
            PageSet { cpu: 1, count: 63, high: 80, batch: 1, stat_threshold: 2 },
        ];
        let mut text = String::new();
        write_zone(&mut text, &dma(), None, sets.into_iter()).unwrap();
        let wanted = "Node 0, zone      DMA
  pages free     3712
        boost    0
        min      64
        low      80
        high     96
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 2951, 3904, 3904, 3904)
      nr_free_pages 3712
      nr_zone_inactive_anon 0
      nr_zone_active_anon 0
      nr_zone_inactive_file 0
      nr_zone_active_file 0
      nr_zone_unevictable 0
      nr_zone_write_pending 0
      nr_mlock     0
      nr_bounce    0
      nr_zspages   0
      nr_free_cma  0
      numa_hit     1
      numa_miss    0
      numa_foreign 0
      numa_interleave 1
      numa_local   1
      numa_other   0
  pagesets
    cpu: 0
              count: 0
              high:  80
              batch: 1
  vm stats threshold: 2
    cpu: 1
              count: 63
              high:  80
              batch: 1
  vm stats threshold: 2
  node_unreclaimable:  0
  start_pfn:           1
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn an_empty_zone_ends_after_its_protection() {
        let zone = ZoneInfo {
            node: NodeId(12),
            zone: ZoneIdx::Movable,
            watermarks: [0; 3],
            spanned: 0,
            present: 0,
            managed: 0,
            protection: [0; 5],
            stats: [0; ZoneStat::COUNT],
            ..dma()
        };
        let mut text = String::new();
        write_zone(&mut text, &zone, None, [].into_iter()).unwrap();
        let wanted = "Node 12, zone  Movable
  pages free     0
        boost    0
        min      0
        low      0
        high     0
        spanned  0
        present  0
        managed  0
        cma      0
        protection: (0, 0, 0, 0, 0)
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn node_counters_come_first_and_huge_pages_are_counted_whole() {
        let mut values = [0; NodeStat::COUNT];
        values[NodeStat::AnonThps.index()] = 1024;
        values[NodeStat::KernelStackKb.index()] = 752;
        let mut text = String::new();
        write_zone(&mut text, &dma(), Some(&values), [].into_iter()).unwrap();
        assert!(
            text.starts_with("Node 0, zone      DMA\n  per-node stats\n      nr_inactive_anon 0\n"),
            "{text}"
        );
        assert!(text.contains("\n      nr_anon_transparent_hugepages 2\n"), "{text}");
        assert!(text.contains("\n      nr_kernel_stack 752\n"), "{text}");
        assert!(text.contains("\n      pgpromote_candidate 0\n  pages free     3712\n"), "{text}");
    }
}
