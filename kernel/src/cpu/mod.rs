//! One CPU: its per-CPU area, descriptor tables and features, and the old interrupt controllers to be kept silent.

pub mod features;
pub mod paging;
pub mod percpu;
pub mod pic;
pub mod tables;
