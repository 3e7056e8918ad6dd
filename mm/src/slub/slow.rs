//! The slow path: objects between magazines and slabs, slabs between the cache and the page allocator.
//!
//! # Locking
//! One node's lock at a time, interrupts off; the page allocator is called without it. A CPU may change between any two
//! steps that are not under one [`IrqGuard`].

use core::ptr::NonNull;

use super::cache::Cache;
use super::magazine::Magazine;
use super::node::{EmptySlabs, NodeLists};
use super::params::{CacheFlags, Error};
use super::report::{Misuse, bug};
use super::slab::{Slab, slab_of};
use crate::arch::IrqGuard;
use crate::counters::NodeStat;
use crate::gfp::Gfp;
use crate::id::NodeId;
use crate::order::Order;
use crate::sync::SpinLockGuard;

/// Flags of an object's allocation that are none of its slab's.
const NOT_FOR_SLABS: Gfp = Gfp::ZERO.union(Gfp::MOVABLE).union(Gfp::WRITE);

impl Cache<'_> {
    /// An object when this CPU has none at hand: from `wanted`'s partial slabs or those of the CPU's node, else from a new
    /// slab, else from wherever there is one. Fills the magazine by half on the way.
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_slow(&self, gfp: Gfp, wanted: Option<NodeId>) -> Result<NonNull<u8>, Error> {
        if let Some(object) = self.refill(wanted, None) {
            return Ok(object);
        }
        if let Some(slab) = self.new_slab(gfp, wanted)
            && let Some(object) = self.refill(wanted, Some(slab))
        {
            return Ok(object);
        }
        if !gfp.contains(Gfp::THISNODE) {
            let anywhere = (0..self.nr_nodes).find_map(|n| self.refill(Some(NodeId(n as u16)), None));
            return anywhere.ok_or(Error::NoMemory);
        }
        Err(Error::NoMemory)
    }

    /// An object from a node's partial slabs, to which `new` is added first; the magazine gets some more of them if the
    /// node is its CPU's.
    fn refill(&self, wanted: Option<NodeId>, new: Option<Slab>) -> Option<NonNull<u8>> {
        let irq = IrqGuard::new();
        let fill = |magazine: &Magazine| {
            let node = new.map(|s| s.head().node()).or(wanted).unwrap_or(magazine.node());
            let more =
                if node == magazine.node() { (magazine.capacity() / 2).min(magazine.room()) } else { 0 };
            let mut lists = self.node(node).lock_irq(&irq);
            if let Some(slab) = new {
                // SAFETY: a new slab of ours, all objects free, on this node (N1 of `node`).
                unsafe { lists.add(slab) };
            }
            let mut first = None;
            lists.take(self.machine, &self.geometry, 1 + more, |object| match first {
                None => first = Some(object),
                Some(_) => {
                    // SAFETY: a free object that was just taken from its slab (M2).
                    let stashed = unsafe { magazine.push(object) };
                    assert!(stashed, "no more was taken than there is room for");
                }
            });
            first
        };
        // SAFETY: the closure does not come back to the magazines.
        unsafe { self.magazines.with(&irq, fill) }
    }

    /// A new slab of the usual order, or of the smallest that holds an object.
    fn new_slab(&self, gfp: Gfp, node: Option<NodeId>) -> Option<Slab> {
        let gfp = gfp.difference(NOT_FOR_SLABS) | self.gfp;
        let g = &self.geometry;
        let tried = if g.order > g.min_order {
            let light = gfp.difference(Gfp::NOFAIL | Gfp::DIRECT_RECLAIM) | Gfp::NOWARN | Gfp::NORETRY;
            self.new_slab_of(light, g.order, node)
        } else {
            None
        };
        tried.or_else(|| self.new_slab_of(gfp, g.min_order, node))
    }

    fn new_slab_of(&self, gfp: Gfp, order: Order, node: Option<NodeId>) -> Option<Slab> {
        let gfp = if order > Order::ZERO { gfp | Gfp::COMP } else { gfp };
        let head = self.pages.alloc_block(gfp, order, node)?;
        self.pages.count(head.node(), self.kind(), order.nr_pages() as i64);
        // SAFETY: a new block of ours, of an order that holds an object (G2 of `geometry`); the cache outlives its slabs.
        let slab = unsafe { Slab::make(head, order, self.id(), &self.geometry) };
        if let Some(constructor) = self.constructor {
            slab.each_object(self.machine, &self.geometry, order, |object| {
                // SAFETY: an object of a slab that is still ours alone.
                unsafe { constructor(object) };
            });
        }
        Some(slab)
    }

    /// Makes room in this CPU's magazine by sending the older half of it back to the slabs, then puts `object` in;
    /// without any room, `object` itself goes back.
    #[cold]
    #[inline(never)]
    pub(super) fn free_slow(&self, object: NonNull<u8>) {
        let irq = IrqGuard::new();
        let mut back = Return::new(self, &irq);
        // SAFETY: the closure does not come back to the magazines; the object was given to us (M2).
        unsafe {
            self.magazines.with(&irq, |magazine| {
                if magazine.push(object) {
                    // An interrupt or a change of CPU has made room.
                    return;
                }
                magazine.take_oldest(magazine.capacity().div_ceil(2), |o| back.put(o));
                if !magazine.push(object) {
                    back.put(object);
                }
            });
        }
        back.finish();
    }

    /// Sends one object back to its slab, past the magazine.
    #[cold]
    #[inline(never)]
    pub(super) fn put_back(&self, object: NonNull<u8>) {
        let irq = IrqGuard::new();
        let mut back = Return::new(self, &irq);
        back.put(object);
        back.finish();
    }

    /// Sends all objects of this CPU's magazine back to their slabs.
    pub fn drain_this_cpu(&self) {
        let irq = IrqGuard::new();
        let mut back = Return::new(self, &irq);
        // SAFETY: the closure does not come back to the magazines.
        unsafe { self.magazines.with(&irq, |m| m.take_oldest(m.capacity(), |o| back.put(o))) };
        back.finish();
    }

    /// Gives slabs without objects in use back to the page allocator (Linux: `kmem_cache_shrink`). Objects in magazines
    /// count as in use: [`drain_this_cpu`](Self::drain_this_cpu) on each CPU first. Bytes given back.
    pub fn shrink(&self) -> usize {
        let mut empty = EmptySlabs::new();
        for node in self.nodes() {
            node.lock().take_empty(&mut empty);
        }
        self.release(empty)
    }

    /// What its pages are counted as.
    fn kind(&self) -> NodeStat {
        if self.flags.contains(CacheFlags::RECLAIM_ACCOUNT) {
            NodeStat::SlabReclaimable
        } else {
            NodeStat::SlabUnreclaimable
        }
    }

    fn release(&self, empty: EmptySlabs) -> usize {
        let mut bytes = 0;
        for head in empty {
            let Some(slab) = Slab::from_head(head) else { continue };
            // SAFETY: taken off its list without objects in use, so it is ours, and came from the source.
            unsafe {
                let (head, order) = slab.unmake();
                self.pages.count(head.node(), self.kind(), -(order.nr_pages() as i64));
                bytes += order.size_bytes();
                self.pages.free_block(head, order);
            }
        }
        bytes
    }
}

