//! What is measured of a source: what a CPU does, and so many CPUs at the same time.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use mm::arch::run_as_cpu;
use mm::{CpuId, Order};

use crate::source::Source;

/// How many threads there are at most.
pub const MOST_THREADS: usize = 2;

/// What one CPU does.
pub trait Workload<S: Source>: Sized {
    /// Operations of one iteration: what a figure is divided by.
    const OPERATIONS: u64;

    /// Ready to start on CPU `cpu`.
    fn new(source: &S, cpu: usize) -> Self;

    /// Once.
    fn iterate(&mut self, source: &S);

    /// Gives back what it holds.
    fn end(self, source: &S);
}

fn get<S: Source>(source: &S, order: u8) -> S::Block {
    let order = Order::new(order).expect("workloads ask for orders that there are");
    black_box(source.alloc(order)).expect("workloads ask for less than there is")
}

/// A block of `ORDER` is allocated and freed.
#[derive(Debug)]
pub struct Pair<const ORDER: u8>;

impl<S: Source, const ORDER: u8> Workload<S> for Pair<ORDER> {
    const OPERATIONS: u64 = 1;

    fn new(_: &S, _cpu: usize) -> Self {
        Self
    }

    #[inline]
    fn iterate(&mut self, source: &S) {
        source.free(get(source, ORDER));
    }

    fn end(self, _: &S) {}
}

/// 512 pages are allocated, then freed in the same order.
#[derive(Debug)]
pub struct Batch<B>(Vec<B>);

impl<S: Source> Workload<S> for Batch<S::Block> {
    const OPERATIONS: u64 = 512;

    fn new(_: &S, _cpu: usize) -> Self {
        Self(Vec::with_capacity(512))
    }

    fn iterate(&mut self, source: &S) {
        self.0.extend((0..512).map(|_| get(source, 0)));
        self.0.drain(..).for_each(|block| source.free(block));
    }

    fn end(self, _: &S) {}
}

/// 64 places, each with a block of random order from 0 to 9 or without; a random one of them changes.
#[derive(Debug)]
pub struct Mix<B> {
    held: [Option<B>; 64],
    random: u64,
}

impl<B> Mix<B> {
    /// Knuth's generator; its upper bits are the good ones.
    fn random(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.random >> 40) * below) >> 24
    }
}

impl<S: Source> Workload<S> for Mix<S::Block> {
    const OPERATIONS: u64 = 1;

    /// With about half of the places used.
    fn new(source: &S, cpu: usize) -> Self {
        let mut mix = Self { held: [const { None }; 64], random: cpu as u64 };
        (0..512).for_each(|_| mix.iterate(source));
        mix
    }

    #[inline]
    fn iterate(&mut self, source: &S) {
        let (place, order) = (self.random(64), self.random(10));
        let place = &mut self.held[place as usize];
        match place.take() {
            Some(block) => source.free(block),
            None => *place = Some(get(source, order as u8)),
        }
    }

    fn end(self, source: &S) {
        self.held.into_iter().flatten().for_each(|block| source.free(block));
    }
}

/// Time that this thread has had of a processor: what else the host does meanwhile does not count.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a `timespec` of ours.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "every thread has that clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Processor time that each of `nr_threads` threads, each another CPU, takes for `iterations` of a workload at the same time
/// as the others; of the slowest. Waiting for a lock is part of it: locks spin.
pub fn time<S: Source, W: Workload<S>>(source: &S, nr_threads: usize, iterations: u64) -> Duration {
    let start = Barrier::new(nr_threads);
    let work = |cpu: usize| {
        run_as_cpu(CpuId(cpu as u32), || {
            let mut workload = W::new(source, cpu);
            start.wait();
            let before = processor_time();
            (0..iterations).for_each(|_| workload.iterate(source));
            let took = processor_time() - before;
            workload.end(source);
            took
        })
    };
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..nr_threads).map(|cpu| scope.spawn(move || work(cpu))).collect();
        let took = threads.into_iter().map(|thread| thread.join().expect("workloads do not panic"));
        took.max().unwrap_or_default()
    })
}

/// Takes seven eighths of the memory in blocks of 2 MiB, gives every second of them back, and keeps the rest for good: as
/// many holes as there is memory.
pub fn make_holes<S: Source>(source: &S, size_bytes: u64) {
    let order = Order::new(9).expect("an order");
    let wanted = size_bytes / order.size_bytes() as u64 * 7 / 8;
    let blocks: Vec<_> = (0..wanted).map_while(|_| source.alloc(order)).collect();
    for (nr, block) in blocks.into_iter().enumerate() {
        if nr % 2 == 0 {
            source.free(block);
        } else {
            core::mem::forget(block);
        }
    }
}
