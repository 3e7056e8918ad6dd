//! Page tables of x86_64: four levels, one walker for all of them.
//!
//! ```text
//! level   the levels and how they cut a range of addresses
//! entry   an entry and its flags; Prot: what a leaf may allow, never write and execute at once
//! cache   how pages are cached, and the page attribute table
//! table   512 entries in a frame; TableSource: where frames come from
//! tree    the root; walking down; splitting large pages
//! map     map_range, unmap_range, protect_range; what must be flushed and freed afterwards
//! pages   single pages mapped one after the other, and taken out with their tables left
//! slot    one user address's last-level entry, for page faults
//! walk    every mapped page; W^X and stray-mapping checks
//! direct  which physical memory the direct map covers
//! presence   pages made inaccessible and accessible again where they are mapped
//! ```
//!
//! # Locking
//! None of its own: changing takes `&mut PageTable`, but for `presence`, whose tables do not change. The MMU changes the bits `ACCESSED` and `DIRTY` behind our back, so
//! entries are atomic. The kernel's tree stands behind a lock that sleeps, a process's behind its address
//! space's lock.

mod cache;
mod direct;
mod entry;
mod level;
mod map;
mod pages;
mod presence;
mod slot;
mod table;
mod tree;
mod walk;

pub use cache::{CacheMode, PAT};
pub use direct::{NearTables, direct_map_ranges};
pub use entry::{Access, Entry, EntryFlags, Prot};
pub use level::{ENTRIES, Level, PageSize, VirtRange};
pub use map::{Changed, LocalTlb, PageCounts, Prune, Removed, Tlb, Unmapped};
pub use presence::{LeafEntries, NotLeaves, Presence};
pub(crate) use slot::Slot;
pub use table::{OutOfMemory, TableList, TableSource};
pub use tree::{MapError, PageTable, Translation};
pub use walk::{Leaf, StrayMapping, WxReport, WxViolation};

#[cfg(test)]
mod tests;
