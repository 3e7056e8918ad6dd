//! Waiting: wait queues, sleeping locks, time, and what address spaces make of it. On all CPUs that run threads.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use kernel::console::clock::uptime_us;
use kernel::memory::space;
use kernel::thread::sync::{Completion, Mutex, RwLock, Semaphore, TimedOut};
use kernel::thread::wait::WaitQueue;
use kernel::thread::{self, JoinHandle, preempt};
use kernel::uaccess::{get_user, put_user};
use kernel::{ktest, println};
use mm::aspace::Placement;
use mm::sync::{Level, SpinLock};
use mm::vma::VmFlags;
use mm::{CpuId, PAGE_SIZE, VirtAddr};

use crate::support::{free_frames, memory};

ktest!(no_wake_up_is_lost_between_producers_and_consumers);
ktest!(a_mutex_lets_one_thread_in_at_a_time);
ktest!(a_mutex_goes_to_who_waits_and_not_to_who_comes_back);
ktest!(readers_share_and_a_writer_is_alone);
ktest!(a_writer_that_waits_keeps_new_readers_out);
ktest!(sleeping_takes_the_time_asked_for);
ktest!(waiting_ends_when_time_is_up_or_before);
ktest!(a_completion_may_be_freed_by_who_has_waited);
ktest!(a_completion_lets_one_go_on_each_time_and_then_all);
ktest!(a_semaphore_lets_so_many_in_at_a_time);
ktest!(many_threads_begin_and_end_and_give_everything_back);
ktest!(sleeping_where_it_is_not_allowed_is_reported);
ktest!(each_thread_sees_its_own_address_space);
ktest!(no_translation_outlives_its_page_wherever_the_thread_goes);
ktest!(a_fault_where_nobody_may_sleep_is_an_error);

/// Runs `f` in `N` threads, on the CPUs in turn, and waits for all.
#[track_caller]
fn in_threads<const N: usize>(f: impl Fn(u64) + Send + Copy + 'static) {
    let mut n = 0;
    let threads = [(); N].map(|()| {
        let number = n;
        n += 1;
        let cpu = CpuId(number as u32 % thread::nr_online());
        // Half of them stay on a CPU, the others go where there is room.
        let spawned = match number % 2 {
            0 => thread::spawn_on(cpu, "ktest", move || f(number)),
            _ => thread::spawn("ktest", move || f(number)),
        };
        spawned.expect("memory for a thread")
    });
    threads.into_iter().for_each(JoinHandle::join);
}

