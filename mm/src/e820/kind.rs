//! What a range of the firmware's map is good for.

use core::fmt;

/// The type number of an entry. Numbers without a name are kept: what the firmware calls unknown is not memory to us,
/// but the log should say which number it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Kind(u32);

impl Kind {
    /// No kind at all: such an entry says nothing about its range.
    pub const NONE: Self = Self(0);
    /// Memory that is free to use (Linux: `E820_TYPE_RAM`).
    pub const RAM: Self = Self(1);
    /// Neither to be used nor to be handed out to devices.
    pub const RESERVED: Self = Self(2);
    /// ACPI tables; usable once they are read.
    pub const ACPI: Self = Self(3);
    /// Memory of the firmware that must survive.
    pub const NVS: Self = Self(4);
    /// Memory with errors.
    pub const UNUSABLE: Self = Self(5);
    /// Memory that keeps its content without power.
    pub const PMEM: Self = Self(7);
    /// The same, by a number that was used before there was a standard.
    pub const PRAM: Self = Self(12);
    /// Memory set apart for a purpose by EFI.
    pub const SOFT_RESERVED: Self = Self(0xefff_ffff);

    /// The kind with a firmware's number.
    pub const fn from_raw(number: u32) -> Self {
        Self(number)
    }

    /// The kind of an EFI memory type without attributes, as Linux's EFI stub translates the map. What the firmware
    /// needs only until boot is memory; types of a later standard are reserved.
    pub const fn from_efi(memory_type: u32) -> Self {
        match memory_type {
            // Loader and boot services, code and data; conventional memory.
            1..=4 | 7 => Self::RAM,
            8 => Self::UNUSABLE,
            9 => Self::ACPI,
            10 => Self::NVS,
            14 => Self::PMEM,
            // Reserved, runtime services, memory-mapped devices, processor code.
            _ => Self::RESERVED,
        }
    }

    /// The number.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether adjacent entries are kept apart: their bounds may be those of devices or nodes (Linux:
    /// `e820_nomerge`). Those of persistent memory by today's number come from ACPI's NFIT instead.
    pub const fn keeps_bounds(self) -> bool {
        matches!(self, Self::PRAM | Self::SOFT_RESERVED)
    }

    /// The name in `/proc/iomem` (Linux: `e820_type_to_string`).
    pub const fn iomem_name(self) -> &'static str {
        match self {
            Self::RAM => "System RAM",
            Self::RESERVED => "Reserved",
            Self::ACPI => "ACPI Tables",
            Self::NVS => "ACPI Non-volatile Storage",
            Self::UNUSABLE => "Unusable memory",
            Self::PMEM => "Persistent Memory",
            Self::PRAM => "Persistent Memory (legacy)",
            Self::SOFT_RESERVED => "Soft Reserved",
            _ => "Unknown E820 type",
        }
    }
}

impl fmt::Display for Kind {
    /// As in Linux's log (`e820_print_type`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RAM => f.write_str("usable"),
            Self::RESERVED => f.write_str("reserved"),
            Self::SOFT_RESERVED => f.write_str("soft reserved"),
            Self::ACPI => f.write_str("ACPI data"),
            Self::NVS => f.write_str("ACPI NVS"),
            Self::UNUSABLE => f.write_str("unusable"),
            Self::PMEM | Self::PRAM => write!(f, "persistent (type {})", self.0),
            Self(n) => write!(f, "type {n}"),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
