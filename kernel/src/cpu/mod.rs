//! CPUs: what each has of its own, how the others are started, and how they talk to each other.
//!
//! ```text
//! percpu tables features paging apic       one CPU: area, descriptor tables, registers, interrupt controller
//! pic                                      the old interrupt controllers, kept silent
//! online                                   which CPUs there are, which run
//! smp trampoline                           how they are started
//! ipi call                                 look here, stop, run this
//! irq                                      whether a handler runs
//! ```

pub mod apic;
pub mod call;
pub mod features;
pub mod ipi;
pub mod irq;
pub mod online;
pub mod paging;
pub mod percpu;
pub mod pic;
pub mod smp;
pub mod tables;
pub mod trampoline;
