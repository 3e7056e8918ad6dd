//! Changes of a range: to another kind, or away. The map is to be sanitised afterwards.

use super::{Entry, Error, Kind, Map, full};
use crate::addr::{PHYS_LIMIT, PhysRange};

impl Map<'_> {
    /// Makes what is of kind `old` in `size_bytes` bytes from `start` the kind `new`; logs it (Linux:
    /// `e820__range_update`). Returns how many bytes changed.
    ///
    /// # Errors
    /// [`Error::Full`] when an entry cannot be split; the map is unchanged.
    pub fn range_update(&mut self, start: u64, size_bytes: u64, old: Kind, new: Kind) -> Result<u64, Error> {
        let last = last_byte(start, size_bytes);
        log::info!("e820: update [mem {start:#010x}-{last:#010x}] {old} ==> {new}");
        self.edit(clipped(start, last), Some(old), Some(new))
    }

    /// Takes what is of kind `old` (of any kind for `None`) in `size_bytes` bytes from `start` out of the map; logs it
    /// (Linux: `e820__range_remove`). Returns how many bytes went.
    ///
    /// # Errors
    /// [`Error::Full`] when an entry cannot be split; the map is unchanged.
    pub fn range_remove(&mut self, start: u64, size_bytes: u64, old: Option<Kind>) -> Result<u64, Error> {
        let last = last_byte(start, size_bytes);
        match old {
            Some(old) => log::info!("e820: remove [mem {start:#010x}-{last:#010x}] {old}"),
            None => log::info!("e820: remove [mem {start:#010x}-{last:#010x}] "),
        }
        self.edit(clipped(start, last), old, None)
    }

    /// Whether the map has at most `max` entries after a change of what is of kind `old`.
    pub(super) fn check_room(
        &self,
        start: u64,
        size_bytes: u64,
        old: Option<Kind>,
        max: usize,
    ) -> Result<(), Error> {
        let range = clipped(start, last_byte(start, size_bytes));
        let concerned = self.entries().iter().filter(|e| old.is_none_or(|old| old == e.kind));
        let nr_parts: usize = concerned.map(|e| parts_outside(e.range, range).count()).sum();
        if self.nr + nr_parts > max { Err(full(start, size_bytes)) } else { Ok(()) }
    }

    fn edit(&mut self, range: PhysRange, old: Option<Kind>, new: Option<Kind>) -> Result<u64, Error> {
        self.check_room(range.start(), range.len_bytes(), old, self.capacity())?;
        let mut changed_bytes = 0;
        // What is split off lies outside of `range` or has the kind `new`, so it need not be looked at. Downwards,
        // because the last entry takes the place of one that goes.
        for i in (0..self.nr).rev() {
            let Entry { range: whole, kind } = self.entries[i];
            if old.is_some_and(|old| old != kind) {
                continue;
            }
            let Some(inside) = whole.intersect(range) else { continue };
            for part in parts_outside(whole, range) {
                self.push(Entry { range: part, kind })?;
            }
            changed_bytes += inside.len_bytes();
            match new {
                Some(kind) => self.entries[i] = Entry { range: inside, kind },
                None => {
                    self.nr -= 1;
                    self.entries.swap(i, self.nr);
                }
            }
        }
        Ok(changed_bytes)
    }
}

/// What `range` leaves of `whole` when it cuts out a part, nothing when both have nothing in common.
fn parts_outside(whole: PhysRange, range: PhysRange) -> impl Iterator<Item = PhysRange> {
    let inside = whole.intersect(range).unwrap_or(whole);
    let parts = [(whole.start(), inside.start()), (inside.end(), whole.end())];
    parts.into_iter().filter_map(|(start, end)| PhysRange::new(start, end)).filter(|part| !part.is_empty())
}

/// Last byte of a range as Linux logs it: one that wraps ends two below the top.
fn last_byte(start: u64, size_bytes: u64) -> u64 {
    start.wrapping_add(size_bytes.min(u64::MAX - start)).wrapping_sub(1)
}

fn clipped(start: u64, last: u64) -> PhysRange {
    let end = last.wrapping_add(1).min(PHYS_LIMIT);
    PhysRange::new(start.min(end), end).unwrap_or(Entry::EMPTY.range)
}
