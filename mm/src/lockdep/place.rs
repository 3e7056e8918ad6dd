//! A place in the source that an atomic leads to.
//!
//! # Invariants
//! - P1: the pointer is null or comes from a `&'static Location`.

use core::panic::Location;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Where something was done; none at first.
#[derive(Debug)]
pub(super) struct Place(AtomicPtr<Location<'static>>);

impl Place {
    pub(super) const fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn get(&self) -> Option<&'static Location<'static>> {
        // SAFETY: null or a static location (P1). Locations are constants, so nothing has to be ordered before them.
        unsafe { self.0.load(Ordering::Relaxed).as_ref() }
    }

    pub(super) fn set(&self, at: &'static Location<'static>) {
        self.0.store(ptr::from_ref(at).cast_mut(), Ordering::Relaxed);
    }
}
