//! What the slab allocator promises, on simulated machines.

#[cfg(debug_assertions)]
mod misuse;
mod model;

use core::alloc::{GlobalAlloc, Layout};
use core::panic::Location;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

use super::heap::KernelHeap;
use super::{
    CacheFlags, CacheHandle, CacheParams, Config, Error, KMALLOC_MAX_SIZE, PageSource, SlabState, Slub,
    ZERO_SIZE_PTR,
};
use crate::arch::{Machine, run_as_cpu};
use crate::counters::NodeStat;
use crate::gfp::Gfp;
use crate::id::{CpuId, NodeId};
use crate::order::Order;
use crate::page::PagePtr;
use crate::page_alloc::PageAllocator;
use crate::testing::TestMachine;
use crate::testlog::capture;

/// A page allocator that fails when told to.
struct Source<'a> {
    pages: &'a PageAllocator,
    /// So many blocks it still gives.
    left: AtomicU64,
}

// SAFETY: the page allocator's blocks.
unsafe impl PageSource for Source<'_> {
    fn alloc_block(&self, gfp: Gfp, order: Order, node: Option<NodeId>) -> Option<PagePtr> {
        self.left.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok()?;
        self.pages.alloc_block(gfp, order, node)
    }

    unsafe fn free_block(&self, head: PagePtr, order: Order) {
        // SAFETY: the caller's block.
        unsafe { self.pages.free_block(head, order) }
    }

    fn might_alloc(&self, gfp: Gfp, place: &'static Location<'static>) {
        self.pages.might_alloc_at(gfp, place);
    }

    fn count(&self, node: NodeId, kind: NodeStat, nr_pages: i64) {
        self.pages.count(node, kind, nr_pages);
    }
}

/// A machine with slab caches; dropping it checks that all pages but those of bootstrap are back.
struct Fixture {
    slub: Slub<'static>,
    nr_cpus: u32,
    free_pages: u64,
    source: &'static Source<'static>,
    machine: &'static mut TestMachine,
}

impl Fixture {
    fn new() -> Self {
        Self::with(64, 1, 1)
    }

    fn with(mib: u64, nr_nodes: u64, nr_cpus: u32) -> Self {
        let machine = Box::leak(Box::new(TestMachine::with(mib, nr_nodes, nr_cpus)));
        machine.allow_leaks();
        let at: *mut TestMachine = machine;
        // SAFETY: leaked, so it lives for ever; only `allow_leaks` needed it mutably.
        let pages = unsafe { &(*at).pages };
        let source = Box::leak(Box::new(Source { pages, left: AtomicU64::new(u64::MAX) }));
        let slub = init(source, machine.machine(), nr_nodes as usize, nr_cpus).unwrap();
        let mut this = Self { slub, nr_cpus, free_pages: 0, source, machine };
        this.shrink();
        this.free_pages = this.machine.free_pages();
        this
    }

    /// Runs `f` as each CPU.
    fn on_each_cpu(&self, f: &(dyn Fn() + Sync)) {
        (0..self.nr_cpus).for_each(|cpu| run_as_cpu(CpuId(cpu), f));
    }

    fn shrink(&self) {
        self.on_each_cpu(&|| self.slub.drain_this_cpu());
        self.slub.shrink_all();
    }

    fn destroy(&self, cache: CacheHandle<'static>) {
        self.slub.destroy(cache, |f| self.on_each_cpu(f)).unwrap();
    }

    fn slab_pages(&self) -> i64 {
        let sum = |kind| -> u64 { self.machine.pages.nodes().iter().map(|n| n.counters().exact(kind)).sum() };
        (sum(NodeStat::SlabReclaimable) + sum(NodeStat::SlabUnreclaimable)) as i64
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.slub.validate();
        self.shrink();
        self.slub.validate();
        self.machine.pages.validate();
        assert_eq!(self.machine.free_pages(), self.free_pages, "free pages at the end and at the start");
        let mut slab_pages = 0;
        self.slub.for_each_cache(|c| slab_pages += (c.num_slabs * c.order.nr_pages()) as i64);
        assert_eq!(self.slab_pages(), slab_pages, "slab pages by the nodes' counters and by the caches");
    }
}

