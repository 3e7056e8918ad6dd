//! Sleeping for a time, to the tick.
//!
//! ```text
//! tick t:   slot t mod 256 -> timers of tick t, t + 256, ...      a wheel on each CPU
//! ```
//!
//! Setting and taking back a timer is O(1), a tick looks at one slot. A CPU with nothing to do stops its tick until the first
//! timer of its wheel, 255 ticks ahead at most if there is one at all.
//!
//! # Invariants
//! - I1: a [`Timer`] is linked in the wheel of CPU `cpu` exactly while `armed`; both change under the wheel's lock, and it is
//!   unlinked before its function returns. Its thread is woken under that lock, so it is alive.
//! - I2: every linked timer's tick is after `Wheel::done`.

use core::cell::Cell;
use core::ptr;
use core::time::Duration;

use mm::arch::IrqGuard;

use super::cpu::Cpu;
use super::{Thread, current, sched};
use crate::console::clock;
use crate::cpu::apic::timer::{self, HZ};

const US_PER_TICK: u64 = 1_000_000 / HZ;
const SLOTS: usize = 256;

/// The tick of this moment (Linux: `jiffies`).
pub(super) fn now() -> u64 {
    clock::uptime_us() / US_PER_TICK
}

/// The moment of a tick, in microseconds of uptime.
pub(super) fn us_of(tick: u64) -> u64 {
    tick.saturating_mul(US_PER_TICK)
}

/// When waiting ends: a tick.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Deadline(u64);

impl Deadline {
    /// At least `duration` from now.
    pub(super) fn after(duration: Duration) -> Self {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // The current tick has begun already: it does not count.
        Self(now().saturating_add(us.div_ceil(US_PER_TICK)).saturating_add(1))
    }

    pub(super) fn is_over(self) -> bool {
        now() >= self.0
    }
}

/// Sleeps for at least so long (Linux: `schedule_timeout_uninterruptible`, `msleep`).
#[track_caller]
pub fn sleep(duration: Duration) {
    super::might_sleep();
    let deadline = Deadline::after(duration);
    while !deadline.is_over() {
        sched::prepare();
        park_until(Some(deadline));
    }
}

/// As [`sched::park`], and woken when `deadline` is over.
pub(super) fn park_until(deadline: Option<Deadline>) {
    let Some(deadline) = deadline else { return sched::park() };
    if timer::counter_khz() == 0 {
        // Nothing would wake us.
        sched::cancel();
        return super::yield_now();
    }
    let timer = Timer::new(deadline);
    timer.arm();
    sched::park();
    timer.disarm();
}

/// Somebody to be woken at a tick: a node on the waiting function's stack.
#[derive(Debug)]
pub(super) struct Timer {
    thread: *const Thread,
    expires: Cell<u64>,
    cpu: Cell<Option<&'static Cpu>>,
    armed: Cell<bool>,
    next: Cell<*const Timer>,
    previous: Cell<*const Timer>,
}

impl Timer {
    fn new(deadline: Deadline) -> Self {
        Self {
            thread: current().map_or(ptr::null(), ptr::from_ref),
            expires: Cell::new(deadline.0),
            cpu: Cell::new(None),
            armed: Cell::new(false),
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
        }
    }

    /// Links it into the wheel of the CPU that runs this.
    fn arm(&self) {
        let _irq = IrqGuard::new();
        let Some(cpu) = Cpu::this() else { return };
        self.cpu.set(Some(cpu));
        cpu.wheel.lock().insert(self);
    }

    /// Unlinks it, wherever it is.
    fn disarm(&self) {
        if let Some(cpu) = self.cpu.get() {
            let mut wheel = cpu.wheel.lock();
            if self.armed.get() {
                wheel.remove(self);
            }
        }
    }
}

/// The timers of a CPU, by tick.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: [*const Timer; SLOTS],
    /// The last tick whose timers have been woken.
    done: u64,
    nr: usize,
}

// SAFETY: the nodes are touched under the lock around the wheel only (I1).
unsafe impl Send for Wheel {}

impl Wheel {
    pub(super) const fn new() -> Self {
        Self { slots: [ptr::null(); SLOTS], done: 0, nr: 0 }
    }

