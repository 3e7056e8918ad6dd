//! One CPU: its per-CPU area, descriptor tables, features and paging registers, its interrupt controller, and the old ones
//! to be kept silent.

pub mod apic;
pub mod features;
pub mod paging;
pub mod percpu;
pub mod pic;
pub mod tables;
