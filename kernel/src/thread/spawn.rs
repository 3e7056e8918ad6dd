//! How threads begin and end.

use core::arch::naked_asm;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use mm::arch::IrqGuard;

use super::{NEXT_ID, State, Thread, sched};

/// The smallest stack that [`spawn`] takes: a panic with its backtrace has to fit.
pub const MIN_STACK: usize = 12 * 1024;

/// Why a thread was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The stack is smaller than [`MIN_STACK`] with the thread's function on it.
    StackTooSmall,
}

/// A thread that was spawned. Dropping it lets the thread go on; its stack is then never given back.
#[must_use = "join it, or its stack is lost"]
#[derive(Debug)]
pub struct JoinHandle {
    thread: NonNull<Thread>,
    _not_send: PhantomData<*mut ()>,
}

/// Makes a thread that runs `function` on `stack`, and puts it behind the other ready ones. It runs when this one
/// yields or joins (Linux: `kthread_run`).
///
/// # Safety
/// `stack` is mapped writable, belongs to nobody else, and stays so until [`JoinHandle::join`] returns it.
pub unsafe fn spawn<F>(name: &'static str, stack: Range<u64>, function: F) -> Result<JoinHandle, Error>
where
    F: FnOnce() + Send + 'static,
{
    let thread_at = (stack.end.saturating_sub(size_of::<Thread>() as u64)) & !63;
    let align = (align_of::<F>() as u64).max(16);
    let function_at = thread_at.saturating_sub(size_of::<F>() as u64) & !(align - 1);
    if function_at < stack.start + MIN_STACK as u64 {
        return Err(Error::StackTooSmall);
    }
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let thread = thread_at as *mut Thread;
    let function_at = function_at as *mut F;
    // What `switch` pops: six registers and the return address.
    let frame = first_frame(function_at.cast(), run::<F>);
    let rsp = function_at as u64 - size_of_val(&frame) as u64;
    // SAFETY: all three lie on the caller's stack, apart from each other, aligned.
    let thread = unsafe {
        function_at.write(function);
        (rsp as *mut [u64; 8]).write(frame);
        thread.write(Thread::new(id, name, stack));
        NonNull::new_unchecked(thread)
    };
    let _irq = IrqGuard::new();
    // SAFETY: just written, and nobody else knows it yet.
    let record = unsafe { thread.as_ref() };
    // SAFETY: likewise: no CPU switches to or from it yet.
    unsafe { record.saved_rsp.get().write(rsp) };
    sched::make_ready(record);
    Ok(JoinHandle { thread, _not_send: PhantomData })
}

/// The words that [`sched`]'s switch pops for a new thread: r15 r14 r13 r12 rbx rbp, return address, and an end of the
/// chain of frame pointers. R12 and r13 carry what [`enter`] calls.
fn first_frame(function: *mut u8, run: unsafe extern "C" fn(*mut u8) -> !) -> [u64; 8] {
    [0, 0, run as usize as u64, function as u64, 0, 0, enter as *const () as u64, 0]
}

/// Where a new thread starts: in rax the thread that ran before.
#[unsafe(naked)]
unsafe extern "C" fn enter() {
    naked_asm!(
        "mov rdi, rax",
        "call {finish_switch}",
        "mov rdi, r12",
        "call r13",
        "ud2",
        finish_switch = sym sched::finish_switch,
    )
}

/// Runs the thread's function, and ends the thread.
///
/// # Safety
/// Called by [`enter`] only, once, with the place of an `F`.
unsafe extern "C" fn run<F: FnOnce()>(function: *mut u8) -> ! {
    // SAFETY: `spawn` wrote it there, and nobody else reads it.
    let function = unsafe { function.cast::<F>().read() };
    // With interrupts off, as every thread (`thread`, Locking).
    function();
    exit()
}

fn exit() -> ! {
    x86_64::instructions::interrupts::disable();
    if let Some(thread) = super::current() {
        thread.set(State::Exiting);
    }
    // Someone is always ready: at least the boot thread, which never exits.
    while !sched::reschedule() {}
    unreachable!("a dead thread was run again")
}

impl JoinHandle {
    /// Waits until the thread has ended, and returns its stack.
    pub fn join(self) -> Range<u64> {
        // SAFETY: alive until the stack is given back, which is here.
        let thread = unsafe { self.thread.as_ref() };
        while !thread.is(State::Dead) {
            sched::yield_now();
        }
        thread.stack.0..thread.stack.1
    }
}
