//! Functions that run on other CPUs.
//!
//! ```text
//! sender s: Request { f, left } on its stack ---- `request` of its area -> it
//!           for each target t: bit s of the mailbox of t's area, then an interrupt
//! target t: takes its bits, for each s: runs f, then left - 1
//! sender:   waits for left = 0, serving its own mailbox meanwhile
//! ```
//!
//! So two CPUs that call each other with interrupts off serve each other. No memory is needed for a call, and no lock: a
//! mailbox has a bit for each possible CPU, because a CPU has one call under way at a time.
//!
//! # Invariants
//! - C1: a bit of a mailbox is set only while its sender's area leads to its request, which stays there until every target
//!   has counted itself off.
//! - C2: a CPU calls with interrupts off from the beginning to the end, so no handler and no other thread calls in between;
//!   and a function that may be called by a CPU that calls itself calls nobody ([`Calls::is_calling`]).
//! - C3: when several CPUs run, each has its mailbox, for good, in memory of its node: it gets it before it is online.
//!
//! # Locking
//! None. A called function runs with interrupts off, in the midst of whatever its CPU does: it takes only locks that are never
//! held with interrupts on nor while a CPU waits here.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

use mm::CpuId;
use mm::arch::{IrqGuard, cpu_id};
use mm::smp::CallCpus;
use spin::Once;

use super::percpu::{Kind, PerCpuArea, this_cpu};
use super::{apic, ipi, irq, online};
use crate::trap::vector;

/// A call under way, on its sender's stack.
struct Request<'a> {
    f: &'a (dyn Fn() + Sync),
    /// Targets that have not run it yet, and one for the sender while it sends.
    left: AtomicU32,
}

/// What a CPU's area has for calls.
#[derive(Debug)]
pub(super) struct Calls {
    /// The call that this CPU waits for; null when there is none.
    request: AtomicPtr<Request<'static>>,
    /// Who has called this CPU: a bit for each possible CPU (C3).
    mailbox: Once<&'static [AtomicU64]>,
}

impl Calls {
    /// Nobody calls.
    pub(super) const fn new() -> Self {
        Self { request: AtomicPtr::new(ptr::null_mut()), mailbox: Once::new() }
    }

    /// Null when there is none.
    pub(super) fn mailbox_address(&self) -> *const u8 {
        self.mailbox.get().map_or(ptr::null(), |mailbox| mailbox.as_ptr().cast())
    }

    /// Whether this CPU waits for others that it has called.
    pub(super) fn is_calling(&self) -> bool {
        !self.request.load(Ordering::Relaxed).is_null()
    }
}

/// Size of a mailbox: a bit for each possible CPU.
pub(super) fn mailbox_bytes() -> usize {
    online::nr_possible().div_ceil(64) as usize * size_of::<AtomicU64>()
}

/// Gives a CPU its mailbox: before it is online, or while it is the only CPU.
///
/// # Safety
/// At `at` are [`mailbox_bytes`] zeroes, aligned to words, that are nobody else's, for good.
pub(super) unsafe fn give_mailbox(area: &PerCpuArea, at: NonNull<u8>) {
    // SAFETY: the caller's promise.
    let mailbox =
        unsafe { core::slice::from_raw_parts(at.cast().as_ptr(), mailbox_bytes() / size_of::<AtomicU64>()) };
    area.calls.mailbox.call_once(|| mailbox);
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
    // A CPU that comes online now either is found below, or finds all that was done before, page tables in particular: it
    // looks after it has come (`smp::start_here`).
    fence(Ordering::SeqCst);
    if online::nr_online() > 1 {
        let calls = &this_cpu().calls;
        debug_assert!(!calls.is_calling(), "a called function calls (C2)");
        let request = Request { f, left: AtomicU32::new(1) };
        calls.request.store(ptr::from_ref(&request).cast_mut().cast(), Ordering::Relaxed);
        send(me, wanted, &request.left);
        if wanted(me) {
            f();
        }
        // Acquire pairs with the release in `run`: what `f` did there has happened here.
        while request.left.load(Ordering::Acquire) != 0 {
            serve();
            core::hint::spin_loop();
        }
        calls.request.store(ptr::null_mut(), Ordering::Relaxed);
    } else if wanted(me) {
        f();
    }
}

/// Sends this CPU's request to all that are wanted but this CPU, `me`, and counts them.
fn send(me: CpuId, wanted: &dyn Fn(CpuId) -> bool, left: &AtomicU32) {
    let (word, bit) = (me.index() / 64, 1 << (me.index() % 64));
    for cpu in online::all().filter(|&cpu| cpu != me && wanted(cpu)) {
        // C3.
        let Some(mailbox) = online::area(cpu).and_then(|area| area.calls.mailbox.get()) else { continue };
        left.fetch_add(1, Ordering::Relaxed);
        // Release pairs with the acquire in `serve`: who sees the bit sees the request.
        mailbox[word].fetch_or(bit, Ordering::Release);
        // A message that the APIC cannot send now, it can send later; nobody waits for this CPU meanwhile.
        while ipi::send(cpu, apic::Interrupt::fixed(vector::CALL_FUNCTION)) == Err(apic::ipi::Error::Busy) {
            serve();
        }
    }
    left.fetch_sub(1, Ordering::Release);
}

/// Runs what other CPUs have asked of this one. Interrupts are off.
fn serve() {
    let Some(mailbox) = this_cpu().calls.mailbox.get() else { return };
    let words = online::end().div_ceil(64) as usize;
    for (index, word) in mailbox.iter().take(words).enumerate() {
        if word.load(Ordering::Relaxed) == 0 {
            continue;
        }
        // Acquire pairs with the release in `send`.
        let mut senders = word.swap(0, Ordering::Acquire);
        while senders != 0 {
            let sender = index as u32 * 64 + senders.trailing_zeros();
            senders &= senders - 1;
            run(CpuId(sender));
        }
    }
}

fn run(sender: CpuId) {
    let request = online::area(sender).map(|area| area.calls.request.load(Ordering::Relaxed));
    let Some(request) = request.and_then(NonNull::new) else { return };
    this_cpu().interrupts.count(Kind::Call);
    // It may be a thread that waits here with a call of its own; what it runs is not its own.
    let _handler = irq::enter();
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
    serve();
}
