//! The run queue and the switch.

use core::arch::naked_asm;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use mm::arch::IrqGuard;
use spin::Mutex;

use super::{State, Thread, current};
use crate::cpu::percpu::this_cpu;

/// Ready threads, oldest first.
struct RunQueue {
    head: *mut Thread,
    tail: *mut Thread,
}

// SAFETY: the threads in it are shared by design (I1 of `thread`).
unsafe impl Send for RunQueue {}

/// Taken with interrupts off only.
static QUEUE: Mutex<RunQueue> = Mutex::new(RunQueue { head: ptr::null_mut(), tail: ptr::null_mut() });

impl RunQueue {
    fn push(&mut self, thread: &Thread) {
        let thread = ptr::from_ref(thread).cast_mut();
        // SAFETY: I1 and I3 of `thread`: the tail is alive while it is queued.
        match unsafe { self.tail.as_ref() } {
            Some(tail) => tail.next.store(thread, Ordering::Relaxed),
            None => self.head = thread,
        }
        self.tail = thread;
    }

    fn pop(&mut self) -> Option<NonNull<Thread>> {
        let head = NonNull::new(self.head)?;
        // SAFETY: I1 and I3 of `thread`: the head is alive while it is queued.
        self.head = unsafe { head.as_ref() }.next.swap(ptr::null_mut(), Ordering::Relaxed);
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        Some(head)
    }
}

/// Puts a thread that is on no CPU into the run queue. Interrupts are off.
pub(super) fn make_ready(thread: &Thread) {
    thread.set(State::Ready);
    QUEUE.lock().push(thread);
}

/// Lets the other ready threads run first; returns at once if there are none. Not from interrupt handlers, not with a
/// lock held.
pub fn yield_now() {
    let _irq = IrqGuard::new();
    reschedule();
}

/// Leaves the CPU to the next ready thread; comes back when this one is run again. Returns whether there was another.
pub(super) fn reschedule() -> bool {
    debug_assert!(!mm::arch::irqs_enabled(), "interrupts are off around a switch");
    let Some(this) = current() else { return false };
    let Some(next) = QUEUE.lock().pop() else { return false };
    // SAFETY: I1 of `thread`; popped, so ours alone.
    let next = unsafe { next.as_ref() };
    next.set(State::Running);
    this_cpu().current.store(ptr::from_ref(next).cast_mut(), Ordering::Relaxed);
    // SAFETY: `next` is off its CPU with its registers saved; interrupts are off.
    let previous = unsafe { switch(this, next) };
    finish_switch(previous);
    true
}

/// On the new thread's stack: what becomes of the one that ran before.
pub(super) extern "C" fn finish_switch(previous: &Thread) {
    if previous.is(State::Exiting) {
        // From here on its joiner may take the stack away.
        previous.set(State::Dead);
    } else {
        make_ready(previous);
    }
}

/// Saves the registers that a call keeps on `from`'s stack, continues with `to`'s, and returns there, with `from`.
///
/// # Safety
/// Interrupts are off. `from` is the thread that runs. `to` has left its CPU through this function, or is as `spawn`
/// made it.
#[unsafe(naked)]
unsafe extern "C" fn switch<'a>(from: &'a Thread, to: &'a Thread) -> &'a Thread {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi + {rsp}], rsp",
        "mov rsp, [rsi + {rsp}]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "mov rax, rdi",
        "ret",
        rsp = const core::mem::offset_of!(Thread, saved_rsp),
    )
}
