//! The registers that paging rests on: CR3 and the page attribute table.

use mm::Pfn;
use mm::numa::madt::ApicMode;
use mm::pgtable::PAT;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::registers::model_specific::Msr;
use x86_64::structures::paging::PhysFrame;

const MSR_PAT: u32 = 0x277;
const MSR_APIC_BASE: u32 = 0x1b;
const APIC_BASE_X2APIC: u64 = 1 << 10;

/// Programs the page attribute table of this CPU. The first entry stays write-back, which is all that is mapped so far.
pub fn init_pat() {
    // SAFETY: the CPU has the register: `features` requires it.
    unsafe { Msr::new(MSR_PAT).write(PAT) };
}

/// How the firmware left the interrupt controllers: which APIC ids can be addressed.
pub fn apic_mode() -> ApicMode {
    // SAFETY: every CPU in long mode has a local APIC and this register.
    let base = unsafe { Msr::new(MSR_APIC_BASE).read() };
    if base & APIC_BASE_X2APIC != 0 { ApicMode::X2Apic } else { ApicMode::XApic }
}

/// The physical address of the local APIC's registers; `None` when it is off or not reached through memory.
pub fn local_apic_address() -> Option<u64> {
    const ENABLED: u64 = 1 << 11;
    const ADDRESS: u64 = ((1 << 52) - 1) & !0xfff;
    // SAFETY: every CPU in long mode has a local APIC and this register.
    let base = unsafe { Msr::new(MSR_APIC_BASE).read() };
    (base & (ENABLED | APIC_BASE_X2APIC) == ENABLED).then_some(base & ADDRESS)
}

/// The APIC id of the CPU that runs this.
pub fn apic_id() -> u32 {
    let cpuid = raw_cpuid::CpuId::new();
    let extended = cpuid.get_extended_topology_info().and_then(|mut levels| levels.next());
    let basic = || cpuid.get_feature_info().map_or(0, |f| u32::from(f.initial_local_apic_id()));
    extended.map_or_else(basic, |level| level.x2apic_id())
}

/// Uses other page tables from now on; all but global translations leave the TLB.
///
/// # Safety
/// They map what is used from now on: code, stack, data.
pub unsafe fn set_root(root: Pfn) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root.byte()));
    // SAFETY: the caller's promise.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}
