//! Calls between CPUs that are threads and run at the same time.
//!
//! # Invariants
//! - M1: a [`Call`] is in a box, or being answered, only while its caller is in [`CallCpus::on_each`].

use core::mem;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::boxed::Box;
use std::sync::Mutex;
use std::thread;
use std::vec::Vec;

use crate::arch::{self, IrqGuard};
use crate::id::CpuId;
use crate::smp::CallCpus;

/// A function to run, and who waits for it.
#[derive(Clone, Copy)]
struct Call {
    f: *const (dyn Fn() + Sync),
    unanswered: *const AtomicUsize,
}

// SAFETY: both may be used by other threads, and live until the call has been answered (M1).
unsafe impl Send for Call {}

/// A box of calls for each CPU. Each CPU empties its own between its operations, where interrupts are on.
pub(crate) struct Mailboxes {
    calls: Vec<Mutex<Vec<Call>>>,
    nr_at_work: AtomicUsize,
}

impl Mailboxes {
    /// For that many CPUs, all at work; as long as the process, as an allocator wants it.
    pub(crate) fn new(nr_cpus: u32) -> &'static Self {
        let calls = (0..nr_cpus).map(|_| Mutex::default()).collect();
        Box::leak(Box::new(Self { calls, nr_at_work: AtomicUsize::new(nr_cpus as usize) }))
    }

    /// Does what other CPUs ask of this one.
    pub(crate) fn answer(&self) {
        let calls = mem::take(&mut *self.calls[arch::cpu_id().index()].lock().unwrap());
        for call in calls {
            let irq = IrqGuard::new();
            // SAFETY: the caller waits (M1).
            unsafe { (*call.f)() };
            drop(irq);
            // SAFETY: as above, until this. Release: with the load in `on_each`.
            unsafe { (*call.unanswered).fetch_sub(1, Ordering::Release) };
        }
    }

    /// This CPU is done; answers the others until all are.
    pub(crate) fn rest(&self) {
        self.nr_at_work.fetch_sub(1, Ordering::Release);
        // Acquire: with the subtraction above, on the other CPUs.
        while self.nr_at_work.load(Ordering::Acquire) > 0 {
            self.answer();
            thread::yield_now();
        }
    }
}

impl CallCpus for Mailboxes {
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
        let unanswered = AtomicUsize::new(0);
        // SAFETY: only the lifetime changes; all calls are answered before this returns (M1).
        let call: *const (dyn Fn() + Sync) = unsafe { mem::transmute(f) };
        for (_, calls) in self.calls.iter().enumerate().filter(|(cpu, _)| wanted(CpuId(*cpu as u32))) {
            unanswered.fetch_add(1, Ordering::Relaxed);
            calls.lock().unwrap().push(Call { f: call, unanswered: &raw const unanswered });
        }
        // Acquire: with the subtraction in `answer`.
        while unanswered.load(Ordering::Acquire) > 0 {
            self.answer();
            thread::yield_now();
        }
    }
}
