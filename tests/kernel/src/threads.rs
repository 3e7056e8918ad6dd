//! Kernel threads on stacks of their own in the vmalloc space.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kernel::memory::stack::{STACK_BYTES, Stack};
use kernel::memory::vmalloc;
use kernel::{ktest, thread};
use mm::VirtAddr;
use mm::counters::NodeStat;

use crate::support::{leaks_nothing, memory};

ktest!(a_stack_is_mapped_and_has_holes_around_it);
ktest!(threads_run_on_their_own_stacks_and_end);
ktest!(stacks_are_zeroed_and_reused);
ktest!(stacks_are_counted_until_they_are_given_back);

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
    with_caches_filled::<NR>(|memory| {
        let stacks = [(); NR].map(|()| Stack::new(memory).expect("memory for a stack"));
        let mut n = 0;
        let handles = stacks.each_ref().map(|stack| {
            n += 1;
            let (number, range) = (n, stack.addresses());
            let body = move || {
                for _ in 0..5 {
                    let local = core::hint::black_box(number);
                    assert!(
                        range.contains(&((&raw const local) as u64)),
                        "a thread's variables are on its stack"
                    );
                    SUM.fetch_add(local, Relaxed);
                    thread::yield_now();
                }
            };
            // SAFETY: freed after the thread has ended.
            unsafe { thread::spawn("ktest", stack.addresses(), body) }.expect("large enough")
        });
        for (handle, stack) in handles.into_iter().zip(&stacks) {
            assert_eq!(handle.join(), stack.addresses());
        }
        assert_eq!(SUM.load(Relaxed), 5 * (NR * (NR + 1) / 2) as u64);
        // SAFETY: the threads have ended.
        stacks.into_iter().for_each(|stack| unsafe { stack.free(memory) });
    });
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
            let kib: u64 = nodes.map(|node| node.counters().get(NodeStat::KernelStackKb)).sum();
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
