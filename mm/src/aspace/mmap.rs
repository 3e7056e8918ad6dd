//! mmap: finding a place and putting an area there.

use super::{Backing, MMAP_BASE, MMAP_MIN_ADDR, Mm, MmError};
use crate::addr::{PAGE_SIZE, VirtAddr, align_down, align_up};
use crate::arch::layout::USER_END;
use crate::areas::{Direction, SpareNode};
use crate::pgtable::VirtRange;
use crate::vma::{VmFlags, Vma};

/// Where a mapping is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Wherever there is room, downwards from [`MMAP_BASE`].
    Any,
    /// There when it is free, else wherever there is room.
    Hint(u64),
    /// There, instead of what is there (Linux: `MAP_FIXED`).
    Fixed(u64),
    /// There, when it is free (Linux: `MAP_FIXED_NOREPLACE`).
    FixedNoReplace(u64),
}

/// Where upward searches start (Linux: `TASK_UNMAPPED_BASE`).
const UNMAPPED_BASE: u64 = 0x2aaa_aaaa_b000;

impl<B: Backing> Mm<B> {
    /// Maps `len_bytes`, rounded up to pages, of private anonymous memory that `access` (of [`VmFlags::ACCESS`]) says the
    /// use of; returns where it starts. Logarithmic in the number of areas, plus what a fixed placement has to unmap
    /// (Linux: `do_mmap` with `MAP_PRIVATE | MAP_ANONYMOUS`).
    ///
    /// # Errors
    /// `Invalid`: no length, or a fixed address that is not page-aligned. `NoMemory`: no memory, no room, too many areas,
    /// beyond user space. `Exists`, `NotPermitted`, `AccessDenied`: as they say. Nothing has changed then, but that what a
    /// fixed placement replaces may be unmapped.
    pub fn mmap(
        &mut self,
        len_bytes: u64,
        access: VmFlags,
        placement: Placement,
        backing: &mut B,
    ) -> Result<VirtAddr, MmError> {
        let flags = area_flags(access)?;
        if len_bytes == 0 {
            return Err(MmError::Invalid);
        }
        let len_bytes = align_up(len_bytes, PAGE_SIZE as u64).ok_or(MmError::NoMemory)?;
        // Linux too lets the count get one above the limit here.
        if len_bytes > USER_END || self.areas.nr_areas() > self.max_map_count {
            return Err(MmError::NoMemory);
        }
        let start = self.place(len_bytes, placement)?;
        let range = VirtRange::from_bounds(start, start + len_bytes).ok_or(MmError::NoMemory)?;
        let spare = SpareNode::new(Vma::new(range, flags), backing)?;
        if matches!(placement, Placement::Fixed(_))
            && let Err(error) = self.munmap(start, len_bytes, backing)
        {
            spare.free(backing);
            return Err(error);
        }
        self.add_area(range, flags, spare, backing);
        Ok(range.start())
    }

    fn place(&self, len_bytes: u64, placement: Placement) -> Result<u64, MmError> {
        match placement {
            Placement::Any => self.find_room(len_bytes),
            Placement::Hint(hint) => {
                let mut at = align_down(hint, PAGE_SIZE as u64);
                if at != 0 && at < MMAP_MIN_ADDR {
                    at = MMAP_MIN_ADDR;
                }
                let fits = at != 0 && at <= USER_END - len_bytes && self.is_free(at, len_bytes);
                if fits { Ok(at) } else { self.find_room(len_bytes) }
            }
            Placement::Fixed(at) | Placement::FixedNoReplace(at) => {
                if at > USER_END - len_bytes {
                    return Err(MmError::NoMemory);
                }
                if !at.is_multiple_of(PAGE_SIZE as u64) {
                    return Err(MmError::Invalid);
                }
                if at < MMAP_MIN_ADDR {
                    return Err(MmError::NotPermitted);
                }
                if matches!(placement, Placement::FixedNoReplace(_)) && !self.is_free(at, len_bytes) {
                    return Err(MmError::Exists);
                }
                Ok(at)
            }
        }
    }

    fn is_free(&self, at: u64, len_bytes: u64) -> bool {
        self.areas.find(at).is_none_or(|vma| at + len_bytes <= vma.start())
    }

    /// Room below the mmap base, or else anywhere above the bottom of what upward searches use.
    fn find_room(&self, len_bytes: u64) -> Result<u64, MmError> {
        self.areas
            .find_room(len_bytes, MMAP_MIN_ADDR, MMAP_BASE, Direction::TopDown)
            .or_else(|| self.areas.find_room(len_bytes, UNMAPPED_BASE, USER_END, Direction::BottomUp))
            .ok_or(MmError::NoMemory)
    }

    /// Puts an area over `range`, where none is, or grows like neighbours over it (I4).
    fn add_area(&mut self, range: VirtRange, flags: VmFlags, spare: SpareNode<Vma, B>, backing: &mut B) {
        self.total_pages += range.len_bytes() / PAGE_SIZE as u64;
        let (before, after) = (self.like_before(range, flags), self.like_after(range, flags));
        match (before, after) {
            (None, None) => return self.areas.insert(spare),
            (Some(before), None) => self.resize(before, before.start(), range.last() + 1),
            (None, Some(after)) => self.resize(after, range.first(), after.end()),
            (Some(before), Some(after)) => {
                self.areas.remove(after.start(), backing);
                self.resize(before, before.start(), after.end());
            }
        }
        spare.free(backing);
    }

    /// Moves an area's bounds, over addresses that are its own or no area's.
    pub(super) fn resize(&mut self, vma: Vma, start: u64, end: u64) {
        let range = VirtRange::from_bounds(start, end);
        debug_assert!(range.is_some(), "{vma:?} to {start:#x}..{end:#x}");
        if let Some(range) = range {
            self.areas.change(vma, vma.with_range(range));
        }
    }
}

/// The flags of an area that is used in that way.
pub(super) fn area_flags(access: VmFlags) -> Result<VmFlags, MmError> {
    if !VmFlags::ACCESS.contains(access) {
        return Err(MmError::Invalid);
    }
    if access.contains(VmFlags::WRITE | VmFlags::EXEC) {
        return Err(MmError::AccessDenied);
    }
    Ok(access | VmFlags::MAY)
}
