//! The pairs of levels that were seen nested, each with the places of its first occurrence.
//!
//! ```text
//! edges[outer][inner] = (where the outer lock was taken, where the inner one was)
//! ```

use core::panic::Location;

use super::place::Place;
use super::{Held, Level};

#[derive(Debug)]
struct Edge {
    outer_at: Place,
    inner_at: Place,
}

impl Edge {
    const fn never() -> Self {
        Self { outer_at: Place::none(), inner_at: Place::none() }
    }
}

/// Which orders were seen (Linux: the graph of `lock_list`). Notes and reads from any context, without a lock: of two that
/// note the same pair at once, the places may be one of each.
#[derive(Debug)]
pub struct Orders {
    edges: [[Edge; Level::COUNT]; Level::COUNT],
}

/// A lock of `inner` was taken under one of `outer`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) outer: Level,
    pub(super) outer_at: &'static Location<'static>,
    pub(super) inner: Level,
    pub(super) inner_at: &'static Location<'static>,
}

/// Pairs that lead from one level to another: each starts where the one before ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    seen: [Option<Seen>; Level::COUNT],
}

impl Chain {
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Seen> {
        self.seen.iter().flatten().copied()
    }
}

impl Orders {
    /// None was seen.
    pub const fn new() -> Self {
        Self { edges: [const { [const { Edge::never() }; Level::COUNT] }; Level::COUNT] }
    }

    /// Notes that `inner` was taken under `outer`. Only the first of a pair of levels stays.
    pub fn note(&self, outer: Held, inner: Held) {
        let edge = &self.edges[outer.level.index()][inner.level.index()];
        if edge.inner_at.get().is_none() {
            edge.outer_at.set(outer.at);
            edge.inner_at.set(inner.at);
        }
    }

    fn seen(&self, outer: Level, inner: Level) -> Option<Seen> {
        let edge = &self.edges[outer.index()][inner.index()];
        Some(Seen { outer, outer_at: edge.outer_at.get()?, inner, inner_at: edge.inner_at.get()? })
    }

    /// The shortest chain of pairs from `outer` to `inner`; `None` when nothing leads there.
    pub(super) fn chain(&self, outer: Level, inner: Level) -> Option<Chain> {
        // Breadth first: how each level was reached, in rounds of one more pair.
        let mut reached: [Option<Seen>; Level::COUNT] = [None; Level::COUNT];
        let mut frontier = [false; Level::COUNT];
        frontier[outer.index()] = true;
        while reached[inner.index()].is_none() && frontier.contains(&true) {
            let mut next = [false; Level::COUNT];
            for (&from, _) in Level::ALL.iter().zip(frontier).filter(|&(_, in_it)| in_it) {
                for &to in Level::ALL.iter().filter(|&&to| to != outer) {
                    if reached[to.index()].is_none()
                        && let Some(seen) = self.seen(from, to)
                    {
                        reached[to.index()] = Some(seen);
                        next[to.index()] = true;
                    }
                }
            }
            frontier = next;
        }
        let mut chain = Chain { seen: [None; Level::COUNT] };
        let mut at = reached[inner.index()]?;
        for place in chain.seen.iter_mut().rev() {
            *place = Some(at);
            if at.outer == outer {
                break;
            }
            at = reached[at.outer.index()]?;
        }
        Some(chain)
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[track_caller]
    fn held(level: Level) -> Held {
        Held { lock: 1, level, at: Location::caller() }
    }

    fn levels(chain: Chain) -> Vec<(Level, Level)> {
        chain.iter().map(|seen| (seen.outer, seen.inner)).collect()
    }

    #[test]
    fn only_the_first_occurrence_of_a_pair_stays() {
        let orders = Orders::new();
        let (outer, inner) = (held(Level::SlabNode), held(Level::Zone));
        orders.note(outer, inner);
        orders.note(held(Level::SlabNode), held(Level::Zone));
        let seen = orders.seen(Level::SlabNode, Level::Zone).unwrap();
        assert_eq!((seen.outer_at, seen.inner_at), (outer.at, inner.at));
        assert_eq!(orders.seen(Level::Zone, Level::SlabNode), None);
    }

    #[test]
    fn a_chain_is_the_shortest_way_there() {
        use Level::*;
        let orders = Orders::new();
        assert!(orders.chain(PageTable, Zone).is_none());
        for (outer, inner) in [(PageTable, SlabCaches), (SlabCaches, SlabNode), (SlabNode, Zone)] {
            orders.note(held(outer), held(inner));
        }
        assert_eq!(
            levels(orders.chain(PageTable, Zone).unwrap()),
            [(PageTable, SlabCaches), (SlabCaches, SlabNode), (SlabNode, Zone)]
        );
        orders.note(held(PageTable), held(SlabNode));
        assert_eq!(levels(orders.chain(PageTable, Zone).unwrap()), [(PageTable, SlabNode), (SlabNode, Zone)]);
        orders.note(held(PageTable), held(Zone));
        assert_eq!(levels(orders.chain(PageTable, Zone).unwrap()), [(PageTable, Zone)]);
        assert!(orders.chain(Zone, PageTable).is_none() && orders.chain(Leaf, Leaf).is_none());
    }
}
