//! Making caches and ending them.
//!
//! ```text
//! kmem_cache object:   [ Cache | nodes: pointer, pointer, ... ]      pointers -> kmem_cache_node objects
//! kmalloc:             [ Magazine of CPU 0 | CPU 1 | ... | entries of CPU 0 | CPU 1 | ... ]
//! ```
//!
//! # Invariants
//! - D1: objects of `kmem_cache` have room for a [`Cache`] and a pointer for each node; those of `kmem_cache_node` for a
//!   [`SlabNode`]. Both are aligned to cache lines.

use core::cell::UnsafeCell;
use core::mem::size_of;
use core::ptr::NonNull;

use super::Slub;
use super::cache::{Cache, CacheHandle, CachePtr};
use super::geometry::{CACHE_LINE, FreeLink, Geometry, alignment};
use super::kmalloc::KMALLOC_MAX_SIZE;
use super::magazine::Magazine;
use super::node::{SlabNode, new_node};
use super::params::{CacheFlags, CacheParams, Error};
use crate::gfp::Gfp;
use crate::id::{CpuId, NodeId};
use crate::order::Order;
use crate::percpu::PerCpu;

/// Bytes of an object of the cache of caches.
pub(super) const fn cache_bytes(nr_nodes: usize) -> usize {
    size_of::<Cache<'_>>() + nr_nodes * size_of::<NonNull<SlabNode>>()
}

const _: () = assert!(size_of::<Cache<'_>>().is_multiple_of(8) && align_of::<Cache<'_>>() <= CACHE_LINE);
const _: () = assert!(align_of::<SlabNode>() <= CACHE_LINE);

/// Sizes of the cache that is asked for.
pub(super) fn geometry(params: &CacheParams<'_>, cpus: u32, max: Order) -> Result<Geometry, Error> {
    let valid = params.align == 0 || params.align.is_power_of_two();
    if params.name.is_empty() || params.object_size == 0 || !valid {
        return Err(Error::Invalid);
    }
    let align = alignment(params.object_size, params.align, params.flags.contains(CacheFlags::HWCACHE_ALIGN));
    let keeps_contents = params.flags.contains(CacheFlags::TYPESAFE_BY_RCU) || params.constructor.is_some();
    let link = if keeps_contents { FreeLink::Behind } else { FreeLink::Inside };
    Geometry::new(params.object_size, align, link, cpus, max).ok_or(Error::TooLarge)
}

/// What the flags add to allocations of slabs (Linux: `allocflags`).
fn slab_gfp(flags: CacheFlags) -> Gfp {
    let mut gfp = Gfp::empty();
    if flags.contains(CacheFlags::CACHE_DMA) {
        gfp |= Gfp::DMA;
    }
    if flags.contains(CacheFlags::RECLAIM_ACCOUNT) {
        gfp |= Gfp::RECLAIMABLE;
    }
    gfp
}

impl<'a> Slub<'a> {
    /// A new cache (Linux: `kmem_cache_create`). May sleep.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooLarge`], [`Error::NoMemory`].
    ///
    /// # Panics
    /// Instead of an error, with [`CacheFlags::PANIC`].
    pub fn create(&self, params: CacheParams<'a>) -> Result<CacheHandle<'a>, Error> {
        match self.make_cache(&params, true) {
            Ok(cache) => Ok(CacheHandle(cache)),
            Err(error) if params.flags.contains(CacheFlags::PANIC) => {
                panic!("kmem_cache_create: Failed to create slab '{}': {error}", params.name)
            }
            Err(error) => Err(error),
        }
    }

    /// A new cache on the list of all, with magazines or without room in them.
    pub(super) fn make_cache(
        &self,
        params: &CacheParams<'a>,
        magazines: bool,
    ) -> Result<CachePtr<'a>, Error> {
        let geometry = geometry(params, self.cpus_for_order(), self.max_order)?;
        let memory = self.kmem_cache.alloc(Gfp::KERNEL)?;
        // SAFETY: a new object of the cache of caches (D1).
        let cache = unsafe { self.write_cache(memory, params, geometry) };
        let made = self.make_nodes(cache).and_then(|()| match magazines {
            true => self.make_magazines(cache),
            false => Ok(()),
        });
        if let Err(error) = made {
            self.free_cache(cache);
            return Err(error);
        }
        self.list(cache);
        Ok(cache)
    }

    /// Writes a cache without nodes and without room in its magazines.
    ///
    /// # Safety
    /// `memory` is the caller's own, as D1 says.
    pub(super) unsafe fn write_cache(
        &self,
        memory: NonNull<u8>,
        params: &CacheParams<'a>,
        geometry: Geometry,
    ) -> CachePtr<'a> {
        let at = memory.cast::<Cache<'a>>();
        // SAFETY: room for the cache and behind it the pointers (D1); shared magazines outlive all caches (U2).
        unsafe {
            at.write(Cache {
                magazines: self.no_magazines.alias(),
                several_nodes: self.nr_nodes > 1,
                machine: self.machine,
                flags: params.flags,
                gfp: slab_gfp(params.flags),
                constructor: params.constructor,
                geometry,
                nr_nodes: 0,
                nodes: memory.add(size_of::<Cache<'a>>()).cast(),
                pages: self.pages,
                name: params.name,
                next: UnsafeCell::new(None),
            });
            CachePtr::new(at)
        }
    }

