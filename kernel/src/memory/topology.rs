//! Which CPUs and nodes there are, from ACPI's tables.

use mm::PhysRange;
use mm::acpi::{CpuLimits, MAX_CPUS, PossibleCpus};
use mm::memblock::{self, Memblock};
use mm::numa::{self, Madt, Numa};

use super::{Error, early};
use crate::cpu::{apic, trampoline};
use crate::firmware::{acpi, boot::Boot};
use crate::image;

/// The CPUs that the firmware lists, as far as `limits` allows.
pub(super) fn cpus(
    tables: Option<&acpi::Tables>,
    limits: CpuLimits,
    memblock: &mut Memblock<'static>,
) -> Result<PossibleCpus<'static>, Error> {
    let madt = tables.and_then(|t| t.find(b"APIC")).and_then(|bytes| match Madt::new(bytes) {
        Ok(madt) => Some(madt),
        Err(error) => {
            log::error!("ACPI: MADT is broken: {error:?}");
            None
        }
    });
    let boot_id = apic::apic_id();
    let cpus = match madt {
        Some(madt) => madt.possible(boot_id, apic::apic_mode(), limits, memblock),
        None => PossibleCpus::only(boot_id, memblock),
    };
    let cpus = cpus.ok_or(memblock::Error::NoMemory)?;
    log::info!("smpboot: Allowing {} CPUs, {} hotplug CPUs", cpus.nr(), cpus.nr_absent());
    Ok(cpus)
}

/// Takes a page for the code that other CPUs start with: RAM below 1 MiB, where nothing is that stays.
pub(super) fn trampoline(firmware: &early::FirmwareMap, boot: &Boot) {
    let symbols = boot.ramdisk_phys();
    let taken = |page: PhysRange| image::frames().chain(symbols).any(|range| range.overlaps(page));
    trampoline::choose_page(firmware.map.usable(), taken);
}

/// The nodes that ACPI's SRAT and SLIT describe, or one node (Linux: `initmem_init`).
pub(super) fn numa(
    tables: Option<&acpi::Tables>,
    cpus: PossibleCpus<'_>,
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
    let numa = Numa::init(&found, options, cpus.apic_ids, memblock, max_pfn)?;
    log::info!(
        "setup_percpu: NR_CPUS:{MAX_CPUS} nr_cpumask_bits:{0} nr_cpu_ids:{0} nr_node_ids:{1}",
        cpus.nr(),
        numa.nr_node_ids()
    );
    Ok(numa)
}
