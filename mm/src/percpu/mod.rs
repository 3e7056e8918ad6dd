//! Memory that each CPU has of its own, at the same place of each CPU's part: `alloc_percpu`.
//!
//! ```text
//!              CPU 0's unit      CPU 1's unit         ...        what is allocated has a copy in each unit,
//! first chunk | static | dyn |  | static | dyn |                 `offsets[cpu]` bytes from its address
//!                  <- offsets[1] ->
//! chunk 1     |              |  |              |                 the same distances in every chunk
//! chunk 2     |              |  |              |
//!
//! embed      how units lie: sizes, groups of CPUs          handle   PerCpuBox<T>: owned, freed on drop
//! alloc      allocating and freeing                        balance  pages and chunks, got and given back in time
//! chunk      a chunk; lists by what fits into them         source   where addresses and pages come from
//! map        what is taken in a chunk, which pages there are
//! kept       what was freed a moment ago
//! runs       free runs, found without looking at all       table    memory of a size known at run time
//! slots      PerCpu<T>: data of CPUs in memory that is given, for who comes before an allocator
//! ```
//! (Linux: `mm/percpu.c`.) Chunks other than the first lie in the vmalloc space, and have memory page by page: the same pages
//! of all units. Free areas with memory are kept in trees, so that neither allocating nor freeing searches; only what needs
//! new pages looks for a place, and it may sleep.
//!
//! # Invariants
//! - I1: every chunk has the same units: `offsets[cpu]` leads from an address of CPU 0's first unit's group to the CPU's copy.
//! - I2: what is allocated has memory in the unit of every possible CPU until it is freed, and is zero at first.
//!
//! # Locking
//! The lock [`Level::PerCpu`](crate::sync::Level::PerCpu) protects all lists, all maps and the sums. Pages and chunks come
//! and go under the source's sleeping lock ([`ChunkSource::serialise`]), taken first: who has it knows that the set of
//! chunks, and which pages have memory, change by nobody else.

mod alloc;
mod balance;
mod chunk;
#[deny(unsafe_code)]
mod embed;
mod handle;
#[deny(unsafe_code)]
mod kept;
#[deny(unsafe_code)]
mod map;
#[deny(unsafe_code)]
mod runs;
mod slots;
mod source;
mod table;
#[cfg(test)]
mod tests;

pub use alloc::{Allocation, Error, PerCpuAllocator};
pub use embed::{DYNAMIC_BYTES, Embedding, Group, MIN_UNIT_BYTES, Sizes};
pub use handle::{OnThisCpu, PerCpuBox};
pub use slots::PerCpu;
pub use source::ChunkSource;

/// The largest allocation (Linux: the same, `PCPU_MIN_UNIT_SIZE`).
pub const MAX_BYTES: usize = MIN_UNIT_BYTES;
