//! What the tables of cases share: two pages of names, and how arrays are read.

mod alloc;
mod dump;
mod grow;
mod limits;
mod ranges;
mod walks;

use super::*;
use crate::arch::SimMachine;
use std::vec;
use std::vec::Vec;

const PAGE: u64 = PAGE_SIZE as u64;
const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);

pub(super) fn r(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end).unwrap()
}

pub(super) struct Storage(Vec<Region>, Vec<Region>);

impl Storage {
    pub(super) fn new(slots: usize) -> Self {
        Self(vec![Region::EMPTY; slots], vec![Region::EMPTY; slots])
    }

    pub(super) fn memblock(&mut self) -> Memblock<'_> {
        Memblock::new(&mut self.0, &mut self.1)
    }

    /// One whose arrays grow in the simulated machine's memory.
    fn growing(&mut self, sim: &SimMachine) -> Memblock<'_> {
        let mut m = self.memblock();
        // SAFETY: each test keeps its machine longer than what is taken from it, and uses only what it was given.
        unsafe { m.allow_resize(sim.machine()) };
        m
    }
}

fn pairs(regions: &[Region]) -> Vec<(u64, u64)> {
    regions.iter().map(|x| (x.range.start(), x.range.end())).collect()
}

/// Start, end, node, flags.
type Case = (u64, u64, Option<u16>, Flags);

fn cases<'r>(regions: impl IntoIterator<Item = &'r Region>) -> Vec<Case> {
    let case = |x: &Region| (x.range.start(), x.range.end(), x.node.map(|n| n.0), x.flags);
    regions.into_iter().map(case).collect()
}
