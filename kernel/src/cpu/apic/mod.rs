//! The local APIC of the CPU that runs: the interrupts that a CPU gives itself and others.
//!
//! ```text
//! xAPIC     registers in memory, 16 bytes apart, one page for all CPUs   ids of 8 bits    (fixmap)
//! x2APIC    the same registers as MSRs from 0x800 on                     ids of 32 bits
//!
//! init_boot_cpu: which of both -> init_this_cpu, on each CPU: on, errors reported, all sources masked
//!                                 ipi: to other CPUs        timer: to itself
//! ```
//!
//! # Invariants
//! - A1: `MODE` is set once, before there is another CPU, and [`LocalApic`] exists only afterwards; with xAPIC the fixmap's
//!   page is mapped from then on.
//! - A2: a CPU touches its own APIC only, which is what the registers lead to.
//!
//! # Locking
//! None. The register pair that sends an interrupt through xAPIC is written with interrupts off.
//!
//! # Not here
//! Which vectors there are and what they do: [`trap`](crate::trap). Where a CPU's id comes from: `memory::topology`.

mod base;
pub mod ipi;
mod registers;
pub mod timer;

use mm::PhysAddr;
use mm::acpi::ApicMode;
use mm::pgtable::{CacheMode, Prot};
use spin::Once;

pub use base::{ApicState, apic_id, apic_mode, enable_x2apic, has_x2apic, local_apic_address};
pub use registers::{DeliveryMode, Interrupt, Lvt, Register, Spurious};

use crate::memory::fixmap::Slot;

/// What a CPU does not take in: nothing but the vectors of exceptions, which no APIC may send (Linux: the same).
const TASK_PRIORITY: u32 = 0x10;
/// Interrupts that can be in service at a time, one for each priority class and some to spare.
const MAX_IN_SERVICE: usize = 512;

/// How the APICs are reached (A1).
static MODE: Once<ApicMode> = Once::new();

/// The local APIC of the CPU that runs this.
#[derive(Clone, Copy, Debug)]
pub struct LocalApic {
    mode: ApicMode,
}

impl LocalApic {
    /// The APIC of this CPU; `None` before [`init_boot_cpu`] and on machines whose firmware has turned it off. Any context.
    #[inline]
    pub fn get() -> Option<Self> {
        MODE.get().map(|&mode| Self { mode })
    }

    /// How it is reached.
    pub fn mode(self) -> ApicMode {
        self.mode
    }

    /// Reads a register.
    #[inline]
    pub fn read(self, register: Register) -> u32 {
        match self.mode {
            // SAFETY: A1; a register of our own (A2), which exists.
            ApicMode::XApic => unsafe { register_at(register).read_volatile() },
            // SAFETY: x2APIC is on, so the MSR exists.
            ApicMode::X2Apic => unsafe { register.msr().read() as u32 },
        }
    }

    /// Writes a register. What that does to this CPU is its owner's business: the modules below here.
    #[inline]
    fn write(self, register: Register, value: u32) {
        match self.mode {
            // SAFETY: A1; a register of our own (A2), which exists.
            ApicMode::XApic => unsafe { register_at(register).write_volatile(value) },
            // SAFETY: x2APIC is on, so the MSR exists.
            ApicMode::X2Apic => unsafe { register.msr().write(value.into()) },
        }
    }

    /// The id by which this CPU is sent to.
    pub fn id(self) -> u32 {
        let id = self.read(Register::Id);
        match self.mode {
            ApicMode::XApic => id >> 24,
            ApicMode::X2Apic => id,
        }
    }

    /// Ends the interrupt of the highest priority that is in service (Linux: `apic_eoi`).
    #[inline]
    pub fn end_of_interrupt(self) {
        self.write(Register::EndOfInterrupt, 0);
    }

    /// Whether an interrupt of this vector has been delivered and not been ended.
    pub fn in_service(self, vector: u8) -> bool {
        self.read(Register::InService(vector / 32)) & 1 << (vector % 32) != 0
    }

    /// What went wrong since it was asked last: bits as in the error status register (Linux: `sysvec_error_interrupt`).
    pub fn take_errors(self) -> u32 {
        // A write latches what has been found.
        self.write(Register::ErrorStatus, 0);
        self.read(Register::ErrorStatus)
    }

    /// Turns it on, with nothing that interrupts by itself but errors (Linux: `setup_local_APIC`).
    fn set_up(self, nmi: NmiLine) {
        self.write(Register::TaskPriority, TASK_PRIORITY);
        self.write(Register::Spurious, Spurious::enabled(crate::trap::vector::SPURIOUS).0);
        self.end_what_is_in_service();
        self.write(Register::LvtTimer, Lvt::MASKED.0);
        self.write(Register::LvtLint0, Lvt::MASKED.0);
        self.write(Register::LvtLint1, nmi.entry().0);
        if self.read(Register::Version) >> 16 & 0xff >= 4 {
            self.write(Register::LvtPerformance, Lvt::MASKED.0);
        }
        self.take_errors();
        self.write(Register::LvtError, Lvt::fixed(crate::trap::vector::ERROR).0);
        self.take_errors();
    }

    /// What the firmware, or a kernel before us, has left in service would keep what is less urgent out for good.
    fn end_what_is_in_service(self) {
        for _ in 0..MAX_IN_SERVICE {
            if (0..8).all(|word| self.read(Register::InService(word)) == 0) {
                return;
            }
            self.end_of_interrupt();
        }
        log::warn!("APIC: interrupts of the firmware stay in service");
    }
}

/// What the line does on which the board signals NMIs: only the boot CPU listens (Linux: `apic_extnmi=bsp`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NmiLine {
    Listen,
    Ignore,
}

impl NmiLine {
    const fn entry(self) -> Lvt {
        match self {
            Self::Listen => Lvt::NMI,
            Self::Ignore => Lvt(Lvt::NMI.0 | Lvt::MASKED.0),
        }
    }
}

fn register_at(register: Register) -> *mut u32 {
    Slot::LocalApic.as_ptr().as_ptr().wrapping_add(register.offset()).cast()
}

/// Decides how the APICs are reached, and turns the boot CPU's on: x2APIC where the CPU has it. Only once the fixmap works;
/// with interrupts off.
///
/// # Safety
/// Once, on the boot CPU, before there is another CPU.
pub unsafe fn init_boot_cpu() {
    let Some(state) = ApicState::read() else {
        log::warn!("APIC: disabled by the firmware: no timer, and no CPUs but this one");
        return;
    };
    let mode = if has_x2apic() { ApicMode::X2Apic } else { state.mode() };
    match mode {
        ApicMode::X2Apic => {
            enable_x2apic();
            log::info!("x2apic enabled");
        }
        // SAFETY: the slot is nobody else's; the page is where this CPU's registers are, whatever else is there.
        ApicMode::XApic => unsafe {
            Slot::LocalApic.set(
                PhysAddr::new_truncate(state.address()),
                Prot::KERNEL_RW.with_cache(CacheMode::Uncached),
            );
        },
    }
    MODE.call_once(|| mode);
    if let Some(apic) = LocalApic::get() {
        apic.set_up(NmiLine::Listen);
        timer::calibrate(apic);
    }
}

/// Turns the APIC of this CPU on, which is not the boot CPU. With interrupts off.
pub fn init_this_cpu() {
    let Some(apic) = LocalApic::get() else { return };
    if apic.mode == ApicMode::X2Apic {
        enable_x2apic();
    }
    apic.set_up(NmiLine::Ignore);
}
