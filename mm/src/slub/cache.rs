//! A cache of objects of one size, and its fast path: one pointer moved, interrupts off, no lock.
//!
//! ```text
//! alloc:  this CPU's magazine  --empty-->  `slow`: node's partial slabs  --none-->  a new slab
//! free:   this CPU's magazine  --full--->  `slow`: the oldest half back to their slabs
//! ```
//!
//! # Invariants
//! - K1: a `Cache` and its `nodes`, one for each node, live from its creation to its destruction, which needs the only
//!   [`CacheHandle`]; whoever has an object of the cache may use it.
//! - K2: `next` is touched by the holder of the lock of the list of all caches.
//! - K3: an object is in use by its owner, in one magazine, or free in its slab; never two of these.
//!
//! # Locking
//! `magazines`: their CPU, with interrupts off. `nodes`: a lock each ([`Level::SlabNode`](crate::sync::Level)). The rest does not change.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::Deref;
use core::panic::Location;
use core::ptr::NonNull;

use super::geometry::Geometry;
use super::magazine::Magazine;
use super::node::SlabNode;
use super::pages::PageSource;
use super::params::{CacheFlags, Constructor, Error};
use super::report::{Misuse, bug};
use super::slab::{Slab, slab_of};
use crate::arch::{IrqGuard, Machine};
use crate::gfp::Gfp;
use crate::id::{CpuId, NodeId};
use crate::percpu::PerCpu;

/// A cache of objects (Linux: `struct kmem_cache`).
#[repr(C)]
pub struct Cache<'a> {
    // What the fast path reads.
    pub(super) magazines: PerCpu<Magazine>,
    pub(super) several_nodes: bool,
    pub(super) machine: Machine,
    // The rest.
    pub(super) flags: CacheFlags,
    /// Added to every allocation of a slab.
    pub(super) gfp: Gfp,
    pub(super) geometry: Geometry,
    pub(super) constructor: Option<Constructor>,
    pub(super) nr_nodes: usize,
    pub(super) nodes: NonNull<NonNull<SlabNode>>,
    pub(super) pages: &'a dyn PageSource,
    pub(super) name: &'a str,
    pub(super) next: UnsafeCell<Option<CachePtr<'a>>>,
}

// SAFETY: parts that change are behind locks, per CPU (K2, M2 of `magazine`), or atomic.
unsafe impl Sync for Cache<'_> {}
// SAFETY: as above.
unsafe impl Send for Cache<'_> {}

/// A cache that lives (K1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CachePtr<'a>(NonNull<Cache<'a>>);

// SAFETY: leads to a `Sync` cache, to share it.
unsafe impl Send for CachePtr<'_> {}
// SAFETY: as above.
unsafe impl Sync for CachePtr<'_> {}

impl<'a> CachePtr<'a> {
    /// The cache at `cache`.
    ///
    /// # Safety
    /// It lives as long as the pointer is used (K1).
    #[inline(always)]
    pub(super) const unsafe fn new(cache: NonNull<Cache<'a>>) -> Self {
        Self(cache)
    }

    /// The cache of a slab.
    ///
    /// # Safety
    /// The slab belongs to a cache with that lifetime, and an object of it is the caller's.
    #[inline(always)]
    pub(super) unsafe fn of(slab: Slab) -> Self {
        Self(slab.cache().cast())
    }

    /// The pointer itself.
    #[inline(always)]
    pub(super) const fn as_ptr(self) -> NonNull<Cache<'a>> {
        self.0
    }
}

impl<'a> Deref for CachePtr<'a> {
    type Target = Cache<'a>;
    #[inline(always)]
    fn deref(&self) -> &Cache<'a> {
        // SAFETY: it lives (K1).
        unsafe { self.0.as_ref() }
    }
}

/// The right to use a cache and to destroy it. Dropped, the cache stays for ever.
pub struct CacheHandle<'a>(pub(super) CachePtr<'a>);

