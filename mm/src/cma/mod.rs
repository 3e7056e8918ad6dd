//! Contiguous memory for devices: areas set aside at boot, which movable pages use until somebody wants them.
//!
//! ```text
//! memblock   reserve           a range of whole pageblocks of one zone, and its bitmap
//!    |
//! activate                     the pageblocks become of type Cma, their pages free: movable allocations take them
//!    |
//! alloc      turn  ->  bitmap: a run of clear bits, set  ->  alloc_contig_range of those pages  ->  CmaPages
//! release    CmaPages -> free pages of type Cma, bits clear
//! ```
//!
//! # Invariants
//! - I1: a bit of the bitmap is set exactly while its page is handed out or somebody tries to take it.
//! - I2: all pages of an active area are of one zone, and its pageblocks of type `Cma` or, while pages are being taken,
//!   `Isolate`.
//!
//! # Locking
//! The bitmap's lock (level Leaf) is held to look for a run and to change bits. Pages are taken without it, by one allocation
//! at a time ([`turn`]); a pageblock that somebody else has set aside, for whatever purpose, is one without room.
//!
//! # Not here
//! How pages are taken out of free lists and put back (`page_alloc`).

mod area;
mod params;
mod reserve;
#[cfg(test)]
mod tests;
mod turn;

pub use area::{Cma, CmaPages, Wanted};
pub use params::{CmaRequest, Place};
pub use reserve::{Reservation, reserve};

use core::fmt;

use crate::memblock;
use crate::order::PAGEBLOCK_ORDER;

/// Areas are multiples of a pageblock, as migratetypes are kept by pageblock (Linux: `CMA_MIN_ALIGNMENT_BYTES`).
pub const MIN_ALIGN_BYTES: u64 = PAGEBLOCK_ORDER.size_bytes() as u64;

/// Why there is no area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Larger than memory.
    BadSize,
    /// The place is not a multiple of a pageblock.
    Misaligned,
    /// The place is no memory, or used.
    Taken,
    /// No room.
    Memblock(memblock::Error),
    /// Parts of it belong to more than one zone, or have no struct pages.
    NotOneZone,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadSize => "larger than memory",
            Self::Misaligned => "not aligned to a pageblock",
            Self::Taken => "no free memory there",
            Self::Memblock(_) => "no room",
            Self::NotOneZone => "not in one zone",
        })
    }
}

impl core::error::Error for Error {}
