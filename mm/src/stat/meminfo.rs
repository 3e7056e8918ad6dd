//! The text of `/proc/meminfo`, and the sums in it that are not counters.

use core::fmt::{self, Write};

use super::HUGE_PAGE_NR;
use crate::addr::PAGE_SHIFT;
use crate::counters::{Item, NodeStat, ZoneStat};
use crate::counters::{NodeValues, ZoneValues};
use crate::node::VM_DIRTY_RATIO;

/// What `/proc/meminfo` is made from. In pages unless named otherwise.
#[derive(Clone, Debug)]
pub struct MemInfo {
    /// Managed pages of all zones (Linux: `totalram_pages`).
    pub total: u64,
    /// Pages of contiguous-memory areas (Linux: `totalcma_pages`).
    pub cma: u64,
    /// Counters of all zones, summed.
    pub zones: ZoneValues,
    /// Counters of all nodes, summed.
    pub nodes: NodeValues,
    /// What the zones keep back.
    pub reserves: Reserves,
    /// What is counted outside the zones.
    pub others: Others,
}

/// What zones keep from being used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reserves {
    /// Pages that no user should count on (Linux: `totalreserve_pages`): in each zone the largest reserve for a lower
    /// one plus the high watermark.
    pub pages: u64,
    /// Low watermarks of all zones, added.
    pub low_watermarks: u64,
}

impl Reserves {
    /// Adds a zone: its protection by zone, its watermarks low and high and its managed pages.
    pub fn add_zone(&mut self, protection: &[u64], low: u64, high: u64, managed: u64) {
        let largest = protection.iter().copied().max().unwrap_or(0);
        self.pages += (largest + high).min(managed);
        self.low_watermarks += low;
    }
}

/// What `/proc/meminfo` shows that neither zones nor nodes count. All zero where the feature does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Others {
    /// Pages of block devices in the page cache.
    pub buffers: u64,
    /// Pages of swap space, and how many of them are free.
    pub swap: [u64; 2],
    /// Pages that private writable mappings may come to need (Linux: `vm_committed_as`).
    pub committed: u64,
    /// Pages that vmalloc has given out.
    pub vmalloc_used: u64,
    /// KiB of address space for vmalloc.
    pub vmalloc_total_kib: u64,
    /// Pages of per-CPU data.
    pub percpu: u64,
    /// Huge pages of hugetlb: total, free, reserved, surplus.
    pub huge_pages: [u64; 4],
    /// KiB of the direct map in pages of 4 KiB, 2 MiB and 1 GiB.
    pub direct_map_kib: [u64; 3],
}

/// Part of RAM that may be committed, in percent (Linux: `overcommit_ratio`).
const OVERCOMMIT_RATIO: u64 = 50;

impl MemInfo {
    fn node(&self, item: NodeStat) -> u64 {
        self.nodes[item.index()]
    }

    fn zone(&self, item: ZoneStat) -> u64 {
        self.zones[item.index()]
    }

    /// Pages that new work can have without swapping (Linux: `si_mem_available`): free ones less the reserves, and of the
    /// page cache and reclaimable slabs what would not go below half, or the low watermark.
    pub fn available(&self) -> u64 {
        let part = |pages: u64| pages - (pages / 2).min(self.reserves.low_watermarks);
        let cache = self.node(NodeStat::ActiveFile) + self.node(NodeStat::InactiveFile);
        let kernel = self.node(NodeStat::SlabReclaimable) + self.node(NodeStat::KernelMiscReclaimable);
        (self.zone(ZoneStat::FreePages) + part(cache) + part(kernel)).saturating_sub(self.reserves.pages)
    }

    /// Pages that may be committed (Linux: `vm_commit_limit`).
    pub fn commit_limit(&self) -> u64 {
        let huge = self.others.huge_pages[0] * HUGE_PAGE_NR;
        self.total.saturating_sub(huge) * OVERCOMMIT_RATIO / 100 + self.others.swap[0]
    }

    /// How many pages may be dirty before writers have to wait, and before they are written in the background (Linux:
    /// `global_dirty_limits`, with 20 and 10 percent). Those of a node: [`Node::dirty_limit`](crate::node::Node::dirty_limit).
    pub fn dirty_limits(&self) -> (u64, u64) {
        let cache = self.node(NodeStat::ActiveFile) + self.node(NodeStat::InactiveFile);
        let dirtyable = self.zone(ZoneStat::FreePages).saturating_sub(self.reserves.pages) + cache;
        // Ratios are kept as parts of a page's size, as in Linux: rounding shows in the result.
        let limit = |percent: u64| ((percent << PAGE_SHIFT) / 100 * dirtyable) >> PAGE_SHIFT;
        (limit(VM_DIRTY_RATIO), limit(10))
    }
}

