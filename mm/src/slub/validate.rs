//! Recounting everything, and finding the objects in use.

use core::ptr::NonNull;

use super::Slub;
use super::cache::Cache;
use super::geometry::Geometry;
use super::slab::{Slab, State, slab_of};
use crate::PAGE_SIZE;
use crate::order::Order;

/// A bit for each object of a slab.
struct Bits([u64; Self::WORDS]);

/// The largest slab by objects: of 8 bytes and the largest order that slabs of small objects have.
const MOST_OBJECTS: usize =
    (PAGE_SIZE << super::geometry::MAX_SLAB_ORDER.index()) / super::geometry::MIN_ALIGN;

impl Bits {
    const WORDS: usize = MOST_OBJECTS / 64;

    fn set(&mut self, nr: u16) {
        self.0[nr as usize / 64] |= 1 << (nr % 64);
    }

    fn get(&self, nr: u16) -> bool {
        self.0[nr as usize / 64] >> (nr % 64) & 1 != 0
    }
}

const _: () =
    assert!(MOST_OBJECTS >= Order::MAX.size_bytes() / (PAGE_SIZE << super::geometry::MAX_SLAB_ORDER.index()));

impl Cache<'_> {
    /// Recounts the slabs and looks for every object in a magazine: it must be an object of this cache that its slab
    /// counts as in use.
    ///
    /// # Panics
    /// When something is not in order; also when other CPUs use the cache meanwhile.
    pub fn validate(&self) {
        for node in self.nodes() {
            node.lock().validate(self.machine, &self.geometry, self.id());
        }
        self.each_stashed(|cpu, object| {
            let object = NonNull::new(object).expect("a magazine holds no null");
            // SAFETY: magazines hold objects, whose pages are in use (M2).
            let slab = unsafe { slab_of(self.machine, object) }.expect("a magazine's object lies in a slab");
            assert_eq!(
                slab.cache(),
                self.id(),
                "cache of {object:p} in {}'s magazine of CPU {cpu}",
                self.name()
            );
            let lists = self.node(slab.head().node()).lock();
            // SAFETY: a slab of this cache on this node, whose lock is held.
            let (free, state) = unsafe { (free_objects(self, slab), slab.state()) };
            drop(lists);
            let nr = slab.number(self.machine, &self.geometry, object);
            let nr = nr.expect("a magazine's pointer is an object's start") as u16;
            assert!(nr < state.fresh() && !free.get(nr), "{object:p} is in a magazine and free in its slab");
        });
        self.each_stashed(|cpu, object| {
            let mut times = 0;
            self.each_stashed(|_, other| times += (other == object) as u32);
            assert_eq!(times, 1, "{object:p} in the magazine of CPU {cpu}");
        });
    }

    /// Reports each object that neither its slab nor a magazine of a drained CPU has, as Linux does when a cache is
    /// destroyed; how many.
    pub(super) fn report_live(&self) -> u64 {
        let mut live = 0;
        for node in self.nodes() {
            node.lock().each(|slab, state| {
                live += state.inuse() as u64;
                // SAFETY: a slab of this cache, whose node's lock is held.
                unsafe { report_slab(self, slab, state) };
            });
        }
        live
    }
}

/// The objects that are on the chain of a slab's returned ones.
///
/// # Safety
/// A slab of this cache whose node's lock is held.
unsafe fn free_objects(cache: &Cache<'_>, slab: Slab) -> Bits {
    let mut free = Bits([0; Bits::WORDS]);
    // SAFETY: the caller's.
    let _ = unsafe { slab.chain(cache.machine, &cache.geometry, |nr| free.set(nr)) };
    free
}

/// # Safety
/// As [`free_objects`].
unsafe fn report_slab(cache: &Cache<'_>, slab: Slab, state: State) {
    if state.inuse() == 0 {
        return;
    }
    let (objects, inuse, fresh) = (state.objects(), state.inuse(), state.fresh());
    log::error!("BUG {} (Not tainted): Objects remaining in {0} on __kmem_cache_shutdown()", cache.name());
    log::error!("Slab {:?} objects={objects} used={inuse}", slab.head());
    // SAFETY: the caller's.
    let free = unsafe { free_objects(cache, slab) };
    let Geometry { size, .. } = cache.geometry;
    for nr in (0..fresh).filter(|&nr| !free.get(nr)) {
        let offset = nr as u64 * size as u64;
        log::error!("Object {:#018x} @offset={offset}", slab.address(cache.machine).as_u64() + offset);
    }
}

impl Slub<'_> {
    /// [`Cache::validate`] of every cache.
    ///
    /// # Panics
    /// As it says.
    pub fn validate(&self) {
        self.for_each(|cache| cache.validate());
    }
}
