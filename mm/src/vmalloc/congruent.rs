//! Areas that lie at given distances from each other: those of a chunk of per-CPU memory (Linux: `pcpu_get_vm_areas`).

use super::{Caller, Error, Purpose, VmapArea, VmapSpace};
use crate::addr::{VirtAddr, align_down};
use crate::areas::{Area, NodeAlloc, SpareNode};
use crate::pgtable::VirtRange;

/// A wanted area: where from the common base, and how long, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Where it begins.
    pub offset: u64,
    /// Its length, whole pages.
    pub size_bytes: u64,
}

impl<A: NodeAlloc> VmapSpace<A> {
    /// Takes the highest base, a multiple of `align`, from which all `parts` are free, without guard pages between them:
    /// returns the base. Parts are in order of their offsets, and do not overlap. Time: a search for each part, and as many
    /// again for each area that is in the way.
    ///
    /// # Errors
    /// See [`Error`]; nothing is taken then.
    pub fn alloc_congruent(
        &mut self,
        parts: impl Iterator<Item = Part> + Clone,
        align: u64,
        caller: Caller,
        nodes: &mut A,
    ) -> Result<VirtAddr, Error> {
        let base = self.find_congruent(parts.clone(), align)?;
        for (done, part) in parts.clone().enumerate() {
            let area = VirtRange::new(VirtAddr::new_truncate(base + part.offset), part.size_bytes)
                .map(|range| VmapArea { range, purpose: Purpose::PerCpu, caller });
            let spare = area.ok_or(Error::BadRequest).and_then(|area| Ok(SpareNode::new(area, nodes)?));
            match spare {
                Ok(spare) => self.areas.insert(spare),
                Err(error) => {
                    self.free_congruent(VirtAddr::new_truncate(base), parts.take(done), nodes);
                    return Err(error);
                }
            }
        }
        Ok(VirtAddr::new_truncate(base))
    }

    /// Gives all parts back. Nothing is mapped there any more, in no TLB either.
    pub fn free_congruent(&mut self, base: VirtAddr, parts: impl Iterator<Item = Part>, nodes: &mut A) {
        for part in parts {
            let freed = self.free(VirtAddr::new_truncate(base.as_u64() + part.offset), nodes);
            debug_assert!(
                freed.is_some_and(|area| area.range.len_bytes() == part.size_bytes),
                "{part:?} is not there"
            );
        }
    }

    /// From the top down: whatever is in the way of a part moves the base below it.
    fn find_congruent(&self, parts: impl Iterator<Item = Part> + Clone, align: u64) -> Result<u64, Error> {
        let span = parts.clone().map(|part| part.offset + part.size_bytes).max().ok_or(Error::BadRequest)?;
        if !align.is_power_of_two() {
            return Err(Error::BadRequest);
        }
        let highest = (self.window.last() + 1).checked_sub(span).ok_or(Error::NoRoom)?;
        let mut base = align_down(highest, align);
        loop {
            if base < self.window.first() {
                return Err(Error::NoRoom);
            }
            let below = |part: Part| {
                let (start, end) = (base + part.offset, base + part.offset + part.size_bytes);
                let in_way = self.areas.find(start).filter(|area| area.start() < end)?;
                Some((part, in_way.start()))
            };
            let Some((part, start)) = parts.clone().find_map(below) else { return Ok(base) };
            let next = start.checked_sub(part.offset + part.size_bytes).ok_or(Error::NoRoom)?;
            base = align_down(next, align);
        }
    }
}