fn init(
    source: &'static Source<'static>,
    machine: Machine,
    nr_nodes: usize,
    nr_cpus: u32,
) -> Result<Slub<'static>, Error> {
    let node_of = |cpu: CpuId| NodeId((cpu.index() % nr_nodes) as u16);
    let max_order = super::geometry::MAX_SLAB_ORDER;
    Slub::init(
        source,
        machine,
        Config { nr_cpus, present_cpus: nr_cpus, nr_nodes, max_order, node_of: &node_of },
    )
}

/// Fills memory with what its owner's number gives, and looks whether it is still so.
fn fill(at: NonNull<u8>, size: usize, tag: u8) {
    // SAFETY: memory of that size, this test's.
    unsafe { at.write_bytes(tag, size) };
}

#[track_caller]
fn check(at: NonNull<u8>, size: usize, tag: u8) {
    // SAFETY: memory of that size, this test's.
    let bytes = unsafe { core::slice::from_raw_parts(at.as_ptr(), size) };
    assert!(bytes.iter().all(|&b| b == tag), "memory at {at:p} is not what its owner wrote");
}

#[test]
fn boot_says_what_linux_says_and_makes_its_caches() {
    let (f, log) = capture(Fixture::new);
    assert!(
        log.contains(&String::from("SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=1, Nodes=1")),
        "{log:?}"
    );
    assert_eq!(f.slub.state(), SlabState::Up);
    let mut names = Vec::new();
    f.slub.for_each_cache(|c| names.push(String::from(c.name)));
    assert_eq!(names.len(), 2 + 3 * 13);
    assert_eq!((&*names[0], &*names[names.len() - 1]), ("dma-kmalloc-8k", "kmem_cache"));
    assert!(["kmalloc-96", "kmalloc-8k", "kmalloc-rcl-1k"].iter().all(|n| names.iter().any(|m| m == n)));
}

#[test]
fn boot_without_memory_is_an_error_at_every_step() {
    let machine = Box::leak(Box::new(TestMachine::new(64)));
    machine.allow_leaks();
    let sim = machine.machine();
    let source = Box::leak(Box::new(Source { pages: &machine.pages, left: AtomicU64::new(0) }));
    for blocks in 0.. {
        source.left.store(blocks, Relaxed);
        match init(source, sim, 1, 1) {
            Ok(slub) => return slub.validate(),
            Err(error) => assert_eq!(error, Error::NoMemory, "with {blocks} blocks"),
        }
    }
}

#[test]
fn objects_are_aligned_disjoint_and_come_back() {
    let f = Fixture::new();
    for (size, align, flags) in [
        (1, 0, CacheFlags::empty()),
        (24, 0, CacheFlags::HWCACHE_ALIGN),
        (100, 64, CacheFlags::empty()),
        (200, 0, CacheFlags::HWCACHE_ALIGN | CacheFlags::RECLAIM_ACCOUNT),
        (72, 0, CacheFlags::TYPESAFE_BY_RCU),
        (5000, 4096, CacheFlags::empty()),
        (100_000, 0, CacheFlags::CACHE_DMA),
    ] {
        let cache = f.slub.create(CacheParams::new("test", size).align(align).flags(flags)).unwrap();
        let objects: Vec<_> =
            (0..300.min((4 << 20) / size)).map(|_| cache.alloc(Gfp::KERNEL).unwrap()).collect();
        for (n, &object) in objects.iter().enumerate() {
            assert!(object.addr().get().is_multiple_of(cache.geometry().align as usize));
            fill(object, size, n as u8);
        }
        cache.validate();
        assert!(cache.info().active_objs >= objects.len() as u64);
        for (n, &object) in objects.iter().enumerate() {
            check(object, size, n as u8);
            // SAFETY: ours, and not used any more.
            unsafe { cache.free(object) };
        }
        cache.validate();
        f.destroy(cache);
    }
}

#[test]
fn what_is_freed_last_is_allocated_first() {
    let f = Fixture::new();
    let cache = f.slub.create(CacheParams::new("test", 64)).unwrap();
    let object = cache.alloc(Gfp::KERNEL).unwrap();
    fill(object, 64, 0xff);
    // SAFETY: ours.
    unsafe { cache.free(object) };
    assert_eq!(cache.zalloc(Gfp::KERNEL), Ok(object));
    check(object, 64, 0);
    // SAFETY: ours.
    unsafe { cache.free(object) };
    f.destroy(cache);
}

