//! Kernel threads: pre-emptive, on every CPU that has joined, on stacks of their own.
//!
//! ```text
//!                 wake: enqueue                    switch to
//!   Parked ---------------------------> Ready ------------------> Running
//!     ^                                   ^                        |  |  |
//!     |  finish_switch        finish_switch, not Parking any more  |  |  |
//!     +---- Parking <--------- prepare ----------------------------+  |  |
//!              |  wake, cancel, preemption                            |  |
//!              +----------------> Running                             |  |
//!                                 Ready <---- tick, yield ------------+  |
//!                                 Dead  <---- Exiting <---- its function returns
//!
//! sched     the switch, waking, the slices        cpu      what a CPU keeps: queue, idle thread, timers
//! spawn     how threads begin and end             idle     what a CPU runs that has nothing to run
//! preempt   sections that stay on their CPU       wait     lists of who waits; wait queues
//! timer     sleeping for a time                   sync     locks that sleep
//! ```
//!
//! A switch leaves the old thread in the hands of the new one ([`sched::finish_switch`]): only when its registers are
//! saved does it become ready, parked or dead for others. So nobody runs a thread that is still on a CPU.
//!
//! # Invariants
//! - I1: a `Thread` stays at its place until it is Dead and its handle or the reaper frees it; the boot thread's and idle
//!   threads' stay for good.
//! - I2: `PerCpuArea::current` is the thread that runs on that CPU.
//! - I3: a thread is in one run queue exactly while it is Ready (but for the moments between the change of its state and
//!   the insertion), an idle thread never.
//! - I4: who switches has interrupts off, no spin lock, and a preemption count of 0; so all three are the same on the
//!   thread's next CPU.
//!
//! # Locking
//! Each queue's lock (`Level::RunQueue`) guards the links of the threads in it; a CPU holds one such lock at a time. A
//! thread's state changes by compare-and-swap: only its own CPU changes Running, only who wakes changes Parked.
//!
//! AC (user pages accessible) never crosses a switch: a thread leaves the CPU by a call, outside of `uaccess`, or in a
//! handler, which has cleared it; the interrupted code gets it back by `iretq`.

mod atomic;
mod cpu;
mod idle;
pub mod preempt;
mod sched;
mod spawn;
pub mod sync;
mod timer;
pub mod wait;

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use mm::sync::{Level, SpinLock};

use crate::cpu::paging;
use crate::cpu::percpu::{PerCpuArea, this_cpu};
use crate::debug::stacks;
use crate::memory::Memory;
use crate::memory::space::UserSpace;

pub use atomic::{might_sleep, nr_found as nr_bad_sleeps};
pub(crate) use cpu::Cpu;
pub use cpu::{Affinity, IdleThread, idle_thread, init_this_cpu, is_online, nr_online, start};
pub use idle::idle;
pub use sched::{irq_exit, tick, yield_now};
pub use spawn::{Error, JoinHandle, reaper_is_busy, spawn, spawn_on, spawn_with};
pub use timer::{nr_sleepers, sleep};

use spawn::{Exit, Owned};

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// In a run queue.
    Ready,
    /// On a CPU, or about to leave one for a run queue.
    Running,
    /// On a CPU, and going to leave it until woken.
    Parking,
    /// Off its CPU until woken.
    Parked,
    /// Its function has returned; about to leave its CPU for good.
    Exiting,
    /// Off its CPU for good: nothing refers to its stack any more.
    Dead,
}

/// Which part a thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Takes its turns.
    Ordinary,
    /// Runs where nothing else does.
    Idle,
}

/// A thread (Linux: `task_struct`).
#[derive(Debug)]
#[repr(C)]
pub struct Thread {
    /// Stack pointer while it does not run; the registers are on the stack. Written by `switch`.
    saved_rsp: UnsafeCell<u64>,
    state: AtomicU8,
    role: Role,
    id: u32,
    name: &'static str,
    /// The stack: base and end.
    stack: (u64, u64),
    /// The next in the run queue, or among those that wait to be freed.
    next: AtomicPtr<Thread>,
    /// The CPU it runs on, or did last.
    cpu: AtomicU32,
    /// Ticks that are left of its turn. Its CPU's.
    slice: AtomicU32,
    affinity: Affinity,
    exit: SpinLock<Exit>,
    owned: Option<Owned>,
    /// The address space it uses; null for the kernel's own. Changed by the thread itself.
    space: AtomicPtr<UserSpace>,
}

