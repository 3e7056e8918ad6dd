//! One CPU: its per-CPU area, descriptor tables, features and paging registers, and the old interrupt controllers to be
//! kept silent.

pub mod features;
pub mod paging;
pub mod percpu;
pub mod pic;
pub mod tables;