#[test]
fn a_cache_with_objects_in_use_is_not_destroyed_but_reported() {
    let f = Fixture::with(64, 1, 2);
    let cache = f.slub.create(CacheParams::new("leaky", 40)).unwrap();
    let objects = [0, 1, 0].map(|cpu| run_as_cpu(CpuId(cpu), || cache.alloc(Gfp::KERNEL).unwrap()));
    let (result, log) = capture(|| f.slub.destroy(cache, |run| f.on_each_cpu(run)));
    let (cache, error) = result.unwrap_err();
    assert_eq!(error, Error::LiveObjects(3));
    let named = |o: NonNull<u8>| log.iter().any(|l| l.contains(&std::format!("Object {:#018x}", o.addr())));
    assert!(objects.into_iter().all(named), "{log:?}");
    for object in objects {
        // SAFETY: ours.
        unsafe { cache.free(object) };
    }
    f.destroy(cache);
}

#[test]
fn bad_parameters_are_errors() {
    let f = Fixture::new();
    for (name, size, align, error) in [
        ("", 8, 0, Error::Invalid),
        ("test", 0, 0, Error::Invalid),
        ("test", 8, 3, Error::Invalid),
        ("test", KMALLOC_MAX_SIZE + 1, 0, Error::TooLarge),
        ("test", 8, 2 * KMALLOC_MAX_SIZE, Error::TooLarge),
        ("test", usize::MAX, 64, Error::TooLarge),
    ] {
        let made = f.slub.create(CacheParams::new(name, size).align(align));
        assert_eq!(made.err(), Some(error), "{name:?} of {size} aligned to {align}");
    }
}

