//! Where each node's movable zone begins: what `kernelcore=`, `movablecore=` and `movable_node` ask for.
//!
//! Memory that must stay ordinary is spread evenly over the nodes; what a node cannot take is spread over the others in
//! another round. Only the highest populated zone becomes movable, so all memory below it counts as ordinary.

use super::layout::{NodeRam, ZoneLimits};
use crate::id::NodeId;
use crate::order::Order;
use crate::pfn::Pfn;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MovableRequest {
    /// Pages that must stay ordinary, 0 for no wish (Linux: `required_kernelcore`).
    pub kernelcore: u64,
    /// Pages that should be movable, 0 for no wish (Linux: `required_movablecore`).
    pub movablecore: u64,
}

impl MovableRequest {
    /// Sets for each node where its movable zone begins (Linux: `find_zone_movable_pfns_for_nodes`). `starts` is indexed
    /// by node and as long as there are nodes; entries of nodes without a movable zone become `None`.
    pub fn starts(
        self,
        ram: impl Iterator<Item = NodeRam> + Clone,
        limits: &ZoneLimits,
        starts: &mut [Option<Pfn>],
    ) {
        starts.fill(None);
        let total: u64 = ram.clone().map(|r| r.pages.nr_pages()).sum();
        let mut need = self.kernelcore;
        if self.movablecore != 0 {
            let movable = self.movablecore.next_multiple_of(Order::MAX.nr_pages()).min(total);
            need = need.max(total - movable);
        }
        if need == 0 || need >= total {
            return;
        }
        spread(need, ram.clone(), limits, starts);
        align(ram, starts);
    }
}

/// Each node's first movable frame when its hot-pluggable memory is to be movable (Linux: `movable_node`).
pub fn hotplug_starts(
    hotplug: impl Iterator<Item = NodeRam>,
    ram: impl Iterator<Item = NodeRam> + Clone,
    starts: &mut [Option<Pfn>],
) {
    starts.fill(None);
    for range in hotplug {
        if let Some(start) = starts.get_mut(range.node.index()) {
            *start = Some(start.map_or(range.pages.start, |s| s.min(range.pages.start)));
        }
    }
    align(ram, starts);
}

fn has_ram(ram: impl Iterator<Item = NodeRam>, node: usize) -> bool {
    ram.into_iter().any(|r| r.node.index() == node)
}

fn spread(
    mut need: u64,
    ram: impl Iterator<Item = NodeRam> + Clone,
    limits: &ZoneLimits,
    starts: &mut [Option<Pfn>],
) {
    let usable_start = limits.get(limits.highest()).start;
    let mut nodes_left = (0..starts.len()).filter(|n| has_ram(ram.clone(), *n)).count() as u64;
    while nodes_left != 0 {
        let mut share = need / nodes_left;
        for (node, start) in starts.iter_mut().enumerate() {
            // The last nodes of a round may find less needed than a share.
            if need < share {
                share = need / nodes_left;
            }
            let mut rest = share;
            for range in ram.clone().filter(|r| r.node.index() == node) {
                let taken = take_from(range, usable_start, start, rest);
                rest -= taken.min(rest);
                need -= taken.min(need);
                if taken != 0 && rest == 0 && start.is_some_and(|s| s >= usable_start) {
                    break;
                }
            }
        }
        nodes_left -= 1;
        if need <= nodes_left {
            break;
        }
    }
}

/// Takes pages of a range for ordinary use: all below `usable_start`, of the others up to `rest`; moves `start` past them.
fn take_from(range: NodeRam, usable_start: Pfn, start: &mut Option<Pfn>, rest: u64) -> u64 {
    let (from, end) = (range.pages.start.max(start.unwrap_or_default()), range.pages.end);
    if from >= end {
        return 0;
    }
    let below = if from < usable_start { end.min(usable_start) - from } else { 0 };
    if end <= usable_start {
        *start = Some(end);
        return below;
    }
    let from = from.max(usable_start);
    let above = (end - from).min(rest - below.min(rest));
    *start = Some(from + above);
    below + above
}

/// Movable zones begin at a multiple of the largest block, and exist only when something is left of the node then.
fn align(ram: impl Iterator<Item = NodeRam> + Clone, starts: &mut [Option<Pfn>]) {
    for (node, start) in starts.iter_mut().enumerate() {
        let end = super::layout::node_span(ram.clone(), NodeId(node as u16)).end;
        *start = start.map(|s| s.align_up(Order::MAX.nr_pages())).filter(|s| *s < end);
    }
}
