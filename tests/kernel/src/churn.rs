//! Threads that do everything that threads do, at random, on all CPUs at once.
//!
//! ```text
//! worker: sleeps, yields, locks, waits with and without a limit, calls CPUs, begins threads, uses memory   -> Tally
//! the sum of all tallies = what was counted under the locks; nothing is held, waits or is missing afterwards
//! ```

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use kernel::console::clock::uptime_us;
use kernel::cpu::{call, online};
use kernel::memory::space;
use kernel::thread::sync::{Mutex, RwLock, Semaphore};
use kernel::thread::wait::WaitQueue;
use kernel::thread::{self, Affinity, JoinHandle, preempt};
use kernel::uaccess::{get_user, put_user};
use kernel::{ktest, println};
use mm::arch::{IrqGuard, cpu_id, irqs_enabled};
use mm::aspace::Placement;
use mm::sync::{Level, SpinLock};
use mm::vma::VmFlags;
use mm::{CpuId, NodeId, PAGE_SIZE};

use crate::support::{Random, free_frames, memory};

ktest!(threads_that_do_everything_at_random_leave_everything_in_order, on "bios-2g-2x2cpu,bios-512m-1cpu");

const WORKERS: usize = 16;
const ROUNDS: u64 = 300;
const ROOM: u64 = 3;
const TOKENS: u64 = 4;

static COUNT: Mutex<u64> = Mutex::new(0);
static TABLE: RwLock<[u64; 4]> = RwLock::new([0; 4]);
static ROOMS: Semaphore = Semaphore::new(ROOM as usize);
static INSIDE: AtomicU64 = AtomicU64::new(0);
static PURSE: SpinLock<u64> = SpinLock::new(Level::Leaf, TOKENS);
static TOKEN_IS_BACK: WaitQueue = WaitQueue::new();
static CALLED: AtomicU64 = AtomicU64::new(0);
static CHILDREN: AtomicU64 = AtomicU64::new(0);

/// What a worker has done that others can count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Tally {
    locked: u64,
    written: u64,
    called: u64,
    children: u64,
    /// Rounds after which the worker was on another CPU than before.
    moves: u64,
    timeouts: u64,
}

impl Tally {
    fn add(self, other: Self) -> Self {
        Self {
            locked: self.locked + other.locked,
            written: self.written + other.written,
            called: self.called + other.called,
            children: self.children + other.children,
            moves: self.moves + other.moves,
            timeouts: self.timeouts + other.timeouts,
        }
    }
}

fn threads_that_do_everything_at_random_leave_everything_in_order() {
    // The first time leaves objects in the caches of the CPUs.
    run(1);
    let before = free_frames(memory());
    let tally = run(2);
    let after = free_frames(memory());
    println!("{tally:?}, {before} free pages before, {after} after");
    memory().pages.validate();
    memory().slub.validate();
    assert_eq!(before, after, "free pages before and after");
    assert!(online::nr_online() == 1 || tally.moves > 0);
}

fn run(seed: u64) -> Tally {
    *COUNT.lock() = 0;
    *TABLE.write() = [0; 4];
    CALLED.store(0, Relaxed);
    CHILDREN.store(0, Relaxed);
    let mut n = 0;
    let workers = [(); WORKERS].map(|()| {
        n += 1;
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed << 32 ^ n);
        let affinity = any_affinity(&mut random);
        thread::spawn_with(affinity, "churn", move || work(random)).expect("memory for a thread")
    });
    let tally = workers.map(JoinHandle::join).into_iter().fold(Tally::default(), Tally::add);
    eventually(|| CHILDREN.load(Relaxed) == tally.children);
    assert_eq!(*COUNT.lock(), tally.locked);
    assert_eq!(*TABLE.read(), [tally.written; 4]);
    assert_eq!(CALLED.load(Relaxed), tally.called);
    assert_eq!(INSIDE.load(Relaxed), 0);
    assert_eq!(*PURSE.lock(), TOKENS);
    assert!(TOKEN_IS_BACK.is_empty());
    (0..ROOM).for_each(|_| assert_eq!(ROOMS.try_acquire(), Ok(())));
    assert!(ROOMS.try_acquire().is_err());
    (0..ROOM).for_each(|_| ROOMS.release());
    assert_eq!(thread::nr_sleepers(), 0, "no timer is left");
    tally
}

