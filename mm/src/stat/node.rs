//! The text of `/sys/devices/system/node` and of each node's directory in it.
//!
//! ```text
//! node/possible online has_cpu ...     lists of nodes       0-1,3
//! node/nodeN/cpulist cpumap            CPUs that run        0-1,3    b
//!            distance                  to each online node  10 20
//!            meminfo numastat vmstat   the node's share of the /proc files
//! ```

use core::fmt::{self, Write};

use super::zoneinfo::shown;
use crate::addr::PAGE_SHIFT;
use crate::counters::{Item, NodeStat, NumaEvent, ZoneStat};
use crate::counters::{NodeValues, ZoneValues};
use crate::id::NodeId;

/// A node as its `meminfo` and `vmstat` show it: sums over its zones. In pages unless named otherwise.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The node.
    pub node: NodeId,
    /// Managed pages.
    pub total: u64,
    /// Counters of its zones, summed.
    pub zones: ZoneValues,
    /// Where allocations found their pages.
    pub numa: [u64; NumaEvent::COUNT],
    /// Its own counters.
    pub stats: NodeValues,
    /// Huge pages of hugetlb: total, free, surplus.
    pub huge_pages: [u64; 3],
}

/// Writes ascending numbers as ranges, `0-3,8` (Linux: `bitmap_print_to_pagebuf`); none is an empty line.
///
/// # Errors
/// Those of `out`.
pub fn write_list(out: &mut dyn Write, numbers: impl Iterator<Item = u32>) -> fmt::Result {
    let mut numbers = numbers.peekable();
    let mut comma = "";
    while let Some(first) = numbers.next() {
        let mut last = first;
        while let Some(next) = numbers.next_if(|&next| next == last + 1) {
            last = next;
        }
        write!(out, "{comma}{first}")?;
        if last != first {
            write!(out, "-{last}")?;
        }
        comma = ",";
    }
    writeln!(out)
}

/// Writes a bit for each of `nr` numbers, the highest first: words of eight hexadecimal digits with commas between, the
/// first only as long as it must be (Linux: `bitmap_print_bitmask_to_buf`).
///
/// # Errors
/// Those of `out`.
pub fn write_map(out: &mut dyn Write, nr: u32, is_set: impl Fn(u32) -> bool) -> fmt::Result {
    for word in (0..nr.div_ceil(32)).rev() {
        let bits = (nr - word * 32).min(32);
        let value = (0..bits).filter(|&bit| is_set(word * 32 + bit)).fold(0u32, |v, bit| v | 1 << bit);
        write!(out, "{value:0digits$x}", digits = bits.div_ceil(4) as usize)?;
        out.write_char(if word == 0 { '\n' } else { ',' })?;
    }
    Ok(())
}

/// Writes the distances to `nodes`, ascending (Linux: `node_read_distance`).
///
/// # Errors
/// Those of `out`.
pub fn write_distance(out: &mut dyn Write, nodes: impl Iterator<Item = (NodeId, u8)>) -> fmt::Result {
    for (node, distance) in nodes {
        // Without a node 0, the line starts with a space.
        write!(out, "{}{distance}", if node == NodeId::FIRST { "" } else { " " })?;
    }
    writeln!(out)
}

/// Writes where allocations found their pages (Linux: `node_read_numastat`).
///
/// # Errors
/// Those of `out`.
pub fn write_numastat(out: &mut dyn Write, numa: &[u64; NumaEvent::COUNT]) -> fmt::Result {
    let names = ["numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node"];
    names.iter().zip(numa).try_for_each(|(name, value)| writeln!(out, "{name} {value}"))
}

/// Writes all counters of the node (Linux: `node_read_vmstat`).
///
/// # Errors
/// Those of `out`.
pub fn write_node_vmstat(out: &mut dyn Write, info: &NodeInfo) -> fmt::Result {
    for (item, value) in ZoneStat::ALL.iter().zip(&info.zones) {
        writeln!(out, "{} {value}", item.name())?;
    }
    for (item, value) in NumaEvent::ALL.iter().zip(&info.numa) {
        writeln!(out, "{} {value}", item.name())?;
    }
    for (&item, &value) in NodeStat::ALL.iter().zip(&info.stats) {
        writeln!(out, "{} {}", item.name(), shown(item, value))?;
    }
    Ok(())
}

