//! `mm::page`, as far as CPUs race for it.

/// The model checker's atomics.
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU32, Ordering, fence};
}

#[path = "../../../mm/src/page/refs.rs"]
pub mod refs;