    /// Gives a cache that nobody else knows its nodes, each in its own memory.
    fn make_nodes(&self, cache: CachePtr<'a>) -> Result<(), Error> {
        for node in 0..self.nr_nodes {
            let memory = self.kmem_cache_node.alloc_node(Gfp::KERNEL, NodeId(node as u16))?;
            // SAFETY: a new object of the cache of nodes (D1); the cache is ours alone.
            unsafe { add_node(cache, memory) };
        }
        Ok(())
    }

    /// Gives a cache that nobody else knows, or that boot alone uses, magazines for as many objects as Linux keeps per CPU;
    /// for fewer when there are so many CPUs that one block of pages has no room for all (from some 4000 on).
    pub(super) fn make_magazines(&self, cache: CachePtr<'a>) -> Result<(), Error> {
        let heads = PerCpu::<Magazine>::layout(self.nr_cpus).ok_or(Error::TooLarge)?.size();
        let room = KMALLOC_MAX_SIZE.saturating_sub(heads) / self.nr_cpus as usize;
        let wanted = (cache.geometry.cpu_partial as usize * size_of::<u64>()).next_multiple_of(CACHE_LINE);
        let stride = wanted.min(room - room % CACHE_LINE);
        let capacity = (cache.geometry.cpu_partial as usize).min(stride / size_of::<u64>());
        // A size that is aligned to cache lines: of kmalloc's, only 96 is not.
        let bytes = (heads + stride * self.nr_cpus as usize).max(2 * CACHE_LINE);
        let memory = self.kmalloc(bytes, Gfp::KERNEL)?;
        // SAFETY: heads and entries are disjoint parts of that memory, which is freed after the cache.
        unsafe {
            let magazines = PerCpu::init(memory, self.nr_cpus, |cpu| {
                let entries = memory.add(heads + stride * cpu.index()).cast();
                Magazine::new(entries, capacity, (*self.no_magazines.slot(cpu)).node())
            });
            (*cache.as_ptr().as_ptr()).magazines = magazines;
        }
        Ok(())
    }

    pub(super) fn list(&self, cache: CachePtr<'a>) {
        let mut caches = self.caches.lock();
        // SAFETY: the lock of the list is held (K2).
        unsafe { *cache.next.get() = *caches };
        *caches = Some(cache);
    }

    fn unlist(&self, cache: CachePtr<'a>) {
        let mut caches = self.caches.lock();
        // SAFETY: the lock of the list is held (K2), and caches on it live.
        unsafe {
            let mut at: *mut Option<CachePtr<'a>> = &raw mut *caches;
            while let Some(this) = *at {
                if this == cache {
                    *at = *this.next.get();
                    return;
                }
                at = this.next.get();
            }
        }
    }

    /// Calls `look` with each cache, the newest first. The list stays locked and interrupts off meanwhile.
    pub(super) fn for_each(&self, mut look: impl FnMut(CachePtr<'a>)) {
        let caches = self.caches.lock();
        let mut next = *caches;
        while let Some(cache) = next {
            look(cache);
            // SAFETY: the lock of the list is held (K2).
            next = unsafe { *cache.next.get() };
        }
    }

    /// Ends a cache (Linux: `kmem_cache_destroy`). `on_each_cpu` runs what it is given once on every CPU that may have used
    /// the cache, and returns when all are done. May sleep.
    ///
    /// # Errors
    /// The handle back, and [`Error::LiveObjects`], when objects are in use; each is reported as Linux does, and the cache
    /// goes on working.
    pub fn destroy(
        &self,
        cache: CacheHandle<'a>,
        on_each_cpu: impl FnOnce(&(dyn Fn() + Sync)),
    ) -> Result<(), (CacheHandle<'a>, Error)> {
        let this = cache.0;
        on_each_cpu(&|| this.drain_this_cpu());
        this.shrink();
        let live = this.report_live();
        if live != 0 {
            log::error!("kmem_cache_destroy {}: Slab cache still has objects", this.name);
            return Err((cache, Error::LiveObjects(live)));
        }
        self.unlist(this);
        self.free_cache(this);
        Ok(())
    }

    /// Frees what a cache that nobody uses and no list has is made of.
    fn free_cache(&self, cache: CachePtr<'a>) {
        let magazines = cache.magazines.slot(CpuId::BOOT);
        // SAFETY: nobody uses the cache; its parts came from these caches.
        unsafe {
            for n in 0..cache.nr_nodes {
                self.kmem_cache_node.free(cache.nodes.add(n).read().cast());
            }
            if magazines != self.no_magazines.slot(CpuId::BOOT) {
                self.kfree(NonNull::new_unchecked(magazines.cast()));
            }
            self.kmem_cache.free(cache.as_ptr().cast());
        }
    }
}

/// Gives a cache its next node, made in `memory`.
///
/// # Safety
/// Nobody else uses the cache, whose object has room for one more (D1). `memory` is as D1 says, and the cache's from now.
pub(super) unsafe fn add_node(cache: CachePtr<'_>, memory: NonNull<u8>) {
    let node = memory.cast::<SlabNode>();
    let cache = cache.as_ptr().as_ptr();
    // SAFETY: the caller's word.
    unsafe {
        node.write(new_node());
        (*cache).nodes.add((*cache).nr_nodes).write(node);
        (*cache).nr_nodes += 1;
    }
}

/// The order of a block for `bytes`.
pub(super) fn order_for(bytes: usize) -> Result<Order, Error> {
    Order::for_size(bytes).ok_or(Error::TooLarge)
}
