//! What [`refs`](super::refs) takes of the outside world: a file of its own, so that `tests/interleave` can give it the
//! atomics of a model checker instead.

pub(super) use core::sync::atomic::{AtomicU32, Ordering, fence};
