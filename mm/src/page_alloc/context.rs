//! Contexts: what an allocation may do depends on who makes it, and on whether the system runs yet.
//!
//! ```text
//! boot              nobody waits, nothing is reclaimed (Linux: `gfp_allowed_mask`)
//! set_running()     as flags say; in debug builds, an allocation that may wait where nobody may is a bug, reported once
//!                   for each place in the code
//! ```

use core::panic::Location;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};

use crate::arch;
use crate::gfp::Gfp;

use super::PageAllocator;

/// Flags that mean nothing before the scheduler runs (Linux: the complement of `GFP_BOOT_MASK`).
const NOT_AT_BOOT: Gfp = Gfp::RECLAIM.union(Gfp::IO).union(Gfp::FS);

/// Places in the code that are remembered as reported. When they are used up, further ones are not reported: by then there
/// is enough to mend.
const PLACES: usize = 64;

/// How far the system is, and which places have allocated where they must not.
#[derive(Debug)]
pub(super) struct Running {
    yes: AtomicBool,
    reported: [AtomicPtr<Location<'static>>; PLACES],
}

impl Running {
    pub(super) const fn new() -> Self {
        Self { yes: AtomicBool::new(false), reported: [const { AtomicPtr::new(ptr::null_mut()) }; PLACES] }
    }

    /// Whether a place has not been reported before; it counts as reported then.
    fn is_new(&self, place: &'static Location<'static>) -> bool {
        let this = ptr::from_ref(place).cast_mut();
        for slot in &self.reported {
            match slot.compare_exchange(ptr::null_mut(), this, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) if other == this => return false,
                Err(_) => {}
            }
        }
        false
    }
}

impl PageAllocator {
    /// The scheduler runs: who may wait can do so from now on (Linux: `gfp_allowed_mask` in `kernel_init_freeable`).
    pub fn set_running(&self) {
        self.running.yes.store(true, Relaxed);
    }

    /// The flags less those that mean nothing yet.
    #[inline]
    pub(super) fn allowed(&self, gfp: Gfp) -> Gfp {
        if self.running.yes.load(Relaxed) { gfp } else { gfp - NOT_AT_BOOT }
    }

    /// In debug builds, reports an allocation that may wait in a context that must not (Linux: `might_alloc`).
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn might_alloc(&self, gfp: Gfp) {
        if cfg!(debug_assertions) {
            self.might_alloc_at(gfp, Location::caller());
        }
    }

    /// The same for an allocation at `place`, which may need no page.
    #[inline]
    pub(crate) fn might_alloc_at(&self, gfp: Gfp, place: &'static Location<'static>) {
        if self.allowed(gfp).contains(Gfp::DIRECT_RECLAIM) && !arch::may_sleep() && self.running.is_new(place)
        {
            self.report_sleep(place);
        }
    }

    /// Linux: `__might_resched`.
    #[cold]
    fn report_sleep(&self, place: &Location<'_>) {
        let context = self.hooks.context();
        log::error!(
            "BUG: sleeping function called from invalid context at {}:{}",
            place.file(),
            place.line()
        );
        log::error!(
            "in_atomic(): {}, irqs_disabled(): {}, non_block: 0, pid: {}, name: {}",
            u8::from(context.preempt_count() != 0),
            u8::from(!arch::irqs_enabled()),
            context.pid(),
            super::report::Name(context)
        );
        log::error!("preempt_count: {:x}, expected: 0", context.preempt_count());
        context.dump_stack();
    }
}
