//! What ACPI's tables say: readers of bytes that nothing vouches for.
//!
//! ```text
//! bytes -> Table -> Madt, Hpet, Mcfg, Fadt ...      fixed fields, lists of entries
//!            └─ DSDT, SSDT -> aml -> Namespace      devices with their static data; methods are not run
//!                                        └─ resources    `_CRS`: which addresses a device decodes
//! ```
//!
//! # Invariants
//! - I1: no input panics, loops or nests without bound; work is linear in the size of the tables, but for sorting the
//!   devices' names and for comparing each CPU with those before it.
//!
//! # Not here
//! Finding the tables in memory (the kernel does). SRAT and SLIT: [`crate::numa`].

pub mod aml;
mod fixed;
pub mod madt;
pub mod namespace;
mod possible;
pub mod resources;
pub mod table;
#[cfg(test)]
mod tests;

pub use fixed::{Fadt, Hpet, Mcfg, McfgRegion};
pub use madt::{ApicMode, IoApic, Madt};
pub use namespace::{Device, DeviceId, Namespace};
pub use possible::{CpuLimits, MAX_CPUS, NO_APIC, PossibleCpus};
pub use table::{Table, TableError};
