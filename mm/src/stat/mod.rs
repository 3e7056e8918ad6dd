//! The text of the memory subsystem's `/proc` files.
//!
//! ```text
//! zoneinfo freelists slabinfo meminfo vmstat plain numbers in, text out: byte for byte what Linux prints
//!   |
//! collect -> files                           from the living structures; the files by name
//! ```
//!
//! # Not here
//! What is counted: [`crate::counters`]. The text of `/proc/iomem`: it is that of the resource tree.

#![deny(unsafe_code)]

pub mod collect;
mod files;
pub mod freelists;
pub mod meminfo;
pub mod slabinfo;
pub mod vmstat;
pub mod zoneinfo;

#[cfg(test)]
#[allow(unsafe_code, reason = "makes per-CPU memory")]
mod tests;

pub use files::{Error, File, SlabCaches, System, write};

/// Base pages in a huge page of 2 MiB.
const HUGE_PAGE_NR: u64 = 512;
