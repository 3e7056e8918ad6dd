//! The text of `/proc/vmstat`.

use core::fmt::{self, Write};

use super::zoneinfo::shown;
use crate::counters::{Item, NodeStat, NumaEvent, VmEvent, ZoneStat};
use crate::counters::{NodeValues, VmEventValues, ZoneValues};

/// What `/proc/vmstat` is made from: sums over all zones, nodes and CPUs.
#[derive(Clone, Debug)]
pub struct VmStat {
    /// Counters of zones.
    pub zones: ZoneValues,
    /// Where allocations found their pages.
    pub numa: [u64; NumaEvent::COUNT],
    /// Counters of nodes.
    pub nodes: NodeValues,
    /// Pages that may be dirty before writers wait, and before they start to write.
    pub dirty_limits: (u64, u64),
    /// What happened.
    pub events: VmEventValues,
}

/// Writes `/proc/vmstat` (Linux: `vmstat_show`).
///
/// # Errors
/// Those of `out`.
pub fn write_vmstat(out: &mut dyn Write, stat: &VmStat) -> fmt::Result {
    write_items::<ZoneStat>(out, &stat.zones)?;
    write_items::<NumaEvent>(out, &stat.numa)?;
    for (&item, &value) in NodeStat::ALL.iter().zip(&stat.nodes) {
        writeln!(out, "{} {}", item.name(), shown(item, value))?;
    }
    let (dirty, background) = stat.dirty_limits;
    writeln!(out, "nr_dirty_threshold {dirty}\nnr_dirty_background_threshold {background}")?;
    write_items::<VmEvent>(out, &stat.events)?;
    // Gone from Linux, kept in the file for programs that look for it.
    writeln!(out, "nr_unstable 0")
}

fn write_items<I: Item>(out: &mut dyn Write, values: &[u64]) -> fmt::Result {
    I::ALL.iter().zip(values).try_for_each(|(item, value)| writeln!(out, "{} {value}", item.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    #[test]
    fn all_items_are_in_linuxs_order() {
        let stat = VmStat {
            zones: [7; ZoneStat::COUNT],
            numa: [8; NumaEvent::COUNT],
            nodes: [512; NodeStat::COUNT],
            dirty_limits: (193_094, 96_429),
            events: core::array::from_fn(|n| n as u64),
        };
        let mut text = String::new();
        write_vmstat(&mut text, &stat).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // Written down from Linux 6.1 on its own; the reference boots' names are in it, in this order.
        let names = lines.iter().map(|line| line.split_once(' ').unwrap().0);
        assert!(names.eq(include_str!("testdata/vmstat.names").lines()), "{text}");
        assert_eq!(lines.len(), 11 + 6 + 43 + 2 + VmEvent::COUNT + 1);
        assert_eq!(lines[..2], ["nr_free_pages 7", "nr_zone_inactive_anon 7"]);
        assert_eq!(lines[10..12], ["nr_free_cma 7", "numa_hit 8"]);
        assert_eq!(lines[16..18], ["numa_other 8", "nr_inactive_anon 512"]);
        assert!(text.contains("\nnr_shmem_hugepages 1\n"));
        assert!(text.contains(
            "\npgpromote_candidate 512\nnr_dirty_threshold 193094\nnr_dirty_background_threshold 96429\npgpgin 0\n"
        ));
        assert!(text.ends_with("\ndirect_map_level3_splits 107\nnr_unstable 0\n"), "{text}");
    }
}
