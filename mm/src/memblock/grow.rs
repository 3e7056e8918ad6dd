//! Memory that memblock itself uses or hands out as slices: the only place that touches what the ranges stand for.

#![allow(unsafe_code)]

use core::panic::Location;
use core::slice;

use super::alloc::{OnNode, Request};
use super::iter::Filter;
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

    /// Makes the array grow until it has the room that `needs` says. `incoming` is the range that is about to be added:
    /// it may be free still, and must not become the array.
    pub(super) fn make_room(
        &mut self,
        array: Array,
        incoming: PhysRange,
        needs: impl Fn(&Regions<'a>) -> usize,
    ) -> Result<(), Error> {
        loop {
            let regions = self.array(array);
            // Counted anew each time: the reserved array gets the new array's own range, too.
            if regions.has_room(needs(regions)) {
                return Ok(());
            }
            self.double(array, incoming)?;
        }
    }

    /// (Linux: `memblock_double_array`.)
    fn double(&mut self, array: Array, incoming: PhysRange) -> Result<(), Error> {
        let machine = self.machine.ok_or(Error::Full)?;
        let old_max = self.array(array).max();
        let new_max = (old_max * 2).max(4);
        let size = (new_max * size_of::<Region>()).next_multiple_of(PAGE_SIZE) as u64;
        let Some(place) = self.find_array(array, size, incoming) else {
            log::error!(
                "memblock: Failed to double {} array from {old_max} to {new_max} entries !",
                array.name()
            );
            return Err(Error::Full);
        };
        if self.debug == Debug::On {
            let (start, last) = (place.start(), place.end() - 1);
            log::info!("memblock: {} is doubled to {new_max} at [{start:#018x}-{last:#018x}]", array.name());
        }
        if array == Array::Memory {
            // Before it is used, because this can fail.
            self.add_range(Array::Reserved, place, None, Flags::empty())?;
        }
        let first = machine.phys_to_virt(PhysAddr::new(place.start())).cast::<Region>();
        for i in 0..new_max {
            // SAFETY: I2: `place` was free and below the limit, so it is mapped and nobody's; it is page-aligned and
            // holds `new_max` regions. It is reserved above, or below before anything else is allocated.
            unsafe { first.add(i).write(Region::EMPTY) };
        }
        // SAFETY: as above, and all regions are initialised.
        let slots = unsafe { slice::from_raw_parts_mut(first, new_max) };
        let regions = self.array(array);
        regions.move_to(slots);
        let old = regions.own.replace(place);
        if array == Array::Reserved {
            self.add_range(Array::Reserved, place, None, Flags::empty())?;
        }
        if let Some(old) = old
            && self.remove_range(Array::Reserved, old).is_err()
        {
            log::warn!("memblock: the old {} array {old} stays reserved", array.name());
        }
        Ok(())
    }

    /// A place for an array: only the reserved one must stay clear of `incoming`, as that is what is being reserved.
    fn find_array(&self, array: Array, size: u64, incoming: PhysRange) -> Option<PhysRange> {
        let request = Request::new(size).align(PAGE_SIZE as u64);
        let any = Filter { node: None, ..self.filter_for(None) };
        match array {
            Array::Memory => self.find_with(&request, any),
            Array::Reserved => self
                .find_with(&request.from(incoming.end()), any)
                .or_else(|| self.find_with(&request.below(incoming.start()), any)),
        }
    }
}
