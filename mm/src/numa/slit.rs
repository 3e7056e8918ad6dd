//! Distances between nodes, and the SLIT that gives those between proximity domains.

use super::options::Fake;
use crate::acpi::table::{Table, TableError, u64_at};
use crate::id::NodeId;

/// Distance of a node to itself.
pub const LOCAL_DISTANCE: u8 = 10;
/// Distance to another node when no table gives it.
pub const REMOTE_DISTANCE: u8 = 20;

const FIXED_BYTES: usize = 44;

/// A SLIT whose matrix is complete and makes sense.
#[derive(Clone, Copy, Debug)]
pub struct Slit<'t> {
    nr: usize,
    matrix: &'t [u8],
}

impl<'t> Slit<'t> {
    /// Checks the table. A distance to oneself must be 10, any other larger (Linux: `slit_valid`).
    ///
    /// # Errors
    /// [`TableError`]; `Value` for a distance that makes no sense.
    pub fn new(bytes: &'t [u8]) -> Result<Self, TableError> {
        let bytes = Table::new(bytes, *b"SLIT")?.bytes();
        let nr = u64_at(bytes, 36).and_then(|n| usize::try_from(n).ok()).ok_or(TableError::Truncated)?;
        let size = nr.checked_mul(nr).ok_or(TableError::Truncated)?;
        let matrix = bytes.get(FIXED_BYTES..).and_then(|m| m.get(..size)).ok_or(TableError::Truncated)?;
        for (i, &distance) in matrix.iter().enumerate() {
            let (from, to) = (i / nr, i % nr);
            let good = if from == to { distance == LOCAL_DISTANCE } else { distance > LOCAL_DISTANCE };
            if !good {
                return Err(TableError::Value);
            }
        }
        Ok(Self { nr, matrix })
    }

    /// How many domains it has distances of: those with lower numbers.
    pub fn nr_domains(&self) -> usize {
        self.nr
    }

    /// The distance between two domains, `None` when the table has not both.
    pub fn distance(&self, from: u32, to: u32) -> Option<u8> {
        let (from, to) = (from as usize, to as usize);
        (from < self.nr && to < self.nr).then(|| self.matrix[from * self.nr + to])
    }
}

/// The distances between nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distances<'a> {
    nr: usize,
    table: &'a [u8],
}

impl<'a> Distances<'a> {
    /// The distances of the nodes below `nr`: a table of `nr` lines.
    pub(super) fn new(nr: usize, table: &'a [u8]) -> Self {
        debug_assert_eq!(table.len(), nr * nr);
        Self { nr, table }
    }

    /// The distance between two nodes; the usual one when no table gives it (Linux: `__node_distance`).
    pub fn get(&self, from: NodeId, to: NodeId) -> u8 {
        if from.index() < self.nr && to.index() < self.nr {
            self.table[from.index() * self.nr + to.index()]
        } else {
            default_distance(from, to)
        }
    }
}

/// Fills a table of `nr` lines with the distances between emulated nodes: those that are asked for, then those of their
/// `physical` nodes.
pub(super) fn emulate(
    fake: &Fake<'_>,
    physical: &[NodeId],
    distances: &Distances<'_>,
    nr: usize,
    table: &mut [u8],
) {
    let ids = || (0..physical.len()).map(|n| NodeId(n as u16));
    for (i, distance) in table.iter_mut().enumerate() {
        *distance = default_distance(NodeId((i / nr) as u16), NodeId((i % nr) as u16));
    }
    log::debug!("NUMA: Initialized distance table, cnt={nr}");
    let mut asked = fake.distances().fuse();
    let mut warned = false;
    for (from, to) in ids().flat_map(|from| ids().map(move |to| (from, to))) {
        let of_physical = || distances.get(physical[from.index()], physical[to.index()]).into();
        let distance = asked.next().unwrap_or_else(of_physical);
        let inside = from.index() < nr && to.index() < nr;
        let good = u8::try_from(distance).ok().filter(|&d| inside && (from != to || d == LOCAL_DISTANCE));
        match good {
            Some(distance) => table[from.index() * nr + to.index()] = distance,
            None if warned => {}
            None => {
                let why = if inside { "invalid distance parameter" } else { "node ids are out of bound" };
                log::warn!("Warning: {why}, from={from} to={to} distance={distance}");
                warned = true;
            }
        }
    }
}

pub(super) fn default_distance(from: NodeId, to: NodeId) -> u8 {
    if from == to { LOCAL_DISTANCE } else { REMOTE_DISTANCE }
}
