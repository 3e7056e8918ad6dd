//! Typed access to the registers of a mapped device.
//!
//! # Invariants
//! - I1: the bytes of an [`Mmio`] are mapped as long as what it is borrowed from.

use core::marker::PhantomData;
use core::ptr::NonNull;

use volatile::VolatilePtr;

/// A type that the processor reads or writes in one access.
pub trait Register: Copy + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! register {
    ($($int:ty),*) => {$(
        impl sealed::Sealed for $int {}
        impl Register for $int {}
    )*};
}

register!(u8, u16, u32, u64);

/// A device's registers, mapped somewhere.
#[derive(Clone, Copy, Debug)]
pub struct Mmio<'a> {
    start: NonNull<u8>,
    len_bytes: usize,
    _mapped: PhantomData<&'a ()>,
}

impl<'a> Mmio<'a> {
    /// The registers at `start`.
    ///
    /// # Safety
    /// The bytes are a device's, mapped for `'a`.
    pub(super) const unsafe fn new(start: NonNull<u8>, len_bytes: usize) -> Self {
        Self { start, len_bytes, _mapped: PhantomData }
    }

    /// How many bytes there are.
    pub const fn len_bytes(self) -> usize {
        self.len_bytes
    }

    /// The register at `offset` bytes, `None` when it is not inside, whole and aligned to its size. Each access is made
    /// once, with the register's width (Linux: `readb` to `writeq`).
    pub fn register<T: Register>(self, offset: usize) -> Option<VolatilePtr<'a, T>> {
        let inside = offset.checked_add(size_of::<T>())? <= self.len_bytes;
        let at = self.start.as_ptr().wrapping_add(offset);
        if !inside || !at.addr().is_multiple_of(size_of::<T>()) {
            return None;
        }
        // SAFETY: inside what is mapped (I1), and aligned; any bits are a value of an integer.
        Some(unsafe { VolatilePtr::new(NonNull::new(at)?.cast()) })
    }
}
