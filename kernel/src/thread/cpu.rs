//! What each CPU keeps for its threads.
//!
//! ```text
//! PerCpuArea of a CPU -> Cpu: queue: oldest -> ... -> newest        Ready threads
//!                              idle thread                           runs when the queue is empty
//!                              wheel                                 who sleeps for a time
//! ```
//!
//! Made for each CPU that is started, on its node; those that are only possible have none.
//!
//! # Invariants
//! - I1: `RunQueue::nr` is the number of threads linked from `head`.
//! - I2: `RunQueue::idle` is set, under the lock, by a CPU that has found its queue empty and goes idle, and cleared when it
//!   has found a thread. Who inserts a thread while it is set sends for the CPU: no thread waits for a halted CPU.
//! - I3: a CPU's area leads to its `Cpu` from when it takes threads on, for good.

use core::arch::asm;
use core::mem::offset_of;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use mm::slub::{CacheHandle, CacheParams};
use mm::sync::{Level, SpinLock};
use mm::{CpuId, Gfp, NodeId};
use spin::Once;

use super::spawn::{self, Error};
use super::timer::{self, Tick, Wheel};
use super::{Role, Thread, atomic};
use crate::cpu::online;
use crate::cpu::percpu::{PerCpuArea, this_cpu};
use crate::memory::Memory;

/// Ready threads, oldest first.
#[derive(Debug)]
pub(super) struct RunQueue {
    head: *mut Thread,
    tail: *mut Thread,
    nr: u32,
    idle: bool,
}

// SAFETY: the threads in it are shared by design (I1 of `thread`).
unsafe impl Send for RunQueue {}

impl RunQueue {
    const fn new() -> Self {
        Self { head: ptr::null_mut(), tail: ptr::null_mut(), nr: 0, idle: false }
    }

    fn push(&mut self, thread: &Thread) {
        let thread = ptr::from_ref(thread).cast_mut();
        // SAFETY: I1 and I3 of `thread`: the tail is alive while it is queued.
        match unsafe { self.tail.as_ref() } {
            Some(tail) => tail.next.store(thread, Ordering::Relaxed),
            None => self.head = thread,
        }
        self.tail = thread;
        self.nr += 1;
    }

    /// The oldest.
    fn pop(&mut self) -> Option<&'static Thread> {
        self.remove_if(|_| true)
    }

    /// Oldest first.
    fn iter(&self) -> impl Iterator<Item = &Thread> {
        // SAFETY: I1 and I3 of `thread`: what is queued is alive; nothing leaves the queue meanwhile, which is borrowed.
        let follow = |at: *mut Thread| unsafe { at.as_ref() };
        core::iter::successors(follow(self.head), move |thread| follow(thread.next.load(Ordering::Relaxed)))
    }

    /// The oldest of which `wanted` is true.
    fn remove_if(&mut self, wanted: impl Fn(&Thread) -> bool) -> Option<&'static Thread> {
        let (mut before, mut at) = (None::<&Thread>, self.head);
        // SAFETY: I1 and I3 of `thread`: what is queued is alive.
        while let Some(thread) = unsafe { at.as_ref() } {
            let next = thread.next.load(Ordering::Relaxed);
            if wanted(thread) {
                match before {
                    Some(before) => before.next.store(next, Ordering::Relaxed),
                    None => self.head = next,
                }
                if next.is_null() {
                    self.tail = before.map_or(ptr::null_mut(), |before| ptr::from_ref(before).cast_mut());
                }
                thread.next.store(ptr::null_mut(), Ordering::Relaxed);
                self.nr -= 1;
                return Some(thread);
            }
            (before, at) = (Some(thread), next);
        }
        None
    }
}

/// A CPU, to the scheduler (Linux: `struct rq`).
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Cpu {
    pub(super) id: CpuId,
    pub(super) node: NodeId,
    queue: SpinLock<RunQueue>,
    /// `RunQueue::nr` and `idle`, for those who look without the lock.
    nr_ready: AtomicU32,
    idling: AtomicBool,
    /// The thread that runs should leave the CPU soon.
    need_resched: AtomicBool,
    /// The idle thread.
    idle: &'static Thread,
    /// Who sleeps for a time that began here.
    pub(super) wheel: SpinLock<Wheel>,
    /// What the timer does ([`Tick`]). Only the CPU itself, with interrupts off.
    tick: AtomicU64,
}

