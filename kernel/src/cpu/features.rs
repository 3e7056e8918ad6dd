//! What the CPU can do: what the kernel needs is checked, what protects it is switched on.
//!
//! | feature | register | effect |
//! |---|---|---|
//! | NX | EFER.NXE | data cannot be executed; required |
//! | WP | CR0.WP | read-only holds for the kernel too |
//! | PGE | CR4.PGE | kernel mappings outlive a change of address space; required |
//! | SMEP, SMAP | CR4 | the kernel neither executes nor, outside `uaccess`, touches user pages |
//! | UMIP | CR4.UMIP | user space cannot read the descriptor tables' addresses |

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use raw_cpuid::CpuId;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};

/// Whether SMAP is on: then user pages are only accessible between STAC and CLAC. Read by the trap stubs too.
pub static SMAP: AtomicBool = AtomicBool::new(false);

/// What of interest this CPU has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Pages of 1 GiB.
    pub gib_pages: bool,
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// User-mode instruction prevention.
    pub umip: bool,
    /// The TSC runs at one rate whatever the CPU's power state.
    pub invariant_tsc: bool,
    /// Width of physical addresses in bits.
    pub phys_bits: u8,
    /// Width of virtual addresses in bits.
    pub virt_bits: u8,
}

/// Reads what this CPU has, or the names of required features that it lacks.
pub fn detect() -> Result<Features, Missing> {
    let cpuid = CpuId::new();
    let basic = cpuid.get_feature_info();
    let extended = cpuid.get_extended_feature_info();
    let processor = cpuid.get_extended_processor_and_feature_identifiers();
    let sizes = cpuid.get_processor_capacity_feature_info();
    let power = cpuid.get_advanced_power_mgmt_info();

    let required = [
        ("pse", basic.as_ref().is_some_and(|f| f.has_pse())),
        ("tsc", basic.as_ref().is_some_and(|f| f.has_tsc())),
        ("msr", basic.as_ref().is_some_and(|f| f.has_msr())),
        ("cx8", basic.as_ref().is_some_and(|f| f.has_cmpxchg8b())),
        ("pge", basic.as_ref().is_some_and(|f| f.has_pge())),
        ("pat", basic.as_ref().is_some_and(|f| f.has_pat())),
        ("nx", processor.as_ref().is_some_and(|f| f.has_execute_disable())),
    ];
    let mut missing = Missing([""; 7]);
    for (slot, (name, _)) in missing.0.iter_mut().zip(required.into_iter().filter(|(_, there)| !there)) {
        *slot = name;
    }
    if !missing.0[0].is_empty() {
        return Err(missing);
    }
    Ok(Features {
        gib_pages: processor.as_ref().is_some_and(|f| f.has_1gib_pages()),
        smep: extended.as_ref().is_some_and(|f| f.has_smep()),
        smap: extended.as_ref().is_some_and(|f| f.has_smap()),
        umip: extended.as_ref().is_some_and(|f| f.has_umip()),
        invariant_tsc: power.is_some_and(|f| f.has_invariant_tsc()),
        phys_bits: sizes.as_ref().map_or(36, |s| s.physical_address_bits()),
        virt_bits: sizes.as_ref().map_or(48, |s| s.linear_address_bits()),
    })
}

/// Required features that the CPU lacks, by Linux's names.
#[derive(Clone, Copy, Debug)]
pub struct Missing([&'static str; 7]);

impl core::fmt::Display for Missing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, name) in self.0.iter().take_while(|name| !name.is_empty()).enumerate() {
            f.write_str(if i == 0 { "" } else { " " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// Switches the protections on that `features` has, on the CPU that runs this.
pub fn enable(features: &Features) {
    // SAFETY: NX is there (`detect`), and the boot loader's tables do not use the bit otherwise.
    unsafe { Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE)) };
    // SAFETY: the kernel's image is mapped by its segments' rights, and the kernel keeps to them.
    unsafe { Cr0::update(|cr0| cr0.insert(Cr0Flags::WRITE_PROTECT)) };
    let mut wanted = Cr4Flags::PAGE_GLOBAL;
    wanted.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.smep);
    wanted.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.smap);
    wanted.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip);
    // SAFETY: the CPU has them; nothing of the kernel is mapped as user memory.
    unsafe { Cr4::update(|cr4| cr4.insert(wanted)) };
    SMAP.store(features.smap, Relaxed);
}

/// As [`enable`], on a CPU that shall have the same control register as the one whose `cr4` it is.
pub(super) fn enable_as(features: &Features, cr4: u64) {
    // SAFETY: what the boot CPU uses, this one has: they are of one kind.
    unsafe { Cr4::write_raw(cr4) };
    enable(features);
}

/// The CPU's name, from its brand string.
pub fn log_name() {
    let cpuid = CpuId::new();
    let brand = cpuid.get_processor_brand_string();
    let info = cpuid.get_feature_info();
    let (family, model, stepping) =
        info.map_or((0, 0, 0), |f| (f.family_id(), f.model_id(), f.stepping_id()));
    log::info!(
        "smpboot: CPU0: {} (family: {family:#x}, model: {model:#x}, stepping: {stepping:#x})",
        brand.as_ref().map_or("unknown", |b| b.as_str().trim())
    );
}
