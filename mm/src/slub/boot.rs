//! The first caches: the cache of caches lies in its own first slab, and so do the nodes of the cache of nodes.
//!
//! ```text
//! Down      kmem_cache's first slab:       [ kmem_cache | kmem_cache_node | free ... ]
//!           kmem_cache_node's, one a node: [ for kmem_cache | for kmem_cache_node | free ... ]
//! Partial   kmalloc caches, without magazines
//! Up        magazines for all of them, from kmalloc
//! ```

use core::ptr::NonNull;

use super::build::{add_node, cache_bytes, geometry, order_for};
use super::cache::CachePtr;
use super::geometry::{CACHE_LINE, Geometry};
use super::kmalloc;
use super::magazine::Magazine;
use super::node::SlabNode;
use super::pages::PageSource;
use super::params::{CacheFlags, CacheParams, Error};
use super::slab::Slab;
use super::{Config, SlabState, Slub};
use crate::arch::Machine;
use crate::counters::NodeStat;
use crate::gfp::Gfp;
use crate::id::NodeId;
use crate::order::Order;
use crate::percpu::PerCpu;
use crate::sync::{Level, SpinLock};

/// Objects of both caches are wanted by all CPUs: no false sharing.
const fn params(name: &'static str, object_size: usize) -> CacheParams<'static> {
    CacheParams::new(name, object_size).flags(CacheFlags::HWCACHE_ALIGN.union(CacheFlags::PANIC))
}

/// Objects cut from a first slab, before its cache works.
struct First {
    slab: Slab,
    objects: [NonNull<u8>; 2],
}

/// A slab for a cache that will be at `cache`, or in the slab's own object 0 if `None`, with two objects in use.
fn first_slab(
    pages: &dyn PageSource,
    machine: Machine,
    g: &Geometry,
    cache: Option<NonNull<()>>,
    node: Option<NodeId>,
) -> Result<First, Error> {
    let order = if g.objects(g.min_order) >= 2 { g.min_order } else { g.order };
    let gfp = if order > Order::ZERO { Gfp::KERNEL | Gfp::COMP } else { Gfp::KERNEL };
    let head = pages.alloc_block(gfp, order, node).ok_or(Error::NoMemory)?;
    pages.count(head.node(), NodeStat::SlabUnreclaimable, order.nr_pages() as i64);
    // SAFETY: a new block of ours, mapped in the direct map, which holds objects of that geometry.
    let slab = unsafe {
        let at = NonNull::new_unchecked(machine.phys_to_virt(head.pfn(machine).phys()));
        Slab::make(head, order, cache.unwrap_or(at.cast()), g)
    };
    let mut objects = [NonNull::dangling(); 2];
    let mut nr = 0;
    // SAFETY: our own slab.
    unsafe {
        slab.take(machine, g, 2, |object| {
            objects[nr] = object;
            nr += 1;
        });
    }
    if nr == 2 { Ok(First { slab, objects }) } else { Err(Error::TooLarge) }
}

impl<'a> Slub<'a> {
    /// Brings the slab allocator up (Linux: `kmem_cache_init`), on one CPU. It lives on pages that it never gives back.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; what was made until then is not given back. [`Error::Invalid`] for a machine without CPUs or
    /// nodes, or a CPU on a node that there is not.
    pub fn init(pages: &'a dyn PageSource, machine: Machine, config: Config<'_>) -> Result<Self, Error> {
        if config.nr_cpus == 0 || config.nr_nodes == 0 || config.nr_nodes > crate::id::MAX_NUMNODES {
            return Err(Error::Invalid);
        }
        let no_magazines = magazines_without_room(pages, machine, &config)?;
        let cpus = if config.present_cpus > 1 { config.present_cpus } else { config.nr_cpus };
        let caches = params("kmem_cache", cache_bytes(config.nr_nodes));
        let nodes = params("kmem_cache_node", size_of::<SlabNode>());
        let (caches_g, nodes_g) =
            (geometry(&caches, cpus, config.max_order)?, geometry(&nodes, cpus, config.max_order)?);
        let first = first_slab(pages, machine, &caches_g, None, None)?;
        // SAFETY: both will be caches before anybody follows the pointers, and are never destroyed (U2).
        let [kmem_cache, kmem_cache_node] = first.objects.map(|o| unsafe { CachePtr::new(o.cast()) });
        let mut slub = Self {
            kmalloc: kmalloc::Table::new(kmem_cache),
            machine,
            pages,
            state: SlabState::Down,
            nr_cpus: config.nr_cpus,
            present_cpus: config.present_cpus,
            nr_nodes: config.nr_nodes,
            max_order: config.max_order,
            kmem_cache,
            kmem_cache_node,
            no_magazines,
            caches: SpinLock::new(Level::SlabCaches, None),
        };
        // SAFETY: two new objects of the cache of caches (D1 of `build`).
        unsafe {
            slub.write_cache(first.objects[0], &caches, caches_g);
            slub.write_cache(first.objects[1], &nodes, nodes_g);
        }
        slub.first_nodes(&first)?;
        slub.state = SlabState::Partial;
        slub.list(kmem_cache);
        slub.list(kmem_cache_node);
        slub.make_kmalloc_caches()?;
        slub.state = SlabState::Up;
        log::info!(
            "SLUB: HWalign={CACHE_LINE}, Order=0-{}, MinObjects=0, CPUs={}, Nodes={}",
            config.max_order.get(),
            config.nr_cpus,
            config.nr_nodes
        );
        Ok(slub)
    }

    /// Gives both caches their nodes, then lists the slabs that all this lies in.
    fn first_nodes(&self, first: &First) -> Result<(), Error> {
        let (caches, nodes) = (self.kmem_cache, self.kmem_cache_node);
        // Slabs until they can be listed, linked by nothing but this: at most one a node.
        let mut unlisted = crate::page::PageList::new();
        for node in 0..self.nr_nodes {
            let wanted = Some(NodeId(node as u16));
            let on_node = first_slab(self.pages, self.machine, &nodes.geometry, Some(nodes.id()), wanted)?;
            // SAFETY: new objects of the cache of nodes; boot is alone. The slab is ours and on no list.
            unsafe {
                add_node(caches, on_node.objects[0]);
                add_node(nodes, on_node.objects[1]);
                unlisted.push_back(on_node.slab.head());
            }
        }
        while let Some(head) = unlisted.pop_front() {
            let Some(slab) = Slab::from_head(head) else { continue };
            // SAFETY: our own slab with free objects, on that node.
            unsafe { nodes.node(head.node()).lock().add(slab) };
        }
        // SAFETY: as above.
        unsafe { caches.node(first.slab.head().node()).lock().add(first.slab) };
        Ok(())
    }

    /// Creates the caches of `kmalloc`, then gives magazines to all caches there are but those of scarce memory.
    fn make_kmalloc_caches(&mut self) -> Result<(), Error> {
        for (kind, index, params) in kmalloc::all_params() {
            let cache = self.make_cache(&params, false)?;
            self.kmalloc.set(kind, index, cache);
        }
        let mut next = *self.caches.lock();
        while let Some(cache) = next {
            if !cache.flags.contains(CacheFlags::CACHE_DMA) {
                self.make_magazines(cache)?;
            }
            // SAFETY: boot is alone with the list (K2).
            next = unsafe { *cache.next.get() };
        }
        Ok(())
    }
}

fn magazines_without_room(
    pages: &dyn PageSource,
    machine: Machine,
    config: &Config<'_>,
) -> Result<PerCpu<Magazine>, Error> {
    let layout = PerCpu::<Magazine>::layout(config.nr_cpus).ok_or(Error::TooLarge)?;
    let order = order_for(layout.size())?;
    let gfp = if order > Order::ZERO { Gfp::KERNEL | Gfp::COMP } else { Gfp::KERNEL };
    let head = pages.alloc_block(gfp, order, None).ok_or(Error::NoMemory)?;
    let mut valid = true;
    // SAFETY: a new block of ours of at least that size, page-aligned, never given back.
    let magazines = unsafe {
        let at = NonNull::new_unchecked(machine.phys_to_virt(head.pfn(machine).phys()));
        PerCpu::init(at, config.nr_cpus, |cpu| {
            let node = (config.node_of)(cpu);
            valid &= node.index() < config.nr_nodes;
            Magazine::without_room(node)
        })
    };
    if valid { Ok(magazines) } else { Err(Error::Invalid) }
}
