//! What the memory subsystem counts, and the text of its `/proc` files.
//!
//! ```text
//! items -> counters                          what is counted (Linux's order and names); zones, nodes embed these
//!   |
//! zoneinfo freelists slabinfo meminfo vmstat plain numbers in, text out: byte for byte what Linux prints
//!   |
//! collect -> files                           from the living structures; the files by name
//! ```
//!
//! # Not here
//! The text of `/proc/iomem`: it is that of the resource tree.

#![deny(unsafe_code)]

pub mod collect;
mod counters;
#[allow(unsafe_code, reason = "reaches per-CPU counts")]
mod cpu_events;
mod files;
pub mod freelists;
mod items;
pub mod meminfo;
pub mod slabinfo;
pub mod vmstat;
pub mod zoneinfo;

#[cfg(test)]
#[allow(unsafe_code, reason = "makes per-CPU memory")]
mod tests;

pub use counters::{Counters, Events, NodeCounters, VmEvents, ZoneCounters};
pub use cpu_events::CpuEvents;
pub use files::{Error, File, SlabCaches, System, write};
pub use items::{Item, NodeStat, NumaEvent, VmEvent, ZoneStat};

/// A value for each [`ZoneStat`].
pub type ZoneValues = [u64; ZoneStat::COUNT];
/// A value for each [`NodeStat`].
pub type NodeValues = [u64; NodeStat::COUNT];
/// A value for each [`VmEvent`].
pub type VmEventValues = [u64; VmEvent::COUNT];

/// Base pages in a huge page of 2 MiB.
const HUGE_PAGE_NR: u64 = 512;
