//! Memory that memblock itself uses or hands out as slices: the only place that touches what the ranges stand for.

#![allow(unsafe_code)]

use core::panic::Location;
use core::slice;

use super::alloc::{OnNode, Request};
use super::regions::Regions;
use super::{Array, Debug, Error, Flags, Memblock, Region};
use crate::addr::{PAGE_SIZE, PhysAddr, PhysRange};
use crate::arch::Machine;

impl<'a> Memblock<'a> {
    /// From now on the arrays grow when they are full, and memory can be handed out as slices (Linux:
    /// `memblock_allow_resize`).
    ///
    /// # Safety
    /// Memory that is free here below the current limit, now and after each later change, is mapped writable by
    /// `machine` for `'a`, and nobody else uses it; a range that was handed out is not freed while it is used.
    pub unsafe fn allow_resize(&mut self, machine: Machine) {
        self.machine = Some(machine);
    }

    /// Allocates `len` values, each `fill`.
    ///
    /// # Errors
    /// [`Error::NotMapped`] before [`allow_resize`](Self::allow_resize), and as [`alloc`](Self::alloc).
    #[track_caller]
    pub fn alloc_slice<T: Copy>(&mut self, len: usize, fill: T, on: OnNode) -> Result<&'a mut [T], Error> {
        let machine = self.machine.ok_or(Error::NotMapped)?;
        if len == 0 {
            return Ok(&mut []);
        }
        let size = len.checked_mul(size_of::<T>()).filter(|&s| s > 0).ok_or(Error::BadRequest)?;
        let request = Request::new(size as u64).align(align_of::<T>().max(64) as u64).on(on);
        self.trace_alloc("memblock_alloc_try_nid", &request, Location::caller());
        let range = self.alloc_loosely(request)?;
        let first = machine.phys_to_virt(PhysAddr::new(range.start())).cast::<T>();
        for i in 0..len {
            // SAFETY: I2: the range was free below the limit until now, so it is mapped and ours; it holds `len`.
            unsafe { first.add(i).write(fill) };
        }
        // SAFETY: as above, and each value is initialised; the range is reserved, so nobody else is given it.
        Ok(unsafe { slice::from_raw_parts_mut(first, len) })
    }

    /// Allocates a range filled with zeroes (Linux: `memblock_alloc_try_nid`).
    ///
    /// # Errors
    /// As [`alloc_slice`](Self::alloc_slice).
    #[track_caller]
    pub fn alloc_zeroed(&mut self, request: Request) -> Result<PhysRange, Error> {
        let machine = self.machine.ok_or(Error::NotMapped)?;
        self.trace_alloc("memblock_alloc_try_nid", &request, Location::caller());
        let range = self.alloc_loosely(request)?;
        let first = machine.phys_to_virt(PhysAddr::new(range.start()));
        // SAFETY: I2: the range was free below the limit until now, so it is mapped and ours.
        unsafe { first.write_bytes(0, range.len_bytes() as usize) };
        Ok(range)
    }

    /// Where a slice that was handed out is in physical memory: to free it. `None` for an empty one.
    pub fn range_of<T>(&self, slice: &[T]) -> Option<PhysRange> {
        if size_of_val(slice) == 0 {
            return None;
        }
        let start = self.machine?.virt_to_phys(slice.as_ptr().cast());
        PhysRange::from_size(start.as_u64(), size_of_val(slice) as u64)
    }

    /// Makes the array grow until it has the room that `needs` says; if that cannot be, nothing has changed but perhaps
    /// the size of arrays. None comes to lie in `avoid`: what is about to be reserved, freed or removed.
    pub(super) fn make_room(
        &mut self,
        array: Array,
        avoid: Option<PhysRange>,
        needs: impl Fn(&Regions<'a>) -> usize,
    ) -> Result<(), Error> {
        // Counted anew each time: the reserved array gets the new array's own range, too.
        while self.array(array).is_some_and(|regions| !regions.has_room(needs(regions))) {
            self.double(array, avoid)?;
        }
        Ok(())
    }

    /// Room for [`free_but_own`](Self::free_but_own).
    pub(super) fn make_room_to_free(&mut self, range: PhysRange) -> Result<(), Error> {
        let own = self.own_arrays().filter(|own| own.overlaps(range)).count();
        self.make_room(Array::Reserved, Some(range), |regions| regions.nr_cuts(range) + own)
    }

    /// Makes a range free, except where the arrays are (I3). There is room.
    pub(super) fn free_but_own(&mut self, range: PhysRange) {
        self.reserved.remove_range(range);
        let own = [self.memory.own, self.reserved.own, self.physmem.as_ref().and_then(|p| p.own)];
        for own in own.into_iter().flatten().filter(|own| own.overlaps(range)) {
            self.reserved.add(own, None, Flags::empty());
        }
    }

    /// (Linux: `memblock_double_array`.)
    fn double(&mut self, array: Array, avoid: Option<PhysRange>) -> Result<(), Error> {
        let machine = self.machine.ok_or(Error::Full)?;
        let Some(regions) = self.array(array) else { return Ok(()) };
        let old_max = regions.max();
        let new_max = (old_max * 2).max(4);
        let size = (new_max * size_of::<Region>()) as u64;
        if array != Array::Reserved {
            // For the new array, and for a cut where an old one is freed. First, because this can fail.
            let needs = 1 + usize::from(regions.own.is_some());
            self.make_room(Array::Reserved, avoid, |_| needs)?;
        }
        let Some(place) = self.find_array(size, avoid) else {
            log::error!(
                "memblock: Failed to double {} array from {old_max} to {new_max} entries !",
                array.name()
            );
            return Err(Error::Full);
        };
        if self.debug == Debug::On {
            let (start, last) = (place.start(), place.start() + size - 1);
            log::info!("memblock: {} is doubled to {new_max} at [{start:#018x}-{last:#018x}]", array.name());
        }
        let first = machine.phys_to_virt(PhysAddr::new(place.start())).cast::<Region>();
        for i in 0..new_max {
            // SAFETY: I2: `place` was free and below the limit, so it is mapped and nobody's; it is page-aligned and
            // holds `new_max` regions. It is reserved below, before anything else is allocated.
            unsafe { first.add(i).write(Region::EMPTY) };
        }
        // SAFETY: as above, and all regions are initialised.
        let slots = unsafe { slice::from_raw_parts_mut(first, new_max) };
        let Some(regions) = self.array(array) else { return Ok(()) };
        regions.move_to(slots);
        // There is room now for both: a doubled reserved array was full before, and has as much again.
        if let Some(old) = regions.own.replace(place) {
            self.trace("memblock_phys_free", old, Location::caller());
            self.reserved.remove_range(old);
        }
        self.trace("memblock_reserve", place, Location::caller());
        self.reserved.add(place, None, Flags::empty());
        Ok(())
    }

    /// A place of whole pages for an array, above `avoid` if that can be, else below.
    fn find_array(&self, size: u64, avoid: Option<PhysRange>) -> Option<PhysRange> {
        let pages = Request::pages(size.div_ceil(PAGE_SIZE as u64)).below(self.limit);
        match avoid {
            None => self.find(&pages),
            Some(avoid) => self
                .find(&pages.from(avoid.end()))
                .or_else(|| self.find(&pages.below(avoid.start().min(self.limit)))),
        }
    }
}
