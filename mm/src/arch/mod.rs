//! The one seam to the machine. Each side defines exactly what is listed here; nothing else in `mm` has a `cfg` on the
//! target.
//!
//! | item | contract |
//! |---|---|
//! | [`Machine`] | `Copy`; where RAM and the vmemmap are mapped. Of size zero on the real machine |
//! | `Machine::phys_to_virt`, `virt_to_phys` | the direct map, both ways; no check |
//! | `Machine::vmemmap` | where the vmemmap starts; `page` finds struct pages in it |
//! | [`cpu_id`] | the CPU that runs this; stable only while an [`IrqGuard`] is held |
//! | [`IrqGuard`] | interrupts are off on this CPU from `new` to its drop; nests: the last one made is dropped first |
//! | [`irqs_enabled`] | whether a handler could run now |
//! | [`may_sleep`] | whether waiting is allowed: interrupts on, preemption on |
//! | [`with_held_locks`] | this CPU's record of the locks it holds, for the lock-order checker |
//! | [`clear_page`], [`copy_page`] | a page's 4096 bytes |
//! | [`flush_tlb_page`], [`flush_tlb_all`], [`flush_tlb_global`] | this CPU's TLB: one address, all but global entries, all |
//! | [`process_name`] | who runs this, for reports |
//! | [`unwinding`] | whether a panic is taking this thread apart, so that what it held is dropped |
//! | [`ticks`] | a clock that only goes forward, in TSC ticks |

#[cfg(target_os = "none")]
#[path = "x86_64.rs"]
mod imp;

#[cfg(not(target_os = "none"))]
#[path = "host.rs"]
mod imp;

#[cfg(test)]
#[cfg_attr(not(debug_assertions), allow(dead_code))]
pub(crate) mod steps;

pub use imp::{
    IrqGuard, Machine, clear_page, copy_page, cpu_id, flush_tlb_all, flush_tlb_global, flush_tlb_page,
    irqs_enabled, may_sleep, process_name, ticks, unwinding, with_held_locks,
};

#[cfg(not(target_os = "none"))]
pub use imp::{SimMachine, run_as_cpu};

/// Size of a struct page (`page` asserts it): what a simulated machine reserves for each frame.
pub const STRUCT_PAGE_BYTES: usize = 64;

/// Where the real machine's parts of the address space are; the simulated one has other places.
pub mod layout {
    /// Start of the direct map of all RAM.
    pub const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
    /// One past the direct map: 64 TiB.
    pub const DIRECT_MAP_END: u64 = 0xffff_c880_0000_0000;
    /// Start of vmalloc and ioremap space.
    pub const VMALLOC: u64 = 0xffff_c900_0000_0000;
    /// One past vmalloc space: 32 TiB.
    pub const VMALLOC_END: u64 = 0xffff_e900_0000_0000;
    /// Start of the vmemmap: `struct Page` by page frame number.
    pub const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
    /// One past the vmemmap: 1 TiB.
    pub const VMEMMAP_END: u64 = 0xffff_eb00_0000_0000;
    /// Start of the pages whose place is fixed when the kernel is compiled.
    pub const FIXMAP: u64 = 0xffff_ffff_ff40_0000;
    /// One past them (Linux: `FIXADDR_TOP`, but for the page of system calls).
    pub const FIXMAP_END: u64 = 0xffff_ffff_ff80_0000;
    /// Start of the kernel image.
    pub const KERNEL_IMAGE: u64 = 0xffff_ffff_8000_0000;
    /// One past user space's last page: 128 TiB less a guard page, Linux's `TASK_SIZE_MAX`.
    pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
}
