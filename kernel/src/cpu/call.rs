//! Functions that run on other CPUs.
//!
//! ```text
//! sender s: Request { f, left } on its stack ---- REQUESTS[s] -> it
//!           for each target t: bit s of MAILBOX[t], then an interrupt
//! target t: takes its bits, for each s: runs f, then left - 1
//! sender:   waits for left = 0, serving its own mailbox meanwhile
//! ```
//!
//! So two CPUs that call each other with interrupts off serve each other. No memory is needed for a call, and no lock: a
//! mailbox has a bit for each possible CPU, because a CPU has one call under way at a time.
//!
//! # Invariants
//! - C1: a bit of a mailbox is set only while its sender's request is in `REQUESTS`, and the request stays there until
//!   every target has counted itself off.
//! - C2: a CPU calls with interrupts off from the beginning to the end, so no handler and no other thread calls in between;
//!   and a function that may be called by a CPU that calls itself calls nobody
//!   ([`PerCpuArea::calling`](super::percpu::PerCpuArea::calling)).
//! - C3: the tables are set once, before there is a second CPU.
//!
//! # Locking
//! None. A called function runs with interrupts off, in the midst of whatever its CPU does: it takes only locks that are never
//! held with interrupts on nor while a CPU waits here.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use alloc::vec::Vec;
use mm::CpuId;
use mm::arch::{IrqGuard, cpu_id};
use mm::smp::CallCpus;
use spin::Once;

use super::online::{self, OutOfMemory};
use super::percpu::{Kind, this_cpu};
use super::{apic, ipi};
use crate::trap::vector;

/// A call under way, on its sender's stack.
struct Request<'a> {
    f: &'a (dyn Fn() + Sync),
    /// Targets that have not run it yet, and one for the sender while it sends.
    left: AtomicU32,
}

struct Tables {
    /// By sender (C1).
    requests: Vec<AtomicPtr<Request<'static>>>,
    /// By target, [`words`](Self::words) each.
    mailboxes: Vec<AtomicU64>,
    words: usize,
}

static TABLES: Once<Tables> = Once::new();

/// Makes the mailboxes: a bit for each pair of possible CPUs. Only on the boot CPU, before there is another.
///
/// # Errors
/// Then there must be no other CPU.
pub(super) fn init() -> Result<(), OutOfMemory> {
    let cpus = online::nr_possible() as usize;
    let words = cpus.div_ceil(64);
    let (mut requests, mut mailboxes) = (Vec::new(), Vec::new());
    requests.try_reserve_exact(cpus).map_err(|_| OutOfMemory)?;
    mailboxes.try_reserve_exact(cpus * words).map_err(|_| OutOfMemory)?;
    requests.resize_with(cpus, || AtomicPtr::new(ptr::null_mut()));
    mailboxes.resize_with(cpus * words, || AtomicU64::new(0));
    TABLES.call_once(|| Tables { requests, mailboxes, words });
    Ok(())
}

impl Tables {
    fn mailbox(&self, cpu: CpuId) -> &[AtomicU64] {
        &self.mailboxes[cpu.index() * self.words..][..self.words]
    }
}

/// Calls by interrupts, on all CPUs that run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interrupts;

impl CallCpus for Interrupts {
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
        on_each(wanted, f);
    }
}

/// Runs `f` on every CPU that runs, this one included (Linux: `on_each_cpu`). See [`on_each`].
pub fn on_all(f: &(dyn Fn() + Sync)) {
    on_each(&|_| true, f);
}

/// Runs `f` on one CPU, if it runs (Linux: `smp_call_function_single`). See [`on_each`].
pub fn on_one(cpu: CpuId, f: &(dyn Fn() + Sync)) {
    on_each(&|other| other == cpu, f);
}

/// Runs `f` on the CPUs that run and are wanted, with interrupts off there, and returns when all have (Linux:
/// `on_each_cpu_cond`). In any context but NMIs and called functions, without a spin lock: another CPU
/// may wait for it with interrupts off, or `f` take it. Cost: an interrupt for each CPU, and waiting for the slowest.
///
/// # Panics
/// With debug assertions, when a called function calls, or a spin lock is held.
pub fn on_each(wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
    // First: the record of held locks is that of the CPU, and the thread could leave it in between.
    let _irq = IrqGuard::new();
    mm::sync::assert_none_held("when other CPUs are called");
    let me = cpu_id();
    if let Some(tables) = TABLES.get().filter(|_| online::nr_online() > 1) {
        let calling = this_cpu().calling.swap(1, Ordering::Relaxed);
        debug_assert_eq!(calling, 0, "a called function calls (C2)");
        let request = Request { f, left: AtomicU32::new(1) };
        send(tables, me, wanted, &request);
        if wanted(me) {
            f();
        }
        // Acquire pairs with the release in `serve`: what `f` did there has happened here.
        while request.left.load(Ordering::Acquire) != 0 {
            serve(tables, me);
            core::hint::spin_loop();
        }
        tables.requests[me.index()].store(ptr::null_mut(), Ordering::Relaxed);
        this_cpu().calling.store(0, Ordering::Relaxed);
    } else if wanted(me) {
        f();
    }
}

/// Sends the request to all that are wanted but this CPU.
fn send(tables: &Tables, me: CpuId, wanted: &dyn Fn(CpuId) -> bool, request: &Request<'_>) {
    let at = ptr::from_ref(request).cast_mut().cast();
    tables.requests[me.index()].store(at, Ordering::Relaxed);
    for cpu in online::all().filter(|&cpu| cpu != me && wanted(cpu)) {
        request.left.fetch_add(1, Ordering::Relaxed);
        let (word, bit) = (me.index() / 64, 1 << (me.index() % 64));
        // Release pairs with the acquire in `serve`: who sees the bit sees the request.
        tables.mailbox(cpu)[word].fetch_or(bit, Ordering::Release);
        // A message that the APIC cannot send now, it can send later; nobody waits for this CPU meanwhile.
        while ipi::send(cpu, apic::Interrupt::fixed(vector::CALL_FUNCTION)) == Err(apic::ipi::Error::Busy) {
            serve(tables, me);
        }
    }
    request.left.fetch_sub(1, Ordering::Release);
}

/// Runs what other CPUs have asked of this one, `me`. Interrupts are off.
fn serve(tables: &Tables, me: CpuId) {
    for (index, word) in tables.mailbox(me).iter().enumerate() {
        if word.load(Ordering::Relaxed) == 0 {
            continue;
        }
        // Acquire pairs with the release in `send`.
        let mut senders = word.swap(0, Ordering::Acquire);
        while senders != 0 {
            let sender = index * 64 + senders.trailing_zeros() as usize;
            senders &= senders - 1;
            run(tables, sender);
        }
    }
}

fn run(tables: &Tables, sender: usize) {
    let Some(request) = NonNull::new(tables.requests[sender].load(Ordering::Relaxed)) else { return };
    this_cpu().interrupts.count(Kind::Call);
    // SAFETY: C1: the sender waits until we have counted ourselves off, which is the last use.
    unsafe {
        (request.as_ref().f)();
        // Release pairs with the acquire in `on_each`. Not through a reference: the request may be gone at once.
        let left = &raw const (*request.as_ptr()).left;
        (*left).fetch_sub(1, Ordering::Release);
    }
}

/// The interrupt that says that the mailbox has something. The CPU may have found it while it waited for a call of its own.
pub(crate) fn interrupt() {
    if let Some(tables) = TABLES.get() {
        serve(tables, cpu_id());
    }
}
