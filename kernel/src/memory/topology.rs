//! Which CPUs and nodes there are, from ACPI's tables.

use mm::memblock::{Memblock, OnNode};
use mm::numa::{self, Madt, Numa};

use super::{Error, early};
use crate::cpu::paging;
use crate::firmware::acpi;

/// APIC ids of the CPUs that run: the boot CPU. Those that the firmware lists besides it are counted, not started.
pub(super) fn cpus(
    tables: Option<&acpi::Tables>,
    memblock: &mut Memblock<'static>,
) -> Result<&'static [u32], Error> {
    let madt = tables.and_then(|t| t.find(b"APIC")).and_then(|bytes| match Madt::new(bytes) {
        Ok(madt) => Some(madt),
        Err(error) => {
            log::error!("ACPI: MADT is broken: {error:?}");
            None
        }
    });
    let boot_id = paging::apic_id();
    let listed = madt.and_then(|madt| madt.enabled(boot_id, paging::apic_mode(), memblock));
    let nr_listed = listed.map_or(1, |ids| ids.len().max(1));
    log::info!("smpboot: {nr_listed} CPUs listed; running on the boot CPU only");
    match listed.and_then(|ids| ids.get(..1)) {
        Some(ids) => Ok(ids),
        None => Ok(memblock.alloc_slice(1, boot_id, OnNode::Any)?),
    }
}

/// The nodes that ACPI's SRAT and SLIT describe, or one node (Linux: `initmem_init`).
pub(super) fn numa(
    tables: Option<&acpi::Tables>,
    cpus: &[u32],
    mode: numa::Mode,
    memblock: &mut Memblock<'static>,
    firmware: &early::FirmwareMap,
) -> Result<Numa<'static>, Error> {
    let found = numa::Tables {
        srat: tables.and_then(|t| t.find(b"SRAT")),
        slit: tables.and_then(|t| t.find(b"SLIT")),
        apic_mode: paging::apic_mode(),
    };
    let max_pfn = firmware.map.usable().map(|r| mm::Pfn::down(r.end())).max().ok_or(Error::NoUsableMemory)?;
    Ok(Numa::init(&found, mode, cpus, memblock, max_pfn)?)
}