impl<'a> Deref for CacheHandle<'a> {
    type Target = Cache<'a>;
    #[inline(always)]
    fn deref(&self) -> &Cache<'a> {
        // SAFETY: it lives until the handle is given to `destroy` (K1).
        unsafe { self.0.0.as_ref() }
    }
}

impl fmt::Debug for CacheHandle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Debug for Cache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.name)
            .field("flags", &self.flags)
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

impl<'a> Cache<'a> {
    /// The name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The flags it was created with.
    pub fn flags(&self) -> CacheFlags {
        self.flags
    }

    /// Sizes, slab order, limits.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The lists of each node.
    pub(super) fn nodes(&self) -> impl ExactSizeIterator<Item = &SlabNode> {
        // SAFETY: so many nodes, which live as long as the cache (K1).
        unsafe { core::slice::from_raw_parts(self.nodes.as_ptr(), self.nr_nodes).iter().map(|n| n.as_ref()) }
    }

    /// The lists of a node.
    ///
    /// # Panics
    /// When there is no such node.
    #[inline]
    pub(super) fn node(&self, node: NodeId) -> &SlabNode {
        assert!(node.index() < self.nr_nodes, "no node {node}");
        // SAFETY: one of the nodes (K1).
        unsafe { self.nodes.add(node.index()).read().as_ref() }
    }

    /// As slabs name it.
    #[inline(always)]
    pub(super) fn id(&self) -> NonNull<()> {
        NonNull::from_ref(self).cast()
    }

