//! mprotect: areas, or parts of them, are used otherwise from now on.
//!
//! ```text
//! | aaaaaaaaaaaaaaaa |      the part changes to b:
//! | bbbbbbbbbbbbbbbb |      all of it, then merged with like neighbours
//! | bbbbbb | aaaaaaa |      one end: the neighbour before grows when it is like b, else one area more
//! | aaa | bbbb | aaa |      the middle: two areas more
//! ```

use super::frame;
use super::mmap::area_flags;
use super::munmap::user_range;
use super::{Backing, Mm, MmError};
use crate::addr::PAGE_SIZE;
use crate::areas::SpareNode;
use crate::pgtable::{Access, Entry, EntryFlags, Level, Prot, VirtRange};
use crate::vma::{VmFlags, Vma};

impl<B: Backing> Mm<B> {
    /// Lets `len_bytes`, rounded up to pages, from `start` on be used as `access` (of [`VmFlags::ACCESS`]) says (Linux:
    /// `do_mprotect_pkey`). Pages that become writable are so at once, but the zero page.
    ///
    /// # Errors
    /// `Invalid`: not page-aligned. `NoMemory`: something in the range is not mapped, or an area would be cut and there is
    /// no memory or there are too many areas: what comes before it is changed then, as in Linux. `AccessDenied`.
    pub fn mprotect(
        &mut self,
        start: u64,
        len_bytes: u64,
        access: VmFlags,
        backing: &mut B,
    ) -> Result<(), MmError> {
        if !start.is_multiple_of(PAGE_SIZE as u64) {
            return Err(MmError::Invalid);
        }
        if len_bytes == 0 {
            return Ok(());
        }
        let flags = area_flags(access)?;
        let range = user_range(start, len_bytes).ok_or(MmError::NoMemory)?;
        let end = range.last() + 1;
        let mut at = start;
        while at < end {
            let vma = self.areas.lookup(at).ok_or(MmError::NoMemory)?;
            let to = vma.end().min(end);
            if !vma.is_like(flags)
                && let Some(part) = VirtRange::from_bounds(at, to)
            {
                self.change_area(vma, part, flags, backing)?;
                self.change_pages(part, flags, backing);
            }
            at = to;
        }
        Ok(())
    }

    /// `part` of `vma` gets other flags; areas are cut and merged as the picture above has it (I4).
    fn change_area(
        &mut self,
        vma: Vma,
        part: VirtRange,
        flags: VmFlags,
        backing: &mut B,
    ) -> Result<(), MmError> {
        let (at_start, at_end) = (part.first() == vma.start(), part.last() + 1 == vma.end());
        let before = if at_start { self.like_before(part, flags) } else { None };
        let after = if at_end { self.like_after(part, flags) } else { None };
        match (at_start, at_end) {
            (true, true) => {
                let changed = vma.with_flags(flags);
                self.areas.change(vma, changed);
                self.merge(before, changed, after, backing);
            }
            (true, false) => {
                let changed = Vma::new(part, flags);
                let spare = before.is_none().then(|| self.spare_for_cut(changed, 1, backing)).transpose()?;
                self.resize(vma, part.last() + 1, vma.end());
                self.put(spare, before, |m, b| m.resize(b, b.start(), part.last() + 1));
            }
            (false, true) => {
                let changed = Vma::new(part, flags);
                let spare = after.is_none().then(|| self.spare_for_cut(changed, 1, backing)).transpose()?;
                self.resize(vma, vma.start(), part.first());
                self.put(spare, after, |m, a| m.resize(a, part.first(), a.end()));
            }
            (false, false) => self.cut_middle(vma, part, flags, backing)?,
        }
        Ok(())
    }

    fn put(
        &mut self,
        spare: Option<SpareNode<Vma, B>>,
        like: Option<Vma>,
        grow: impl FnOnce(&mut Self, Vma),
    ) {
        match (spare, like) {
            (Some(spare), _) => self.areas.insert(spare),
            (None, Some(like)) => grow(self, like),
            (None, None) => debug_assert!(false, "neither a new area nor a neighbour"),
        }
    }

    fn cut_middle(
        &mut self,
        vma: Vma,
        part: VirtRange,
        flags: VmFlags,
        backing: &mut B,
    ) -> Result<(), MmError> {
        let rest = VirtRange::from_bounds(part.last() + 1, vma.end()).ok_or(MmError::Invalid)?;
        let middle = self.spare_for_cut(Vma::new(part, flags), 2, backing)?;
        let rest = match SpareNode::new(vma.with_range(rest), backing) {
            Ok(rest) => rest,
            Err(error) => {
                middle.free(backing);
                return Err(error.into());
            }
        };
        self.resize(vma, vma.start(), part.first());
        self.areas.insert(middle);
        self.areas.insert(rest);
        Ok(())
    }

    /// A node for an area that a cut makes, if `nr_more` areas more are allowed (Linux: `split_vma`).
    fn spare_for_cut(&self, vma: Vma, nr_more: usize, backing: &mut B) -> Result<SpareNode<Vma, B>, MmError> {
        if self.areas.nr_areas() + nr_more > self.max_map_count {
            return Err(MmError::NoMemory);
        }
        Ok(SpareNode::new(vma, backing)?)
    }

    /// Makes one of an area and its like neighbours.
    fn merge(&mut self, before: Option<Vma>, vma: Vma, after: Option<Vma>, backing: &mut B) {
        let end = after.map_or(vma.end(), |after| after.end());
        if let Some(after) = after {
            self.areas.remove(after.start(), backing);
        }
        if let Some(before) = before {
            self.areas.remove(vma.start(), backing);
            self.resize(before, before.start(), end);
        } else if after.is_some() {
            self.resize(vma, vma.start(), end);
        }
    }

    /// Gives the pages of `part` the rights that an area with `flags` gives (Linux: `change_protection`).
    fn change_pages(&mut self, part: VirtRange, flags: VmFlags, backing: &mut B) {
        let machine = self.tables.machine();
        let changed = self.tables.update_range(part, |entry, level| {
            debug_assert_eq!(level, Level::Pte);
            let exclusive = !entry.has(EntryFlags::SPECIAL) && frame::is_exclusive(entry, machine);
            with_rights(entry, flags, exclusive)
        });
        changed.flush(backing);
    }
}

/// A leaf with the rights of an area with `flags`: not writable unless its page is the address space's alone.
pub(crate) fn with_rights(entry: Entry, flags: VmFlags, exclusive: bool) -> Entry {
    let access = match flags.access() {
        Access::ReadWrite if !exclusive => Access::Read,
        access => access,
    };
    entry.with_prot(Prot::user(access), Level::Pte)
}
