//! Random operations by several CPUs against a naive set of live memory.

use proptest::prelude::*;
use std::vec;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Alloc { cache: usize, cpu: u32, node: Option<u16> },
    AllocBulk { cache: usize, nr: usize, cpu: u32 },
    FreeBulk { cache: usize, nr: usize, cpu: u32 },
    Kmalloc { size: usize, cpu: u32 },
    Free { nth: usize, cpu: u32 },
    FreeMany { nr: usize, cpu: u32 },
    Realloc { nth: usize, size: usize },
    Drain { cpu: u32 },
    Shrink,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0usize..4, 0u32..4, prop::option::weighted(0.3, 0u16..2))
            .prop_map(|(cache, cpu, node)| Op::Alloc { cache, cpu, node }),
        1 => (0usize..4, 0usize..200, 0u32..4).prop_map(|(cache, nr, cpu)| Op::AllocBulk { cache, nr, cpu }),
        1 => (0usize..4, 0usize..200, 0u32..4).prop_map(|(cache, nr, cpu)| Op::FreeBulk { cache, nr, cpu }),
        3 => (0usize..14, 0usize..40_000, 0u32..4).prop_map(|(bits, n, cpu)| Op::Kmalloc { size: n % (1 << bits), cpu }),
        4 => (any::<usize>(), 0u32..4).prop_map(|(nth, cpu)| Op::Free { nth, cpu }),
        1 => (0usize..150, 0u32..4).prop_map(|(nr, cpu)| Op::FreeMany { nr, cpu }),
        1 => (any::<usize>(), 0usize..20_000).prop_map(|(nth, size)| Op::Realloc { nth, size }),
        1 => (0u32..4).prop_map(|cpu| Op::Drain { cpu }),
        1 => Just(Op::Shrink),
    ];
    prop::collection::vec((op, 1usize..60), 1..60)
        .prop_map(|ops| ops.into_iter().flat_map(|(op, times)| vec![op; times]).collect())
}

struct Live {
    at: NonNull<u8>,
    size: usize,
    tag: u8,
    /// `None`: of `kmalloc`.
    cache: Option<usize>,
}

struct Model {
    fixture: Fixture,
    caches: Vec<CacheHandle<'static>>,
    live: Vec<Live>,
    tag: u8,
}

impl Model {
    fn add(&mut self, at: NonNull<u8>, size: usize, cache: Option<usize>) {
        self.tag = self.tag.wrapping_add(1);
        if size != 0 {
            fill(at, size, self.tag);
        }
        self.live.push(Live { at, size, tag: self.tag, cache });
    }

    fn free(&mut self, nth: usize, cpu: u32) {
        if self.live.is_empty() {
            return;
        }
        let Live { at, size, tag, cache } = self.live.swap_remove(nth % self.live.len());
        if size != 0 {
            check(at, size, tag);
        }
        // SAFETY: the model says that it is ours.
        run_as_cpu(CpuId(cpu), || unsafe {
            match cache {
                Some(cache) if nth.is_multiple_of(2) => self.caches[cache].free(at),
                _ => self.fixture.slub.kfree(at),
            }
        });
    }

    fn alloc_bulk(&mut self, cache: usize, nr: usize, cpu: u32) {
        let mut objects = vec![None; nr];
        run_as_cpu(CpuId(cpu), || self.caches[cache].alloc_bulk(Gfp::KERNEL, &mut objects)).unwrap();
        let size = self.caches[cache].geometry().object_size as usize;
        objects.into_iter().for_each(|object| self.add(object.expect("all or none"), size, Some(cache)));
    }

    /// Frees the newest objects of a cache, with an empty slot after each.
    fn free_bulk(&mut self, cache: usize, nr: usize, cpu: u32) {
        let of_cache = |live: &mut Live| live.cache == Some(cache);
        let first = self.live.len() - nr.min(self.live.len());
        let freed: Vec<Live> = self.live.extract_if(first.., of_cache).collect();
        freed.iter().for_each(|live| check(live.at, live.size, live.tag));
        let mut objects: Vec<_> = freed.iter().flat_map(|live| [Some(live.at), None]).collect();
        // SAFETY: the model says that they are ours.
        run_as_cpu(CpuId(cpu), || unsafe { self.caches[cache].free_bulk(&mut objects) });
        assert!(objects.iter().all(Option::is_none));
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Alloc { cache, cpu, node } => {
                let from = &self.caches[cache];
                let at = run_as_cpu(CpuId(cpu), || match node {
                    Some(node) => from.alloc_node(
                        Gfp::KERNEL,
                        NodeId(node % self.fixture.machine.pages.nodes().iter().count() as u16),
                    ),
                    None => from.alloc(Gfp::KERNEL),
                });
                let g = *from.geometry();
                let at = at.unwrap();
                assert!(at.addr().get().is_multiple_of(g.align as usize));
                self.add(at, g.object_size as usize, Some(cache));
            }
            Op::AllocBulk { cache, nr, cpu } => self.alloc_bulk(cache, nr, cpu),
            Op::FreeBulk { cache, nr, cpu } => self.free_bulk(cache, nr, cpu),
            Op::Kmalloc { size, cpu } => {
                let at = run_as_cpu(CpuId(cpu), || self.fixture.slub.kmalloc(size, Gfp::KERNEL).unwrap());
                self.add(at, size, None);
            }
            Op::Free { nth, cpu } => self.free(nth, cpu),
            Op::FreeMany { nr, cpu } => (0..nr).for_each(|n| self.free(n, cpu)),
            Op::Realloc { nth, size } => {
                let kmallocs: Vec<_> =
                    (0..self.live.len()).filter(|&n| self.live[n].cache.is_none()).collect();
                if kmallocs.is_empty() {
                    return;
                }
                let Live { at, size: old, tag, .. } = self.live.swap_remove(kmallocs[nth % kmallocs.len()]);
                // SAFETY: the model says that it is ours.
                let at = unsafe { self.fixture.slub.krealloc(at, size, Gfp::KERNEL).unwrap() };
                if size.min(old) != 0 {
                    check(at, size.min(old), tag);
                }
                self.add(at, size, None);
            }
            Op::Drain { cpu } => run_as_cpu(CpuId(cpu), || self.fixture.slub.drain_this_cpu()),
            Op::Shrink => {
                self.fixture.slub.shrink_all();
            }
        }
    }

    /// No two of the live ones overlap.
    fn check_disjoint(&self) {
        let mut ranges: Vec<_> =
            self.live.iter().filter(|l| l.size != 0).map(|l| (l.at.addr().get(), l.size)).collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?} overlap");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn behaves_like_a_set_of_disjoint_memory(ops in ops(), nr_nodes in 1u64..=2) {
        let fixture = Fixture::with(64, nr_nodes, 4);
        let caches = [(16, 0), (72, 0), (200, 64), (3000, 8)]
            .map(|(size, align)| fixture.slub.create(CacheParams::new("model", size).align(align)).unwrap());
        let mut model = Model { fixture, caches: Vec::from(caches), live: Vec::new(), tag: 0 };
        for (n, op) in ops.iter().enumerate() {
            model.step(op);
            if n % 64 == 0 {
                model.fixture.slub.validate();
            }
        }
        model.check_disjoint();
        model.fixture.slub.validate();
        while !model.live.is_empty() {
            model.free(model.live.len() - 1, 1);
        }
        for cache in model.caches.drain(..) {
            model.fixture.destroy(cache);
        }
    }
}
