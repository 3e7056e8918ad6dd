//! What a function's registers say that it decodes.

use super::{Bridge, Class, Config, DECODE_MEMORY, DECODE_PORTS, Function, register};
use crate::acpi::resources::Prefetch;
use crate::addr::PhysRange;
use crate::resource::PciAddress;

/// Memory that a function decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Where; not before somebody has placed it.
    pub range: PhysRange,
    /// Whether reading ahead does no harm.
    pub prefetch: Prefetch,
}

/// Layout of a function's registers.
fn header(config: &impl Config, at: PciAddress) -> u8 {
    (config.read(at, register::HEADER) >> 16) as u8 & 0x7f
}

const DEVICE: u8 = 0;
const BRIDGE: u8 = 1;

/// The bus behind a bridge.
pub(super) fn secondary_bus(config: &impl Config, at: PciAddress) -> Option<u8> {
    if header(config, at) != BRIDGE {
        return None;
    }
    let secondary = (config.read(at, register::BUSES) >> 8) as u8;
    // Buses are numbered downwards in the hierarchy: another number was not set up, or would lead back.
    (secondary > at.bus().bus).then_some(secondary)
}

/// Reads what a function is and decodes (Linux: `pci_setup_device`). One with an address where `is_ram` is not asked for
/// sizes: it would have to stop decoding.
pub(super) fn probe(config: &impl Config, at: PciAddress, is_ram: &impl Fn(PhysRange) -> bool) -> Function {
    let command = config.read(at, register::COMMAND) & 0xffff;
    let class = Class(config.read(at, register::CLASS) >> 8);
    let mut function = Function { address: at, class, command, ..Function::EMPTY };
    let (nr_bars, rom) = match header(config, at) {
        DEVICE => (6, register::ROM),
        BRIDGE => (2, register::BRIDGE_ROM),
        _ => return function,
    };
    if let Some(used) = reaches(config, at, nr_bars).find(|&range| is_ram(range)) {
        log::warn!("pci {at}: its memory at {:#x} is used as RAM; resources not read", used.start());
        return function;
    }
    // A host bridge that stops decoding may cut memory off.
    let silent = command & !(DECODE_MEMORY | DECODE_PORTS);
    let must_stop = command != silent && !class.is_host_bridge();
    if must_stop {
        config.write(at, register::COMMAND, silent);
    }
    read_bars(config, at, &mut function.bars[..nr_bars]);
    function.rom = read_rom(config, at, rom);
    if must_stop {
        config.write(at, register::COMMAND, command);
    }
    function.bridge = secondary_bus(config, at).map(|secondary| Bridge {
        secondary,
        memory: memory_window(config, at),
        prefetch: prefetch_window(config, at),
    });
    function
}

/// How far the function's memory can reach, without asking: its ranges are aligned to their sizes.
fn reaches(config: &impl Config, at: PciAddress, nr_bars: usize) -> impl Iterator<Item = PhysRange> {
    let bar = move |index: usize| config.read(at, register::FIRST_BAR + 4 * index as u8);
    let mut next = 0;
    let registers = core::iter::from_fn(move || {
        let index = next;
        let low = (index < nr_bars).then(|| bar(index))?;
        let is_wide = low & (PORTS | 0b110) == WIDE && index + 1 < nr_bars;
        next += if is_wide { 2 } else { 1 };
        Some((low, if is_wide { bar(index + 1) } else { 0 }))
    });
    registers.filter(|(low, _)| low & PORTS == 0).filter_map(|(low, high)| {
        let start = u64::from(high) << 32 | u64::from(low & !FLAGS);
        PhysRange::from_size(start, start & start.wrapping_neg())
    })
}

/// A register of ports, not of memory.
const PORTS: u32 = 1;
/// The address goes on in the next register.
const WIDE: u32 = 0b100;
const FLAGS: u32 = 0xf;

fn read_bars(config: &impl Config, at: PciAddress, bars: &mut [Option<Region>]) {
    const PREFETCH: u32 = 0b1000;
    let mut index = 0;
    while index < bars.len() {
        let offset = register::FIRST_BAR + 4 * index as u8;
        let (low, low_mask) = value_and_mask(config, at, offset, u32::MAX);
        let (mut value, mut mask) = (u64::from(low & !FLAGS), u64::from(low_mask & !FLAGS));
        let first = index;
        index += 1;
        if low & PORTS != 0 {
            continue;
        }
        let all = if low & 0b110 == WIDE && index < bars.len() {
            let (high, high_mask) = value_and_mask(config, at, offset + 4, u32::MAX);
            value |= u64::from(high) << 32;
            mask |= u64::from(high_mask) << 32;
            index += 1;
            u64::MAX << 4
        } else {
            u64::from(!FLAGS)
        };
        let prefetch = if low & PREFETCH != 0 { Prefetch::Allowed } else { Prefetch::Forbidden };
        bars[first] = decoded(value, mask, all).map(|range| Region { range, prefetch });
    }
}

fn read_rom(config: &impl Config, at: PciAddress, offset: u8) -> Option<Region> {
    const ADDRESS: u32 = !0x7ff;
    // All but the bit that switches the ROM on.
    let (value, mask) = value_and_mask(config, at, offset, ADDRESS);
    let range = decoded((value & ADDRESS).into(), (mask & ADDRESS).into(), ADDRESS.into())?;
    Some(Region { range, prefetch: Prefetch::Allowed })
}

/// What a register holds, and which bits of it can be set.
fn value_and_mask(config: &impl Config, at: PciAddress, offset: u8, ones: u32) -> (u32, u32) {
    let value = config.read(at, offset);
    config.write(at, offset, value | ones);
    let mask = config.read(at, offset);
    config.write(at, offset, value);
    (value, mask)
}

/// The range of an address register with these writable bits, `None` for one that is not there or not set
/// (Linux: `pci_size`).
fn decoded(value: u64, mask: u64, all: u64) -> Option<PhysRange> {
    let mask = mask & all;
    let size = mask & mask.wrapping_neg();
    // A register whose bits cannot be changed may be one that is full, or none.
    let fixed = value == mask && (value | size.wrapping_sub(1)) & all != all;
    if size == 0 || fixed || value == 0 {
        return None;
    }
    PhysRange::from_size(value & all, size)
}

/// The window for memory that must not be read ahead; both bounds in MiB.
fn memory_window(config: &impl Config, at: PciAddress) -> Option<PhysRange> {
    let bounds = config.read(at, register::MEMORY_WINDOW);
    window(u64::from(bounds & 0xfff0) << 16, u64::from(bounds >> 16 & 0xfff0) << 16)
}

/// The window for memory that may be read ahead.
fn prefetch_window(config: &impl Config, at: PciAddress) -> Option<PhysRange> {
    const WIDE: u32 = 1;
    let bounds = config.read(at, register::PREFETCH_WINDOW);
    let high = |offset| match bounds & 0xf {
        WIDE => u64::from(config.read(at, offset)) << 32,
        _ => 0,
    };
    let base = u64::from(bounds & 0xfff0) << 16 | high(register::PREFETCH_BASE_HIGH);
    let last = u64::from(bounds >> 16 & 0xfff0) << 16 | high(register::PREFETCH_LIMIT_HIGH);
    window(base, last)
}

/// From a first to a last MiB; one at 0 is not in use.
fn window(first: u64, last: u64) -> Option<PhysRange> {
    let end = last.checked_add(1 << 20)?;
    PhysRange::new(first, end).filter(|range| first != 0 && !range.is_empty())
}
