//! The in-kernel test suites: the kernel with tests in place of its workload.
//!
//! ```text
//! map -> nodes -> buddy, contig -> slabs, percpu -> tables -> faults      the layers, in the order of boot
//! counters                                                what the layers count
//! smoke, apic, cpus, threads, sleeping, printing, ioremap       the machine
//! vmalloc                                                 memory of single pages in a row
//! exhaustion                                              what happens when all is used
//! pagealloc                                               free pages that are not mapped
//! churn                                                   all CPUs at once at threads
//! torture                                                 all CPUs at once at the page allocator
//! planted                                                 failures on purpose
//! ```
#![no_std]
#![no_main]

mod apic;
mod buddy;
mod churn;
mod contig;
mod counters;
mod cpus;
mod exhaustion;
mod faults;
mod ioremap;
mod map;
mod nodes;
mod pagealloc;
mod percpu;
mod planted;
mod printing;
mod slabs;
mod sleeping;
mod smoke;
mod support;
mod tables;
mod threads;
mod torture;
mod vmalloc;

kernel::entry!(kernel::ktest::run);