    /// An object, its contents whatever they were unless [`Gfp::ZERO`] (Linux: `kmem_cache_alloc`). Any context that
    /// `gfp` allows. Some 20 instructions when this CPU has one at hand.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn alloc(&self, gfp: Gfp) -> Result<NonNull<u8>, Error> {
        self.might_alloc(gfp);
        let irq = IrqGuard::new();
        // SAFETY: the closure does not come back to the magazines.
        let object = unsafe { self.magazines.with(&irq, Magazine::pop) };
        drop(irq);
        let object = match object {
            Some(object) => object,
            None => self.alloc_slow(gfp, None)?,
        };
        if gfp.contains(Gfp::ZERO) {
            self.zero(object);
        }
        Ok(object)
    }

    /// A zeroed object (Linux: `kmem_cache_zalloc`).
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    #[inline]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn zalloc(&self, gfp: Gfp) -> Result<NonNull<u8>, Error> {
        self.alloc(gfp | Gfp::ZERO)
    }

    /// An object from `node`, or with memory short and without [`Gfp::THISNODE`] from another (Linux:
    /// `kmem_cache_alloc_node`).
    ///
    /// # Errors
    /// [`Error::NoMemory`]; [`Error::Invalid`] when there is no such node.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn alloc_node(&self, gfp: Gfp, node: NodeId) -> Result<NonNull<u8>, Error> {
        if node.index() >= self.nr_nodes {
            return Err(Error::Invalid);
        }
        self.might_alloc(gfp);
        let irq = IrqGuard::new();
        // SAFETY: the closure does not come back to the magazines.
        let object = unsafe { self.magazines.with(&irq, |m| if m.node() == node { m.pop() } else { None }) };
        drop(irq);
        let object = match object {
            Some(object) => object,
            None => self.alloc_slow(gfp, Some(node))?,
        };
        if gfp.contains(Gfp::ZERO) {
            self.zero(object);
        }
        Ok(object)
    }

    /// In debug builds, an allocation that may wait where nobody may is a bug even when an object is at hand (Linux:
    /// `might_alloc` in `slab_pre_alloc_hook`).
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn might_alloc(&self, gfp: Gfp) {
        if cfg!(debug_assertions) && gfp.contains(Gfp::DIRECT_RECLAIM) {
            self.pages.might_alloc(gfp, Location::caller());
        }
    }

    #[inline]
    pub(super) fn zero(&self, object: NonNull<u8>) {
        // SAFETY: the caller's own new object.
        unsafe { object.write_bytes(0, self.geometry.object_size as usize) };
    }

    /// Takes an object back (Linux: `kmem_cache_free`). Any context. Some 20 instructions when this CPU's magazine has
    /// room.
    ///
    /// A pointer that is no object in use of this cache is a bug: reported, and the machine stops; at once with debug
    /// assertions, else when the object goes back to its slab.
    ///
    /// # Safety
    /// The object came from this cache, and nobody uses it any more.
    #[inline(always)]
    pub unsafe fn free(&self, object: NonNull<u8>) {
        if self.is_checked() {
            // SAFETY: the caller's object, so its page is in use.
            match unsafe { slab_of(self.machine, object) } {
                // SAFETY: the caller's object.
                Ok(slab) => unsafe { self.free_in(slab, object) },
                Err(head) => bug(self.name, Misuse::NotSlab, object.as_ptr(), head),
            }
        } else {
            self.stash(object);
        }
    }

    /// Whether an object's slab is looked at before the object is put into a magazine.
    #[inline(always)]
    pub(super) fn is_checked(&self) -> bool {
        self.several_nodes || cfg!(debug_assertions)
    }

    /// As [`free`](Self::free), the object's slab being known.
    ///
    /// # Safety
    /// As [`free`](Self::free); `slab` is the object's.
    #[inline(always)]
    pub(super) unsafe fn free_in(&self, slab: Slab, object: NonNull<u8>) {
        if cfg!(debug_assertions) {
            self.check_freed(slab, object);
        }
        if self.several_nodes && !self.is_local(slab) {
            return self.put_back(object);
        }
        self.stash(object);
    }

    /// Puts an object into this CPU's magazine.
    #[inline(always)]
    fn stash(&self, object: NonNull<u8>) {
        let irq = IrqGuard::new();
        // SAFETY: the closure does not come back to the magazines; the object was given to us (M2).
        let stashed = unsafe { self.magazines.with(&irq, |m| m.push(object)) };
        drop(irq);
        if !stashed {
            self.free_slow(object);
        }
    }

    /// Whether this CPU may keep objects of that slab. A CPU change right after does no harm but to locality.
    fn is_local(&self, slab: Slab) -> bool {
        // SAFETY: the closure does not come back to the magazines.
        unsafe { self.magazines.with(&IrqGuard::new(), |m| m.node() == slab.head().node()) }
    }

    /// Finds misuse before the object is in the magazine.
    fn check_freed(&self, slab: Slab, object: NonNull<u8>) {
        let head = slab.head();
        if slab.cache() != self.id() {
            bug(self.name, Misuse::WrongCache, object.as_ptr(), head);
        }
        let irq = IrqGuard::new();
        let mut found = false;
        // SAFETY: the closure does not come back to the magazines.
        unsafe { self.magazines.with(&irq, |m| m.each(|o| found |= o == object.as_ptr())) };
        let lists = self.node(head.node()).lock_irq(&irq);
        // SAFETY: a slab of this cache on this node, whose lock is held.
        let checked = unsafe { lists.check(self.machine, &self.geometry, slab, object) };
        drop(lists);
        if let Some(misuse) = checked.err().or(found.then_some(Misuse::AlreadyFree)) {
            bug(self.name, misuse, object.as_ptr(), head);
        }
    }

    /// Looks at each object that magazines hold: which CPU's, and the object. Racy while CPUs run.
    pub(super) fn each_stashed(&self, mut look: impl FnMut(CpuId, *mut u8)) {
        for cpu in (0..self.magazines.nr_cpus()).map(CpuId) {
            // SAFETY: a slot, of which `each` reads atomics only.
            unsafe { (*self.magazines.slot(cpu)).each(|object| look(cpu, object)) };
        }
    }
}