/// What the scheduler stands on.
#[derive(Debug)]
pub(super) struct Scheduler {
    pub(super) memory: &'static Memory,
    /// The cache of threads.
    pub(super) threads: CacheHandle<'static>,
}

static SCHEDULER: Once<Scheduler> = Once::new();

/// The cache of threads (Linux: `task_struct`).
const CACHE: CacheParams<'static> = CacheParams::new("task_struct", size_of::<Thread>()).align(64);

/// Where a thread may run (Linux: `cpus_mask`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Affinity {
    /// Everywhere.
    Any,
    /// On the CPUs of a node; everywhere while none of them runs.
    Node(NodeId),
    /// On one CPU.
    Cpu(CpuId),
}

impl Affinity {
    fn allows(self, cpu: &Cpu) -> bool {
        match self {
            Self::Any => true,
            Self::Node(node) => cpu.node == node,
            Self::Cpu(id) => cpu.id == id,
        }
    }
}

/// Makes the scheduler run: on the boot CPU, with an idle thread of its own; what runs now goes on as a thread like others,
/// the timer ticks, interrupts are on. Before that threads cannot be made, and sleeping locks must be free.
///
/// # Errors
/// No memory.
pub fn start(memory: &'static Memory) -> Result<(), Error> {
    let threads = memory.slub.create(CACHE).map_err(|_| Error::NoMemory)?;
    let scheduler = SCHEDULER.call_once(|| Scheduler { memory, threads });
    let idle = spawn::boot_idle(scheduler)?;
    // SAFETY: idle threads stay for good (I1 of `thread`).
    let boot = Cpu::allocate(scheduler, CpuId::BOOT, unsafe { idle.as_ref() })?;
    boot.join();
    spawn::start_reaper()?;
    timer::resume_tick(boot);
    x86_64::instructions::interrupts::enable();
    atomic::sleeping_has_started();
    Ok(())
}

/// The idle thread of a CPU that has not joined.
#[derive(Clone, Copy, Debug)]
pub struct IdleThread {
    cpu: &'static Cpu,
}

/// Makes the idle thread of a CPU that is going to join; `stack` is the stack that the CPU starts on, for good. Sleeps (Linux:
/// `idle_thread_get`).
///
/// # Errors
/// No memory, or a CPU that the scheduler does not know.
pub fn idle_thread(id: CpuId, stack: Range<u64>) -> Result<IdleThread, Error> {
    let scheduler = Scheduler::get().ok_or(Error::NotStarted)?;
    if id.0 >= online::nr_possible() {
        return Err(Error::NoSuchCpu);
    }
    let thread = Thread::new(Role::Idle, 0, "swapper", stack, Affinity::Cpu(id));
    thread.cpu.store(id.0, Ordering::Relaxed);
    let record = scheduler.record(thread, scheduler.memory.node_of_cpu(id))?;
    // SAFETY: idle threads stay for good (I1 of `thread`), but for one without a `Cpu`, of which nobody knows.
    Cpu::allocate(scheduler, id, unsafe { record.as_ref() }).map(|cpu| IdleThread { cpu }).inspect_err(|_| {
        // SAFETY: from there, and not used any more; what it holds needs no drop.
        unsafe { scheduler.threads.free(record.cast()) };
    })
}

/// Makes what runs now, on that thread's stack, the idle thread of its CPU, which takes threads from then on. With interrupts
/// off, on the CPU that it was made for, once; [`idle`](super::idle()) follows.
pub fn init_this_cpu(IdleThread { cpu }: IdleThread) {
    this_cpu().current.store(ptr::from_ref(cpu.idle).cast_mut(), Ordering::Relaxed);
    cpu.join();
}

/// Whether threads can run on this CPU.
pub fn is_online(cpu: CpuId) -> bool {
    Cpu::of(cpu).is_some()
}

/// How many CPUs run threads.
pub fn nr_online() -> u32 {
    Cpu::all().count() as u32
}

impl Scheduler {
    /// None before [`start`].
    pub(super) fn get() -> Option<&'static Self> {
        SCHEDULER.get()
    }

    /// Puts a thread into memory of its own, near `node`.
    pub(super) fn record(&self, thread: Thread, node: NodeId) -> Result<NonNull<Thread>, Error> {
        let record = self.threads.alloc_node(Gfp::KERNEL, node).map_err(|_| Error::NoMemory)?;
        let record = record.cast::<Thread>();
        // SAFETY: an object of the threads' cache, ours.
        unsafe { record.write(thread) };
        Ok(record)
    }
}

