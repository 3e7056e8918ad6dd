//! All CPUs at once at the page allocator: random operations, failures injected, memory short and plenty.
//!
//! ```text
//! free pages, events, lists -> workers run, each on its CPU -> at rest -> everything freed, drained -> the same again?
//! ```
//! Found are: pages handed out twice (`slots::Ledger`), pages written to by others (marks), pages that are lost, free lists
//! and counts that are wrong (`validate`), events that were not counted, buddies that did not merge.

mod report;
mod slots;
mod tally;
mod worker;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

use kernel::cpu::online;
use kernel::memory::Memory;
use kernel::{ktest, println, thread};
use mm::gfp::MigrateType;
use mm::order::PAGEBLOCK_NR_PAGES;
use mm::page_alloc::FailSpec;
use mm::pcp::EventCounts;
use mm::stat::collect;
use mm::stat::freelists::FreeLists;
use mm::zone::Zone;
use mm::{CpuId, Order};

use crate::support::memory;
use slots::Ledger;
use tally::Tally;
use worker::Worker;

ktest!(ten_million_operations_with_failures_leave_memory_as_it_was, on "bios-2x2cpu-torture");
ktest!(a_million_operations_on_the_lists_of_all_cpus_leave_memory_as_it_was, on "bios-2g-2x2cpu,uefi-512m-4cpu");

/// In how many blocks of how many zones the machine's memory can come, at most.
const MAX_ZONES: usize = 8;

fn ten_million_operations_with_failures_leave_memory_as_it_was() {
    assert!(memory().pages.set_fail_spec(FailSpec::default()), "fail_page_alloc= on the command line");
    assert_eq!(online::nr_online(), 4);
    let done = torture(2_600_000);
    assert!(done.operations > 10_000_000 && done.failed > 100_000 && done.handed_over > 100_000);
    assert!(done.ranges > 0 && done.splits > 0 && done.shared > 0 && done.interrupts > 0);
}

fn a_million_operations_on_the_lists_of_all_cpus_leave_memory_as_it_was() {
    torture(1_000_000 / u64::from(online::nr_online()));
}

/// What free memory looks like.
struct State {
    zones: [Option<FreeLists>; MAX_ZONES],
    free: [u64; MAX_ZONES],
    events: EventCounts,
}

impl State {
    /// While all CPUs are at rest; gives back what their lists hold.
    fn now(memory: &Memory) -> Self {
        memory.pages.drain_all();
        memory.pages.validate();
        let zones = || memory.pages.nodes().populated_zones();
        assert!(zones().all(|zone| memory.pages.pcp_pages(zone) == 0), "drained");
        let mut events = EventCounts::default();
        zones().for_each(|zone| events.add(&memory.pages.events(zone)));
        let mut lists = zones().map(collect::free_lists);
        let mut free = zones().map(Zone::nr_free);
        assert!(zones().count() <= MAX_ZONES);
        Self {
            zones: [(); MAX_ZONES].map(|()| lists.next()),
            free: [(); MAX_ZONES].map(|()| free.next().unwrap_or(0)),
            events,
        }
    }
}

/// Workers wait for it to begin, and at their ends for it to be over.
struct Gate {
    open: AtomicBool,
    ready: AtomicU32,
    over: AtomicBool,
    done: AtomicU32,
}

static GATE: Gate = Gate {
    open: AtomicBool::new(false),
    ready: AtomicU32::new(0),
    over: AtomicBool::new(false),
    done: AtomicU32::new(0),
};

/// Sleeps until `condition`. Without a limit of its own: the host's is longer than any worker's work.
fn wait(condition: impl Fn() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_millis(5));
    }
}

fn work(cpu: CpuId, ledger: Ledger, operations: u64) -> Tally {
    let mut worker = Worker::new(cpu, ledger);
    GATE.ready.fetch_add(1, Ordering::AcqRel);
    wait(|| GATE.open.load(Ordering::Acquire));
    worker.run(operations);
    GATE.done.fetch_add(1, Ordering::AcqRel);
    wait(|| GATE.over.load(Ordering::Acquire));
    worker.tally
}

