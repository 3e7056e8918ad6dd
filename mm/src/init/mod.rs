//! From memblock's ranges to a page allocator that can start: the steps of boot in between, in order.
//!
//! ```text
//! build:  node data -> sections, vmemmap -> zones -> struct pages -> zonelists
//! hand_over: what memblock has not reserved becomes free pages; what it has, reserved ones
//! ```
//!
//! # Not here
//! Watermarks and limits, which wait for the hand-over: [`Nodes::init_watermarks`].

mod hand_over;
mod memmap;
#[cfg(not(target_os = "none"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use hand_over::{free_late, hand_over};
#[cfg(test)]
pub(crate) use memmap::holes;
pub use memmap::struct_pages;

use core::fmt;

use crate::arch::{self, Machine};
use crate::memblock::{self, Memblock};
use crate::node::{self, NodeData, NodeMap, Nodes, Setup};
use crate::sparse::{self, PopulateVmemmap, SECTION_NR_PAGES, Sparse};
use crate::zone::MovableRequest;

/// Why memory could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Memory that memblock could not give.
    Memblock(memblock::Error),
    /// The section tables.
    Sparse(sparse::Error),
    /// The nodes.
    Node(node::Error),
}

impl From<memblock::Error> for Error {
    fn from(e: memblock::Error) -> Self {
        Self::Memblock(e)
    }
}

impl From<sparse::Error> for Error {
    fn from(e: sparse::Error) -> Self {
        Self::Sparse(e)
    }
}

impl From<node::Error> for Error {
    fn from(e: node::Error) -> Self {
        Self::Node(e)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memblock(e)
            | Self::Sparse(sparse::Error::Memblock(e))
            | Self::Node(node::Error::Memblock(e)) => {
                write!(f, "no memory for the memory map ({e:?})")
            }
            Self::Sparse(e) => write!(f, "sections: {e:?}"),
            Self::Node(e) => write!(f, "nodes: {e:?}"),
        }
    }
}

impl core::error::Error for Error {}

/// Ticks a page, with a tenth.
struct PerPage(u64, u64);

impl fmt::Display for PerPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_mul(10) / self.1.max(1);
        write!(f, "{}.{} a page", tenths / 10, tenths % 10)
    }
}

fn nr_struct_pages(nodes: &Nodes) -> u64 {
    nodes.sparse().sections().count() as u64 * SECTION_NR_PAGES
}

/// All that stands between memblock with its nodes and the page allocator, logged as Linux does: nodes with zones, struct
/// pages and zonelists, nothing free yet. `nr_cpus`: possible CPUs. Takes time by the pages.
///
/// # Errors
/// See [`Error`]; memory taken by then is lost.
///
/// # Safety
/// Memblock's memory is mapped by `machine`; what memblock hands out here is used by nobody else as long as the machine
/// runs; `vmemmap` does what it says.
pub unsafe fn build(
    memblock: &mut Memblock<'_>,
    machine: Machine,
    map: &impl NodeMap,
    nr_cpus: u32,
    movable: MovableRequest,
    vmemmap: &mut dyn PopulateVmemmap,
) -> Result<Nodes, Error> {
    // Before anything is taken from memory that nobody can reach.
    Sparse::end_of_ram(memblock)?;
    // SAFETY: the caller's promises, for all of them.
    let setup = unsafe {
        let data = NodeData::allocate(memblock, machine, map)?;
        let sparse = Sparse::init(memblock, machine, vmemmap)?;
        let setup = Setup::new(memblock, data, sparse, nr_cpus, movable)?;
        let before = arch::ticks();
        struct_pages(memblock, setup.nodes());
        let (nr, ticks) = (nr_struct_pages(setup.nodes()), arch::ticks() - before);
        log::info!("Struct pages: {nr} initialised in {ticks} ticks, {}", PerPage(ticks, nr));
        setup
    };
    Ok(setup.build_zonelists(memblock, map)?)
}