/// Where a thread should run next: where it ran last, unless that CPU is busy and another is not. None when no CPU runs
/// threads. Cost: a look at all CPUs.
pub(super) fn choose(thread: &Thread) -> Option<&'static Cpu> {
    let allowed = |cpu: &&Cpu| thread.affinity.allows(cpu);
    let last = Cpu::of(CpuId(thread.cpu.load(Ordering::Relaxed))).or_else(|| Cpu::all().next())?;
    let stays = last.is_idling() || matches!(thread.affinity, Affinity::Cpu(_));
    if stays && allowed(&last) {
        return Some(last);
    }
    let idle = || Cpu::all().filter(|cpu| allowed(cpu) && cpu.is_idling());
    let near = idle().find(|cpu| cpu.node == last.node);
    near.or_else(|| idle().next())
        .or_else(|| Some(last).filter(allowed))
        .or_else(|| Cpu::all().filter(allowed).min_by_key(|cpu| cpu.nr_ready()))
        .or(Some(last))
}

/// Where a new thread should run: where nothing does, else where the fewest wait.
pub(super) fn choose_new(affinity: Affinity) -> Option<&'static Cpu> {
    // One that idles may have been sent for already, and not have come yet.
    let load = |cpu: &&Cpu| cpu.nr_ready() + u32::from(!cpu.is_idling());
    let allowed = Cpu::all().filter(|cpu| affinity.allows(cpu)).min_by_key(load);
    match affinity {
        Affinity::Node(_) => allowed.or_else(|| Cpu::all().min_by_key(load)),
        _ => allowed,
    }
}

impl Cpu {
    /// A record in memory of the CPU's node or near it, for good.
    fn allocate(scheduler: &Scheduler, id: CpuId, idle: &'static Thread) -> Result<&'static Self, Error> {
        const SIZE: usize = size_of::<Cpu>().next_power_of_two();
        // A power of two is aligned to itself.
        const { assert!(SIZE >= align_of::<Self>()) };
        let slub = scheduler.memory.slub;
        let node = scheduler.memory.numa.node_of_cpu(id);
        let at = slub.kmalloc_node(SIZE, Gfp::KERNEL, node).map_err(|_| Error::NoMemory)?.cast::<Self>();
        // SAFETY: new memory of ours, large and aligned enough, never given back.
        unsafe {
            at.write(Self::new(id, node, idle));
            Ok(at.as_ref())
        }
    }

    fn new(id: CpuId, node: NodeId, idle: &'static Thread) -> Self {
        Self {
            id,
            node,
            queue: SpinLock::new(Level::RunQueue, RunQueue::new()),
            nr_ready: AtomicU32::new(0),
            idling: AtomicBool::new(false),
            need_resched: AtomicBool::new(false),
            idle,
            wheel: SpinLock::new(Level::WaitQueue, Wheel::new()),
            // Not known.
            tick: AtomicU64::new(u64::MAX),
        }
    }

    /// From now on the CPU that runs this takes threads (I3).
    fn join(&'static self) {
        debug_assert!(!mm::arch::irqs_enabled() && self.id == mm::arch::cpu_id());
        // Release pairs with the acquire in `of`: who finds the CPU finds all of it.
        this_cpu().scheduler.store(ptr::from_ref(self).cast_mut(), Ordering::Release);
    }

    /// The CPU of that number; none when it does not run threads.
    pub(super) fn of(id: CpuId) -> Option<&'static Self> {
        // SAFETY: I3: null or there for good. Acquire pairs with the release in `join`.
        unsafe { online::area(id)?.scheduler.load(Ordering::Acquire).as_ref() }
    }

