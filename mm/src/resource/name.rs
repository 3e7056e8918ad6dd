//! What resources are called in `/proc/iomem`.

use core::fmt;

use crate::acpi::DeviceId;

/// The name of a resource. It is made when it is shown, so names of devices need no memory of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    /// As it stands.
    Text(&'static str),
    /// What a PCI bus decodes.
    PciBus(PciBus),
    /// What a PCI device decodes.
    PciDevice(PciAddress),
    /// Configuration space of PCI buses, mapped to memory.
    Mmconfig {
        /// The first bus.
        first: PciBus,
        /// The last bus of the same segment.
        last: u8,
    },
    /// An I/O APIC, by its index.
    IoApic(u32),
    /// A high-precision event timer, by its number.
    Hpet(u8),
    /// A device that only ACPI names: its id, and its number among those of that id.
    AcpiDevice(DeviceId, u32),
}

/// A PCI bus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PciBus {
    /// Its segment (Linux: domain).
    pub segment: u16,
    /// Its number.
    pub bus: u8,
}

/// A function of a PCI device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PciAddress {
    bus: PciBus,
    /// Five bits of device, three of function.
    device_function: u8,
}

impl PciAddress {
    /// The first of all: where the host bridge is.
    pub const FIRST: Self = Self { bus: PciBus { segment: 0, bus: 0 }, device_function: 0 };

    /// `None` for a device past 31 or a function past 7.
    pub const fn new(bus: PciBus, device: u8, function: u8) -> Option<Self> {
        if device < 32 && function < 8 {
            Some(Self { bus, device_function: device << 3 | function })
        } else {
            None
        }
    }

    /// Its bus.
    pub const fn bus(self) -> PciBus {
        self.bus
    }

    /// The device's number on the bus.
    pub const fn device(self) -> u8 {
        self.device_function >> 3
    }

    /// The function's number in the device.
    pub const fn function(self) -> u8 {
        self.device_function & 7
    }
}

impl From<&'static str> for Name {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        matches!(self, Self::Text(text) if text == other)
    }
}

impl fmt::Display for PciBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}", self.segment, self.bus)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:02x}.{}", self.bus, self.device(), self.function())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::PciBus(bus) => write!(f, "PCI Bus {bus}"),
            Self::PciDevice(address) => write!(f, "{address}"),
            Self::Mmconfig { first, last } => {
                write!(f, "PCI MMCONFIG {:04x} [bus {:02x}-{last:02x}]", first.segment, first.bus)
            }
            Self::IoApic(index) => write!(f, "IOAPIC {index}"),
            Self::Hpet(sequence) => write!(f, "HPET {sequence}"),
            Self::AcpiDevice(id, number) => write!(f, "{id}:{number:02x}"),
        }
    }
}
