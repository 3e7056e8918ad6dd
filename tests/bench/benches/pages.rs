//! Every workload on every source, on one thread and on two; then a random mix on ever larger machines.

use std::time::Duration;

use bench::published::{Bins, Bits, BuddyHeap, Frames, TwoLevels};
use bench::source::{Locked, Source};
use bench::strata::Strata;
use bench::workload::{Batch, MOST_THREADS, Mix, Pair, Workload, make_holes, time};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const GIB: u64 = 1 << 30;

/// A workload on one machine, by 1 and 2 threads.
fn threads<S: Source, W: Workload<S>>(c: &mut Criterion, workload: &str) {
    let source = S::new(4 * GIB);
    let mut group = c.benchmark_group(workload);
    group.throughput(Throughput::Elements(W::OPERATIONS));
    for nr_threads in 1..=MOST_THREADS {
        group.bench_function(BenchmarkId::new(S::NAME, nr_threads), |b| {
            b.iter_custom(|iterations| time::<S, W>(&source, nr_threads, iterations));
        });
    }
    group.finish();
}

fn workloads<S: Source>(c: &mut Criterion) {
    threads::<S, Pair<0>>(c, "order0_pair");
    threads::<S, Pair<3>>(c, "order3_pair");
    threads::<S, Batch<S::Block>>(c, "512_then_512");
    threads::<S, Mix<S::Block>>(c, "mix");
}

/// The same mix on machines with 1 GiB to 64 GiB, half of it held in every second 2 MiB.
fn sizes<S: Source>(c: &mut Criterion) {
    let mut group = c.benchmark_group("mix_with_holes");
    for gib in [1, 4, 16, 64] {
        let source = S::new(gib * GIB);
        make_holes(&source, gib * GIB);
        group.bench_function(BenchmarkId::new(S::NAME, gib), |b| {
            b.iter_custom(|iterations| time::<S, Mix<S::Block>>(&source, 1, iterations));
        });
    }
    group.finish();
}

fn all<S: Source>(c: &mut Criterion) {
    workloads::<S>(c);
    sizes::<S>(c);
}

fn sources(c: &mut Criterion) {
    all::<Strata>(c);
    all::<Locked<Frames>>(c);
    all::<Locked<BuddyHeap>>(c);
    all::<Locked<Bits>>(c);
    all::<Locked<Bins>>(c);
    all::<Locked<TwoLevels>>(c);
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group!(name = benches; config = config(); targets = sources);
criterion_main!(benches);
