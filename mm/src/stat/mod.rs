//! The text of the memory subsystem's files in `/proc` and `/sys`.
//!
//! ```text
//! zoneinfo freelists slabinfo meminfo vmstat vmallocinfo node   plain numbers in, text out: byte for byte what Linux prints
//!   |
//! collect -> files <- path                          from the living structures; the files; their names
//! ```
//!
//! # Not here
//! What is counted: [`crate::counters`]. The text of `/proc/iomem`: it is that of the resource tree.

#![deny(unsafe_code)]

pub mod collect;
mod files;
pub mod fragmentation;
pub mod freelists;
pub mod meminfo;
pub mod node;
mod path;
pub mod slabinfo;
pub mod vmallocinfo;
pub mod vmstat;
pub mod zoneinfo;

#[cfg(test)]
#[allow(unsafe_code, reason = "makes per-CPU memory")]
mod tests;

pub use files::{Error, File, NodeFile, SlabCaches, System, Topology, VmallocAreas};
pub use path::Path;

/// Base pages in a huge page of 2 MiB.
const HUGE_PAGE_NR: u64 = 512;