#[test]
fn no_memory_is_an_error_and_nothing_is_lost() {
    let f = Fixture::new();
    let cache = f.slub.create(CacheParams::new("test", 512)).unwrap();
    f.source.left.store(3, Relaxed);
    let mut objects = Vec::new();
    let error = loop {
        match cache.alloc(Gfp::KERNEL) {
            Ok(object) => objects.push(object),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (error, objects.len()),
        (Error::NoMemory, 3 * cache.geometry().objects(cache.geometry().order))
    );
    assert_eq!(f.slub.kmalloc(100_000, Gfp::KERNEL), Err(Error::NoMemory));
    let creating: Vec<_> = (0..1000).map(|_| f.slub.create(CacheParams::new("more", 8))).collect();
    assert!(matches!(creating.last(), Some(Err(Error::NoMemory))));
    f.source.left.store(u64::MAX, Relaxed);
    for object in objects {
        // SAFETY: ours.
        unsafe { cache.free(object) };
    }
    creating.into_iter().flatten().for_each(|cache| f.destroy(cache));
    f.destroy(cache);
}

#[test]
fn a_real_machine_can_be_exhausted_and_recovers() {
    let f = Fixture::new();
    let mut objects = Vec::new();
    let (error, _) = capture(|| {
        loop {
            match f.slub.kmalloc(3000, Gfp::KERNEL | Gfp::NOWARN) {
                Ok(object) => objects.push(object),
                Err(error) => break error,
            }
        }
    });
    assert_eq!(error, Error::NoMemory);
    assert!(objects.len() > 8000, "only {} objects", objects.len());
    for object in objects {
        // SAFETY: ours.
        unsafe { f.slub.kfree(object) };
    }
}

#[test]
fn kmalloc_serves_every_size() {
    let f = Fixture::new();
    for size in (0..300).chain([511, 512, 513, 4096, 8192, 8193, 65536, 100_000, KMALLOC_MAX_SIZE]) {
        let memory = f.slub.kzalloc(size, Gfp::KERNEL).unwrap();
        // SAFETY: ours until it is freed.
        unsafe {
            if size == 0 {
                assert_eq!((memory, f.slub.ksize(memory)), (ZERO_SIZE_PTR, 0));
            } else {
                assert!(f.slub.ksize(memory) >= size);
                assert!(memory.addr().get().is_multiple_of(if size.is_power_of_two() {
                    size.max(8)
                } else {
                    8
                }));
                check(memory, size, 0);
                fill(memory, f.slub.ksize(memory), 0xaa);
            }
            f.slub.kfree(memory);
        }
    }
    assert_eq!(f.slub.kmalloc(KMALLOC_MAX_SIZE + 1, Gfp::KERNEL), Err(Error::TooLarge));
    assert_eq!(f.slub.kmalloc(usize::MAX, Gfp::KERNEL), Err(Error::TooLarge));
}

#[test]
fn dma_memory_is_below_16_mib() {
    let f = Fixture::new();
    let memory = [60, 3000, 20_000].map(|size| f.slub.kmalloc(size, Gfp::KERNEL | Gfp::DMA).unwrap());
    for at in memory {
        assert!(f.machine.machine().virt_to_phys(at.as_ptr()).as_u64() < 16 << 20);
        // SAFETY: ours.
        unsafe { f.slub.kfree(at) };
    }
}

#[test]
fn krealloc_keeps_contents() {
    let f = Fixture::new();
    // SAFETY: ours throughout.
    unsafe {
        let mut at = f.slub.kmalloc(10, Gfp::KERNEL).unwrap();
        fill(at, 10, 7);
        for size in [16, 17, 8192, 10_000, 200_000, 10] {
            at = f.slub.krealloc(at, size, Gfp::KERNEL).unwrap();
            check(at, 10, 7);
        }
        assert_eq!(f.slub.krealloc(at, 0, Gfp::KERNEL), Ok(ZERO_SIZE_PTR));
    }
}

#[test]
fn objects_go_home_to_their_node() {
    let f = Fixture::with(128, 2, 2);
    let cache = f.slub.create(CacheParams::new("test", 256)).unwrap();
    for node in [NodeId(0), NodeId(1)] {
        // Allocated for one node by both CPUs, freed by the other CPU each.
        let objects: Vec<_> = (0..100u32)
            .map(|n| run_as_cpu(CpuId(n % 2), || cache.alloc_node(Gfp::KERNEL, node).unwrap()))
            .collect();
        for (n, &object) in objects.iter().enumerate() {
            let phys = f.machine.machine().virt_to_phys(object.as_ptr()).as_u64();
            assert_eq!(phys >= 64 << 20, node == NodeId(1), "object for {node} at {phys:#x}");
            // SAFETY: ours.
            run_as_cpu(CpuId(1 - n as u32 % 2), || unsafe { cache.free(object) });
        }
        cache.validate();
    }
    let local = run_as_cpu(CpuId(1), || cache.alloc(Gfp::KERNEL).unwrap());
    assert!(f.machine.machine().virt_to_phys(local.as_ptr()).as_u64() >= 64 << 20);
    // SAFETY: ours.
    unsafe { cache.free(local) };
    assert_eq!(cache.alloc_node(Gfp::KERNEL, NodeId(2)), Err(Error::Invalid));
    f.destroy(cache);
}

#[test]
fn the_heap_fails_before_it_has_memory_and_aligns_after() {
    let heap = KernelHeap::new();
    let layout = Layout::from_size_align(100, 64).unwrap();
    // SAFETY: the layout has a size.
    assert!(unsafe { heap.alloc(layout) }.is_null());
    assert_eq!(heap.state(), SlabState::Down);
    let f = Fixture::new();
    // SAFETY: the heap is not used any more when the fixture goes.
    heap.init(unsafe { NonNull::from_ref(&f.slub).as_ref() });
    for (size, align) in
        [(1, 1), (8, 64), (100, 64), (96, 64), (3, 4096), (5000, 8192), (9000, 65536), (20, 16)]
    {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the layout has a size; ours until it is freed.
        unsafe {
            let at = NonNull::new(heap.alloc_zeroed(layout)).unwrap();
            assert!(at.addr().get().is_multiple_of(align), "{size} bytes aligned to {align} at {at:p}");
            check(at, size, 0);
            fill(at, size, 3);
            let more = NonNull::new(heap.realloc(at.as_ptr(), layout, 3 * size)).unwrap();
            assert!(more.addr().get().is_multiple_of(align));
            check(more, size, 3);
            heap.dealloc(more.as_ptr(), Layout::from_size_align(3 * size, align).unwrap());
        }
    }
    let huge = Layout::from_size_align(1 << 40, 8).unwrap();
    // SAFETY: the layout has a size.
    assert!(unsafe { heap.alloc(huge) }.is_null());
}

#[test]
fn cpus_allocate_and_free_each_others_objects_at_once() {
    let f = Fixture::with(64, 2, 4);
    let cache = f.slub.create(CacheParams::new("test", 120)).unwrap();
    let (to_all, from_all): (Vec<_>, Vec<_>) =
        (0..4).map(|_| std::sync::mpsc::channel::<(usize, u8)>()).unzip();
    let left: Vec<_> = std::thread::scope(|scope| {
        let start = |(cpu, inbox): (usize, std::sync::mpsc::Receiver<(usize, u8)>)| {
            let (to_all, cache) = (to_all.clone(), &cache);
            scope.spawn(move || {
                run_as_cpu(CpuId(cpu as u32), || {
                    for n in 0..3000usize {
                        let object = cache.alloc(Gfp::KERNEL).unwrap();
                        fill(object, 120, (n + cpu) as u8);
                        to_all[n * 7 % 4].send((object.addr().get(), (n + cpu) as u8)).unwrap();
                        if n % 3 != 0 {
                            free_all(cache, inbox.try_iter());
                        }
                    }
                });
                inbox
            })
        };
        let threads: Vec<_> = from_all.into_iter().enumerate().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    f.slub.validate();
    left.iter().for_each(|inbox| free_all(&cache, inbox.try_iter()));
    f.destroy(cache);
}

fn free_all(cache: &CacheHandle<'_>, objects: impl Iterator<Item = (usize, u8)>) {
    for (at, tag) in objects {
        let object = NonNull::new(at as *mut u8).unwrap();
        check(object, 120, tag);
        // SAFETY: sent to us by its owner.
        unsafe { cache.free(object) };
    }
}

/// Writes a pattern into the first word.
///
/// # Safety
/// As for any constructor, of objects of at least a word.
unsafe fn mark(object: NonNull<u8>) {
    // SAFETY: the caller's object.
    unsafe { object.cast::<u64>().write(MARK) };
}

const MARK: u64 = 0x6b6f_6e73_7472_7563;

#[test]
fn an_object_is_constructed_once_and_keeps_what_its_user_left() {
    let f = Fixture::new();
    let cache = f.slub.create(CacheParams::new("made", 40).constructor(mark)).unwrap();
    // SAFETY: an object of ours.
    let word = |object: NonNull<u8>| unsafe { object.cast::<u64>().read() };
    let objects: Vec<_> = (0..300).map(|_| cache.alloc(Gfp::KERNEL).unwrap()).collect();
    assert!(objects.iter().all(|&object| word(object) == MARK));
    for (nr, &object) in objects.iter().enumerate() {
        // SAFETY: objects of ours, freed once.
        unsafe {
            object.cast::<u64>().write(nr as u64);
            cache.free(object);
        }
    }
    f.on_each_cpu(&|| f.slub.drain_this_cpu());
    let again: Vec<_> = (0..300).map(|_| cache.alloc(Gfp::KERNEL).unwrap()).collect();
    let kept = again.iter().filter(|&&object| word(object) < 300).count();
    assert!(kept > 200, "{kept} objects came back as they were left, links do not lie in them");
    assert!(again.iter().all(|&object| word(object) < 300 || word(object) == MARK));
    // SAFETY: as above.
    again.into_iter().for_each(|object| unsafe { cache.free(object) });
    f.destroy(cache);
}

#[test]
fn many_objects_come_all_or_none() {
    let f = Fixture::new();
    let cache = f.slub.create(CacheParams::new("many", 2000)).unwrap();
    let mut objects = [None; 200];
    let taken = cache.alloc(Gfp::KERNEL).unwrap();
    f.source.left.store(1, Relaxed);
    assert_eq!(cache.alloc_bulk(Gfp::KERNEL | Gfp::NOWARN, &mut objects), Err(Error::NoMemory));
    assert!(objects.iter().all(Option::is_none));
    f.source.left.store(u64::MAX, Relaxed);
    cache.alloc_bulk(Gfp::KERNEL | Gfp::ZERO, &mut objects).unwrap();
    for object in objects.iter().map(|object| object.unwrap()) {
        // SAFETY: an object of ours.
        assert!(unsafe { core::slice::from_raw_parts(object.as_ptr(), 2000) }.iter().all(|&byte| byte == 0));
    }
    // SAFETY: objects of ours, freed once.
    unsafe {
        cache.free_bulk(&mut objects);
        cache.free(taken);
    }
    f.slub.validate();
    f.destroy(cache);
}
