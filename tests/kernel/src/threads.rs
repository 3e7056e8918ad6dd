//! Kernel threads on stacks of their own in the vmalloc space.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kernel::memory::stack::{STACK_BYTES, Stack};
use kernel::memory::vmalloc;
use kernel::thread::{JoinHandle, preempt};
use kernel::{ktest, thread};
use mm::counters::NodeStat;
use mm::{CpuId, VirtAddr};

use crate::support::{leaks_nothing, memory};

ktest!(a_stack_is_mapped_and_has_holes_around_it);
ktest!(threads_run_on_their_own_stacks_and_end);
ktest!(a_thread_returns_its_value_and_is_dropped_with_it);
ktest!(a_function_that_fills_the_stack_is_refused);
ktest!(a_thread_that_only_spins_is_pre_empted);
ktest!(preemption_waits_for_the_end_of_a_section_without_it);
ktest!(stacks_are_zeroed_and_reused);
ktest!(stacks_are_counted_until_they_are_given_back);
ktest!(a_threads_variables_are_as_aligned_as_their_types);

fn mapped(addr: u64) -> bool {
    memory().kernel_map.lock().translate(VirtAddr::new(addr)).is_some()
}

/// The first stacks leave nodes of their areas in the CPU's slab caches: so many come before leaks are looked for.
fn with_caches_filled<const N: usize>(test: impl FnOnce(&'static kernel::memory::Memory)) {
    let stacks = [(); N].map(|()| Stack::new(memory()).expect("memory for a stack"));
    // SAFETY: never used.
    stacks.into_iter().for_each(|stack| unsafe { stack.free(memory()) });
    leaks_nothing(test);
}

fn a_stack_is_mapped_and_has_holes_around_it() {
    with_caches_filled::<2>(|memory| {
        let stacks = [(); 2].map(|()| Stack::new(memory).expect("memory for a stack"));
        for range in stacks.iter().map(Stack::addresses) {
            assert_eq!(range.end - range.start, STACK_BYTES);
            assert!(mapped(range.start) && mapped(range.end - 1));
            assert!(!mapped(range.start - 1) && !mapped(range.end), "{range:x?}");
        }
        let places = stacks.each_ref().map(Stack::addresses);
        // SAFETY: never used.
        stacks.into_iter().for_each(|stack| unsafe { stack.free(memory) });
        assert!(places.iter().all(|range| !mapped(range.start)), "unmapped again");
    });
}

fn threads_run_on_their_own_stacks_and_end() {
    const NR: usize = 16;
    static SUM: AtomicU64 = AtomicU64::new(0);
    with_caches_filled::<NR>(|_| {
        let mut n = 0;
        let handles = [(); NR].map(|()| {
            n += 1;
            let number = n;
            let body = move || {
                let stack = thread::current_stack().expect("threads have stacks");
                assert_eq!(stack.end - stack.start, STACK_BYTES);
                for _ in 0..5 {
                    let local = core::hint::black_box(number);
                    let at = (&raw const local) as u64;
                    assert!(stack.contains(&at), "a thread's variables are on its stack");
                    SUM.fetch_add(local, Relaxed);
                    thread::yield_now();
                }
                assert_eq!(thread::current_stack(), Some(stack));
            };
            thread::spawn("ktest", body).expect("memory for a thread")
        });
        handles.into_iter().for_each(JoinHandle::join);
        assert_eq!(SUM.load(Relaxed), 5 * (NR * (NR + 1) / 2) as u64);
    });
}

fn a_thread_returns_its_value_and_is_dropped_with_it() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    struct Value([u64; 100]);
    impl Drop for Value {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Relaxed);
        }
    }
    with_caches_filled::<2>(|_| {
        let thread = thread::spawn("ktest", || Value(core::array::from_fn(|i| i as u64)));
        let value = thread.expect("memory for a thread").join();
        assert!(value.0.iter().enumerate().all(|(i, &n)| n == i as u64));
        drop(value);
        assert_eq!(DROPPED.load(Relaxed), 1);
        let captured = Value([0; 100]);
        let thread = thread::spawn("ktest", move || captured).expect("memory for a thread");
        // Nobody waits for it: the reaper drops what it returns.
        drop(thread);
        eventually(|| DROPPED.load(Relaxed) == 2);
        settle();
    });
}

fn a_function_that_fills_the_stack_is_refused() {
    with_caches_filled::<1>(|_| {
        let large = [1u8; 8192];
        let refused = thread::spawn("ktest", move || core::hint::black_box(&large)[0]);
        assert_eq!(refused.err(), Some(thread::Error::TooLarge));
        let nowhere = thread::spawn_on(CpuId(u32::MAX), "ktest", || ());
        assert_eq!(nowhere.err(), Some(thread::Error::NoSuchCpu));
    });
}

