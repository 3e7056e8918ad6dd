//! Which CPUs and nodes there are, from ACPI's tables.

use mm::memblock::{Memblock, OnNode};
use mm::numa::{self, Madt, Numa};

use super::{Error, early};
use crate::cpu::apic;
use crate::firmware::acpi;

/// The CPUs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpus {
    /// APIC ids of all that could run, the boot CPU's first.
    pub(super) possible: &'static [u32],
    /// How many run, from the first on: the boot CPU. Only these have per-CPU data.
    pub(super) online: u32,
}

/// The CPUs that the firmware lists.
pub(super) fn cpus(tables: Option<&acpi::Tables>, memblock: &mut Memblock<'static>) -> Result<Cpus, Error> {
    let madt = tables.and_then(|t| t.find(b"APIC")).and_then(|bytes| match Madt::new(bytes) {
        Ok(madt) => Some(madt),
        Err(error) => {
            log::error!("ACPI: MADT is broken: {error:?}");
            None
        }
    });
    let boot_id = apic::apic_id();
    let listed = madt.and_then(|madt| madt.enabled(boot_id, apic::apic_mode(), memblock));
    let possible = match listed {
        Some(ids) => ids,
        None => memblock.alloc_slice(1, boot_id, OnNode::Any)?,
    };
    log::info!("smpboot: {} CPUs listed; running on the boot CPU only", possible.len());
    Ok(Cpus { possible, online: 1 })
}

/// The nodes that ACPI's SRAT and SLIT describe, or one node (Linux: `initmem_init`).
pub(super) fn numa(
    tables: Option<&acpi::Tables>,
    cpus: Cpus,
    options: numa::Options<'_>,
    memblock: &mut Memblock<'static>,
    firmware: &early::FirmwareMap,
) -> Result<Numa<'static>, Error> {
    let found = numa::Tables {
        srat: tables.and_then(|t| t.find(b"SRAT")),
        slit: tables.and_then(|t| t.find(b"SLIT")),
        apic_mode: apic::apic_mode(),
    };
    let max_pfn = firmware.map.usable().map(|r| mm::Pfn::down(r.end())).max().ok_or(Error::NoUsableMemory)?;
    let max_pfn = max_pfn.min(mm::e820::MAX_ARCH_PFN);
    Ok(Numa::init(&found, options, cpus.possible, memblock, max_pfn)?)
}
