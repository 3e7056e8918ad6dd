//! Less memory than there is: limits from the command line, and memory cut to whole pages.

use super::{Array, Error, Flags, Memblock, NR_ARRAYS};
use crate::addr::{PHYS_LIMIT, PhysRange};

impl Memblock<'_> {
    /// Shrinks each region of memory to multiples of `align`, a power of two (Linux: `memblock_trim_memory`).
    pub fn trim_memory(&mut self, align: u64) {
        self.memory.trim(align);
    }

    /// Keeps the first `limit` bytes of memory, and drops memory and reservations above the address where they end
    /// (Linux: `memblock_enforce_memory_limit`). Nothing happens when there is less, or for a limit of zero.
    ///
    /// # Errors
    /// [`Error::Full`] when a region would have to be cut; nothing changes then.
    pub fn enforce_memory_limit(&mut self, limit_bytes: u64) -> Result<(), Error> {
        let Some(above) = self.end_of_first(limit_bytes).and_then(|at| PhysRange::new(at, PHYS_LIMIT)) else {
            return Ok(());
        };
        self.make_room(Array::Memory, Some(above), |regions| regions.nr_cuts(above))?;
        self.make_room_to_free(above)?;
        self.memory.remove_range(above);
        self.free_but_own(above);
        Ok(())
    }

    /// Keeps the first `limit` bytes of memory, drops memory above the address where they end, unless it is not mapped
    /// anyway, and reservations there (Linux: `memblock_mem_limit_remove_map`). Nothing happens when there is less, or for
    /// a limit of zero.
    ///
    /// # Errors
    /// [`Error::Full`] when a region would have to be cut; nothing changes then.
    pub fn mem_limit_remove_map(&mut self, limit_bytes: u64) -> Result<(), Error> {
        match self.end_of_first(limit_bytes).and_then(|at| PhysRange::new(0, at)) {
            Some(kept) => self.cap_memory_range(kept),
            None => Ok(()),
        }
    }

    /// Keeps only the memory and reservations inside `range`, and memory that is not mapped anyway (Linux:
    /// `memblock_cap_memory_range`). An empty range changes nothing.
    ///
    /// # Errors
    /// [`Error::Full`] when a region would have to be cut; nothing changes then.
    pub fn cap_memory_range(&mut self, range: PhysRange) -> Result<(), Error> {
        let outside = [PhysRange::new(0, range.start()), PhysRange::new(range.end(), PHYS_LIMIT)];
        if range.is_empty() {
            return Ok(());
        }
        if self.memory().is_empty() {
            log::warn!("memblock_cap_memory_range: No memory registered yet");
            return Ok(());
        }
        self.make_room(Array::Memory, None, |regions| regions.nr_cuts(range))?;
        self.make_room(Array::Reserved, None, |regions| {
            let cuts = outside.into_iter().flatten().map(|part| regions.nr_cuts(part));
            cuts.sum::<usize>() + NR_ARRAYS
        })?;
        self.memory.isolate(range);
        self.memory.retain(|region| region.flags.contains(Flags::NOMAP) || range.overlaps(region.range));
        for part in outside.into_iter().flatten() {
            self.free_but_own(part);
        }
        Ok(())
    }

    /// The address where the first `limit` bytes of memory end; `None` when there is less, or for a limit of zero.
    fn end_of_first(&self, limit_bytes: u64) -> Option<u64> {
        let mut left = Some(limit_bytes).filter(|&limit| limit > 0)?;
        for region in self.memory() {
            if left <= region.range.len_bytes() {
                return Some(region.range.start() + left);
            }
            left -= region.range.len_bytes();
        }
        None
    }
}