    /// The CPUs that run threads, by number.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        online::all().filter_map(Self::of)
    }

    /// The CPU that runs this; none before [`start`]. Means something as long as the thread cannot move.
    #[inline]
    pub(super) fn this() -> Option<&'static Self> {
        let cpu: *const Self;
        // SAFETY: the CPU's area, by invariant I1 of `percpu`. One instruction: between two, this thread could move.
        unsafe {
            asm!("mov {}, gs:[{}]", out(reg) cpu, const offset_of!(PerCpuArea, scheduler),
                 options(nostack, preserves_flags, readonly));
        }
        // SAFETY: I3: null or there for good.
        unsafe { cpu.as_ref() }
    }

    /// What the timer does, as a word.
    pub(super) fn tick(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Notes what the timer is going to do; returns whether it does something else now.
    pub(super) fn set_tick(&self, tick: Tick) -> bool {
        let before = self.tick.load(Ordering::Relaxed);
        self.tick.store(tick.to_word(), Ordering::Relaxed);
        before != tick.to_word()
    }

    fn is_idling(&self) -> bool {
        self.idling.load(Ordering::Relaxed)
    }

    pub(super) fn needs_resched(&self) -> bool {
        self.need_resched.load(Ordering::Relaxed)
    }

    /// The thread that runs here should leave soon. On this CPU; others [`kick`](Self::kick).
    pub(super) fn set_need_resched(&self) {
        self.need_resched.store(true, Ordering::Relaxed);
    }

    pub(super) fn clear_need_resched(&self) {
        self.need_resched.store(false, Ordering::Relaxed);
    }

    pub(super) fn nr_ready(&self) -> u32 {
        self.nr_ready.load(Ordering::Relaxed)
    }

    /// Puts a thread that is Ready behind the others, and sends for the CPU when it does nothing. With interrupts off.
    pub(super) fn enqueue(&self, thread: &Thread) {
        let idle = {
            let mut queue = self.queue.lock();
            queue.push(thread);
            self.nr_ready.store(queue.nr, Ordering::Relaxed);
            queue.idle
        };
        if idle {
            self.kick();
        }
    }

    /// Makes the CPU look for another thread to run. With interrupts off.
    fn kick(&self) {
        self.set_need_resched();
        if self.id != mm::arch::cpu_id() {
            super::sched::send_for(self.id);
        }
    }

    /// Sends for a CPU that does nothing and may run one of the threads that wait here, if there is one (Linux:
    /// `nohz_balancer_kick`, which looks at `cpus_mask` only when the other CPU has come). With interrupts off. Cost: a look
    /// at those that wait and at all CPUs; more only where threads of a node wait that has no idle CPU.
    pub(super) fn kick_a_helper(&self) {
        let idle = || Self::all().filter(|cpu| cpu.is_idling());
        if idle().next().is_none() {
            return;
        }
        let helper = {
            let queue = self.queue.lock();
            // Threads of one CPU wait for none but this one.
            let mut movable = queue.iter().filter(|thread| !matches!(thread.affinity, Affinity::Cpu(_)));
            movable.find_map(|thread| idle().find(|cpu| thread.affinity.allows(cpu)))
        };
        if let Some(cpu) = helper {
            cpu.kick();
        }
    }

    /// The next thread for this CPU, which is the one that runs this: the oldest that is ready, else one that waits for
    /// another CPU, else the idle thread. None when `this` should go on.
    pub(super) fn next(&self, this: &Thread, stays: bool) -> Option<&'static Thread> {
        if let Some(thread) = self.pop() {
            return Some(thread);
        }
        if stays {
            return None;
        }
        if let Some(thread) = self.steal() {
            self.not_idle();
            return Some(thread);
        }
        let mut queue = self.queue.lock();
        // Again, now that nothing can be inserted before `idle` is set.
        let late = queue.pop();
        self.nr_ready.store(queue.nr, Ordering::Relaxed);
        queue.idle = late.is_none();
        self.idling.store(late.is_none(), Ordering::Relaxed);
        if late.is_some() {
            return late;
        }
        if this.is_idle() {
            return None;
        }
        Some(self.idle)
    }

    fn pop(&self) -> Option<&'static Thread> {
        let mut queue = self.queue.lock();
        let thread = queue.pop()?;
        self.nr_ready.store(queue.nr, Ordering::Relaxed);
        queue.idle = false;
        self.idling.store(false, Ordering::Relaxed);
        Some(thread)
    }

    fn not_idle(&self) {
        let mut queue = self.queue.lock();
        queue.idle = false;
        self.idling.store(false, Ordering::Relaxed);
    }

    /// A thread that waits for another CPU and may run here, from the CPU where most wait (Linux: `newidle_balance`).
    fn steal(&self) -> Option<&'static Thread> {
        let others = || Self::all().filter(|cpu| cpu.id != self.id && cpu.nr_ready() > 0);
        let take = |cpu: &Cpu| {
            let mut queue = cpu.queue.lock();
            let thread = queue.remove_if(|thread| thread.affinity.allows(self))?;
            cpu.nr_ready.store(queue.nr, Ordering::Relaxed);
            Some(thread)
        };
        others().max_by_key(|cpu| cpu.nr_ready()).and_then(take).or_else(|| others().find_map(take))
    }
}
