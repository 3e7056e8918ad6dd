//! Kernel threads: cooperative, on stacks that their creator provides.
//!
//! ```text
//! spawn -> Ready -> Running -> Ready ...        yield_now
//!                      |
//!                      +-> Dead -> join gives the stack back
//!
//! a thread's stack   | ... free ... | frames | closure | Thread |    the record is at the top, so that spawning
//!                    base                                   end      needs no other memory
//! ```
//!
//! A switch leaves the old thread in the hands of the new one ([`sched::finish_switch`]): only when its registers are
//! saved does it become ready or dead for others. That holds on several CPUs too.
//!
//! # Invariants
//! - I1: a `Thread` stays at its place from `spawn` to the end of `join`; the boot thread's stays for good.
//! - I2: `PerCpuArea::current` is the thread that runs on that CPU.
//! - I3: a thread is in the run queue exactly while it is Ready.
//!
//! # Locking
//! Only the boot CPU runs threads, and all of them with interrupts off, as the boot thread does: nothing needs an
//! interrupt yet. The run queue's lock guards the links and is held with interrupts off, whatever the thread's state.
//!
//! # Not here
//! Preemption, sleeping, wait queues.

mod sched;
mod spawn;

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use crate::cpu::percpu::this_cpu;
use crate::debug::stacks;

pub use sched::yield_now;
pub use spawn::{Error, JoinHandle, MIN_STACK, spawn};

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// In the run queue.
    Ready,
    /// On a CPU, or about to leave one.
    Running,
    /// Its function has returned; about to leave its CPU for good.
    Exiting,
    /// Off its CPU for good: nothing refers to its stack any more.
    Dead,
}

/// A thread (Linux: `task_struct`).
#[derive(Debug)]
#[repr(C)]
pub struct Thread {
    /// Stack pointer while it does not run; the registers are on the stack. Written by `switch`.
    saved_rsp: UnsafeCell<u64>,
    state: AtomicU8,
    id: u32,
    name: &'static str,
    /// The stack: base and end.
    stack: (u64, u64),
    /// The next in the run queue.
    next: AtomicPtr<Thread>,
}

// SAFETY: `saved_rsp` is only touched by the CPU that switches from or to the thread; the rest is atomic or constant.
unsafe impl Sync for Thread {}

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Thread {
    fn new(id: u32, name: &'static str, stack: Range<u64>) -> Self {
        Self {
            saved_rsp: UnsafeCell::new(0),
            state: AtomicU8::new(State::Running as u8),
            id,
            name,
            stack: (stack.start, stack.end),
            next: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    fn is(&self, state: State) -> bool {
        // Acquire pairs with the release in `set`: who sees Dead sees all that the thread did.
        self.state.load(Ordering::Acquire) == state as u8
    }

    fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
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
    let thread = slot.insert(Thread::new(0, "swapper", stacks::boot_stack()));
    this_cpu().current.store(thread, Ordering::Relaxed);
}

/// The thread that runs this; none before [`init`].
fn current() -> Option<&'static Thread> {
    let thread = this_cpu().current.load(Ordering::Relaxed);
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

/// A tick of the timer, on the CPU that runs this. Interrupts are off.
pub fn tick() {}

/// The end of each interrupt handler. Interrupts are off.
pub fn irq_exit() {}