#[track_caller]
fn eventually(done: impl Fn() -> bool) {
    let end = uptime_us() + 20_000_000;
    while !done() {
        assert!(uptime_us() < end, "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

fn no_wake_up_is_lost_between_producers_and_consumers() {
    const ITEMS: u64 = 1000;
    const ROOM: u64 = 3;
    static STORE: SpinLock<u64> = SpinLock::new(Level::Leaf, 0);
    static FILLED: WaitQueue = WaitQueue::new();
    static EMPTIED: WaitQueue = WaitQueue::new();
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let change = |wanted: fn(u64) -> Option<u64>| {
        let mut store = STORE.lock();
        wanted(*store).map(|now| *store = now).is_some()
    };
    in_threads::<8>(move |n| {
        for _ in 0..ITEMS {
            if n < 4 {
                EMPTIED.wait_until_exclusive(|| change(|items| (items < ROOM).then_some(items + 1)));
                FILLED.wake_one();
            } else {
                FILLED.wait_until_exclusive(|| change(|items| items.checked_sub(1)));
                EMPTIED.wake_one();
                TAKEN.fetch_add(1, Relaxed);
            }
        }
    });
    assert_eq!((TAKEN.load(Relaxed), *STORE.lock()), (4 * ITEMS, 0));
}

fn a_mutex_lets_one_thread_in_at_a_time() {
    static COUNT: Mutex<u64> = Mutex::new(0);
    in_threads::<8>(|n| {
        for round in 0..300 {
            let mut count = COUNT.lock();
            let before = *count;
            if (round + n) % 7 == 0 {
                thread::yield_now();
            }
            *count = before + 1;
        }
    });
    assert_eq!(*COUNT.lock(), 8 * 300);
    assert!(!COUNT.is_locked() && COUNT.try_lock().is_some());
}

fn a_mutex_goes_to_who_waits_and_not_to_who_comes_back() {
    static TURNS: Mutex<u64> = Mutex::new(0);
    for round in 1..20 {
        let held = TURNS.lock();
        let waiter = thread::spawn("ktest", || *TURNS.lock() += 1).expect("memory for a thread");
        eventually(|| TURNS.is_contended());
        drop(held);
        assert!(TURNS.try_lock().is_none_or(|turns| *turns == round), "it went to who waited");
        assert_eq!(*TURNS.lock(), round, "who waited was first");
        waiter.join();
    }
}

fn readers_share_and_a_writer_is_alone() {
    static LOCK: RwLock<[u64; 2]> = RwLock::new([0; 2]);
    static INSIDE: AtomicU64 = AtomicU64::new(0);
    let see = |[a, b]: [u64; 2]| assert_eq!(a, b, "nobody reads half a change");
    in_threads::<8>(move |n| {
        for round in 0..200 {
            if (n + round) % 5 == 0 {
                let mut pair = LOCK.write();
                assert_eq!(INSIDE.load(Relaxed), 0);
                pair[0] += 1;
                thread::yield_now();
                pair[1] += 1;
                see(*pair.downgrade());
            } else {
                let pair = LOCK.read();
                INSIDE.fetch_add(1, Relaxed);
                see(*pair);
                thread::yield_now();
                see(*pair);
                INSIDE.fetch_sub(1, Relaxed);
            }
        }
    });
    assert_eq!(*LOCK.read(), [8 * 40; 2]);
    let inside = LOCK.read();
    let other = thread::spawn("ktest", move || see(*LOCK.read()));
    other.expect("memory for a thread").join();
    drop(inside);
    assert!(LOCK.try_write().is_some());
}

fn a_writer_that_waits_keeps_new_readers_out() {
    static LOCK: RwLock<u64> = RwLock::new(0);
    let first = LOCK.read();
    let second = LOCK.try_read().expect("readers share");
    let writer = thread::spawn("ktest", || *LOCK.write() += 1).expect("memory for a thread");
    eventually(|| LOCK.try_read().is_none());
    drop(second);
    assert_eq!(*first, 0);
    assert!(LOCK.try_write().is_none());
    drop(first);
    assert_eq!(*LOCK.read(), 1, "the writer was before us");
    writer.join();
}

fn sleeping_takes_the_time_asked_for() {
    in_threads::<6>(|n| {
        for ms in [0, 1, 5 + n, 30] {
            let begin = uptime_us();
            thread::sleep(Duration::from_millis(ms));
            let took = uptime_us() - begin;
            assert!(took >= ms * 1000, "{ms} ms took {took} us");
        }
        // More than a round of the wheel.
        if n == 0 {
            let begin = uptime_us();
            thread::sleep(Duration::from_millis(1100));
            assert!(uptime_us() - begin >= 1_100_000);
        }
    });
    assert_eq!(thread::nr_sleepers(), 0, "no timer is left");
}

fn waiting_ends_when_time_is_up_or_before() {
    static QUEUE: WaitQueue = WaitQueue::new();
    static READY: AtomicBool = AtomicBool::new(false);
    let short = Duration::from_millis(10);
    let long = Duration::from_secs(100);
    let ready = || READY.load(Relaxed);
    assert!(!QUEUE.wait_timeout(short, ready) && !QUEUE.wait_timeout_exclusive(short, ready));
    let (semaphore, completion) = (Semaphore::new(1), Completion::new());
    semaphore.acquire();
    assert_eq!(semaphore.acquire_timeout(short), Err(TimedOut));
    assert_eq!(completion.wait_timeout(short), Err(TimedOut));
    // Who has given up is in no list any more: what is given later is there for others.
    semaphore.release();
    completion.complete();
    assert_eq!((semaphore.acquire_timeout(short), completion.wait_timeout(short)), (Ok(()), Ok(())));
    assert!(semaphore.try_acquire().is_err() && !completion.is_done());
    let waker = thread::spawn("ktest", || {
        thread::sleep(Duration::from_millis(20));
        READY.store(true, Relaxed);
        QUEUE.wake_all();
    });
    let begin = uptime_us();
    assert!(QUEUE.wait_timeout(long, ready));
    assert!(uptime_us() - begin < 90_000_000, "woken before time was up");
    waker.expect("memory for a thread").join();
    assert!(QUEUE.is_empty() && thread::nr_sleepers() == 0);
}

fn a_completion_may_be_freed_by_who_has_waited() {
    struct Shared(*const Completion);
    // SAFETY: the completion is alive until it was waited for.
    unsafe impl Send for Shared {}
    for _ in 0..200 {
        let thread = {
            let completion = Completion::new();
            let shared = Shared(&raw const completion);
            let thread = thread::spawn("ktest", move || {
                let shared = shared;
                // SAFETY: as above.
                unsafe { (*shared.0).complete() }
            });
            completion.wait();
            thread
        };
        drop(thread.expect("memory for a thread"));
    }
    eventually(|| !thread::reaper_is_busy());
}

fn a_completion_lets_one_go_on_each_time_and_then_all() {
    static EVENT: Completion = Completion::new();
    static GONE: AtomicU64 = AtomicU64::new(0);
    let threads = [(); 6].map(|()| {
        let wait = || {
            EVENT.wait();
            GONE.fetch_add(1, Relaxed);
        };
        thread::spawn("ktest", wait).expect("memory for a thread")
    });
    // Some of them may come later: it has happened for them all the same.
    for nr in 1..=3 {
        EVENT.complete();
        eventually(|| GONE.load(Relaxed) == nr);
    }
    thread::sleep(Duration::from_millis(20));
    assert_eq!((GONE.load(Relaxed), EVENT.is_done()), (3, false), "one for each time");
    EVENT.complete_all();
    threads.into_iter().for_each(JoinHandle::join);
    EVENT.complete();
    for _ in 0..3 {
        EVENT.wait();
        assert_eq!(EVENT.wait_timeout(Duration::from_millis(1)), Ok(()), "for good");
    }
    assert!(EVENT.is_done());
}

fn a_semaphore_lets_so_many_in_at_a_time() {
    const ROOM: u64 = 3;
    static ROOMS: Semaphore = Semaphore::new(ROOM as usize);
    static INSIDE: AtomicU64 = AtomicU64::new(0);
    static MOST: AtomicU64 = AtomicU64::new(0);
    in_threads::<8>(|n| {
        for round in 0..100 {
            ROOMS.acquire();
            let inside = INSIDE.fetch_add(1, Relaxed) + 1;
            MOST.fetch_max(inside, Relaxed);
            if (n + round) % 3 == 0 {
                thread::yield_now();
            }
            INSIDE.fetch_sub(1, Relaxed);
            ROOMS.release();
        }
    });
    assert!(MOST.load(Relaxed) <= ROOM);
    for _ in 0..ROOM {
        assert_eq!(ROOMS.try_acquire(), Ok(()), "all have been given back");
    }
    assert_eq!(ROOMS.try_acquire(), Err(TimedOut));
}

fn many_threads_begin_and_end_and_give_everything_back() {
    static RAN: AtomicU64 = AtomicU64::new(0);
    let round = || {
        for n in 0..40 {
            let threads = [(); 8].map(|()| {
                let body = move || {
                    RAN.fetch_add(1, Relaxed);
                    if n % 3 == 0 {
                        thread::yield_now();
                    }
                };
                thread::spawn("ktest", body).expect("memory for a thread")
            });
            for (i, thread) in threads.into_iter().enumerate() {
                // Half of them nobody waits for.
                if i % 2 == 0 { thread.join() } else { drop(thread) }
            }
        }
        eventually(|| RAN.load(Relaxed).is_multiple_of(320));
        eventually(|| !thread::reaper_is_busy());
    };
    // The first round leaves objects in the caches of the CPUs.
    round();
    let before = free_frames(memory());
    round();
    let after = free_frames(memory());
    assert_eq!(before, after, "free pages before and after");
    println!("{} threads, {before} free pages before, {after} after", RAN.load(Relaxed));
}

fn sleeping_where_it_is_not_allowed_is_reported() {
    static LOCK: Mutex<()> = Mutex::new(());
    let before = thread::nr_bad_sleeps();
    drop(LOCK.lock());
    assert_eq!(thread::nr_bad_sleeps(), before, "it is allowed here");
    {
        let _here = preempt::disable();
        drop(LOCK.lock());
    }
    assert_eq!(thread::nr_bad_sleeps(), before + 1, "with preemption off");
    {
        let _irq = mm::arch::IrqGuard::new();
        drop(LOCK.lock());
    }
    assert_eq!(thread::nr_bad_sleeps(), before + 2, "with interrupts off");
}

fn each_thread_sees_its_own_address_space() {
    const AT: u64 = 0x1234_5000;
    const PAGES: u64 = 24;
    in_threads::<6>(|n| {
        let memory = memory();
        space::enter(memory).expect("memory for an address space");
        let bytes = PAGES * PAGE_SIZE as u64;
        let access = VmFlags::READ | VmFlags::WRITE;
        let backing = || space::backing(memory);
        let mapped =
            space::with(memory, |s| s.lock().mmap(bytes, access, Placement::Fixed(AT), &mut backing()));
        assert_eq!(mapped.map(VirtAddr::as_u64), Ok(AT));
        let page = |i: u64| VirtAddr::new(AT + i * PAGE_SIZE as u64);
        for i in 0..PAGES {
            assert_eq!(get_user::<u64>(page(i)), Ok(0));
            put_user(page(i), n << 32 | i).expect("a served write");
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(5));
        for i in 0..PAGES {
            assert_eq!(get_user(page(i)), Ok(n << 32 | i), "nobody else writes here");
        }
        space::check(memory).expect("the address space maps what it should");
        // Half of them leave it to the thread's end.
        if n % 2 == 0 {
            space::leave(memory);
        }
    });
}

/// The threads map and unmap the same addresses, and go on wherever there is room: what a CPU knew of a page must be gone
/// when its thread comes back.
fn no_translation_outlives_its_page_wherever_the_thread_goes() {
    const AT: u64 = 0x5678_9000;
    static MOVES: AtomicU64 = AtomicU64::new(0);
    in_threads::<8>(|n| {
        let memory = memory();
        space::enter(memory).expect("memory for an address space");
        let access = VmFlags::READ | VmFlags::WRITE;
        let page = VirtAddr::new(AT);
        let mut last = mm::arch::cpu_id();
        for round in 0..100u64 {
            let mapped = space::with(memory, |s| {
                s.lock().mmap(PAGE_SIZE as u64, access, Placement::Fixed(AT), &mut space::backing(memory))
            });
            assert_eq!(mapped, Ok(page));
            assert_eq!(get_user::<u64>(page), Ok(0), "nothing of the page before, round {round}");
            put_user(page, n << 32 | round).expect("a served write");
            match round % 4 {
                0 => thread::sleep(Duration::from_millis(1)),
                _ => thread::yield_now(),
            }
            assert_eq!(get_user(page), Ok(n << 32 | round), "nobody else writes here");
            let unmapped =
                space::with(memory, |s| s.lock().munmap(AT, PAGE_SIZE as u64, &mut space::backing(memory)));
            unmapped.expect("an area that ends here is not split");
            if round % 16 == 0 {
                assert!(get_user::<u64>(page).is_err(), "round {round}");
            }
            let here = mm::arch::cpu_id();
            MOVES.fetch_add(u64::from(here != last), Relaxed);
            last = here;
        }
    });
    println!("{} times a thread went on elsewhere", MOVES.load(Relaxed));
}

fn a_fault_where_nobody_may_sleep_is_an_error() {
    let memory = memory();
    space::enter(memory).expect("memory for an address space");
    let mapped = space::with(memory, |s| {
        s.lock().mmap(
            PAGE_SIZE as u64,
            VmFlags::READ | VmFlags::WRITE,
            Placement::Any,
            &mut space::backing(memory),
        )
    });
    let at = mapped.expect("room and memory for an area");
    {
        let _here = preempt::disable();
        assert!(put_user(at, 1u64).is_err(), "the page is not there");
    }
    {
        let _irq = mm::arch::IrqGuard::new();
        assert!(get_user::<u64>(at).is_err(), "the page is not there");
    }
    put_user(at, 2u64).expect("now it may sleep");
    let _here = preempt::disable();
    assert_eq!(get_user(at), Ok(2u64), "the page is there");
    drop(_here);
    space::leave(memory);
}
