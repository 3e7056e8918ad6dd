//! The chipset's devices that boot maps: I/O APICs in the fixmap, where the firmware's MADT lists them, and the HPET.
//!
//! They are found and logged, as Linux does; nothing is driven yet.

use core::ops::Range;
use core::sync::atomic::{AtomicU8, Ordering};

use mm::PhysAddr;
use mm::acpi::{Hpet, IoApic, Madt};
use mm::addr::PhysRange;
use mm::memblock::Memblock;
use mm::pgtable::{CacheMode, Prot};
use spin::Once;

use super::firmware_memory::FirmwareMemory;
use super::fixmap::{MAX_IO_APICS, Slot};
use super::mmio::Mmio;
use super::{Memory, ioremap};
use crate::firmware::acpi;

/// How many I/O APICs are mapped.
static NR_IO_APICS: AtomicU8 = AtomicU8::new(0);
/// Where the HPET is.
static HPET: Once<PhysAddr> = Once::new();

/// Bytes of the HPET's registers.
pub const HPET_BYTES: u64 = 1024;

/// Maps the I/O APICs and looks for the HPET. The kernel's own page tables are in use.
pub(super) fn init(tables: &acpi::Tables, memblock: &Memblock<'_>) {
    if let Some(table) = tables.get(b"APIC", &FirmwareMemory) {
        match Madt::new(&table) {
            Ok(madt) => madt.io_apics().for_each(|found| map_io_apic(found, memblock)),
            Err(error) => log::error!("ACPI: MADT is broken: {error:?}"),
        }
    }
    if let Some(table) = tables.get(b"HPET", &FirmwareMemory) {
        match Hpet::new(&table) {
            Ok(hpet) => hpet.into_iter().for_each(found_hpet),
            Err(error) => log::error!("ACPI: HPET is broken: {error:?}"),
        }
    }
}

/// (Linux: `mp_register_ioapic`.)
fn map_io_apic(found: IoApic, memblock: &Memblock<'_>) {
    let IoApic { id, address, first_interrupt: gsi } = found;
    let index = NR_IO_APICS.load(Ordering::Relaxed);
    if usize::from(index) >= MAX_IO_APICS {
        log::warn!("WARNING: Max # of I/O APICs ({MAX_IO_APICS}) exceeded (found {index}), skipping");
        return;
    }
    if !address.is_multiple_of(mm::PAGE_SIZE as u32) {
        log::warn!("WARNING: Bogus I/O APIC address {address:#x} found in table, skipping!");
        return;
    }
    // The first access is a write.
    let page = PhysRange::from_size(address.into(), mm::PAGE_SIZE as u64);
    if page.is_none_or(|page| memblock.overlaps_memory(page)) {
        log::warn!("WARNING: I/O APIC address {address:#x} is RAM, skipping!");
        return;
    }
    let slot = Slot::IoApic(index);
    let prot = Prot::KERNEL_RW.with_cache(CacheMode::Uncached);
    // SAFETY: the slot is new, the page no RAM; reading an I/O APIC's version has no effect.
    unsafe { slot.set(PhysAddr::new(address.into()), prot) };
    let Some(version) = io_apic_version(slot_registers(slot)).filter(|&version| version != u32::MAX) else {
        log::warn!("I/O APIC {address:#x} registers return all ones, skipping!");
        // SAFETY: nobody else knows the slot.
        unsafe { slot.clear() };
        return;
    };
    NR_IO_APICS.store(index + 1, Ordering::Relaxed);
    let last = gsi.saturating_add(version >> 16 & 0xff);
    log::info!(
        "IOAPIC[{index}]: apic_id {id}, version {}, address {address:#x}, GSI {gsi}-{last}",
        version & 0xff
    );
}

/// (Linux: `acpi_parse_hpet`.)
fn found_hpet(hpet: Hpet) {
    let start = hpet.range.start();
    log::info!("ACPI: HPET id: {:#x} base: {start:#x}", hpet.id);
    HPET.call_once(|| PhysAddr::new(start));
}

fn slot_registers(slot: Slot) -> Mmio<'static> {
    // SAFETY: the slot of an I/O APIC that is mapped stays so.
    unsafe { Mmio::new(slot.as_ptr(), mm::PAGE_SIZE) }
}

/// The registers of an I/O APIC, by its place in the firmware's list.
pub fn io_apic(index: u8) -> Option<Mmio<'static>> {
    (index < NR_IO_APICS.load(Ordering::Relaxed)).then(|| slot_registers(Slot::IoApic(index)))
}

/// The version register of an I/O APIC, read through its window.
pub fn io_apic_version(registers: Mmio<'_>) -> Option<u32> {
    const SELECT: usize = 0x00;
    const WINDOW: usize = 0x10;
    const VERSION: u32 = 1;
    registers.register::<u32>(SELECT)?.write(VERSION);
    Some(registers.register::<u32>(WINDOW)?.read())
}

/// Where the HPET's registers are, if there is one.
pub fn hpet() -> Option<PhysAddr> {
    HPET.get().copied()
}

/// What the HPET's registers say of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HpetCapabilities(u64);

impl HpetCapabilities {
    /// Reads them; `None` when the range is too short or nothing answers there.
    pub fn read(registers: Mmio<'_>) -> Option<Self> {
        let value = registers.register::<u64>(0)?.read();
        let this = Self(value);
        // The counter has to tick at least each 100 ns, says the specification.
        const PERIODS_FS: Range<u64> = 100_000..100_000_001;
        PERIODS_FS.contains(&this.period_fs()).then_some(this)
    }

    /// The time between two ticks, in 10^-15 s.
    pub fn period_fs(self) -> u64 {
        self.0 >> 32
    }

    /// How many comparators there are.
    pub fn nr_comparators(self) -> u64 {
        (self.0 >> 8 & 0x1f) + 1
    }

    /// Bits of the counter: 32 or 64.
    pub fn counter_bits(self) -> u32 {
        if self.0 & 1 << 13 != 0 { 64 } else { 32 }
    }
}

/// Maps the HPET and says what it can do (Linux: `hpet_alloc`).
pub(super) fn log_hpet(memory: &'static Memory) {
    let Some(address) = hpet() else { return };
    let mapping = match ioremap::ioremap(memory, address, HPET_BYTES) {
        Ok(mapping) => mapping,
        Err(error) => return log::warn!("hpet0: cannot be mapped: {error}"),
    };
    match HpetCapabilities::read(mapping.registers()) {
        Some(capabilities) => {
            let hz = 1_000_000_000_000_000 / capabilities.period_fs();
            log::info!(
                "hpet0: {} comparators, {}-bit {}.{:06} MHz counter",
                capabilities.nr_comparators(),
                capabilities.counter_bits(),
                hz / 1_000_000,
                hz % 1_000_000
            );
        }
        None => log::warn!("hpet0: no HPET at {:#x}", address.as_u64()),
    }
}
