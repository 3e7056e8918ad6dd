//! What the memory subsystem counts, and the text of its `/proc` files.
//!
//! ```text
//! items      what is counted: Linux's order and names
//! counters   the counters, embedded by zones, nodes and the page allocator
//! ```

#![deny(unsafe_code)]

mod counters;
mod items;

pub use counters::{Counters, Events, NodeCounters, NumaEvents, VmEvents, ZoneCounters};
pub use items::{Item, NodeStat, NumaEvent, VmEvent, ZoneStat};
