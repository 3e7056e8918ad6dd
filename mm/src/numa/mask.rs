//! A set of nodes.

use core::fmt;

use crate::id::{MAX_NUMNODES, NodeId};

const WORDS: usize = MAX_NUMNODES / 64;

/// A set of nodes, ascending (Linux: `nodemask_t`).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeMask {
    words: [u64; WORDS],
}

impl NodeMask {
    /// No node.
    pub const EMPTY: Self = Self { words: [0; WORDS] };

    /// Adds a node, which is below `MAX_NUMNODES`.
    pub fn insert(&mut self, node: NodeId) {
        self.words[node.index() / 64] |= 1 << (node.index() % 64);
    }

    /// Takes a node out.
    pub fn remove(&mut self, node: NodeId) {
        if let Some(word) = self.words.get_mut(node.index() / 64) {
            *word &= !(1 << (node.index() % 64));
        }
    }

    /// Whether a node is in it.
    pub fn contains(&self, node: NodeId) -> bool {
        self.words.get(node.index() / 64).is_some_and(|w| w >> (node.index() % 64) & 1 != 0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&w| w == 0)
    }

    /// The highest one.
    pub fn last(&self) -> Option<NodeId> {
        let i = self.words.iter().rposition(|&w| w != 0)?;
        Some(NodeId((i * 64 + 63 - self.words[i].leading_zeros() as usize) as u16))
    }

    /// Each one, ascending.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + Clone + '_ {
        (0..MAX_NUMNODES as u16).map(NodeId).filter(|&n| self.contains(n))
    }

    /// Whether each one is in `other` too.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.words.iter().zip(other.words).all(|(a, b)| a & !b == 0)
    }

    /// Those in both.
    pub fn intersection(mut self, other: &Self) -> Self {
        self.words.iter_mut().zip(other.words).for_each(|(a, b)| *a &= b);
        self
    }

    /// Those in either.
    pub fn union(mut self, other: &Self) -> Self {
        self.words.iter_mut().zip(other.words).for_each(|(a, b)| *a |= b);
        self
    }
}

impl FromIterator<NodeId> for NodeMask {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut mask = Self::EMPTY;
        nodes.into_iter().for_each(|node| mask.insert(node));
        mask
    }
}

impl fmt::Debug for NodeMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