#[track_caller]
fn eventually(done: impl Fn() -> bool) {
    let end = uptime_us() + 20_000_000;
    while !done() {
        assert!(uptime_us() < end, "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Where most may run everywhere.
fn any_affinity(random: &mut Random) -> Affinity {
    match random.below(4) {
        0 => Affinity::Cpu(CpuId(random.below(online::nr_online().into()) as u32)),
        1 => Affinity::Node(NodeId(random.below(2) as u16)),
        _ => Affinity::Any,
    }
}

fn work(mut random: Random) -> Tally {
    let mark = random.next();
    let canary = core::hint::black_box([mark; 32]);
    let (mut tally, mut last) = (Tally::default(), cpu_id());
    for round in 0..ROUNDS {
        step(&mut random, &mut tally);
        assert!(canary.iter().all(|&word| word == mark), "nobody writes to another's stack, round {round}");
        assert!(irqs_enabled() && preempt::count() == 0, "round {round}");
        let here = cpu_id();
        tally.moves += u64::from(here != last);
        last = here;
    }
    tally
}

fn step(random: &mut Random, tally: &mut Tally) {
    match random.below(12) {
        0 => thread::sleep(Duration::from_micros(random.below(3000))),
        1 => thread::yield_now(),
        2 | 3 => {
            let mut count = COUNT.lock();
            let before = *count;
            pause(random);
            *count = before + 1;
            tally.locked += 1;
        }
        4 => {
            let mut table = TABLE.write();
            for entry in &mut *table {
                *entry += 1;
                pause(random);
            }
            tally.written += 1;
        }
        5 => {
            let table = TABLE.read();
            let seen = *table;
            pause(random);
            assert!(*table == seen && seen.iter().all(|&entry| entry == seen[0]), "{seen:?}");
        }
        6 => visit(random, tally),
        7 => hold_a_token(random, tally),
        8 => begin_another(random, tally),
        9 => {
            call::on_all(&|| _ = CALLED.fetch_add(1, Relaxed));
            tally.called += u64::from(online::nr_online());
        }
        10 => stay(random),
        _ => use_memory(random),
    }
}

/// Mostly nothing; else something that lets others go on.
fn pause(random: &mut Random) {
    match random.below(8) {
        0 => thread::sleep(Duration::from_micros(random.below(1000))),
        1 | 2 => thread::yield_now(),
        _ => {}
    }
}

/// Three may be inside; some lose patience.
fn visit(random: &mut Random, tally: &mut Tally) {
    match random.below(2) {
        0 => ROOMS.acquire(),
        _ => {
            if ROOMS.acquire_timeout(Duration::from_micros(random.below(4000))).is_err() {
                tally.timeouts += 1;
                return;
            }
        }
    }
    assert!(INSIDE.fetch_add(1, Relaxed) < ROOM);
    pause(random);
    INSIDE.fetch_sub(1, Relaxed);
    ROOMS.release();
}

/// A wake-up that is lost leaves somebody waiting for a token that is there.
fn hold_a_token(random: &mut Random, tally: &mut Tally) {
    let take = || {
        let mut purse = PURSE.lock();
        let less = purse.checked_sub(1);
        *purse = less.unwrap_or(0);
        less.is_some()
    };
    match random.below(2) {
        0 => TOKEN_IS_BACK.wait_until_exclusive(take),
        _ => {
            let patience = Duration::from_micros(random.below(4000));
            if !TOKEN_IS_BACK.wait_timeout_exclusive(patience, take) {
                tally.timeouts += 1;
                return;
            }
        }
    }
    pause(random);
    *PURSE.lock() += 1;
    TOKEN_IS_BACK.wake_one();
}

/// A thread for which somebody waits, or nobody.
fn begin_another(random: &mut Random, tally: &mut Tally) {
    let (affinity, word, waits) = (any_affinity(random), random.next(), random.below(2) == 0);
    let child = move || {
        match word % 3 {
            0 => thread::yield_now(),
            1 => thread::sleep(Duration::from_micros(word % 2000)),
            _ => {}
        }
        if let Affinity::Cpu(cpu) = affinity {
            assert_eq!(cpu_id(), cpu);
        }
        CHILDREN.fetch_add(1, Relaxed);
        word
    };
    let child = thread::spawn_with(affinity, "churn", child).expect("memory for a thread");
    tally.children += 1;
    if waits {
        assert_eq!(child.join(), word);
    }
}

/// Nobody moves a thread that may not be moved.
fn stay(random: &mut Random) {
    let end = uptime_us() + random.below(300);
    let _here = preempt::disable();
    let cpu = cpu_id();
    while uptime_us() < end {
        assert_eq!(cpu_id(), cpu);
    }
    let _irq = IrqGuard::new();
    assert_eq!((cpu_id(), preempt::count()), (cpu, 1));
}

/// Memory of an address space of its own, wherever the thread goes meanwhile.
fn use_memory(random: &mut Random) {
    let memory = memory();
    let word = random.next();
    space::enter(memory).expect("memory for an address space");
    let at = space::with(memory, |space| {
        let access = VmFlags::READ | VmFlags::WRITE;
        space.lock().mmap(PAGE_SIZE as u64, access, Placement::Any, &mut space::backing(memory))
    });
    let at = at.expect("room and memory for an area");
    put_user(at, word).expect("a served write");
    pause(random);
    assert_eq!(get_user(at), Ok(word));
    space::leave(memory);
}
