//! What the memory subsystem counts, and the text of its `/proc` files.
//!
//! ```text
//! items -> counters                          what is counted (Linux's order and names); zones, nodes embed these
//!   |
//! zoneinfo freelists slabinfo meminfo vmstat plain numbers in, text out: byte for byte what Linux prints
//! ```
//!
//! # Not here
//! The text of `/proc/iomem`: it is that of the resource tree.

#![deny(unsafe_code)]

mod counters;
pub mod freelists;
mod items;
pub mod meminfo;
pub mod slabinfo;
pub mod vmstat;
pub mod zoneinfo;

pub use counters::{Counters, Events, NodeCounters, NumaEvents, VmEvents, ZoneCounters};
pub use items::{Item, NodeStat, NumaEvent, VmEvent, ZoneStat};

/// A value for each [`ZoneStat`].
pub type ZoneValues = [u64; ZoneStat::COUNT];
/// A value for each [`NodeStat`].
pub type NodeValues = [u64; NodeStat::COUNT];
/// A value for each [`VmEvent`].
pub type VmEventValues = [u64; VmEvent::COUNT];

/// Base pages in a huge page of 2 MiB.
const HUGE_PAGE_NR: u64 = 512;