/// So many operations by each CPU; what they did together.
fn torture(operations: u64) -> Tally {
    let memory = memory();
    let nr = online::nr_online();
    for count in [&GATE.ready, &GATE.done] {
        count.store(0, Ordering::Relaxed);
    }
    for flag in [&GATE.open, &GATE.over] {
        flag.store(false, Ordering::Relaxed);
    }
    let (ledger, ledger_memory) = Ledger::new(memory.pages);
    let mut workers = online::all().map(|cpu| {
        thread::spawn_on(cpu, "torture", move || work(cpu, ledger, operations)).expect("memory for a thread")
    });
    // More CPUs than slots have no machine of their own yet.
    let workers = [(); 4].map(|()| workers.next());
    wait(|| GATE.ready.load(Ordering::Acquire) == nr);

    let before = State::now(memory);
    let start = kernel::console::clock::uptime_us();
    GATE.open.store(true, Ordering::Release);
    wait(|| GATE.done.load(Ordering::Acquire) == nr);
    let took = kernel::console::clock::uptime_us() - start;
    memory.pages.set_fail_spec(FailSpec::default());
    report::fragmentation(memory, "with what is held");
    let mut rest = Worker::new(CpuId(nr), ledger);
    rest.empty();
    assert_eq!(ledger.nr_held(), 0, "pages are held that are in no slot");
    let after = State::now(memory);
    report::fragmentation(memory, "with everything freed");
    GATE.over.store(true, Ordering::Release);

    let mut sum = rest.tally;
    for (cpu, worker) in workers.into_iter().flatten().enumerate() {
        let tally = worker.join();
        println!("torture: CPU {cpu}: {tally:?}");
        sum.add(&tally);
    }
    println!("torture: {} operations in {} ms: {sum:?}", sum.operations, took / 1000);
    compare(memory, &before, &after, &sum);
    memory.pages.free_memory(ledger_memory);
    sum
}

/// Everything is back, and everything was counted.
fn compare(memory: &Memory, before: &State, after: &State, sum: &Tally) {
    assert_eq!(before.free, after.free, "free pages of each zone, before and after");
    for (zone, (old, new)) in memory
        .pages
        .nodes()
        .populated_zones()
        .zip(before.zones.iter().flatten().zip(after.zones.iter().flatten()))
    {
        let types = collect::pageblocks(zone);
        let of = |migrate_type: MigrateType| types[migrate_type.index()];
        let apart = of(MigrateType::HighAtomic);
        assert_eq!(of(MigrateType::Isolate), 0, "pageblocks left isolated in {zone:?}");
        assert_eq!(apart * PAGEBLOCK_NR_PAGES, zone.nr_reserved_highatomic(), "pages set apart in {zone:?}");
        // The last one was set apart when there were fewer than so many pages.
        let limit = zone.managed() / 100 + PAGEBLOCK_NR_PAGES;
        assert!(apart.saturating_sub(1) * PAGEBLOCK_NR_PAGES < limit, "{apart} in {zone:?}");
        // Everything has merged again but what is set apart, which its neighbours do not merge with.
        let largest = |lists: &FreeLists| lists.of_order(Order::MAX);
        assert!(largest(new) + apart >= largest(old), "largest blocks of {zone:?}: {old:?}, then {new:?}");
    }
    let (old, new) = (&before.events, &after.events);
    let allocs = |order: usize| new.allocs[order] - old.allocs[order];
    assert_eq!(core::array::from_fn(allocs), sum.allocs, "blocks allocated, by order");
    assert_eq!(new.pages_freed() - old.pages_freed(), sum.pages_freed, "pages freed");
    assert_eq!(sum.pages_freed, sum.pages_allocated() + sum.range_pages, "what came went");
    assert_eq!(
        new.numa_miss - old.numa_miss,
        new.numa_foreign - old.numa_foreign,
        "missed here, foreign there"
    );
    assert_eq!(new.numa_hit() + new.numa_miss, new.nr_allocs());
}
