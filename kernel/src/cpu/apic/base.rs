//! The MSR that says whether and how a CPU's local APIC is reached, and what CPUID says of it.

use mm::acpi::ApicMode;
use x86_64::registers::model_specific::Msr;

const MSR_APIC_BASE: u32 = 0x1b;

/// How the local APIC of a CPU is used: a register that firmware has set before us.
#[derive(Clone, Copy, Debug)]
pub struct ApicState(u64);

impl ApicState {
    const ENABLED: u64 = 1 << 11;
    const X2APIC: u64 = 1 << 10;

    /// That of this CPU; `None` when it is off.
    pub fn read() -> Option<Self> {
        // SAFETY: every CPU in long mode has a local APIC and this register.
        let state = Self(unsafe { Msr::new(MSR_APIC_BASE).read() });
        (state.0 & Self::ENABLED != 0).then_some(state)
    }

    /// Which ids can be addressed.
    pub fn mode(self) -> ApicMode {
        if self.0 & Self::X2APIC != 0 { ApicMode::X2Apic } else { ApicMode::XApic }
    }

    /// Where the registers are in physical memory; of no use with x2APIC.
    pub fn address(self) -> u64 {
        const ADDRESS: u64 = ((1 << 52) - 1) & !0xfff;
        self.0 & ADDRESS
    }
}

/// Which APIC ids can be addressed: x2APIC is used where the CPU has it.
pub fn apic_mode() -> ApicMode {
    let left = ApicState::read().map_or(ApicMode::XApic, ApicState::mode);
    if has_x2apic() { ApicMode::X2Apic } else { left }
}

/// Whether the CPU has x2APIC.
pub fn has_x2apic() -> bool {
    raw_cpuid::CpuId::new().get_feature_info().is_some_and(|f| f.has_x2apic())
}

/// Switches this CPU's local APIC to x2APIC, on or off as it was. There is no way back but a reset.
pub fn enable_x2apic() {
    let mut register = Msr::new(MSR_APIC_BASE);
    // SAFETY: the CPU has x2APIC, says the caller's `has_x2apic`; from off the way leads through xAPIC.
    unsafe {
        let base = register.read() | ApicState::ENABLED;
        register.write(base);
        register.write(base | ApicState::X2APIC);
    }
}

/// The physical address of the local APIC's registers; `None` when it is off or not reached through memory.
pub fn local_apic_address() -> Option<u64> {
    ApicState::read().filter(|state| state.mode() == ApicMode::XApic).map(ApicState::address)
}

/// The APIC id of the CPU that runs this.
pub fn apic_id() -> u32 {
    let cpuid = raw_cpuid::CpuId::new();
    let extended = cpuid.get_extended_topology_info().and_then(|mut levels| levels.next());
    let basic = || cpuid.get_feature_info().map_or(0, |f| u32::from(f.initial_local_apic_id()));
    extended.map_or_else(basic, |level| level.x2apic_id())
}