const _: () = assert!(core::mem::offset_of!(Thread, name) == 16, "mm::arch::process_name reads it there");

// SAFETY: `saved_rsp` is only touched by the CPU that switches from or to the thread, `owned` by who frees it; the rest is
// atomic, locked or constant.
unsafe impl Sync for Thread {}

/// The next thread's number. Linux's first is init's, too.
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Thread {
    fn new(role: Role, id: u32, name: &'static str, stack: Range<u64>, affinity: Affinity) -> Self {
        Self {
            saved_rsp: UnsafeCell::new(0),
            state: AtomicU8::new(State::Running as u8),
            role,
            id,
            name,
            stack: (stack.start, stack.end),
            next: AtomicPtr::new(core::ptr::null_mut()),
            cpu: AtomicU32::new(0),
            slice: AtomicU32::new(sched::SLICE_TICKS),
            affinity,
            exit: SpinLock::new(Level::WaitQueue, Exit::new()),
            owned: None,
            space: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    fn is(&self, state: State) -> bool {
        // Acquire pairs with the release in `set` and `change`.
        self.state.load(Ordering::Acquire) == state as u8
    }

    fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// From one state to another, if it is in that one.
    fn change(&self, from: State, to: State) -> bool {
        // Each side of a wake-up writes its word and then looks at the other's: sequentially consistent, so that one of
        // them sees the other (`sched::prepare`, `sched::wake`).
        self.state.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn is_idle(&self) -> bool {
        self.role == Role::Idle
    }
}

struct BootThread(UnsafeCell<Option<Thread>>);

// SAFETY: written once by `init`, then only shared.
unsafe impl Sync for BootThread {}

static BOOT_THREAD: BootThread = BootThread(UnsafeCell::new(None));

/// Makes what runs now the boot thread.
///
/// # Safety
/// Once, on the boot CPU, on the boot stack.
pub unsafe fn init() {
    // SAFETY: called once, nobody else refers to it.
    let slot = unsafe { &mut *BOOT_THREAD.0.get() };
    let thread = Thread::new(Role::Ordinary, 0, "swapper", stacks::boot_stack(), Affinity::Any);
    this_cpu().current.store(slot.insert(thread), Ordering::Relaxed);
}

/// The thread that runs this; none before [`init`].
fn current() -> Option<&'static Thread> {
    let thread: *const Thread;
    // SAFETY: the CPU's area, by invariant I1 of `percpu`. One instruction: between two, this thread could move to another
    // CPU.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) thread, const core::mem::offset_of!(PerCpuArea, current),
             options(nostack, preserves_flags, readonly));
    }
    // SAFETY: I1, I2: null or the thread we are in, which outlives what it runs.
    unsafe { thread.as_ref() }
}

/// The stack of the thread that runs this.
pub fn current_stack() -> Option<Range<u64>> {
    current().map(|thread| thread.stack.0..thread.stack.1)
}

/// Number and name of the thread that runs this.
pub fn current_id_and_name() -> (u32, &'static str) {
    current().map_or((0, "early boot"), |thread| (thread.id, thread.name))
}

/// The address space that this thread uses, if any.
pub fn space() -> Option<&'static UserSpace> {
    // SAFETY: it is alive as long as a thread uses it (I2 of `memory::space`).
    unsafe { current()?.space.load(Ordering::Relaxed).as_ref() }
}

/// This thread uses another address space from now on, or the kernel's own tables.
///
/// # Safety
/// `space` is alive until the thread uses another, and nobody else uses it.
pub(crate) unsafe fn use_space(memory: &Memory, space: Option<&'static UserSpace>) {
    let this = current().expect("who uses memory is a thread");
    let _irq = mm::arch::IrqGuard::new();
    let pointer = space.map_or(core::ptr::null_mut(), |space| core::ptr::from_ref(space).cast_mut());
    this.space.store(pointer, Ordering::Relaxed);
    // SAFETY: the kernel's half is the same in all; the user half is the caller's promise.
    unsafe { paging::set_root(space.map_or(memory.kernel_root, UserSpace::root)) };
}
