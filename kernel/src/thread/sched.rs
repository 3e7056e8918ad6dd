//! The switch, waking, and turns: round-robin, a slice each.
//!
//! ```text
//! waiter:  prepare (Parking), look at the condition, park          waker:  change the condition, wake
//! ```
//! The waiter writes its state before it looks, the waker looks at the state after it wrote: one of them sees the other. A
//! thread that is pre-empted while Parking is as good as woken: it comes back from `park` and looks again.

use core::arch::naked_asm;
use core::sync::atomic::{Ordering, fence};

use mm::CpuId;
use mm::arch::IrqGuard;

use super::cpu::{Cpu, Scheduler, choose};
use super::{State, Thread, current, preempt, spawn, timer};
use crate::cpu::paging;
use crate::cpu::percpu::this_cpu;
use crate::memory::space::UserSpace;
use crate::memory::vmstat;

/// Ticks of a turn when others wait: 4 to 8 ms. Between Linux's minimum for a fair share (3 ms) and its turns of
/// `SCHED_RR` (100 ms).
pub(super) const SLICE_TICKS: u32 = 2;

/// From now on a wake-up keeps this thread from [`park`]ing.
pub(super) fn prepare() {
    if let Some(this) = current() {
        // Sequentially consistent, before the condition is read: see `Thread::change`.
        this.state.swap(State::Parking as u8, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

/// Takes [`prepare`] back.
pub(super) fn cancel() {
    if let Some(this) = current() {
        this.set(State::Running);
    }
}

/// Leaves the CPU until woken, unless that has happened since [`prepare`]. May come back without being woken.
pub(super) fn park() {
    let _irq = IrqGuard::new();
    if !reschedule() {
        // Nobody runs threads yet, or this one was woken before.
        cancel();
    }
}

/// Lets a thread go on that has parked or is about to; returns whether it was so. Any context; the thread must be kept from
/// ending meanwhile (Linux: `try_to_wake_up`).
pub(super) fn wake(thread: &Thread) -> bool {
    let _irq = IrqGuard::new();
    // What made the wake-up due is written before the state is read: see `Thread::change`.
    fence(Ordering::SeqCst);
    loop {
        if thread.change(State::Parking, State::Running) {
            return true;
        }
        if thread.change(State::Parked, State::Ready) {
            // Threads park only where a CPU runs threads.
            if let Some(cpu) = choose(thread) {
                cpu.enqueue(thread);
            }
            return true;
        }
        if !thread.is(State::Parking) && !thread.is(State::Parked) {
            return false;
        }
    }
}

/// Puts a new thread, which is on no CPU, behind those that wait for `cpu`.
pub(super) fn make_ready(thread: &Thread, cpu: &Cpu) {
    let _irq = IrqGuard::new();
    thread.set(State::Ready);
    cpu.enqueue(thread);
}

/// Lets the other ready threads of this CPU run first; returns at once if there are none. Not from interrupt handlers, not
/// with a lock held.
pub fn yield_now() {
    let _irq = IrqGuard::new();
    reschedule();
}

/// A tick of the timer, on the CPU that runs this, with interrupts off: turns end (Linux: `scheduler_tick`).
pub fn tick() {
    let (Some(scheduler), Some(cpu), Some(this)) = (Scheduler::get(), Cpu::this(), current()) else { return };
    timer::run(cpu);
    if this.is_idle() {
        // What was set to interrupt once has done so: look again what for.
        return timer::forget_tick(cpu);
    }
    vmstat::tick(scheduler.memory, timer::now());
    if cpu.nr_ready() == 0 {
        return;
    }
    let left = this.slice.load(Ordering::Relaxed).saturating_sub(1);
    this.slice.store(left, Ordering::Relaxed);
    if left == 0 {
        cpu.set_need_resched();
    }
    cpu.kick_a_helper();
}

/// The end of each hardware interrupt, after it was ended at the controller, with interrupts off: the interrupted thread
/// leaves the CPU here if its turn is over (Linux: `irqentry_exit_cond_resched`).
pub fn irq_exit() {
    if preempt::count() == 0 && Cpu::this().is_some_and(Cpu::needs_resched) {
        preempt();
    }
}

/// As [`irq_exit`], for the end of a section without preemption.
#[inline]
pub(super) fn preempt_if_due() {
    // A look at another CPU's word, should the thread move in between, does no harm: who moves has just been switched.
    if Cpu::this().is_some_and(Cpu::needs_resched) && mm::arch::irqs_enabled() {
        let _irq = IrqGuard::new();
        preempt();
    }
}

#[cold]
fn preempt() {
    if let Some(this) = current() {
        // It is between `prepare` and `park`: its condition may be true, and nobody else may come to say so.
        this.change(State::Parking, State::Running);
    }
    reschedule();
}

/// Makes another CPU look for what it should run.
pub(super) fn send_for(cpu: CpuId) {
    crate::cpu::ipi::reschedule(cpu);
}

/// Leaves the CPU to the next ready thread; comes back when this one is run again. Returns whether there was another.
/// With interrupts off.
pub(super) fn reschedule() -> bool {
    debug_assert!(!mm::arch::irqs_enabled(), "interrupts are off around a switch");
    let (Some(cpu), Some(this)) = (Cpu::this(), current()) else { return false };
    debug_assert_eq!(preempt::count(), 0, "BUG: scheduling while atomic: {}[{}]", this.name, this.id);
    mm::sync::assert_none_held("when a thread leaves its CPU");
    cpu.clear_need_resched();
    let stays = this.is(State::Running) && !this.is_idle();
    let Some(next) = cpu.next(this, stays) else { return false };
    if core::ptr::eq(next, this) {
        unreachable!("a thread that runs is in no queue");
    }
    if this.is_idle() {
        timer::resume_tick(cpu);
    }
    next.set(State::Running);
    next.cpu.store(cpu.id.0, Ordering::Relaxed);
    next.slice.store(SLICE_TICKS, Ordering::Relaxed);
    this_cpu().current.store(core::ptr::from_ref(next).cast_mut(), Ordering::Relaxed);
    switch_space(this, next);
    // SAFETY: `next` is off its CPU with its registers saved; interrupts are off.
    let previous = unsafe { switch(this, next) };
    finish_switch(previous);
    true
}

/// Loads the page tables of the next thread, if they are others (Linux: `switch_mm_irqs_off`).
fn switch_space(from: &Thread, to: &Thread) {
    let (from, to) = (from.space.load(Ordering::Relaxed), to.space.load(Ordering::Relaxed));
    let Some(memory) = crate::memory::memory().filter(|_| from != to) else { return };
    // SAFETY: alive as long as the thread uses it (I2 of `memory::space`).
    let root = unsafe { to.as_ref() }.map_or(memory.kernel_root, UserSpace::root);
    // SAFETY: the kernel's half is the same in all tables, and `to` is the thread's own.
    unsafe { paging::set_root(root) };
}

/// On the new thread's stack: what becomes of the one that ran before.
pub(super) extern "C" fn finish_switch(previous: &Thread) {
    if previous.is_idle() {
        return;
    }
    if previous.is(State::Exiting) {
        return spawn::finish_exit(previous);
    }
    // Parked from here on, unless it was woken in between.
    if previous.change(State::Parking, State::Parked) {
        return;
    }
    previous.set(State::Ready);
    if let Some(cpu) = Cpu::this() {
        cpu.enqueue(previous);
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