/// Writes the node's memory in KiB (Linux: `node_read_meminfo`).
///
/// # Errors
/// Those of `out`.
pub fn write_node_meminfo(out: &mut dyn Write, info: &NodeInfo) -> fmt::Result {
    write_memory(out, info)?;
    write_use(out, info)?;
    // One space less than the others have.
    for (name, item) in [("FileHugePages:", NodeStat::FileThps), ("FilePmdMapped:", NodeStat::FilePmdMapped)]
    {
        writeln!(out, "Node {} {name} {:>8} kB", info.node, kib(info.stats[item.index()]))?;
    }
    for (name, nr) in ["HugePages_Total:", "HugePages_Free: ", "HugePages_Surp: "].iter().zip(info.huge_pages)
    {
        writeln!(out, "Node {} {name} {nr:>5}", info.node)?;
    }
    Ok(())
}

fn write_memory(out: &mut dyn Write, info: &NodeInfo) -> fmt::Result {
    let node = |item: NodeStat| info.stats[item.index()];
    let zones = |item: ZoneStat| info.zones[item.index()];
    let (active_anon, inactive_anon) = (node(NodeStat::ActiveAnon), node(NodeStat::InactiveAnon));
    let (active_file, inactive_file) = (node(NodeStat::ActiveFile), node(NodeStat::InactiveFile));
    let free = zones(ZoneStat::FreePages);
    let rows = [
        ("MemTotal:", info.total),
        ("MemFree:", free),
        ("MemUsed:", info.total.saturating_sub(free)),
        ("SwapCached:", node(NodeStat::SwapCache)),
        ("Active:", active_anon + active_file),
        ("Inactive:", inactive_anon + inactive_file),
        ("Active(anon):", active_anon),
        ("Inactive(anon):", inactive_anon),
        ("Active(file):", active_file),
        ("Inactive(file):", inactive_file),
        ("Unevictable:", node(NodeStat::Unevictable)),
        ("Mlocked:", zones(ZoneStat::Mlock)),
    ];
    rows.iter().try_for_each(|&(name, pages)| write_kib(out, info.node, name, kib(pages)))
}

fn write_use(out: &mut dyn Write, info: &NodeInfo) -> fmt::Result {
    let node = |item: NodeStat| info.stats[item.index()];
    let (reclaimable, unreclaimable) = (node(NodeStat::SlabReclaimable), node(NodeStat::SlabUnreclaimable));
    let rows = [
        ("Dirty:", kib(node(NodeStat::FileDirty))),
        ("Writeback:", kib(node(NodeStat::Writeback))),
        ("FilePages:", kib(node(NodeStat::FilePages))),
        ("Mapped:", kib(node(NodeStat::FileMapped))),
        ("AnonPages:", kib(node(NodeStat::AnonMapped))),
        ("Shmem:", kib(node(NodeStat::Shmem))),
        ("KernelStack:", node(NodeStat::KernelStackKb)),
        ("PageTables:", kib(node(NodeStat::PageTable))),
        ("SecPageTables:", kib(node(NodeStat::SecondaryPageTable))),
        ("NFS_Unstable:", 0),
        ("Bounce:", kib(info.zones[ZoneStat::Bounce.index()])),
        ("WritebackTmp:", kib(node(NodeStat::WritebackTemp))),
        ("KReclaimable:", kib(reclaimable + node(NodeStat::KernelMiscReclaimable))),
        ("Slab:", kib(reclaimable + unreclaimable)),
        ("SReclaimable:", kib(reclaimable)),
        ("SUnreclaim:", kib(unreclaimable)),
        ("AnonHugePages:", kib(node(NodeStat::AnonThps))),
        ("ShmemHugePages:", kib(node(NodeStat::ShmemThps))),
        ("ShmemPmdMapped:", kib(node(NodeStat::ShmemPmdMapped))),
    ];
    rows.iter().try_for_each(|&(name, kib)| write_kib(out, info.node, name, kib))
}

fn kib(pages: u64) -> u64 {
    pages << (PAGE_SHIFT - 10)
}

