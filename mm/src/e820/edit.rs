//! Changes of a range: to another kind, or away. The map is to be sanitised afterwards.

use super::{Entry, Error, Kind, Map};
use crate::addr::{PHYS_LIMIT, PhysRange};

impl Map<'_> {
    /// Makes what is of kind `old` in `size_bytes` bytes from `start` the kind `new`; logs it (Linux:
    /// `e820__range_update`). Returns how many bytes changed.
    ///
    /// # Errors
    /// [`Error::Full`] when an entry cannot be split; earlier entries may have changed.
    pub fn range_update(&mut self, start: u64, size_bytes: u64, old: Kind, new: Kind) -> Result<u64, Error> {
        let last = last_byte(start, size_bytes);
        log::info!("e820: update [mem {start:#010x}-{last:#010x}] {old} ==> {new}");
        self.edit(clipped(start, last), Some(old), Some(new))
    }

    /// Takes what is of kind `old` (of any kind for `None`) in `size_bytes` bytes from `start` out of the map; logs it
    /// (Linux: `e820__range_remove`). Returns how many bytes went.
    ///
    /// # Errors
    /// [`Error::Full`] when an entry cannot be split; earlier entries may have changed.
    pub fn range_remove(&mut self, start: u64, size_bytes: u64, old: Option<Kind>) -> Result<u64, Error> {
        let last = last_byte(start, size_bytes);
        match old {
            Some(old) => log::info!("e820: remove [mem {start:#010x}-{last:#010x}] {old}"),
            None => log::info!("e820: remove [mem {start:#010x}-{last:#010x}] "),
        }
        self.edit(clipped(start, last), old, None)
    }

    fn edit(&mut self, range: PhysRange, old: Option<Kind>, new: Option<Kind>) -> Result<u64, Error> {
        let mut changed_bytes = 0;
        // What is split off lies outside of `range` or has the kind `new`, so it need not be looked at. Downwards,
        // because the last entry takes the place of one that goes.
        for i in (0..self.nr).rev() {
            let Entry { range: whole, kind } = self.entries[i];
            if old.is_some_and(|old| old != kind) {
                continue;
            }
            let Some(inside) = whole.intersect(range) else { continue };
            let rest = [(whole.start(), inside.start()), (inside.end(), whole.end())];
            for part in rest.into_iter().filter_map(|(s, e)| PhysRange::new(s, e)).filter(|r| !r.is_empty()) {
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

/// Last byte of a range as Linux logs it: one that wraps ends two below the top.
fn last_byte(start: u64, size_bytes: u64) -> u64 {
    start.wrapping_add(size_bytes.min(u64::MAX - start)).wrapping_sub(1)
}

fn clipped(start: u64, last: u64) -> PhysRange {
    let end = last.wrapping_add(1).min(PHYS_LIMIT);
    PhysRange::new(start.min(end), end).unwrap_or(Entry::EMPTY.range)
}
