//! The slab allocator: objects of one size from blocks of pages, and `kmalloc` for any size.
//!
//! ```text
//! kmalloc(size)                Cache::alloc                       Cache::free                kfree(pointer)
//!    | size -> cache, a table     |                                  |                            | page -> slab -> cache
//!    +--------------------------->v                                  v<---------------------------+
//!                          [ magazine of this CPU ]  one pointer moved, interrupts off
//!                                 | empty                            | full: the older half
//!                                 v                                  v
//!                          [ partial slabs of the node ]  one lock for half a magazine
//!                                 | none                             | no object in use, and enough are kept
//!                                 v                                  v
//!                          [ page allocator ]
//! ```
//! Modules: [`geometry`] sizes; `slab` one block of objects; `node` a cache's slabs on a node; `magazine` a CPU's objects;
//! `cache`, `bulk` and `slow` the paths; `build` making and ending caches; `boot` the first ones; `kmalloc`; [`heap`] for
//! Rust's allocator; `info` and `validate` to look in.
//!
//! # Invariants
//! - U1: `caches` lists every cache, the newest first.
//! - U2: the caches of caches, of nodes and of `kmalloc` are never destroyed.
//!
//! # Locking
//! [`Level::SlabCaches`](crate::sync::Level) protects the list of caches; under it a node's lock may be taken. Nothing is allocated under either.
//!
//! # Not here
//! Pages (`page_alloc`). Reclaim calls [`Slub::shrink_all`] when it comes.
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "makes the first caches out of bare pages")]
mod boot;
#[allow(unsafe_code, reason = "makes caches out of memory, and memory out of caches")]
mod build;
#[allow(unsafe_code, reason = "reaches magazines without locks")]
mod bulk;
#[allow(unsafe_code, reason = "reaches magazines without locks")]
mod cache;
pub mod geometry;
#[allow(unsafe_code, reason = "implements GlobalAlloc")]
pub mod heap;
mod info;
#[allow(unsafe_code, reason = "finds the cache of a bare pointer")]
mod kmalloc;
#[allow(unsafe_code, reason = "an array by pointers")]
mod magazine;
#[allow(unsafe_code, reason = "owns the slabs on its lists")]
mod node;
#[allow(unsafe_code, reason = "takes page blocks apart")]
mod pages;
mod params;
mod report;
#[allow(unsafe_code, reason = "links between free objects")]
mod slab;
#[allow(unsafe_code, reason = "moves objects between magazines and slabs")]
mod slow;
#[allow(unsafe_code, reason = "reads magazines and slabs")]
mod validate;

#[cfg(test)]
#[allow(unsafe_code, reason = "frees objects, wrongly on purpose too")]
mod tests;

pub use cache::{Cache, CacheHandle};
pub use kmalloc::{KMALLOC_MAX_CACHE_SIZE, KMALLOC_MAX_SIZE, Kind, ZERO_SIZE_PTR};
pub use pages::PageSource;
pub use params::{CacheFlags, CacheParams, Constructor, Error};
pub use report::Misuse;

use crate::arch::Machine;
use crate::id::{CpuId, NodeId};
use crate::order::Order;
use crate::percpu::PerCpu;
use crate::sync::SpinLock;

use cache::CachePtr;
use magazine::Magazine;

/// How far the slab allocator is (Linux: `enum slab_state`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SlabState {
    /// Nothing works yet.
    Down,
    /// Caches can be made, but `kmalloc` does not work and there are no magazines.
    Partial,
    /// Everything works.
    Up,
}

/// The machine as the slab allocator needs to know it.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    /// CPUs that there can be (Linux: `nr_cpu_ids`); each gets magazines.
    pub nr_cpus: u32,
    /// CPUs that are present. Orders of slabs depend on it.
    pub present_cpus: u32,
    /// Nodes that there can be (Linux: `nr_node_ids`).
    pub nr_nodes: usize,
    /// Slabs are not larger unless a single object is (Linux: `slub_max_order`): [`MAX_SLAB_ORDER`](geometry::MAX_SLAB_ORDER)
    /// or less.
    pub max_order: Order,
    /// The node that a CPU's objects should come from: with memory, and below `nr_nodes`.
    pub node_of: &'a dyn Fn(CpuId) -> NodeId,
}

impl core::fmt::Debug for Config<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Config")
            .field("nr_cpus", &self.nr_cpus)
            .field("present_cpus", &self.present_cpus)
            .field("nr_nodes", &self.nr_nodes)
            .field("max_order", &self.max_order)
            .finish_non_exhaustive()
    }
}

/// All slab caches of a machine, and `kmalloc` over them.
pub struct Slub<'a> {
    kmalloc: kmalloc::Table<'a>,
    machine: Machine,
    pages: &'a dyn pages::PageSource,
    state: SlabState,
    nr_cpus: u32,
    present_cpus: u32,
    nr_nodes: usize,
    max_order: Order,
    kmem_cache: CachePtr<'a>,
    kmem_cache_node: CachePtr<'a>,
    /// Magazines without room, shared by all caches that keep nothing back.
    no_magazines: PerCpu<Magazine>,
    caches: SpinLock<Option<CachePtr<'a>>>,
}

impl core::fmt::Debug for Slub<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Slub").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<'a> Slub<'a> {
    /// How far it is: [`SlabState::Up`] once [`init`](Self::init) has returned.
    pub fn state(&self) -> SlabState {
        self.state
    }

    /// CPUs whose number decides the orders of slabs: those present, or the possible ones when only one is.
    fn cpus_for_order(&self) -> u32 {
        if self.present_cpus > 1 { self.present_cpus } else { self.nr_cpus }
    }

    /// Sends the objects of all of this CPU's magazines back to their slabs.
    pub fn drain_this_cpu(&self) {
        self.for_each(|cache| cache.drain_this_cpu());
    }

    /// Gives every slab without objects in use back to the page allocator; bytes. Objects in magazines count as in use:
    /// [`drain_this_cpu`](Self::drain_this_cpu) on each CPU first.
    pub fn shrink_all(&self) -> usize {
        let mut bytes = 0;
        self.for_each(|cache| bytes += cache.shrink());
        bytes
    }
}
