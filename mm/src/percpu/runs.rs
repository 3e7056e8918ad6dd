//! Runs of free units in a bitmap, and where the first one is that is long enough, without looking at all of them.
//!
//! ```text
//! nodes   1                         left, right, best: the free run at its left end, at its right end, the longest
//!       2   3                       of what is below; at most CAP, which is more than anybody asks for
//!      4 5 6 7
//! words 01 23 45 67                 a bit set: the unit is free; the summary of a word is computed when it is wanted
//! ```
//!
//! # Invariants
//! - I1: a node says of the words below it what follows from its two children ([`Node::join`]).
//! - I2: the number of words is a power of two, 2 at least; there are as many nodes, of which node 0 is not used.

use super::table::Table;

/// Units of a word.
pub(super) const WORD_UNITS: usize = u64::BITS as usize;
/// What is longer counts as so long.
pub(super) const CAP: u32 = u16::MAX as u32;

/// What is free below a place of the tree: 16 bits each for `left`, `right`, `best`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Node(u64);

impl Node {
    #[inline(always)]
    const fn new(left: u32, right: u32, best: u32) -> Self {
        Self(left as u64 | (right as u64) << 16 | (best as u64) << 32)
    }

    #[inline(always)]
    const fn left(self) -> u32 {
        self.0 as u16 as u32
    }

    #[inline(always)]
    const fn right(self) -> u32 {
        (self.0 >> 16) as u16 as u32
    }

    #[inline(always)]
    const fn best(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Of one word.
    #[inline]
    fn of_word(word: u64) -> Self {
        if word == 0 || word == u64::MAX {
            let all = (word & 64) as u32;
            return Self::new(all, all, all);
        }
        Self::new(word.trailing_ones(), word.leading_ones(), longest_run(word))
    }

    /// Of two neighbours of `span` units each. A run that is cut at CAP is never taken for a whole span that is shorter,
    /// and where the span is longer it makes no difference.
    #[inline(always)]
    fn join(l: Self, r: Self, span: u32) -> Self {
        let whole = if span < CAP { span } else { CAP };
        let sum = |a: u32, b: u32| (a + b).min(CAP);
        let left = if l.left() == whole { sum(whole, r.left()) } else { l.left() };
        let right = if r.right() == whole { sum(whole, l.right()) } else { r.right() };
        Self::new(left, right, l.best().max(r.best()).max(sum(l.right(), r.left())))
    }
}

/// The longest run of ones in a word that has some: how often the length can be doubled, then what can be added.
#[inline]
fn longest_run(word: u64) -> u32 {
    // Bit i of runs[k] is set where 2^k ones start.
    let mut runs = [word; 6];
    let mut top = 0;
    while top < 5 {
        let longer = runs[top] & (runs[top] >> (1u32 << top));
        if longer == 0 {
            break;
        }
        top += 1;
        runs[top] = longer;
    }
    let (mut starts, mut len) = (runs[top], 1u32 << top);
    for k in (0..top).rev() {
        let longer = starts & (runs[k] >> len);
        if longer != 0 {
            (starts, len) = (longer, len + (1 << k));
        }
    }
    len
}

/// Where the first run of `need` ones starts in a word.
#[inline]
fn run_in(word: u64, need: u32) -> Option<usize> {
    if need > u64::BITS {
        return None;
    }
    let (mut starts, mut len) = (word, 1);
    while len < need {
        let more = len.min(need - len);
        starts &= starts >> more;
        len += more;
    }
    (starts != 0).then(|| starts.trailing_zeros() as usize)
}

/// The parts of `start..start + len` that are in one word each: the word's index, and its units as a mask.
#[inline(always)]
pub(super) fn words(start: usize, len: usize) -> impl Iterator<Item = (usize, u64)> {
    let end = start + len;
    (start / WORD_UNITS..end.div_ceil(WORD_UNITS)).map(move |word| {
        let base = word * WORD_UNITS;
        let from = start.max(base) - base;
        let to = end.min(base + WORD_UNITS) - base;
        (word, (u64::MAX >> (WORD_UNITS - (to - from))) << from)
    })
}

/// The bitmap and the tree over it.
#[derive(Debug)]
pub(super) struct Runs {
    words: Table<u64>,
    nodes: Table<Node>,
}

impl Runs {
    /// How many words, and nodes, it takes to keep so many units.
    pub(super) const fn nr_words(nr_units: usize) -> usize {
        let words = nr_units.div_ceil(WORD_UNITS).next_power_of_two();
        if words < 2 { 2 } else { words }
    }

    /// Over two tables of [`nr_words`](Self::nr_words) entries, all zero: nothing is free.
    pub(super) fn new(words: Table<u64>, nodes: Table<Node>) -> Self {
        debug_assert!(words.len().is_power_of_two() && words.len() >= 2 && nodes.len() == words.len());
        Self { words, nodes }
    }