fn write_kib(out: &mut dyn Write, node: NodeId, name: &str, kib: u64) -> fmt::Result {
    writeln!(out, "Node {node} {name:<15} {kib:>8} kB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[track_caller]
    fn list(numbers: &[u32], wanted: &str) {
        let mut text = String::new();
        write_list(&mut text, numbers.iter().copied()).unwrap();
        assert_eq!(text, wanted);
    }

    #[track_caller]
    fn map(nr: u32, set: &[u32], wanted: &str) {
        let mut text = String::new();
        write_map(&mut text, nr, |n| set.contains(&n)).unwrap();
        assert_eq!(text, wanted);
    }

    #[test]
    fn neighbours_are_written_as_a_range() {
        list(&[], "\n");
        list(&[7], "7\n");
        list(&[0, 1], "0-1\n");
        list(&[0, 2, 3, 4, 63, 65, 66], "0,2-4,63,65-66\n");
        list(&[u32::MAX - 1, u32::MAX], "4294967294-4294967295\n");
    }

    #[test]
    fn a_map_has_a_digit_for_four_possible_cpus() {
        map(1, &[], "0\n");
        map(2, &[1], "2\n");
        map(4, &[0, 1, 3], "b\n");
        map(5, &[0], "01\n");
        map(32, &[31], "80000000\n");
        map(33, &[0, 32], "1,00000001\n");
        map(72, &[71, 32], "80,00000001,00000000\n");
    }

    #[test]
    fn distances_start_with_a_space_without_node_0() {
        let line = |first: u16| {
            let mut text = String::new();
            write_distance(&mut text, (first..3).map(|n| (NodeId(n), 10 + n as u8))).unwrap();
            text
        };
        assert_eq!(line(0), "10 11 12\n");
        assert_eq!(line(1), " 11 12\n");
    }

    /// Sizes of the reference boot `numa2-uneven`; the other rows are filled by hand.
    fn node_1() -> NodeInfo {
        let mut zones = [0; ZoneStat::COUNT];
        zones[ZoneStat::FreePages.index()] = 1_009_658;
        let mut stats = [0; NodeStat::COUNT];
        for (item, value) in [
            (NodeStat::ActiveAnon, 26),
            (NodeStat::InactiveAnon, 234),
            (NodeStat::SlabReclaimable, 2234),
            (NodeStat::SlabUnreclaimable, 1522),
            (NodeStat::KernelMiscReclaimable, 1),
            (NodeStat::KernelStackKb, 752),
            (NodeStat::PageTable, 3),
            (NodeStat::AnonThps, 512),
            (NodeStat::FileThps, 1024),
        ] {
            stats[item.index()] = value;
        }
        NodeInfo {
            node: NodeId(1),
            total: 1_015_468,
            zones,
            numa: [9, 0, 0, 4, 8, 1],
            stats,
            huge_pages: [16, 15, 1],
        }
    }

    #[test]
    fn a_nodes_memory_reads_as_in_linux() {
        let mut text = String::new();
        write_node_meminfo(&mut text, &node_1()).unwrap();
        assert_eq!(text, include_str!("testdata/node-meminfo.txt"));
    }

    #[test]
    fn a_nodes_counters_are_those_of_zones_then_places_then_the_node() {
        let mut text = String::new();
        write_node_vmstat(&mut text, &node_1()).unwrap();
        assert!(text.starts_with("nr_free_pages 1009658\nnr_zone_inactive_anon 0\n"), "{text}");
        assert!(
            text.contains("\nnr_free_cma 0\nnuma_hit 9\nnuma_miss 0\nnuma_foreign 0\nnuma_interleave 4\n"),
            "{text}"
        );
        assert!(text.contains("\nnuma_local 8\nnuma_other 1\nnr_inactive_anon 234\n"), "{text}");
        assert!(text.contains("\nnr_anon_transparent_hugepages 1\n"), "{text}");
        assert!(text.ends_with("\npgpromote_candidate 0\n"), "{text}");
        let mut text = String::new();
        write_numastat(&mut text, &node_1().numa).unwrap();
        let wanted =
            "numa_hit 9\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 4\nlocal_node 8\nother_node 1\n";
        assert_eq!(text, wanted);
    }
}
