//! Strata's memory subsystem: memory in layers, from the firmware's memory map up to the page faults of programs.
//!
//! It does what Linux 6.1's `mm/` does, with Linux's terms and formulas, and knows nothing of the kernel around it:
//! what it needs of the machine stands in [`arch`], what it needs of an upper layer is a trait.
//!
//! ```text
//! addr  pfn  order  gfp  id  cmdline        the number types; the command line's form
//! lockdep  arch  sync                      the order of locks, the seam to the machine, locks
//! percpu  smp  counters                     per-CPU data, other CPUs, what is counted
//!   |
//! stackdepot                                backtraces that are remembered
//! acpi  pci  resource                       ACPI's tables, PCI devices, who uses which addresses
//! e820 -> memblock -> numa -> sparse        firmware map, early allocator, nodes, sections and vmemmap
//!                               |
//!                  page  zone  node         struct Page, zones, watermarks, zonelists
//!                               |
//!                  pcp <- buddy <- page_alloc   the page allocator; `init` fills it; `cma` on top
//!                               |
//!                        slub  percpu       kmem_cache, kmalloc; alloc_percpu
//!                               |
//!   vma -> fault -> pgtable                 address spaces
//!                               |
//!                              stat         counters and the text of /proc files
//! ```
#![no_std]

#[cfg(not(target_os = "none"))]
extern crate std;

#[deny(unsafe_code)]
pub mod acpi;
pub mod addr;
pub mod arch;
pub mod areas;
pub mod aspace;
pub mod buddy;
#[deny(unsafe_code)]
pub mod cma;
#[deny(unsafe_code)]
pub mod cmdline;
pub mod counters;
#[deny(unsafe_code)]
pub mod e820;
pub mod fault;
pub mod gfp;
pub mod id;
pub mod init;
pub mod lockdep;
#[deny(unsafe_code)]
pub mod memblock;
#[deny(unsafe_code)]
pub mod memtype;
pub mod node;
#[deny(unsafe_code)]
pub mod numa;
pub mod order;
pub mod page;
pub mod page_alloc;
#[deny(unsafe_code)]
pub mod pci;
pub mod pcp;
pub mod percpu;
pub mod pfn;
pub mod pgtable;
#[deny(unsafe_code)]
pub mod resource;
pub mod slub;
#[deny(unsafe_code)]
pub mod smp;
pub mod sparse;
pub mod stackdepot;
pub mod stat;
pub mod sync;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod testlog;
pub mod vma;
#[deny(unsafe_code)]
pub mod vmalloc;
pub mod zone;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, PhysRange, VirtAddr};
pub use gfp::Gfp;
pub use id::{CpuId, NodeId, SectionNr, ZoneIdx};
pub use order::Order;
pub use page::{Page, PagePtr};

pub use pfn::{Pfn, PfnRange};