    /// Its two tables, to be given back.
    pub(super) fn into_tables(self) -> (Table<u64>, Table<Node>) {
        (self.words, self.nodes)
    }

    /// The bits.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The longest run, in units; at most CAP.
    #[inline(always)]
    pub(super) fn best(&self) -> u32 {
        self.nodes[1].best()
    }

    /// Whether a unit is free.
    #[inline]
    pub(super) fn is_free(&self, unit: usize) -> bool {
        self.words[unit / WORD_UNITS] >> (unit % WORD_UNITS) & 1 != 0
    }

    /// Units `start..start + len`, all free, are so no more. Time: a step a word, and logarithmic.
    #[inline]
    pub(super) fn take(&mut self, start: usize, len: usize) {
        for (word, mask) in words(start, len) {
            debug_assert_eq!(self.words[word] & mask, mask, "units {start}+{len} are taken twice");
            self.words[word] &= !mask;
        }
        self.update(start / WORD_UNITS, (start + len - 1) / WORD_UNITS);
    }

    /// Units `start..start + len`, none free, are free from now on. Time as [`take`](Self::take).
    #[inline]
    pub(super) fn give(&mut self, start: usize, len: usize) {
        for (word, mask) in words(start, len) {
            debug_assert_eq!(self.words[word] & mask, 0, "units {start}+{len} are given twice");
            self.words[word] |= mask;
        }
        self.update(start / WORD_UNITS, (start + len - 1) / WORD_UNITS);
    }

    /// Words `first..=last` have changed: restores I1 upwards, as far as anything changes.
    #[inline]
    fn update(&mut self, first: usize, last: usize) {
        let n = self.words.len();
        let (mut first, mut last) = ((n + first) / 2, (n + last) / 2);
        let mut changed = false;
        for node in first..=last {
            let word = 2 * node - n;
            let [l, r] = [word, word + 1].map(|word| Node::of_word(self.words[word]));
            changed |= self.set(node, Node::join(l, r, WORD_UNITS as u32));
        }
        let mut span = 2 * WORD_UNITS as u32;
        while changed && first > 1 {
            (first, last, changed) = (first / 2, last / 2, false);
            for node in first..=last {
                let joined = Node::join(self.nodes[2 * node], self.nodes[2 * node + 1], span);
                changed |= self.set(node, joined);
            }
            span *= 2;
        }
    }

    #[inline(always)]
    fn set(&mut self, node: usize, to: Node) -> bool {
        let before = core::mem::replace(&mut self.nodes[node], to);
        before != to
    }

    /// The first run of `need` units that starts at a multiple of `align`, a power of two (Linux: `pcpu_find_block_fit`).
    /// Logarithmic time; when runs that are long enough lie badly, so much for each of them.
    #[inline]
    pub(super) fn find(&self, need: u32, align: usize) -> Option<usize> {
        let start = self.first(need)?;
        let at = start.next_multiple_of(align);
        if at == start || self.all_free(at, need as usize).is_ok() {
            return Some(at);
        }
        self.find_further(at, need, align)
    }

    #[cold]
    fn find_further(&self, mut at: usize, need: u32, align: usize) -> Option<usize> {
        loop {
            let Err(taken) = self.all_free(at, need as usize) else { return Some(at) };
            let start = self.first_from(1, 0, self.words.len() * WORD_UNITS, taken + 1, need)?;
            at = start.next_multiple_of(align);
        }
    }

    /// Whether `need` units from `at` on are free.
    ///
    /// # Errors
    /// The first that is not.
    fn all_free(&self, at: usize, need: usize) -> Result<(), usize> {
        for (word, mask) in words(at, need) {
            let taken = mask & !self.words.get(word).copied().unwrap_or(0);
            if taken != 0 {
                return Err(word * WORD_UNITS + taken.trailing_zeros() as usize);
            }
        }
        Ok(())
    }

    /// The start of the first run of `need` units.
    #[inline]
    fn first(&self, need: u32) -> Option<usize> {
        let n = self.words.len();
        if self.best() < need {
            return None;
        }
        let (mut node, mut base, mut half) = (1, 0, n * WORD_UNITS / 2);
        while 2 * node < n {
            let (l, r) = (self.nodes[2 * node], self.nodes[2 * node + 1]);
            node *= 2;
            if l.best() < need {
                if l.right() + r.left() >= need {
                    return Some(base + half - l.right() as usize);
                }
                (node, base) = (node + 1, base + half);
            }
            half /= 2;
        }
        self.first_in_pair(2 * node - n, need)
    }