/// Objects on their way back to their slabs: keeps the lock of the node of the last one.
struct Return<'c, 'a> {
    cache: &'c Cache<'a>,
    irq: &'c IrqGuard,
    held: Option<(NodeId, SpinLockGuard<'c, NodeLists>)>,
    empty: EmptySlabs,
}

impl<'c, 'a> Return<'c, 'a> {
    fn new(cache: &'c Cache<'a>, irq: &'c IrqGuard) -> Self {
        Self { cache, irq, held: None, empty: EmptySlabs::new() }
    }

    /// The object is nobody's any more.
    #[inline]
    fn put(&mut self, object: NonNull<u8>) {
        let cache = self.cache;
        // SAFETY: an allocated object's page is in use; anything else is reported as far as it shows.
        let slab = match unsafe { slab_of(cache.machine, object) } {
            Ok(slab) if slab.cache() == cache.id() => slab,
            Ok(slab) => bug(cache.name, Misuse::WrongCache, object.as_ptr(), slab.head()),
            Err(head) => bug(cache.name, Misuse::NotSlab, object.as_ptr(), head),
        };
        let head = slab.head();
        let lists = self.lists(head.node());
        // SAFETY: a slab of this cache on that node; nobody uses the object.
        let done = unsafe { lists.0.put(cache.machine, &cache.geometry, slab, object, lists.1) };
        if let Err(misuse) = done {
            bug(cache.name, misuse, object.as_ptr(), head);
        }
    }

    #[inline]
    fn lists(&mut self, node: NodeId) -> (&mut NodeLists, &mut EmptySlabs) {
        if self.held.as_ref().is_none_or(|held| held.0 != node) {
            // One node's lock at a time: they are of the same level.
            self.held = None;
        }
        let (_, lists) = self.held.get_or_insert_with(|| (node, self.cache.node(node).lock_irq(self.irq)));
        (lists, &mut self.empty)
    }

    /// Ends the lock, then frees slabs that nobody needs.
    fn finish(self) {
        drop(self.held);
        self.cache.release(self.empty);
    }
}