/// Writes `/proc/meminfo` (Linux: `meminfo_proc_show`).
///
/// # Errors
/// Those of `out`.
pub fn write_meminfo(out: &mut dyn Write, info: &MemInfo) -> fmt::Result {
    write_lru(out, info)?;
    write_state(out, info)?;
    write_kernel(out, info)?;
    write_huge(out, info)?;
    for (name, kib) in ["DirectMap4k:", "DirectMap2M:", "DirectMap1G:"].iter().zip(info.others.direct_map_kib)
    {
        write_kib(out, name, kib)?;
    }
    Ok(())
}

fn write_kib(out: &mut dyn Write, name: &str, kib: u64) -> fmt::Result {
    writeln!(out, "{name:<16}{kib:>8} kB")
}

fn write_pages(out: &mut dyn Write, rows: &[(&str, u64)]) -> fmt::Result {
    rows.iter().try_for_each(|&(name, pages)| write_kib(out, name, pages << (PAGE_SHIFT - 10)))
}

fn write_lru(out: &mut dyn Write, info: &MemInfo) -> fmt::Result {
    let node = |item| info.node(item);
    let (active_anon, inactive_anon) = (node(NodeStat::ActiveAnon), node(NodeStat::InactiveAnon));
    let (active_file, inactive_file) = (node(NodeStat::ActiveFile), node(NodeStat::InactiveFile));
    let swap_cached = node(NodeStat::SwapCache);
    let cached = node(NodeStat::FilePages).saturating_sub(swap_cached + info.others.buffers);
    let rows = [
        ("MemTotal:", info.total),
        ("MemFree:", info.zone(ZoneStat::FreePages)),
        ("MemAvailable:", info.available()),
        ("Buffers:", info.others.buffers),
        ("Cached:", cached),
        ("SwapCached:", swap_cached),
        ("Active:", active_anon + active_file),
        ("Inactive:", inactive_anon + inactive_file),
        ("Active(anon):", active_anon),
        ("Inactive(anon):", inactive_anon),
        ("Active(file):", active_file),
        ("Inactive(file):", inactive_file),
        ("Unevictable:", node(NodeStat::Unevictable)),
        ("Mlocked:", info.zone(ZoneStat::Mlock)),
    ];
    write_pages(out, &rows)
}

fn write_state(out: &mut dyn Write, info: &MemInfo) -> fmt::Result {
    let node = |item| info.node(item);
    let (reclaimable, unreclaimable) = (node(NodeStat::SlabReclaimable), node(NodeStat::SlabUnreclaimable));
    let rows = [
        ("SwapTotal:", info.others.swap[0]),
        ("SwapFree:", info.others.swap[1]),
        ("Dirty:", node(NodeStat::FileDirty)),
        ("Writeback:", node(NodeStat::Writeback)),
        ("AnonPages:", node(NodeStat::AnonMapped)),
        ("Mapped:", node(NodeStat::FileMapped)),
        ("Shmem:", node(NodeStat::Shmem)),
        ("KReclaimable:", reclaimable + node(NodeStat::KernelMiscReclaimable)),
        ("Slab:", reclaimable + unreclaimable),
        ("SReclaimable:", reclaimable),
        ("SUnreclaim:", unreclaimable),
    ];
    write_pages(out, &rows)
}

fn write_kernel(out: &mut dyn Write, info: &MemInfo) -> fmt::Result {
    let node = |item| info.node(item);
    write_kib(out, "KernelStack:", node(NodeStat::KernelStackKb))?;
    let rows = [
        ("PageTables:", node(NodeStat::PageTable)),
        ("SecPageTables:", node(NodeStat::SecondaryPageTable)),
        ("NFS_Unstable:", 0),
        ("Bounce:", info.zone(ZoneStat::Bounce)),
        ("WritebackTmp:", node(NodeStat::WritebackTemp)),
        ("CommitLimit:", info.commit_limit()),
        ("Committed_AS:", info.others.committed),
    ];
    write_pages(out, &rows)?;
    write_kib(out, "VmallocTotal:", info.others.vmalloc_total_kib)?;
    let rows = [
        ("VmallocUsed:", info.others.vmalloc_used),
        ("VmallocChunk:", 0),
        ("Percpu:", info.others.percpu),
        ("AnonHugePages:", node(NodeStat::AnonThps)),
        ("ShmemHugePages:", node(NodeStat::ShmemThps)),
        ("ShmemPmdMapped:", node(NodeStat::ShmemPmdMapped)),
        ("FileHugePages:", node(NodeStat::FileThps)),
        ("FilePmdMapped:", node(NodeStat::FilePmdMapped)),
    ];
    write_pages(out, &rows)
}

