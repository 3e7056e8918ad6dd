//! munmap: taking areas away, or parts of them, with the pages that they have.

use super::frame::Gather;
use super::{Backing, Mm, MmError};
use crate::addr::{PAGE_SIZE, align_up};
use crate::arch::layout::USER_END;
use crate::areas::SpareNode;
use crate::pgtable::{Prune, VirtRange};
use crate::vma::Vma;

impl<B: Backing> Mm<B> {
    /// Unmaps `len_bytes`, rounded up to pages, from `start` on; where no area is, nothing happens (Linux: `do_munmap`).
    /// Frames are free when it returns.
    ///
    /// # Errors
    /// `Invalid`: not page-aligned, no length, beyond user space. `NoMemory`: an area would be cut in two, and there is no
    /// memory for the second part, or there are too many areas. Nothing has changed then.
    pub fn munmap(&mut self, start: u64, len_bytes: u64, backing: &mut B) -> Result<(), MmError> {
        let range = user_range(start, len_bytes).ok_or(MmError::Invalid)?;
        let end = range.last() + 1;
        let Some(first) = self.areas.find(start).filter(|vma| vma.start() < end) else { return Ok(()) };
        if first.start() < start && end < first.end() {
            self.cut_out(first, range, backing)?;
        } else {
            self.remove_areas(first, range, backing);
        }
        self.unmap_pages(range, backing);
        Ok(())
    }

    /// An area loses its middle and becomes two.
    fn cut_out(&mut self, vma: Vma, range: VirtRange, backing: &mut B) -> Result<(), MmError> {
        if self.areas.nr_areas() >= self.max_map_count {
            return Err(MmError::NoMemory);
        }
        let rest = VirtRange::from_bounds(range.last() + 1, vma.end()).ok_or(MmError::Invalid)?;
        let spare = SpareNode::new(vma.with_range(rest), backing)?;
        self.resize(vma, vma.start(), range.first());
        self.areas.insert(spare);
        self.total_pages -= range.len_bytes() / PAGE_SIZE as u64;
        Ok(())
    }

    /// Areas lose what lies in `range`; none reaches across both its ends.
    fn remove_areas(&mut self, first: Vma, range: VirtRange, backing: &mut B) {
        let (start, end) = (range.first(), range.last() + 1);
        let mut next = Some(first);
        while let Some(vma) = next.filter(|vma| vma.start() < end) {
            let (from, to) = (vma.start().max(start), vma.end().min(end));
            if from > vma.start() {
                self.resize(vma, vma.start(), from);
            } else if to < vma.end() {
                self.resize(vma, to, vma.end());
            } else {
                self.areas.remove(vma.start(), backing);
            }
            self.total_pages -= (to - from) / PAGE_SIZE as u64;
            next = self.areas.find(to);
        }
    }

    /// Takes the pages of `range`, in which no area is any more, out of the page tables, and the tables that no area
    /// needs any more (I2).
    fn unmap_pages(&mut self, range: VirtRange, backing: &mut B) {
        let floor = self.areas.find_before(range.first()).map_or(0, |vma| vma.end());
        let ceiling = self.areas.find(range.first()).map_or(VirtRange::USER.last() + 1, |vma| vma.start());
        let unused = VirtRange::from_bounds(floor, ceiling).unwrap_or(range);
        let mut gather = Gather::new(self.tables.machine(), backing);
        self.tables.clear_range(range, Prune::Within(unused), &mut gather);
        let gone = gather.finish(range);
        self.nr_anon_pages -= gone.nr_anon_pages;
        self.nr_tables -= gone.nr_tables;
    }

    /// Unmaps everything.
    pub(super) fn unmap_all(&mut self, backing: &mut B) {
        while let Some(vma) = self.areas.find(0) {
            self.areas.remove(vma.start(), backing);
            self.total_pages -= vma.range().len_bytes() / PAGE_SIZE as u64;
        }
        self.unmap_pages(VirtRange::USER, backing);
    }
}

/// The pages of a range of bytes in user space; `None` when it starts within a page, is empty or leaves user space.
pub(super) fn user_range(start: u64, len_bytes: u64) -> Option<VirtRange> {
    let len_bytes = align_up(len_bytes, PAGE_SIZE as u64)?;
    let end = start.checked_add(len_bytes).filter(|end| *end <= USER_END)?;
    VirtRange::from_bounds(start, end)
}
