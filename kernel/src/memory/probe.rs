//! Whether there is memory where the command line says so.
//!
//! ```text
//! firmware's map    |==== usable ====|  reserved  |                      |==== usable ====|
//! user's map        |================================================================|
//! probed                             |............|......................|
//! ```
//!
//! What the firmware calls usable is. For the rest a write tells: memory keeps it. What does not is taken out of the map
//! again: struct pages in it would be lost. The memory of a device, such as a display's, keeps it too; who calls that usable
//! gets what was asked for. Nothing is probed on a machine whose user wants no more than the firmware.
//!
//! # Invariants
//! - I1: the boot loader's tables map physical memory below [`Boot::mapped_end`] at the direct map's place, and nobody uses
//!   memory that the firmware does not call usable, but for tables that are only read.

use mm::addr::{PhysAddr, PhysRange, align_down};
use mm::arch::Machine;
use mm::e820::{Kind, Map};
use mm::pfn::PfnRange;

use super::Error;
use crate::firmware::boot::Boot;

/// Smallest piece that is looked at: devices' windows and holes are no smaller where firmware puts them.
const MIN_PIECE: u64 = 64 << 10;
/// At most so many pieces of a range are looked at.
const MAX_PIECES: u64 = 1 << 16;
/// Below are the BIOS and ROMs, and nothing that the page allocator gets.
const LOW_END: u64 = 1 << 20;

/// Takes usable ranges out of the map that are no memory, or out of reach.
pub(super) fn remove_missing(map: &mut Map<'_>, boot: &Boot) -> Result<(), Error> {
    let firmware = boot.firmware_map().filter(|raw| raw.kind == Kind::RAM.raw());
    let firmware = firmware.filter_map(|raw| PhysRange::from_size(raw.start, raw.size));
    let mapped_end = boot.mapped_end().as_u64();
    let mut from = LOW_END;
    while let Some(range) = map.next_usable_outside(from, firmware.clone()) {
        let mut pieces = pieces(range);
        while let Some(first) = pieces.find(|&piece| !is_memory(piece, mapped_end)) {
            let last = pieces.by_ref().take_while(|&piece| !is_memory(piece, mapped_end)).last();
            let missing = PhysRange::new(first.start(), last.unwrap_or(first).end()).ok_or(Error::Layout)?;
            log::warn!("e820: no memory at {missing}, whatever the command line says");
            map.range_remove(missing.start(), missing.len_bytes(), Some(Kind::RAM))?;
        }
        from = range.end();
    }
    Ok(())
}

/// The whole pages of the range, in aligned pieces.
fn pieces(range: PhysRange) -> impl Iterator<Item = PhysRange> {
    let pages = PfnRange::inside(range);
    let (first, end) = (pages.start.byte(), pages.end.byte());
    let size = (range.len_bytes() / MAX_PIECES).next_power_of_two().max(MIN_PIECE);
    let starts = (align_down(first, size)..end).step_by(size as usize);
    starts.filter_map(move |start| PhysRange::new(start.max(first), end.min(start + size)))
}

/// Whether the first and the last word of `piece`, whole pages, keep what is written.
fn is_memory(piece: PhysRange, mapped_end: u64) -> bool {
    let last = piece.end() - size_of::<u64>() as u64;
    piece.end() <= mapped_end && [piece.start(), last].into_iter().all(|at| keeps(PhysAddr::new(at)))
}

/// Whether the word at `at` keeps what is written; its content stays.
fn keeps(at: PhysAddr) -> bool {
    let word = Machine.phys_to_virt(at).cast::<u64>();
    // SAFETY: mapped and not written to by others (I1); callers give multiples of eight.
    unsafe {
        let before = word.read_volatile();
        word.write_volatile(!before);
        let kept = word.read_volatile() == !before;
        word.write_volatile(before);
        kept && word.read_volatile() == before
    }
}
