//! The firmware's memory map: which physical addresses are memory, and what kind.
//!
//! ```text
//! raw entries           any order, overlapping          add()
//!      |
//! sanitise()            sorted, disjoint, merged        the higher type number wins an overlap
//!      |
//! apply_cmdline()       mem=, memmap=                   then sanitise() again
//!      |
//! add_kernel()          what the user must not take away
//!      |
//! range_update(), range_remove()                        then sanitise() again
//!      |
//! usable(), end_of_ram_pfn()                            what memblock and the zones are made of
//! ```
//!
//! # Invariants
//! - I1: the first `nr` entries of `entries` are in use; none of them is empty.
//! - I2: after a successful `sanitise` and until the next change they are sorted and do not overlap.
//!
//! # Not here
//! Reading the map from the firmware, and whether what it calls usable is memory (the kernel does both).

mod edit;
mod kind;
mod params;
mod sanitise;
#[cfg(test)]
mod tests;
mod user;

pub use kind::Kind;
pub use params::{Change, Invalid, changes};
pub use user::capacity_for;

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, PhysRange};
use crate::pfn::Pfn;

/// One past the highest frame that the direct map can reach: 64 TiB (Linux with four-level tables: `MAX_ARCH_PFN`).
pub const MAX_ARCH_PFN: Pfn = Pfn::new(1 << (46 - PAGE_SHIFT));
/// One past the highest frame below 4 GiB.
const LOW_LIMIT_PFN: Pfn = Pfn::new(1 << (32 - PAGE_SHIFT));

/// A range and its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The range; not empty in a map.
    pub range: PhysRange,
    /// What it is.
    pub kind: Kind,
}

impl Entry {
    /// A filler for storage that is handed to [`Map::new`].
    pub const EMPTY: Self = Self {
        range: match PhysRange::new(0, 0) {
            Some(r) => r,
            None => unreachable!(),
        },
        kind: Kind::RESERVED,
    };
}

/// Why a map could not be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// All entries that the storage holds are in use.
    Full,
}

/// Reports a range that the map has no room for.
fn full(start: u64, size_bytes: u64) -> Error {
    let last = start.saturating_add(size_bytes).saturating_sub(1);
    log::error!("e820: too many entries; ignoring [mem {start:#010x}-{last:#010x}]");
    Error::Full
}

/// A memory map in storage of the caller (Linux: `e820_table`).
///
/// The storage is cut in three: the entries, the entries of the next sanitised map, and the sweep's change points.
#[derive(Debug)]
pub struct Map<'a> {
    entries: &'a mut [Entry],
    next: &'a mut [Entry],
    ends: &'a mut [Entry],
    nr: usize,
}

impl<'a> Map<'a> {
    /// An empty map that holds a third of `storage.len()` entries. Sanitising *n* entries can give up to 2*n*-1.
    pub fn new(storage: &'a mut [Entry]) -> Self {
        let third = storage.len() / 3;
        let (entries, rest) = storage.split_at_mut(third);
        let (next, rest) = rest.split_at_mut(third);
        Self { entries, next, ends: &mut rest[..third], nr: 0 }
    }

