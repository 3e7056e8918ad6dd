//! How much of a node's memory may be dirty before new pages that will be written are rather taken from other nodes.
//!
//! ```text
//! dirtyable = free pages - what is kept free + inactive and active file pages
//! over the limit:   nr_dirty + nr_writeback > 20 % of dirtyable
//! ```
//! So that no node fills with pages that cannot be reclaimed before they are written, while others are clean.
//!
//! # Not here
//! Who dirties pages and who writes them; the limit of the whole machine (`stat`).

use super::Node;
use crate::counters::{NodeStat, ZoneStat};
use crate::zone::Zone;

/// The part of dirtyable memory that may be dirty, in percent (Linux: `vm_dirty_ratio`, its default).
pub const VM_DIRTY_RATIO: u64 = 20;

impl Node {
    /// Pages that could be dirty: the file cache, and what it could grow by (Linux: `node_dirtyable_memory`).
    fn dirtyable_pages(&self) -> u64 {
        let zones = || self.populated_zones();
        let free: u64 = zones().map(|zone| zone.stat(ZoneStat::FreePages)).sum();
        let reserved: u64 = zones().map(Zone::reserve_pages).sum();
        let cached = self.counters().get(NodeStat::InactiveFile) + self.counters().get(NodeStat::ActiveFile);
        free.saturating_sub(reserved) + cached
    }

    /// Pages that may be dirty or under writeback (Linux: `node_dirty_limit`, for who is no real-time task).
    pub fn dirty_limit(&self) -> u64 {
        self.dirtyable_pages() * VM_DIRTY_RATIO / 100
    }

    /// Whether it may get more dirty pages (Linux: `node_dirty_ok`). Any context; some loads for each zone.
    pub fn dirty_ok(&self) -> bool {
        let dirty = self.counters().get(NodeStat::FileDirty) + self.counters().get(NodeStat::Writeback);
        dirty <= self.dirty_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestMachine;

    #[test]
    fn a_fifth_of_what_can_be_dirty_may_be() {
        let m = TestMachine::new(64);
        let node = m.pages.nodes().iter().next().unwrap();
        let limit = node.dirty_limit();
        let zones = || node.populated_zones();
        let free: u64 = zones().map(Zone::nr_free).sum();
        assert_eq!(limit, (free - zones().map(Zone::reserve_pages).sum::<u64>()) / 5);
        node.counters().add(NodeStat::InactiveFile, 300);
        node.counters().add(NodeStat::ActiveFile, 200);
        assert!((limit + 100..=limit + 101).contains(&node.dirty_limit()));
        node.counters().add(NodeStat::FileDirty, limit as i64);
        assert!(node.dirty_ok());
        node.counters().add(NodeStat::Writeback, 102);
        assert!(!node.dirty_ok());
        for stat in [NodeStat::FileDirty, NodeStat::Writeback, NodeStat::InactiveFile, NodeStat::ActiveFile] {
            node.counters().add(stat, -(node.counters().get(stat) as i64));
        }
    }
}
