//! The memory subsystem on this machine.

pub mod fault;

use mm::cmdline::Cmdline;

use crate::firmware::{acpi::Tables, boot::Boot};

/// The kernel's memory subsystem.
#[derive(Debug)]
pub struct Memory;

/// Brings the memory subsystem up from the firmware's map.
pub fn init(boot: &Boot, _cmdline: &Cmdline<'static>, _acpi: Option<&Tables>) -> Memory {
    for entry in boot.firmware_map() {
        log::info!(
            "firmware: [mem {:#018x}-{:#018x}] type {}",
            entry.start,
            entry.start + entry.size - 1,
            entry.kind
        );
    }
    for range in boot.loader_ranges() {
        log::info!("loader: [mem {:#018x}-{:#018x}]", range.start.as_u64(), range.end.as_u64() - 1);
    }
    log::info!("ramdisk: {:x?}, framebuffer: {:x?}", boot.ramdisk_phys(), boot.framebuffer_phys());
    log::info!("kernel: {} pages at {:x?}", boot.kernel_pages().count(), crate::image::all());
    Memory
}
