//! Resource templates: what a device's `_CRS` says that it decodes.

use super::table::{u16_at, u32_at, u64_at};
use crate::addr::PhysRange;

/// Something that a device decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Memory addresses.
    Memory {
        /// Which.
        range: PhysRange,
        /// Whether reading ahead does no harm.
        prefetch: Prefetch,
    },
    /// PCI buses, from this one on.
    Buses(u8),
}

/// Whether a window of memory may be read ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefetch {
    /// It may.
    Allowed,
    /// It may not.
    Forbidden,
}

/// The resources of a template, in its order. Ports, interrupts and DMA channels are skipped, and ranges that are empty
/// or out of reach; a descriptor that is cut off ends it.
pub fn decode(template: &[u8]) -> impl Iterator<Item = Resource> {
    descriptors(template).filter_map(|(kind, body)| resource(kind, body))
}

/// Kinds of large descriptors.
mod kind {
    pub(super) const MEMORY24: u8 = 0x81;
    pub(super) const MEMORY32: u8 = 0x85;
    pub(super) const MEMORY32_FIXED: u8 = 0x86;
    pub(super) const DWORD_SPACE: u8 = 0x87;
    pub(super) const WORD_SPACE: u8 = 0x88;
    pub(super) const QWORD_SPACE: u8 = 0x8a;
    pub(super) const EXTENDED_SPACE: u8 = 0x8b;
}

/// Each descriptor's first byte and body; for a small one, the byte without its length.
fn descriptors(template: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    const LARGE: u8 = 0x80;
    const SMALL_LENGTH: u8 = 0x07;
    const END: u8 = 0x78;
    let mut rest = template;
    core::iter::from_fn(move || {
        let (&lead, after) = rest.split_first()?;
        let (kind, length, header) = match lead & LARGE {
            0 => (lead & !SMALL_LENGTH, usize::from(lead & SMALL_LENGTH), 0),
            _ => (lead, usize::from(u16_at(after, 0)?), 2),
        };
        let (body, next) = after.get(header..)?.split_at_checked(length)?;
        rest = next;
        (kind != END).then_some((kind, body))
    })
}

fn resource(kind: u8, body: &[u8]) -> Option<Resource> {
    let memory = |start: u32, size_bytes: u32| {
        let range = PhysRange::from_size(start.into(), size_bytes.into())?;
        (!range.is_empty()).then_some(Resource::Memory { range, prefetch: Prefetch::Forbidden })
    };
    match kind {
        kind::MEMORY24 => {
            let in_256 = |at| u16_at(body, at).map(|value| u32::from(value) << 8);
            memory(in_256(1)?, in_256(7)?)
        }
        kind::MEMORY32 => memory(u32_at(body, 1)?, u32_at(body, 13)?),
        kind::MEMORY32_FIXED => memory(u32_at(body, 1)?, u32_at(body, 5)?),
        kind::WORD_SPACE => space(body, |i| u16_at(body, 3 + 2 * i).map(u64::from)),
        kind::DWORD_SPACE => space(body, |i| u32_at(body, 3 + 4 * i).map(u64::from)),
        kind::QWORD_SPACE => space(body, |i| u64_at(body, 3 + 8 * i)),
        // A revision and a reserved byte are between.
        kind::EXTENDED_SPACE => space(body, |i| u64_at(body, 5 + 8 * i)),
        _ => None,
    }
}

/// A window of an address space. `field(n)`: granularity, first, last, offset to the other side, length. As Linux does,
/// the length only counts in not being 0.
fn space(body: &[u8], field: impl Fn(usize) -> Option<u64>) -> Option<Resource> {
    const MEMORY: u8 = 0;
    const BUSES: u8 = 2;
    const CONSUMED: u8 = 1;
    const CACHEABLE_PREFETCHABLE: u8 = 3;
    let (&space, &general, &specific) = (body.first()?, body.get(1)?, body.get(2)?);
    let [first, last, offset, length] = [field(1)?, field(2)?, field(3)?, field(4)?];
    match space {
        BUSES => u8::try_from(first).ok().map(Resource::Buses),
        MEMORY => {
            let offset = if general & CONSUMED == 0 { offset } else { 0 };
            let [start, end] = [first.checked_add(offset)?, last.checked_add(offset)?.checked_add(1)?];
            let range = PhysRange::new(start, end).filter(|range| !range.is_empty() && length != 0)?;
            let attribute = specific >> 1 & 3;
            let prefetch = match attribute {
                CACHEABLE_PREFETCHABLE => Prefetch::Allowed,
                _ => Prefetch::Forbidden,
            };
            Some(Resource::Memory { range, prefetch })
        }
        _ => None,
    }
}
