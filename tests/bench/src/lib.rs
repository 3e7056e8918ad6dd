//! The page allocator over the simulated machine, on real cycles, beside published allocators on memory of the same kind.
//!
//! ```text
//! Source     Strata                               no lock on its fast path
//!            Locked<FrameAllocator | Heap | BuddyAlloc | Talc | Tlsf>     behind one lock, as a zone of Strata has it
//! Workload   Pair, Batch, Mix                     what each thread does; a thread is a CPU
//! ```
//! `cargo bench -p strata-bench` runs every workload on every source. Nothing is asserted of the time it takes.

pub mod published;
pub mod source;
pub mod strata;
pub mod workload;
