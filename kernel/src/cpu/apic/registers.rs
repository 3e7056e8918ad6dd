//! The registers of a local APIC and what is written to them. Pure: nothing is accessed here.
//!
//! ```text
//! register n     xAPIC: at 16 n bytes      x2APIC: MSR 0x800 + n
//!
//! LVT entry      16 masked | 10..8 delivery | 7..0 vector         timer: 18..17 one-shot, periodic
//! Interrupt      63..32 destination (xAPIC: 63..56) | 15 level | 14 assert | 12 pending | 10..8 delivery | 7..0 vector
//!                (xAPIC: the halves are two registers)
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

    /// The number of its MSR in x2APIC mode; none where there is none, and access to the number would fault.
    const fn msr_number(self) -> Option<u32> {
        const FIRST: u32 = 0x800;
        match self {
            Self::InterruptCommandHigh => None,
            _ => Some(FIRST + self.number() as u32),
        }
    }

    /// Its MSR in x2APIC mode, in which the caller does not use what only xAPIC has.
    pub const fn msr(self) -> Msr {
        match self.msr_number() {
            Some(number) => Msr::new(number),
            None => panic!("the register is xAPIC's only"),
        }
    }
}

/// The specification's table, of the registers that are used: place in the page, and MSR. No machine of the tests has an
/// x2APIC, so that a wrong number would be found on a real one only.
const _: () = {
    const TABLE: [(Register, usize, u32); 24] = [
        (Register::Id, 0x020, 0x802),
        (Register::Version, 0x030, 0x803),
        (Register::TaskPriority, 0x080, 0x808),
        (Register::EndOfInterrupt, 0x0b0, 0x80b),
        (Register::Spurious, 0x0f0, 0x80f),
        (Register::InService(0), 0x100, 0x810),
        (Register::InService(1), 0x110, 0x811),
        (Register::InService(2), 0x120, 0x812),
        (Register::InService(3), 0x130, 0x813),
        (Register::InService(4), 0x140, 0x814),
        (Register::InService(5), 0x150, 0x815),
        (Register::InService(6), 0x160, 0x816),
        (Register::InService(7), 0x170, 0x817),
        (Register::ErrorStatus, 0x280, 0x828),
        (Register::InterruptCommand, 0x300, 0x830),
        (Register::InterruptCommandHigh, 0x310, 0),
        (Register::LvtTimer, 0x320, 0x832),
        (Register::LvtPerformance, 0x340, 0x834),
        (Register::LvtLint0, 0x350, 0x835),
        (Register::LvtLint1, 0x360, 0x836),
        (Register::LvtError, 0x370, 0x837),
        (Register::TimerInitialCount, 0x380, 0x838),
        (Register::TimerCurrentCount, 0x390, 0x839),
        (Register::TimerDivide, 0x3e0, 0x83e),
    ];
    let mut i = 0;
    while i < TABLE.len() {
        let (register, offset, msr) = TABLE[i];
        assert!(register.offset() == offset);
        assert!(match register.msr_number() {
            Some(number) => number == msr,
            None => msr == 0,
        });
        i += 1;
    }
};

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

    /// What is written to the register of an x2APIC to send it: one word, with all 32 bits of the id.
    pub const fn x2apic(self, apic_id: u32) -> u64 {
        (apic_id as u64) << 32 | self.0 as u64
    }

    /// What is written to the two registers of an xAPIC to send it, the high one first; `None` when the id does not fit into
    /// the 8 bits. All are physical: logical destinations are not used.
    pub const fn xapic(self, apic_id: u32) -> Option<[u32; 2]> {
        match ApicMode::XApic.can_address(apic_id) {
            true => Some([apic_id << 24, self.0]),
            false => None,
        }
    }
}

const _: () = {
    // The specification's values; bit 11 would make the destination a logical one, bits 18 and 19 a shorthand.
    assert!(Interrupt::fixed(0xfd).0 == 0x40fd && Interrupt::NMI.0 == 0x4400);
    assert!(Interrupt::INIT.0 == 0xc500 && Interrupt::INIT_DEASSERT.0 == 0x8500);
    assert!(Interrupt::start_up(0x9e).0 == 0x69e);
    assert!(matches!(Interrupt::fixed(0xfb).xapic(3), Some([0x300_0000, 0x40fb])));
    assert!(matches!(Interrupt::INIT.xapic(254), Some([0xfe00_0000, 0xc500])));
    assert!(Interrupt::NMI.xapic(255).is_none(), "all of them");
    assert!(Interrupt::NMI.xapic(256).is_none() && Interrupt::NMI.xapic(u32::MAX).is_none());
    assert!(Interrupt::fixed(0xfb).x2apic(3) == 0x3_0000_40fb);
    assert!(Interrupt::NMI.x2apic(255) == 0xff_0000_4400 && Interrupt::NMI.x2apic(256) == 0x100_0000_4400);
    assert!(Interrupt::start_up(0x9e).x2apic(0x1234_5678) == 0x1234_5678_0000_069e);
    assert!(Interrupt::INIT.x2apic(0xffff_fffe) == 0xffff_fffe_0000_c500);
};