    /// How many entries it can hold.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// The entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries[..self.nr]
    }

    /// Adds an entry as the firmware gave it (Linux: `e820__range_add`). One that is empty, wraps, reaches past 52
    /// address bits or has no kind is dropped with a message.
    ///
    /// # Errors
    /// [`Error::Full`]; the map is unchanged.
    pub fn add(&mut self, start: u64, size_bytes: u64, kind: Kind) -> Result<(), Error> {
        match PhysRange::from_size(start, size_bytes) {
            Some(range) if !range.is_empty() && kind != Kind::NONE => self.push(Entry { range, kind }),
            _ => {
                log::warn!("e820: ignored entry at {start:#018x} of {size_bytes:#x} bytes ({kind})");
                Ok(())
            }
        }
    }

    fn push(&mut self, entry: Entry) -> Result<(), Error> {
        let Some(slot) = self.entries.get_mut(self.nr) else {
            return Err(full(entry.range.start(), entry.range.len_bytes()));
        };
        *slot = entry;
        self.nr += 1;
        Ok(())
    }

    /// Logs the entries, each behind the name of who provided them (Linux: `e820__print_table`).
    pub fn print(&self, who: &str) {
        for Entry { range, kind } in self.entries() {
            log::info!("{who}: [mem {:#018x}-{:#018x}] {kind}", range.start(), range.end() - 1);
        }
    }

    /// Logs the map under the heading of a map that the firmware gave.
    pub fn print_bios_map(&self) {
        log::info!("BIOS-provided physical RAM map:");
        self.print("BIOS-e820");
    }

    /// The ranges of usable memory, in the order of the entries.
    pub fn usable(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.entries().iter().filter(|e| e.kind == Kind::RAM).map(|e| e.range)
    }

    /// One past the highest whole frame of usable memory (Linux: `e820__end_of_ram_pfn`). Logs it.
    pub fn end_of_ram_pfn(&self) -> Pfn {
        self.end_pfn(MAX_ARCH_PFN)
    }

    /// The same, below 4 GiB (Linux: `e820__end_of_low_ram_pfn`). Logs it.
    pub fn end_of_low_ram_pfn(&self) -> Pfn {
        self.end_pfn(LOW_LIMIT_PFN)
    }

    /// Logs where usable memory ends, and where it ends below 4 GiB if that is not the same (Linux: in `setup_arch`).
    pub fn log_ends(&self) {
        if self.end_of_ram_pfn() > LOW_LIMIT_PFN {
            self.end_of_low_ram_pfn();
        }
    }

    fn end_pfn(&self, limit: Pfn) -> Pfn {
        let below = self.usable().filter(|r| Pfn::down(r.start()) < limit);
        let last = below.map(|r| Pfn::down(r.end()).min(limit)).max().unwrap_or_default();
        log::info!("last_pfn = {last:#x} max_arch_pfn = {MAX_ARCH_PFN:#x}");
        last
    }

    /// Whether a byte of `range` lies in an entry of that kind, of any kind for `None` (Linux: `e820__mapped_any`).
    pub fn mapped_any(&self, range: PhysRange, kind: Option<Kind>) -> bool {
        self.entries().iter().any(|e| kind.is_none_or(|k| k == e.kind) && e.range.overlaps(range))
    }

    /// Whether all of `range` lies in entries of that kind, of any kind for `None` (Linux: `e820__mapped_all`). The map
    /// must be sanitised. An empty range does.
    pub fn mapped_all(&self, range: PhysRange, kind: Option<Kind>) -> bool {
        let mut from = range.start();
        for e in self.entries().iter().filter(|e| kind.is_none_or(|k| k == e.kind)) {
            if e.range.contains(from) {
                from = e.range.end();
            }
        }
        range.is_empty() || from >= range.end()
    }

    /// Takes from the usable memory what PC firmware may use without saying so: the first page and the hole for video
    /// memory and ROMs below 1 MiB; sanitises (Linux: `trim_bios_range`).
    ///
    /// # Errors
    /// [`Error::Full`], as [`sanitise`](Self::sanitise).
    pub fn trim_bios_range(&mut self) -> Result<(), Error> {
        self.range_update(0, PAGE_SIZE as u64, Kind::RAM, Kind::RESERVED)?;
        self.range_remove(0xa_0000, 0x6_0000, Some(Kind::RAM))?;
        self.sanitise()
    }

    /// Panics when an invariant does not hold.
    pub fn validate(&self, sanitised: bool) {
        assert!(self.nr <= self.entries.len());
        assert!(self.entries().iter().all(|e| !e.range.is_empty()), "an empty entry");
        if sanitised {
            for pair in self.entries().windows(2) {
                let (a, b) = (pair[0], pair[1]);
                assert!(a.range.end() <= b.range.start(), "{a:?} overlaps {b:?}");
                let apart = a.kind != b.kind || a.range.end() < b.range.start() || a.kind.keeps_bounds();
                assert!(apart, "{a:?} is not merged with {b:?}");
            }
        }
    }
}
