//! Many objects at once.
//!
//! ```text
//! alloc_bulk:  from the magazine  --empty-->  the slow path brings one, and half a magazine more  --> from the magazine ...
//! free_bulk:   into the magazine  --full--->  the older half back to their slabs                  --> into the magazine ...
//! ```

use core::ptr::NonNull;

use super::cache::Cache;
use super::params::Error;
use crate::arch::IrqGuard;
use crate::gfp::Gfp;

impl Cache<'_> {
    /// Fills `objects` with as many objects, or none (Linux: `kmem_cache_alloc_bulk`). Any context that [`alloc`](Self::alloc)
    /// is for. Some 5 instructions an object that this CPU's magazine has.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when there are not so many; those that were taken are back, and `objects` is as it was.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn alloc_bulk(&self, gfp: Gfp, objects: &mut [Option<NonNull<u8>>]) -> Result<(), Error> {
        self.might_alloc(gfp);
        let mut at = 0;
        while at < objects.len() {
            at += self.pop_into(&mut objects[at..]);
            let Some(slot) = objects.get_mut(at) else { break };
            match self.alloc_slow(gfp, None) {
                Ok(object) => *slot = Some(object),
                Err(error) => {
                    for object in objects[..at].iter_mut().filter_map(Option::take) {
                        // SAFETY: just taken from this cache.
                        unsafe { self.free(object) };
                    }
                    return Err(error);
                }
            }
            at += 1;
        }
        if gfp.contains(Gfp::ZERO) {
            objects.iter().flatten().for_each(|&object| self.zero(object));
        }
        Ok(())
    }

    /// Moves objects of this CPU's magazine, the newest first, to the first of `objects`; how many.
    #[inline]
    fn pop_into(&self, objects: &mut [Option<NonNull<u8>>]) -> usize {
        let irq = IrqGuard::new();
        // SAFETY: the closure does not come back to the magazines.
        unsafe { self.magazines.with(&irq, |magazine| magazine.pop_into(objects)) }
    }

    /// Takes many objects back and empties their slots (Linux: `kmem_cache_free_bulk`); as [`free`](Self::free) each, but for
    /// the time: some 5 instructions an object when this CPU's magazine has room.
    ///
    /// # Safety
    /// As for [`free`](Self::free).
    pub unsafe fn free_bulk(&self, objects: &mut [Option<NonNull<u8>>]) {
        if self.is_checked() {
            for object in objects.iter_mut().filter_map(Option::take) {
                // SAFETY: the caller's promise.
                unsafe { self.free(object) };
            }
            return;
        }
        let mut at = 0;
        while at < objects.len() {
            let irq = IrqGuard::new();
            // SAFETY: the closure does not come back to the magazines; the objects are given to us (M2).
            at += unsafe { self.magazines.with(&irq, |magazine| magazine.push_from(&mut objects[at..])) };
            drop(irq);
            let Some(slot) = objects.get_mut(at) else { break };
            if let Some(object) = slot.take() {
                self.free_slow(object);
            }
            at += 1;
        }
    }
}
