//! The text of `/proc/buddyinfo` and `/proc/pagetypeinfo`: what is on the free lists.

use core::fmt::{self, Write};

use crate::gfp::MigrateType;
use crate::id::{NodeId, ZoneIdx};
use crate::order::{Order, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};

/// Above it Linux stops counting a list of `/proc/pagetypeinfo`, not to hold the zone's lock for long.
const COUNTED: u64 = 100_000;

/// The types that `/proc/pagetypeinfo` shows on a machine whose contiguous-memory areas have so many pages: without any it
/// reads as that of a Linux built without them, as Debian's is.
pub fn shown_types(cma_pages: u64) -> &'static [MigrateType] {
    const WITHOUT_CMA: [MigrateType; MigrateType::COUNT - 1] = [
        MigrateType::Unmovable,
        MigrateType::Movable,
        MigrateType::Reclaimable,
        MigrateType::HighAtomic,
        MigrateType::Isolate,
    ];
    if cma_pages == 0 { &WITHOUT_CMA } else { &MigrateType::ALL }
}

/// The free blocks of a zone: how many by order and migratetype.
#[derive(Clone, Debug)]
pub struct FreeLists {
    /// Its node.
    pub node: NodeId,
    /// Which zone of the node.
    pub zone: ZoneIdx,
    /// Blocks on each list.
    pub nr: [[u64; MigrateType::COUNT]; Order::COUNT],
}

impl FreeLists {
    /// Blocks of one order, of all types.
    pub fn of_order(&self, order: Order) -> u64 {
        self.nr[order.index()].iter().sum()
    }

    /// Pages on all lists.
    pub fn nr_pages(&self) -> u64 {
        Order::all().map(|order| self.of_order(order) << order.get()).sum()
    }
}

/// Writes a zone's line of `/proc/buddyinfo` (Linux: `frag_show_print`).
///
/// # Errors
/// Those of `out`.
pub fn write_buddyinfo(out: &mut dyn Write, lists: &FreeLists) -> fmt::Result {
    write!(out, "Node {}, zone {:>8} ", lists.node, lists.zone.name())?;
    for order in Order::all() {
        write!(out, "{:>6} ", lists.of_order(order))?;
    }
    writeln!(out)
}

/// Writes what stands before a node's free lists in `/proc/pagetypeinfo`.
///
/// # Errors
/// Those of `out`.
pub fn write_pagetype_head(out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "Page block order: {}", PAGEBLOCK_ORDER.get())?;
    writeln!(out, "Pages per block:  {PAGEBLOCK_NR_PAGES}\n")?;
    write!(out, "{:<43} ", "Free pages count per migrate type at order")?;
    for order in Order::all() {
        write!(out, "{:>6} ", order.get())?;
    }
    writeln!(out)
}

/// Writes a zone's free lists in `/proc/pagetypeinfo`, a line for each type (Linux: `pagetypeinfo_showfree_print`).
///
/// # Errors
/// Those of `out`.
pub fn write_pagetype_free(out: &mut dyn Write, lists: &FreeLists, types: &[MigrateType]) -> fmt::Result {
    for migrate_type in types {
        let zone = lists.zone.name();
        write!(out, "Node {:>4}, zone {zone:>8}, type {:>12} ", lists.node, migrate_type.name())?;
        for nr in lists.nr.map(|by_type| by_type[migrate_type.index()]) {
            write!(out, "{}{:>6} ", if nr >= COUNTED { ">" } else { "" }, nr.min(COUNTED))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Writes what stands before the counts of pageblocks in `/proc/pagetypeinfo`.
///
/// # Errors
/// Those of `out`.
pub fn write_pageblock_head(out: &mut dyn Write, types: &[MigrateType]) -> fmt::Result {
    write!(out, "\n{:<23}", "Number of blocks type ")?;
    for migrate_type in types {
        write!(out, "{:>12} ", migrate_type.name())?;
    }
    writeln!(out)
}

/// Writes how many pageblocks of a zone are of each type (Linux: `pagetypeinfo_showblockcount_print`).
///
/// # Errors
/// Those of `out`.
pub fn write_pageblocks(
    out: &mut dyn Write,
    node: NodeId,
    zone: ZoneIdx,
    blocks: &[u64; MigrateType::COUNT],
    types: &[MigrateType],
) -> fmt::Result {
    write!(out, "Node {node}, zone {:>8} ", zone.name())?;
    for nr in types.iter().map(|t| blocks[t.index()]) {
        write!(out, "{nr:>12} ")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    /// The DMA32 zone of the reference boot `uma-4g`, of which the movable blocks of order 0 are `singles`.
    fn dma32(singles: u64) -> FreeLists {
        let unmovable = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0];
        let movable = [singles, 1, 1, 1, 1, 2, 2, 1, 2, 2, 735];
        let nr = core::array::from_fn(|n| [unmovable[n], movable[n], 0, 0, 0, 0]);
        FreeLists { node: NodeId(0), zone: ZoneIdx::Dma32, nr }
    }

    #[track_caller]
    fn check(write: impl FnOnce(&mut String) -> fmt::Result, wanted: &str) {
        let mut text = String::new();
        write(&mut text).unwrap();
        assert_eq!(text, wanted);
    }

    #[test]
    fn buddyinfo_reads_as_in_linux() {
        assert_eq!(dma32(2).nr_pages(), 755_424);
        check(
            |out| write_buddyinfo(out, &dma32(2)),
            "Node 0, zone    DMA32      2      1      1      1      1      2      2      2      3      3    735 \n",
        );
    }

    #[test]
    fn free_lists_by_type_read_as_in_linux() {
        check(
            |out| write_pagetype_head(out),
            "Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0      1      2      3      4      5      6      7      8      9     10 
",
        );
        check(
            |out| write_pagetype_free(out, &dma32(123_456), shown_types(0)),
            "Node    0, zone    DMA32, type    Unmovable      0      0      0      0      0      0      0      1      1      1      0 
Node    0, zone    DMA32, type      Movable >100000      1      1      1      1      2      2      1      2      2    735 
Node    0, zone    DMA32, type  Reclaimable      0      0      0      0      0      0      0      0      0      0      0 
Node    0, zone    DMA32, type   HighAtomic      0      0      0      0      0      0      0      0      0      0      0 
Node    0, zone    DMA32, type      Isolate      0      0      0      0      0      0      0      0      0      0      0 
",
        );
    }

    #[test]
    fn pageblocks_read_as_in_linux() {
        check(
            |out| write_pageblock_head(out, shown_types(0)),
            "\nNumber of blocks type     Unmovable      Movable  Reclaimable   HighAtomic      Isolate \n",
        );
        check(
            |out| write_pageblocks(out, NodeId(0), ZoneIdx::Dma32, &[2, 1526, 0, 0, 7, 0], shown_types(0)),
            "Node 0, zone    DMA32            2         1526            0            0            0 \n",
        );
    }

    #[test]
    fn contiguous_memory_is_shown_where_there_is_some() {
        check(
            |out| write_pageblock_head(out, shown_types(512)),
            "\nNumber of blocks type     Unmovable      Movable  Reclaimable   HighAtomic          CMA      Isolate \n",
        );
        check(
            |out| write_pageblocks(out, NodeId(0), ZoneIdx::Dma32, &[2, 1526, 0, 0, 7, 0], shown_types(512)),
            "Node 0, zone    DMA32            2         1526            0            0            7            0 \n",
        );
    }
}
