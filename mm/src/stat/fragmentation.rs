//! How far free memory is of use to large allocations: the text of Linux's `/sys/kernel/debug/extfrag/unusable_index` and
//! `extfrag_index`.
//!
//! ```text
//! unusable index of order n     free pages in blocks smaller than n, of all free pages: 0.000 none, 1.000 all
//! fragmentation index           why a block of order n is missing: 0.000 too little memory, 1.000 too small blocks;
//!                               -1.000 it is not missing
//! ```

use core::fmt::{self, Write};

use super::freelists::FreeLists;
use crate::order::Order;

impl FreeLists {
    /// Blocks of `order` that the free blocks could be cut in.
    fn suitable(&self, order: Order) -> u64 {
        order.and_up().map(|larger| self.of_order(larger) << (larger.get() - order.get())).sum()
    }

    /// How many thousandths of the free pages no allocation of `order` can have; 1000 when none are free (Linux:
    /// `unusable_free_index`).
    pub fn unusable_index(&self, order: Order) -> u64 {
        let free = self.nr_pages();
        let unusable = free - (self.suitable(order) << order.get());
        (unusable * 1000).checked_div(free).unwrap_or(1000)
    }

    /// In thousandths, whether an allocation of `order` fails for lack of memory (towards 0) or of large blocks (towards
    /// 1000); -1000 when it would not fail (Linux: `__fragmentation_index`).
    pub fn fragmentation_index(&self, order: Order) -> i64 {
        let blocks: u64 = Order::all().map(|order| self.of_order(order)).sum();
        if blocks == 0 {
            return 0;
        }
        if self.suitable(order) != 0 {
            return -1000;
        }
        1000 - ((1000 + self.nr_pages() * 1000 / order.nr_pages()) / blocks) as i64
    }
}

/// Writes a zone's line of `unusable_index` (Linux: `unusable_show_print`).
///
/// # Errors
/// Those of `out`.
pub fn write_unusable(out: &mut dyn Write, lists: &FreeLists) -> fmt::Result {
    write!(out, "Node {}, zone {:>8} ", lists.node, lists.zone.name())?;
    for index in Order::all().map(|order| lists.unusable_index(order)) {
        write!(out, "{}.{:03} ", index / 1000, index % 1000)?;
    }
    writeln!(out)
}

/// Writes a zone's line of `extfrag_index` (Linux: `extfrag_show_print`).
///
/// # Errors
/// Those of `out`.
pub fn write_extfrag(out: &mut dyn Write, lists: &FreeLists) -> fmt::Result {
    write!(out, "Node {}, zone {:>8} ", lists.node, lists.zone.name())?;
    for index in Order::all().map(|order| lists.fragmentation_index(order)) {
        // As Linux: the sign of the whole part, and of the rest when there is one.
        write!(out, "{}.{:03} ", index / 1000, index % 1000)?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gfp::MigrateType;
    use crate::id::{NodeId, ZoneIdx};
    use std::string::String;

    fn lists(by_order: [u64; Order::COUNT]) -> FreeLists {
        let nr = by_order.map(|nr| {
            let mut types = [0; MigrateType::COUNT];
            types[0] = nr;
            types
        });
        FreeLists { node: NodeId(0), zone: ZoneIdx::Dma32, nr }
    }

    #[track_caller]
    fn unusable(by_order: [u64; Order::COUNT], wanted: &str) {
        let mut text = String::new();
        write_unusable(&mut text, &lists(by_order)).unwrap();
        assert_eq!(text, std::format!("Node 0, zone    DMA32 {wanted} \n"));
    }

    #[test]
    fn what_is_in_smaller_blocks_is_unusable() {
        unusable([0; 11], "1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000");
        unusable(
            [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            "0.000 0.250 0.500 1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000",
        );
        unusable(
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
            "0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000 0.000",
        );
    }

    #[test]
    fn a_missing_block_has_a_cause() {
        let order = |n| Order::new(n).unwrap();
        assert_eq!(lists([0; 11]).fragmentation_index(order(3)), 0);
        let singles = lists([64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(singles.fragmentation_index(order(0)), -1000);
        // Sixteen blocks of four could be made: 1000 - (1000 + 16000) / 64.
        assert_eq!(singles.fragmentation_index(order(2)), 735);
        // One large block short of a larger one: 1000 - (1000 + 500) / 1.
        assert_eq!(lists([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).fragmentation_index(order(4)), -500);
    }
}
