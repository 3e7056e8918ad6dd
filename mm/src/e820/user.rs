//! The user's wishes about the map: `mem=` and `memmap=` applied, and what they must not take away.
//!
//! # Invariants
//! - I1: while changes are applied the map holds at most half of its capacity, so that it can be sanitised after them.

use super::params::{self, Change, Invalid};
use super::{Error, Kind, Map};
use crate::addr::PhysRange;
use crate::cmdline::{Cmdline, Malformed};

/// More entries than this are not made room for on behalf of the command line. Nobody needs a hundredth of them, but a
/// few thousand overlapping ranges that are cut again and again could fill any memory.
const MAX_USER_ENTRIES: usize = 8192;

/// How many entries a map needs for `nr_firmware` of the firmware's, the changes that `cmdline` asks for, and a kernel in
/// `nr_kernel` pieces.
pub fn capacity_for(nr_firmware: usize, cmdline: &Cmdline<'_>, nr_kernel: usize) -> usize {
    let changes = cmdline.params().filter_map(|param| params::changes(&param));
    let nr_changes = changes.flatten().count();
    // Each change adds one entry at most, or cuts each entry twice.
    let all = (nr_firmware + nr_changes).saturating_mul(1 + 2 * nr_changes);
    let unsanitised = all.min(nr_firmware + MAX_USER_ENTRIES);
    // The kernel's pieces, and the two ranges trimmed below 1 MiB, cut one entry each: two more, once again sanitised.
    2 * (2 * unsanitised + 3 * nr_kernel + 4)
}

impl Map<'_> {
    /// Applies `mem=` and `memmap=` in the order in which they stand on the command line; if there were any, sanitises
    /// and logs the map (Linux: `e820__finish_early_params`). Malformed ones are reported and ignored, also those that
    /// the map has no room for.
    ///
    /// # Errors
    /// [`Error::Full`], as [`sanitise`](Self::sanitise).
    pub fn apply_cmdline(&mut self, cmdline: &Cmdline<'_>) -> Result<(), Error> {
        let mut user_defined = false;
        for param in cmdline.params() {
            let Some(changes) = params::changes(&param) else { continue };
            let mut malformed = false;
            for change in changes {
                match change {
                    Ok(change) => user_defined |= self.apply(change).is_ok(),
                    Err(why) => {
                        malformed = true;
                        if why == Invalid::NoPentium {
                            log::warn!("mem=nopentium ignored! (only supported on x86_32)");
                        }
                    }
                }
            }
            if malformed {
                log::warn!("{}", Malformed { param });
            }
        }
        if user_defined {
            self.sanitise()?;
            log::info!("user-defined physical RAM map:");
            self.print("user");
        }
        Ok(())
    }

    /// Applies one change. The map is to be sanitised afterwards.
    ///
    /// # Errors
    /// [`Error::Full`]; the map is unchanged.
    pub fn apply(&mut self, change: Change) -> Result<(), Error> {
        let max = self.capacity() / 2;
        match change {
            Change::Limit(end) => {
                self.check_room(end, u64::MAX, Some(Kind::RAM), max)?;
                self.range_remove(end, u64::MAX, Some(Kind::RAM))?;
            }
            Change::Exact => self.nr = 0,
            Change::Add { start, size_bytes, kind } => {
                if self.nr >= max {
                    return Err(super::full(start, size_bytes));
                }
                self.add(start, size_bytes, kind)?;
            }
            Change::Update { start, size_bytes, old, new } => {
                self.check_room(start, size_bytes, Some(old), max)?;
                self.range_update(start, size_bytes, old, new)?;
            }
            Change::Remove { start, size_bytes, old } => {
                self.check_room(start, size_bytes, old, max)?;
                self.range_remove(start, size_bytes, old)?;
            }
        }
        Ok(())
    }

    /// Makes the frames of the kernel usable where the map says otherwise, with a warning; sanitises (Linux:
    /// `e820_add_kernel_range`). The map must be sanitised.
    ///
    /// # Errors
    /// [`Error::Full`], as [`sanitise`](Self::sanitise).
    pub fn add_kernel(&mut self, frames: impl Iterator<Item = PhysRange> + Clone) -> Result<(), Error> {
        if frames.clone().all(|range| self.mapped_all(range, Some(Kind::RAM))) {
            return Ok(());
        }
        log::warn!(".text .data .bss are not marked as E820_TYPE_RAM!");
        for range in frames {
            self.range_remove(range.start(), range.len_bytes(), None)?;
            self.add(range.start(), range.len_bytes(), Kind::RAM)?;
        }
        self.sanitise()
    }

    /// The first range at or above `from` that is usable here but lies in none of the ranges `firmware`, in any order: what
    /// only the command line calls usable. The map need not be sorted.
    pub fn next_usable_outside(
        &self,
        from: u64,
        firmware: impl Iterator<Item = PhysRange> + Clone,
    ) -> Option<PhysRange> {
        let above = self.usable().filter_map(|range| PhysRange::new(range.start().max(from), range.end()));
        above.filter_map(|range| first_outside(range, firmware.clone())).min_by_key(|range| range.start())
    }

    /// A copy in storage of its own, as large as [`copy_slots`](Self::copy_slots) says at least.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn copied_to<'b>(&self, storage: &'b mut [super::Entry]) -> Result<Map<'b>, Error> {
        let mut copy = Map::new(storage);
        self.entries().iter().try_for_each(|&entry| copy.push(entry))?;
        Ok(copy)
    }

    /// How many slots the storage of a copy needs.
    pub fn copy_slots(&self) -> usize {
        3 * self.nr
    }
}

/// The first part of `range` that lies in none of `others`.
fn first_outside(range: PhysRange, others: impl Iterator<Item = PhysRange> + Clone) -> Option<PhysRange> {
    let mut start = range.start();
    while let Some(other) = others.clone().find(|other| other.contains(start)) {
        start = other.end();
    }
    let next = others.map(|other| other.start()).filter(|&other| other > start).min();
    let end = next.map_or(range.end(), |next| next.min(range.end()));
    PhysRange::new(start, end).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests;
