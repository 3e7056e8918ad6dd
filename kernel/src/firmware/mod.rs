//! What the firmware and the boot loader hand over.

pub mod acpi;
pub mod boot;
pub mod fw_cfg;
pub mod pci;
pub mod translate;
