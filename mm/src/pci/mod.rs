//! PCI devices and the addresses that they decode, as the firmware has set them up.
//!
//! ```text
//! Config ── scan ──> Function { BARs, ROM, a bridge's windows } ── claim ──> resource tree
//!                                                                 bus windows ── BARs, bridges' windows ── ...
//! ```
//!
//! Nothing is moved: what the firmware has not placed, or not inside its bus's windows, is left out.
//!
//! # Invariants
//! - I1: while a function's registers hold anything but addresses it decodes no addresses, host bridges excepted; all
//!   registers have their values again afterwards.
//! - I2: each bus is scanned once, however bridges point to each other.
//!
//! # Locking
//! The caller has configuration space to itself.

mod bar;
mod claim;
#[cfg(test)]
mod tests;

pub use bar::Region;
pub use claim::{claim, claim_roms};

use crate::addr::PhysRange;
use crate::resource::{PciAddress, PciBus};

/// Access to configuration space.
pub trait Config {
    /// Reads the register at `offset`, a multiple of 4; all ones where nothing is.
    fn read(&self, at: PciAddress, offset: u8) -> u32;

    /// Writes the register at `offset`, a multiple of 4.
    fn write(&self, at: PciAddress, offset: u8, value: u32);
}

mod register {
    pub(super) const ID: u8 = 0x00;
    /// Commands in the lower half; the upper half is status, where writing 0 changes nothing.
    pub(super) const COMMAND: u8 = 0x04;
    pub(super) const CLASS: u8 = 0x08;
    pub(super) const HEADER: u8 = 0x0c;
    pub(super) const FIRST_BAR: u8 = 0x10;
    pub(super) const BUSES: u8 = 0x18;
    pub(super) const MEMORY_WINDOW: u8 = 0x20;
    pub(super) const PREFETCH_WINDOW: u8 = 0x24;
    pub(super) const PREFETCH_BASE_HIGH: u8 = 0x28;
    pub(super) const PREFETCH_LIMIT_HIGH: u8 = 0x2c;
    pub(super) const ROM: u8 = 0x30;
    pub(super) const BRIDGE_ROM: u8 = 0x38;
}

/// Command bits.
const DECODE_PORTS: u32 = 1;
const DECODE_MEMORY: u32 = 2;

/// Class, subclass and programming interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Class(u32);

impl Class {
    const fn is_host_bridge(self) -> bool {
        self.0 >> 8 == 0x0600
    }

    const fn is_vga(self) -> bool {
        self.0 >> 8 == 0x0300
    }

    /// Whether a bridge passes on what nobody else takes.
    const fn is_subtractive_bridge(self) -> bool {
        self.0 == 0x06_0401
    }
}

/// A function of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    address: PciAddress,
    class: Class,
    command: u32,
    bars: [Option<Region>; 6],
    rom: Option<Region>,
    bridge: Option<Bridge>,
}

/// The other side of a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bridge {
    secondary: u8,
    memory: Option<PhysRange>,
    prefetch: Option<PhysRange>,
}

impl Function {
    /// A filler for storage.
    pub const EMPTY: Self = Self {
        address: PciAddress::FIRST,
        class: Class(0),
        command: 0,
        bars: [None; 6],
        rom: None,
        bridge: None,
    };

    /// How many resources a function has at most: BARs and ROM, or less and a bridge's windows.
    pub const MAX_RESOURCES: usize = 7;

    /// Where it is.
    pub fn address(&self) -> PciAddress {
        self.address
    }

    fn decodes(&self, what: u32) -> bool {
        self.command & what != 0
    }
}

/// How many functions there are on the buses of `segment` 0 that are reached from `roots`.
pub fn count(config: &impl Config, roots: impl Iterator<Item = u8>) -> usize {
    let mut nr = 0;
    each(config, roots, |_| nr += 1);
    nr
}

/// Finds the functions, each bus's after those of the bus that leads to it. Returns those that found a slot. A function whose
/// memory `is_ram` calls RAM in use has no resources: asking for sizes would cut it off.
pub fn scan<'a>(
    config: &impl Config,
    roots: impl Iterator<Item = u8>,
    is_ram: impl Fn(PhysRange) -> bool,
    slots: &'a mut [Function],
) -> &'a [Function] {
    let mut nr = 0;
    each(config, roots, |at| {
        if let Some(slot) = slots.get_mut(nr) {
            *slot = bar::probe(config, at, &is_ram);
            nr += 1;
        }
    });
    &slots[..nr]
}

/// Calls `visit` with the address of each function.
fn each(config: &impl Config, roots: impl Iterator<Item = u8>, mut visit: impl FnMut(PciAddress)) {
    let mut buses = Buses { found: [0; 256], nr: 0, is_found: [false; 256] };
    roots.for_each(|bus| buses.add(bus));
    let mut next = 0;
    while next < buses.nr {
        let bus = PciBus { segment: 0, bus: buses.found[next] };
        next += 1;
        for at in (0..32).flat_map(|device| functions(config, bus, device)) {
            visit(at);
            if let Some(secondary) = bar::secondary_bus(config, at) {
                buses.add(secondary);
            }
        }
    }
}

/// Buses in the order in which they are found, none twice.
struct Buses {
    found: [u8; 256],
    nr: usize,
    is_found: [bool; 256],
}

impl Buses {
    fn add(&mut self, bus: u8) {
        if !core::mem::replace(&mut self.is_found[usize::from(bus)], true) {
            self.found[self.nr] = bus;
            self.nr += 1;
        }
    }
}

/// The functions of a device that are there. Without function 0 there is none; others only if that says so.
fn functions(config: &impl Config, bus: PciBus, device: u8) -> impl Iterator<Item = PciAddress> {
    const MANY: u32 = 0x80 << 16;
    let is_there = |at: &PciAddress| !matches!(config.read(*at, register::ID) & 0xffff, 0 | 0xffff);
    let first = PciAddress::new(bus, device, 0).filter(is_there);
    let nr = match first {
        Some(at) if config.read(at, register::HEADER) & MANY != 0 => 8,
        Some(_) => 1,
        None => 0,
    };
    (0..nr).filter_map(move |function| PciAddress::new(bus, device, function).filter(is_there))
}