    /// The start of the first run of `need` units in a word and the next, if there is one.
    #[inline]
    fn first_in_pair(&self, word: usize, need: u32) -> Option<usize> {
        let (a, b, base) = (self.words[word], self.words[word + 1], word * WORD_UNITS);
        if let Some(at) = run_in(a, need) {
            return Some(base + at);
        }
        let right = a.leading_ones();
        if right + b.trailing_ones() >= need {
            return Some(base + WORD_UNITS - right as usize);
        }
        run_in(b, need).map(|at| base + WORD_UNITS + at)
    }

    /// The start of the first run of `need` units below `node` that starts at `from` or later, or reaches across it: then
    /// `from`. `base` and `span` say what is below the node.
    fn first_from(&self, node: usize, base: usize, span: usize, from: usize, need: u32) -> Option<usize> {
        let n = self.words.len();
        if base + span <= from {
            return None;
        }
        if node >= n {
            let word = self.words[node - n] & (u64::MAX << from.saturating_sub(base));
            return run_in(word, need).map(|at| base + at);
        }
        if self.nodes[node].best() < need {
            return None;
        }
        let (mid, half) = (base + span / 2, span / 2);
        let of = |child: usize| {
            if child >= n { Node::of_word(self.words[child - n]) } else { self.nodes[child] }
        };
        if let Some(at) = self.first_from(2 * node, base, half, from, need) {
            return Some(at);
        }
        let start = from.max(mid - of(2 * node).right() as usize);
        if start <= mid && mid - start + of(2 * node + 1).left() as usize >= need as usize {
            return Some(start);
        }
        self.first_from(2 * node + 1, mid, half, from, need)
    }

    /// Recounts I1.
    pub(super) fn validate(&self) {
        let n = self.words.len();
        for node in 1..n {
            let of = |child: usize| {
                if child >= n { Node::of_word(self.words[child - n]) } else { self.nodes[child] }
            };
            let span = (n * WORD_UNITS) >> (node.ilog2() + 1);
            let joined = Node::join(of(2 * node), of(2 * node + 1), span as u32);
            assert_eq!(self.nodes[node], joined, "node {node} of {n}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn naive_longest(bits: &[bool]) -> u32 {
        bits.split(|&free| !free).map(<[bool]>::len).max().unwrap_or(0) as u32
    }

    fn naive_find(bits: &[bool], need: usize, align: usize) -> Option<usize> {
        (0..bits.len())
            .step_by(align)
            .find(|&at| at + need <= bits.len() && bits[at..at + need].iter().all(|&f| f))
    }

    #[test]
    fn the_longest_run_of_a_word_is_found() {
        for (word, len) in
            [(1, 1), (0b1011, 2), (u64::MAX >> 1, 63), (0xff0f, 8), (0xfffe_ffff_0000_0000, 16)]
        {
            assert_eq!(longest_run(word), len, "{word:#x}");
        }
    }

    #[test]
    fn masks_are_of_what_is_meant() {
        let all: Vec<_> = words(60, 70).collect();
        assert_eq!(all, vec![(0, 0xf << 60), (1, u64::MAX), (2, 3)]);
        assert_eq!(words(3, 2).collect::<Vec<_>>(), vec![(0, 0b11000)]);
        assert_eq!(words(0, 64).collect::<Vec<_>>(), vec![(0, u64::MAX)]);
    }

    proptest! {
        #[test]
        fn a_words_summary_is_that_of_its_bits(word: u64, thin: u64) {
            for word in [word, word & thin, word | thin] {
                let bits: Vec<bool> = (0..64).map(|bit| word >> bit & 1 != 0).collect();
                prop_assert_eq!(Node::of_word(word).best(), naive_longest(&bits));
                for need in 1..=64 {
                    prop_assert_eq!(run_in(word, need), naive_find(&bits, need as usize, 1));
                }
            }
        }

        #[test]
        fn the_first_aligned_run_is_found(
            changes in prop::collection::vec((0usize..1024, 1usize..200), 1..40),
            wanted in prop::collection::vec((1u32..300, 0u32..8), 1..20),
        ) {
            let mut tree = Runs::new(Table::on_host(16), Table::on_host(16));
            let mut bits = vec![true; 1024];
            tree.give(0, 1024);
            for (at, len) in changes {
                let end = (at + len).min(1024);
                // What is uniform changes, or the part of it that comes first.
                let same = (at..end).take_while(|&unit| bits[unit] == bits[at]).count();
                if bits[at] { tree.take(at, same) } else { tree.give(at, same) }
                let to = !bits[at];
                bits[at..at + same].fill(to);
                tree.validate();
                prop_assert_eq!(tree.best(), naive_longest(&bits));
                for &(need, shift) in &wanted {
                    prop_assert_eq!(tree.find(need, 1 << shift), naive_find(&bits, need as usize, 1 << shift), "{} {}", need, 1 << shift);
                }
            }
            let (words, nodes) = tree.into_tables();
            words.free_on_host();
            nodes.free_on_host();
        }
    }
}
