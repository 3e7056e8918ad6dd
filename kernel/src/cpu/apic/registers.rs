//! The registers of a local APIC and what is written to them. Pure: nothing is accessed here.
//!
//! ```text
//! register n     xAPIC: at 16 n bytes      x2APIC: MSR 0x800 + n
//!
//! LVT entry      16 masked | 10..8 delivery | 7..0 vector         timer: 18..17 one-shot, periodic
//! Interrupt      63..32 destination (xAPIC: 63..56) | 15 level | 14 assert | 12 pending | 10..8 delivery | 7..0 vector
//! ```

use mm::acpi::ApicMode;
use x86_64::registers::model_specific::Msr;

/// A register, as far as it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "registers by their names")]
pub enum Register {
    Id,
    Version,
    TaskPriority,
    EndOfInterrupt,
    Spurious,
    /// One of eight: bit n of word w is vector 32 w + n.
    InService(u8),
    ErrorStatus,
    /// Through x2APIC, both halves.
    InterruptCommand,
    /// Only through xAPIC.
    InterruptCommandHigh,
    LvtTimer,
    LvtPerformance,
    LvtLint0,
    LvtLint1,
    LvtError,
    TimerInitialCount,
    TimerCurrentCount,
    TimerDivide,
}

impl Register {
    const fn number(self) -> u8 {
        match self {
            Self::Id => 0x02,
            Self::Version => 0x03,
            Self::TaskPriority => 0x08,
            Self::EndOfInterrupt => 0x0b,
            Self::Spurious => 0x0f,
            Self::InService(word) => {
                assert!(word < 8);
                0x10 + word
            }
            Self::ErrorStatus => 0x28,
            Self::InterruptCommand => 0x30,
            Self::InterruptCommandHigh => 0x31,
            Self::LvtTimer => 0x32,
            Self::LvtPerformance => 0x34,
            Self::LvtLint0 => 0x35,
            Self::LvtLint1 => 0x36,
            Self::LvtError => 0x37,
            Self::TimerInitialCount => 0x38,
            Self::TimerCurrentCount => 0x39,
            Self::TimerDivide => 0x3e,
        }
    }

    /// Its place in the page of an xAPIC, in bytes.
    pub const fn offset(self) -> usize {
        self.number() as usize * 16
    }

    /// Its MSR in x2APIC mode.
    pub const fn msr(self) -> Msr {
        const FIRST: u32 = 0x800;
        Msr::new(FIRST + self.number() as u32)
    }
}

const _: () = assert!(Register::TimerDivide.offset() == 0x3e0 && Register::InService(7).offset() == 0x170);

/// The spurious interrupt register: the APIC's main switch, and the vector of interrupts that have vanished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spurious(pub u32);

impl Spurious {
    /// The APIC is on.
    pub const fn enabled(vector: u8) -> Self {
        Self(1 << 8 | vector as u32)
    }
}

/// An entry of the local vector table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lvt(pub u32);

impl Lvt {
    /// Says nothing.
    pub const MASKED: Self = Self(1 << 16);
    /// A non-maskable interrupt.
    pub const NMI: Self = Self((DeliveryMode::Nmi as u32) << 8);

    /// An interrupt of this vector; for a timer, once.
    pub const fn fixed(vector: u8) -> Self {
        Self(vector as u32)
    }

    /// For a timer: again and again.
    pub const fn periodic(self) -> Self {
        Self(self.0 | 1 << 17)
    }
}

/// What arrives at the CPU that is sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DeliveryMode {
    /// The interrupt of the vector.
    Fixed = 0,
    /// A non-maskable interrupt.
    Nmi = 4,
    /// The CPU is reset and waits.
    Init = 5,
    /// The CPU that waits starts, at the page that the vector names.
    StartUp = 6,
}

/// What is sent to a CPU: the value of the interrupt command register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupt(u32);

impl Interrupt {
    const ASSERT: u32 = 1 << 14;
    const LEVEL: u32 = 1 << 15;
    /// In the register, as read through xAPIC: the last one is still on its way.
    pub const PENDING: u32 = 1 << 12;

    /// An interrupt of this vector.
    pub const fn fixed(vector: u8) -> Self {
        Self(Self::ASSERT | vector as u32)
    }

    /// A non-maskable interrupt.
    pub const NMI: Self = Self(Self::ASSERT | (DeliveryMode::Nmi as u32) << 8);
    /// Resets.
    pub const INIT: Self = Self(Self::LEVEL | Self::ASSERT | (DeliveryMode::Init as u32) << 8);
    /// Ends the reset, for old APICs.
    pub const INIT_DEASSERT: Self = Self(Self::LEVEL | (DeliveryMode::Init as u32) << 8);

    /// Starts at this page below 1 MiB, by its number.
    pub const fn start_up(page: u8) -> Self {
        Self((DeliveryMode::StartUp as u32) << 8 | page as u32)
    }

    /// The low half of the register.
    pub const fn low(self) -> u32 {
        self.0
    }

    /// The high half, for a CPU; `None` when this mode cannot send to it.
    pub const fn high(apic_id: u32, mode: ApicMode) -> Option<u32> {
        match mode {
            ApicMode::X2Apic => Some(apic_id),
            ApicMode::XApic if mode.can_address(apic_id) => Some(apic_id << 24),
            ApicMode::XApic => None,
        }
    }
}

const _: () = {
    assert!(Interrupt::fixed(0xfd).low() == 0x40fd && Interrupt::NMI.low() == 0x4400);
    assert!(Interrupt::INIT.low() == 0xc500 && Interrupt::INIT_DEASSERT.low() == 0x8500);
    assert!(Interrupt::start_up(0x9e).low() == 0x69e);
    assert!(matches!(Interrupt::high(3, ApicMode::XApic), Some(0x300_0000)));
    assert!(Interrupt::high(255, ApicMode::XApic).is_none(), "all of them");
    assert!(matches!(Interrupt::high(0x1234, ApicMode::X2Apic), Some(0x1234)));
};