    fn insert(&mut self, timer: &Timer) {
        timer.expires.set(timer.expires.get().max(self.done + 1));
        let slot = &mut self.slots[timer.expires.get() as usize % SLOTS];
        timer.previous.set(ptr::null());
        timer.next.set(*slot);
        // SAFETY: I1: alive while linked.
        if let Some(next) = unsafe { slot.as_ref() } {
            next.previous.set(timer);
        }
        *slot = timer;
        timer.armed.set(true);
        self.nr += 1;
    }

    fn remove(&mut self, timer: &Timer) {
        let (next, previous) = (timer.next.get(), timer.previous.get());
        // SAFETY: I1: neighbours are alive while linked.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.slots[timer.expires.get() as usize % SLOTS] = next,
            }
            if let Some(next) = next.as_ref() {
                next.previous.set(previous);
            }
        }
        timer.armed.set(false);
        self.nr -= 1;
    }

    /// Wakes all whose tick is `now` or before.
    fn advance(&mut self, now: u64) {
        let ticks = now.saturating_sub(self.done).min(SLOTS as u64);
        if self.nr != 0 {
            (now + 1 - ticks..=now).for_each(|tick| self.expire_slot(tick as usize % SLOTS, now));
        }
        self.done = self.done.max(now);
    }

    fn expire_slot(&mut self, slot: usize, now: u64) {
        let mut next = self.slots[slot];
        // SAFETY: I1: alive while linked, and its function cannot return before we give the lock back.
        while let Some(timer) = unsafe { next.as_ref() } {
            next = timer.next.get();
            if timer.expires.get() <= now {
                self.remove(timer);
                // SAFETY: I1: the thread waits in the timer's function.
                if let Some(thread) = unsafe { timer.thread.as_ref() } {
                    sched::wake(thread);
                }
            }
        }
    }

    /// The first tick at which there may be something to do; none without timers. Looks at each slot at most once.
    fn first(&self) -> Option<u64> {
        if self.nr == 0 {
            return None;
        }
        let due = |tick: &u64| {
            let mut next = self.slots[*tick as usize % SLOTS];
            // SAFETY: I1: alive while linked.
            while let Some(timer) = unsafe { next.as_ref() } {
                if timer.expires.get() == *tick {
                    return true;
                }
                next = timer.next.get();
            }
            false
        };
        let round = self.done + 1..self.done + SLOTS as u64;
        Some(round.clone().find(due).unwrap_or(round.end))
    }
}

/// Wakes whose time has come on this CPU. With interrupts off.
pub(super) fn run(cpu: &Cpu) {
    cpu.wheel.lock().advance(now());
}

/// Lets the tick of a CPU that will do nothing pause until it is needed. On that CPU, with interrupts off.
pub(super) fn pause_tick(cpu: &Cpu) {
    let first = cpu.wheel.lock().first();
    match first {
        Some(tick) if tick <= now() + 1 => resume_tick(cpu),
        Some(tick) => {
            if cpu.set_tick(Tick::At(tick)) {
                let us = us_of(tick).saturating_sub(clock::uptime_us());
                timer::start(timer::When::OnceAfterUs(us));
            }
        }
        None => {
            if cpu.set_tick(Tick::Stopped) {
                timer::stop();
            }
        }
    }
}

/// What was set is over, if it was for once.
pub(super) fn forget_tick(cpu: &Cpu) {
    if cpu.tick() != Tick::Periodic.to_word() {
        cpu.set_tick(Tick::Stopped);
    }
}

/// The CPU ticks again. On that CPU, with interrupts off.
pub(super) fn resume_tick(cpu: &Cpu) {
    if cpu.set_tick(Tick::Periodic) {
        timer::start(timer::When::EachTick);
    }
}

/// What a CPU's timer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tick {
    /// Nothing: the CPU has nothing to do.
    Stopped,
    /// Interrupts at each tick.
    Periodic,
    /// Interrupts once, at that tick.
    At(u64),
}

impl Tick {
    /// As a word.
    pub(super) const fn to_word(self) -> u64 {
        match self {
            Self::Stopped => 0,
            Self::Periodic => 1,
            // Ticks of the first moments are long over.
            Self::At(tick) => tick.saturating_add(2),
        }
    }
}

const _: () = assert!(SLOTS.is_power_of_two());

/// For who counts on all CPUs' timers: whether any thread sleeps for a time.
pub fn nr_sleepers() -> usize {
    Cpu::all().map(|cpu| cpu.wheel.lock().nr).sum()
}
