//! Where each node's movable zone begins: what `kernelcore=`, `movablecore=` and `movable_node` ask for.
//!
//! Memory that must stay ordinary is spread evenly over the nodes; what a node cannot take is spread over the others in
//! another round. Only the highest populated zone becomes movable, so all memory below it counts as ordinary.

use super::layout::{NodeRam, ZoneLimits};
use crate::cmdline::{memparse, simple_number};
use crate::id::NodeId;
use crate::order::Order;
use crate::pfn::Pfn;

/// How much memory an option names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Amount {
    /// No wish.
    #[default]
    Unsaid,
    /// So many pages.
    Pages(u64),
    /// So many hundredths of all RAM.
    Percent(u64),
}

impl Amount {
    /// Reads the value of `kernelcore=` or `movablecore=`: a size in bytes like `512M`, rounded down to pages, or a
    /// percentage like `30%` (Linux: `cmdline_parse_core`). `None` when it is neither.
    pub fn parse(value: &str) -> Option<Self> {
        if let Some((percent, "%")) = simple_number(value) {
            return (percent <= 100).then_some(Self::Percent(percent));
        }
        let (bytes, rest) = memparse(value)?;
        rest.is_empty().then_some(Self::Pages(bytes >> crate::PAGE_SHIFT))
    }

    /// Pages, out of `total`; 0 for no wish. Rounded down, in the two steps in which Linux does it.
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Unsaid => 0,
            Self::Pages(pages) => pages,
            Self::Percent(percent) => total * 100 * percent / 10_000,
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MovableRequest {
    /// Sizes, over all nodes.
    Sizes {
        /// What must stay ordinary (Linux: `required_kernelcore`).
        kernelcore: Amount,
        /// What should be movable (Linux: `required_movablecore`).
        movablecore: Amount,
    },
    /// All memory that can be unplugged (Linux: `movable_node`).
    Hotplug,
}

impl MovableRequest {
    /// Nothing is asked for: no movable zones.
    pub const NONE: Self = Self::Sizes { kernelcore: Amount::Unsaid, movablecore: Amount::Unsaid };

    /// Sets for each node where its movable zone begins (Linux: `find_zone_movable_pfns_for_nodes`). `hotplug` is the RAM
    /// that can be unplugged. `starts` is indexed by node and as long as there are nodes; entries of nodes without a
    /// movable zone become `None`.
    pub fn starts(
        self,
        ram: impl Iterator<Item = NodeRam> + Clone,
        hotplug: impl Iterator<Item = NodeRam>,
        limits: &ZoneLimits,
        starts: &mut [Option<Pfn>],
    ) {
        starts.fill(None);
        match self {
            Self::Hotplug => lowest(hotplug, starts),
            Self::Sizes { kernelcore, movablecore } => {
                let total = ram.clone().map(|r| r.pages.nr_pages()).sum();
                let need = ordinary_pages(kernelcore.of(total), movablecore.of(total), total);
                if need == 0 || need >= total {
                    return;
                }
                spread(need, ram.clone(), limits, starts);
            }
        }
        align(ram, starts);
    }
}

/// How many pages must stay ordinary.
fn ordinary_pages(kernelcore: u64, movablecore: u64, total: u64) -> u64 {
    if movablecore == 0 {
        return kernelcore;
    }
    let movable = movablecore.checked_next_multiple_of(Order::MAX.nr_pages()).unwrap_or(total).min(total);
    kernelcore.max(total - movable)
}

/// Each node's first frame in `ranges`.
fn lowest(ranges: impl Iterator<Item = NodeRam>, starts: &mut [Option<Pfn>]) {
    for range in ranges {
        if let Some(start) = starts.get_mut(range.node.index()) {
            *start = Some(start.map_or(range.pages.start, |s| s.min(range.pages.start)));
        }
    }
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
                let Some(taken) = take_from(range, usable_start, start, rest) else { continue };
                rest -= taken.pages.min(rest);
                need -= taken.pages.min(need);
                // What follows may be movable, even when memory below has made up the whole share.
                if taken.reaches == Reaches::Movable && rest == 0 {
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

/// What was taken of a range for ordinary use.
struct Taken {
    pages: u64,
    reaches: Reaches,
}

/// Where a range ends.
#[derive(PartialEq, Eq)]
enum Reaches {
    /// Below what can be movable.
    Ordinary,
    /// In it.
    Movable,
}

/// Takes pages of a range for ordinary use: all below `usable_start`, of the others up to `rest`; moves `start` past them.
/// `None` when all of the range was taken before.
fn take_from(range: NodeRam, usable_start: Pfn, start: &mut Option<Pfn>, rest: u64) -> Option<Taken> {
    let (from, end) = (range.pages.start.max(start.unwrap_or_default()), range.pages.end);
    if from >= end {
        return None;
    }
    let below = if from < usable_start { end.min(usable_start) - from } else { 0 };
    if end <= usable_start {
        *start = Some(end);
        return Some(Taken { pages: below, reaches: Reaches::Ordinary });
    }
    let from = from.max(usable_start);
    let above = (end - from).min(rest - below.min(rest));
    *start = Some(from + above);
    Some(Taken { pages: below + above, reaches: Reaches::Movable })
}

/// Movable zones begin at a multiple of the largest block, and exist only when something is left of the node then.
fn align(ram: impl Iterator<Item = NodeRam> + Clone, starts: &mut [Option<Pfn>]) {
    for (node, start) in starts.iter_mut().enumerate() {
        let end = super::layout::node_span(ram.clone(), NodeId(node as u16)).end;
        *start = start.map(|s| s.align_up(Order::MAX.nr_pages())).filter(|s| *s < end);
    }
}
