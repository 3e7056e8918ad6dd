//! What the memory subsystem counts, and the counters themselves: a leaf that zones, nodes and allocators embed.
//!
//! ```text
//! items    what is counted, in Linux's order and by its names
//! cells    a counter each: atomics, cheap for one writer
//! split    counters of which each CPU has a part
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
mod numa;
#[allow(unsafe_code, reason = "reaches per-CPU parts")]
mod split;

pub use cells::{Counters, Events, VmEvents};
pub use cpu_events::CpuEvents;
pub use items::{Item, NodeStat, NumaEvent, VmEvent, ZoneStat};
pub(crate) use numa::NumaBase;
pub use split::{MAX_THRESHOLD, SplitCounters};

/// A zone's counters.
pub type ZoneCounters = SplitCounters<ZoneStat, { ZoneStat::COUNT }>;
/// A node's counters.
pub type NodeCounters = SplitCounters<NodeStat, { NodeStat::COUNT }>;

/// A value for each [`ZoneStat`].
pub type ZoneValues = [u64; ZoneStat::COUNT];
/// A value for each [`NumaEvent`].
pub type NumaValues = [u64; NumaEvent::COUNT];
/// A value for each [`NodeStat`].
pub type NodeValues = [u64; NodeStat::COUNT];
/// A value for each [`VmEvent`].
pub type VmEventValues = [u64; VmEvent::COUNT];
