//! What the memory subsystem counts, and the counters themselves: a leaf that zones, nodes and allocators embed.
//!
//! ```text
//! items    what is counted, in Linux's order and by its names
//! cells    a counter each: atomics, cheap for one writer
//! cpu      events that each CPU counts for itself
//! ```
//!
//! # Not here
//! The text of the files that show them: [`crate::stat`].

#![deny(unsafe_code)]

mod cells;
#[allow(unsafe_code, reason = "reaches per-CPU counts")]
mod cpu_events;
mod items;

pub use cells::{Counters, Events, NodeCounters, VmEvents, ZoneCounters};
pub use cpu_events::CpuEvents;
pub use items::{Item, NodeStat, NumaEvent, VmEvent, ZoneStat};

/// A value for each [`ZoneStat`].
pub type ZoneValues = [u64; ZoneStat::COUNT];
/// A value for each [`NodeStat`].
pub type NodeValues = [u64; NodeStat::COUNT];
/// A value for each [`VmEvent`].
pub type VmEventValues = [u64; VmEvent::COUNT];