fn a_thread_that_only_spins_is_pre_empted() {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let spin = |mine: u64| {
        for round in 0..3 {
            while TURN.load(Relaxed) != 2 * round + mine {
                core::hint::spin_loop();
            }
            TURN.fetch_add(1, Relaxed);
        }
    };
    // On one CPU, so that the one waits while it has the CPU for what the other must do.
    let cpu = CpuId(0);
    let threads =
        [0, 1].map(|mine| thread::spawn_on(cpu, "ktest", move || spin(mine)).expect("memory for a thread"));
    threads.into_iter().for_each(JoinHandle::join);
    assert_eq!(TURN.load(Relaxed), 6);
}

fn preemption_waits_for_the_end_of_a_section_without_it() {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static STOP: AtomicU64 = AtomicU64::new(0);
    let count = || {
        while STOP.load(Relaxed) == 0 {
            COUNT.fetch_add(1, Relaxed);
        }
    };
    let stay = || {
        while COUNT.load(Relaxed) == 0 {
            core::hint::spin_loop();
        }
        let before = {
            let _here = preempt::disable();
            let before = COUNT.load(Relaxed);
            let end = kernel::console::clock::uptime_us() + 40_000;
            while kernel::console::clock::uptime_us() < end {
                assert_eq!(COUNT.load(Relaxed), before, "nobody else runs here");
            }
            assert!(!mm::arch::may_sleep());
            before
        };
        assert!(mm::arch::may_sleep());
        while COUNT.load(Relaxed) == before {
            core::hint::spin_loop();
        }
        STOP.store(1, Relaxed);
    };
    let counter = thread::spawn_on(CpuId(0), "ktest", count).expect("memory for a thread");
    thread::spawn_on(CpuId(0), "ktest", stay).expect("memory for a thread").join();
    counter.join();
}

/// Waits until `done`, long enough for a busy host.
fn eventually(done: impl Fn() -> bool) {
    let end = kernel::console::clock::uptime_us() + 20_000_000;
    while !done() {
        assert!(kernel::console::clock::uptime_us() < end, "it does not happen");
        thread::yield_now();
    }
}

/// Waits until the reaper has nothing to do.
fn settle() {
    eventually(|| !thread::reaper_is_busy());
}

fn stacks_are_zeroed_and_reused() {
    with_caches_filled::<1>(|memory| {
        let mut places = [0, 1, 2].map(|fill| {
            let stack = Stack::new(memory).expect("memory for a stack");
            let start = stack.addresses().start;
            // SAFETY: ours, mapped, used by no thread.
            let bytes = unsafe { core::slice::from_raw_parts_mut(start as *mut u8, STACK_BYTES as usize) };
            assert!(bytes.iter().all(|&byte| byte == 0), "nothing of the stack before, round {fill}");
            bytes.fill(0x77);
            // SAFETY: not used any more.
            unsafe { stack.free(memory) };
            start
        });
        places.sort_unstable();
        assert_eq!(places[0], places[2], "a place that was given back is used again");
    });
}

fn stacks_are_counted_until_they_are_given_back() {
    with_caches_filled::<2>(|memory| {
        let counted = || {
            let nodes = memory.pages.nodes().iter();
            let kib: u64 = nodes.map(|node| node.counters().exact(NodeStat::KernelStackKb)).sum();
            (kib << 10, vmalloc::used_bytes(memory))
        };
        let before = counted();
        let stacks = [(); 2].map(|()| Stack::new(memory).expect("memory for a stack"));
        assert_eq!(counted(), (before.0 + 2 * STACK_BYTES, before.1 + 2 * STACK_BYTES));
        // SAFETY: never used.
        stacks.into_iter().for_each(|stack| unsafe { stack.free(memory) });
        assert_eq!(counted(), before);
    });
}

/// The compiler trusts that the stack is aligned as the calling convention says, for types up to 16 bytes.
fn a_threads_variables_are_as_aligned_as_their_types() {
    #[repr(align(16))]
    struct Aligned([u64; 2]);
    #[inline(never)]
    fn misaligned_by(seed: u64) -> usize {
        let local = core::hint::black_box(Aligned([seed; 2]));
        let at = core::hint::black_box(&raw const local).addr();
        core::hint::black_box(local.0[0]);
        at % align_of::<Aligned>()
    }
    for seed in 0..4 {
        let off = thread::spawn("ktest", move || misaligned_by(seed)).expect("memory for a thread").join();
        assert_eq!(off, 0);
    }
    assert_eq!(misaligned_by(0), 0, "nor here");
}