fn write_huge(out: &mut dyn Write, info: &MemInfo) -> fmt::Result {
    if info.cma != 0 {
        // As a Linux without contiguous-memory areas where there are none.
        write_pages(out, &[("CmaTotal:", info.cma), ("CmaFree:", info.zone(ZoneStat::FreeCma))])?;
    }
    let names = ["HugePages_Total:", "HugePages_Free:", "HugePages_Rsvd:", "HugePages_Surp:"];
    for (name, nr) in names.iter().zip(info.others.huge_pages) {
        writeln!(out, "{name:<19}{nr:>5}")?;
    }
    let huge_page_kib = HUGE_PAGE_NR << (PAGE_SHIFT - 10);
    write_kib(out, "Hugepagesize:", huge_page_kib)?;
    write_kib(out, "Hugetlb:", info.others.huge_pages[0] * huge_page_kib)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::string::String;

    /// The reference boot `uma-4g`.
    pub(in crate::stat) fn uma_4g() -> MemInfo {
        let mut zones = [0; ZoneStat::COUNT];
        zones[ZoneStat::FreePages.index()] = 995_740;
        let mut nodes = [0; NodeStat::COUNT];
        for (item, value) in [
            (NodeStat::InactiveAnon, 234),
            (NodeStat::ActiveAnon, 26),
            (NodeStat::SlabReclaimable, 2234),
            (NodeStat::SlabUnreclaimable, 1522),
            (NodeStat::AnonMapped, 13),
            (NodeStat::FileMapped, 221),
            (NodeStat::FilePages, 247),
            (NodeStat::Shmem, 247),
            (NodeStat::KernelStackKb, 752),
            (NodeStat::PageTable, 3),
        ] {
            nodes[item.index()] = value;
        }
        let mut reserves = Reserves::default();
        reserves.add_zone(&[0, 2951, 3904, 3904, 3904], 80, 96, 3840);
        reserves.add_zone(&[0, 0, 952, 952, 952], 15_903, 19_083, 757_817);
        reserves.add_zone(&[0; 5], 5133, 6159, 243_913);
        reserves.add_zone(&[0; 5], 0, 0, 0);
        let others = Others {
            committed: 351,
            vmalloc_used: 1781,
            vmalloc_total_kib: 34_359_738_367,
            percpu: 64,
            direct_map_kib: [24_448, 3_121_152, 3_145_728],
            ..Others::default()
        };
        MemInfo { total: 1_005_570, cma: 0, zones, nodes, reserves, others }
    }

    #[test]
    fn it_reads_as_in_linux() {
        let mut text = String::new();
        write_meminfo(&mut text, &uma_4g()).unwrap();
        assert_eq!(text, include_str!("testdata/meminfo-uma-4g.txt"));
    }

    #[test]
    fn dirty_limits_follow_from_what_can_be_dirtied() {
        assert_eq!(uma_4g().dirty_limits(), (193_094, 96_429));
    }

    #[test]
    fn nothing_is_available_below_the_reserves() {
        let mut info = uma_4g();
        info.zones[ZoneStat::FreePages.index()] = 20_000;
        assert_eq!(info.available(), 0);
        assert_eq!(info.dirty_limits(), (0, 0));
    }

    #[test]
    fn huge_pages_count_against_the_commit_limit() {
        let mut info = uma_4g();
        info.others.huge_pages = [16, 16, 0, 0];
        assert_eq!(info.commit_limit(), (1_005_570 - 16 * 512) / 2);
        let mut text = String::new();
        write_huge(&mut text, &info).unwrap();
        assert!(text.starts_with("HugePages_Total:      16\nHugePages_Free:       16\n"), "{text}");
        assert!(text.ends_with("Hugepagesize:       2048 kB\nHugetlb:           32768 kB\n"), "{text}");
    }
}
