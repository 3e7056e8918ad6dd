//! The area that a CPU's GS base points to.
//!
//! ```text
//! gs:[0]   address of the area itself
//! gs:[8]   number of the CPU (u32)              read by mm::arch::cpu_id
//! gs:[12]  why preemption is off, counted (u32) read by mm::arch::may_sleep
//! gs:[16]  address of the record of held locks   read by mm::arch::with_held_locks
//! gs:[24]  the thread that runs                 see thread
//! gs:[32]  fatal reports under way (u32)   see debug::panic
//! gs:[36]  interrupts and NMIs under way, nested (u32)   see irq
//! gs:[40]  when counters are carried over next  see memory::vmstat
//! gs:[64]  what other CPUs read and write, apart from what changes here at each switch of threads: what the CPU keeps for
//!          its threads, calls of other CPUs, whether it has stopped for good
//! ...      the stacks that the CPU started with and takes exceptions on; interrupts taken, by kind; locks held
//! ```
//!
//! # Invariants
//! - I1: from [`init_boot_cpu`] on, GS base points to the CPU's own area, whose first field points to itself.
//! - I2: an area is never freed, and moved once, before there are threads: the boot CPU's ([`move_boot_cpu`]).
//!
//! # Locking
//! None: every field is an atomic that is written by its own CPU only, and interrupts may come in between. Other CPUs read,
//! through [`online::area`](super::online::area), what says so at the field: racily, but for `stopped`, `scheduler` and
//! `calls`, whose orderings have partners. Stacks and mailbox are set before the CPU is online.

use core::arch::asm;
use core::mem::offset_of;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};

use mm::lockdep::HeldLocks;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

use super::call::Calls;
use super::tables::NR_IST;
use crate::thread::{self, Thread};

/// What a CPU keeps for itself: the static part of its per-CPU memory, at the beginning of its unit in the first chunk.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct PerCpuArea {
    this: AtomicU64,
    cpu: AtomicU32,
    /// How many sections that must not be left to another thread are entered here.
    pub preempt_count: AtomicU32,
    held_locks: AtomicPtr<HeldLocks>,
    /// The thread that runs on this CPU; null before [`crate::thread::init`].
    pub current: AtomicPtr<Thread>,
    /// How many fatal reports are under way here: more than one means that reporting itself failed.
    pub reports: AtomicU32,
    /// How many handlers of interrupts and NMIs are under way here. See [`super::irq`].
    pub irq_depth: AtomicU32,
    /// The tick at which what is counted here is carried over next. See [`crate::memory::vmstat`].
    pub vmstat_due: AtomicU64,
    _shared: NewLine,
    /// What the CPU keeps for its threads; null until it runs them. Read by everybody.
    pub(crate) scheduler: AtomicPtr<thread::Cpu>,
    /// What it asks of others, and they of it. Read and written by everybody.
    pub(super) calls: Calls,
    /// 1 when the CPU has halted for good. Read by the CPU that stops the others.
    pub stopped: AtomicU32,
    /// The stack that the CPU started on, and those of its TSS: start and end each, 0 before they are known.
    stacks: [[AtomicU64; 2]; 1 + NR_IST],
    _own: NewLine,
    /// How many interrupts were taken here. Read by everybody.
    pub interrupts: Counts,
    /// The locks held here; empty but in debug builds. What `held_locks` points to.
    locks: HeldLocks,
}

/// Takes no room; what follows it begins a cache line.
#[derive(Debug)]
#[repr(align(64))]
struct NewLine;

/// How many interrupts of each kind a CPU has taken (Linux: `irq_stat`). Counts wrap.
#[derive(Debug, Default)]
pub struct Counts([AtomicU32; Kind::COUNT]);

/// A kind of interrupt that is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Of the timer (`LOC` in `/proc/interrupts`).
    Timer,
    /// Errors of the local APIC (`ERR`).
    Error,
    /// Vanished ones (`SPU`).
    Spurious,
    /// Calls by other CPUs that were served (`CAL`).
    Call,
    /// Of CPUs that have given this one something to run (`RES`).
    Reschedule,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = Self::Reschedule as usize + 1;
}

impl Counts {
    const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; Kind::COUNT])
    }

    /// One more; only on the CPU itself, with interrupts off, so that nobody else writes.
    pub(crate) fn count(&self, kind: Kind) {
        let count = &self.0[kind as usize];
        count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// How many so far.
    pub fn get(&self, kind: Kind) -> u32 {
        self.0[kind as usize].load(Relaxed)
    }
}

const _: () = assert!(offset_of!(PerCpuArea, this) == 0);
const _: () = assert!(offset_of!(PerCpuArea, cpu) == 8, "mm::arch::cpu_id reads it there");
const _: () = assert!(offset_of!(PerCpuArea, preempt_count) == 12, "mm::arch::may_sleep reads it there");
const _: () = assert!(offset_of!(PerCpuArea, held_locks) == 16, "mm::arch::with_held_locks reads it there");

const _: () = assert!(offset_of!(PerCpuArea, current) == 24, "mm::arch::process_name reads it there");
// What a CPU writes at each switch and each interrupt, and what others read at each wake-up and call, share no cache line.
const _: () =
    assert!(offset_of!(PerCpuArea, vmstat_due) + size_of::<AtomicU64>() <= offset_of!(PerCpuArea, scheduler));
const _: () = assert!(offset_of!(PerCpuArea, scheduler) % CACHE_LINE == 0 && size_of::<NewLine>() == 0);
const _: () = assert!(offset_of!(PerCpuArea, interrupts) % CACHE_LINE == 0);
const _: () =
    assert!(offset_of!(PerCpuArea, stopped) / CACHE_LINE == offset_of!(PerCpuArea, scheduler) / CACHE_LINE);

/// Bytes in a line of the CPU's caches.
const CACHE_LINE: usize = align_of::<NewLine>();

impl PerCpuArea {
    /// An area whose CPU has not been started.
    pub const fn new() -> Self {
        Self {
            this: AtomicU64::new(0),
            cpu: AtomicU32::new(0),
            preempt_count: AtomicU32::new(0),
            held_locks: AtomicPtr::new(core::ptr::null_mut()),
            current: AtomicPtr::new(core::ptr::null_mut()),
            reports: AtomicU32::new(0),
            irq_depth: AtomicU32::new(0),
            vmstat_due: AtomicU64::new(0),
            _shared: NewLine,
            scheduler: AtomicPtr::new(core::ptr::null_mut()),
            calls: Calls::new(),
            stopped: AtomicU32::new(0),
            stacks: [const { [const { AtomicU64::new(0) }; 2] }; 1 + NR_IST],
            _own: NewLine,
            interrupts: Counts::new(),
            locks: HeldLocks::new(),
        }
    }

    /// The stack that the CPU started on, then those of its TSS, IST 1 first. Empty ranges before [`set_stacks`].
    pub fn stacks(&self) -> impl Iterator<Item = Range<u64>> {
        self.stacks.iter().map(|[start, end]| start.load(Relaxed)..end.load(Relaxed))
    }

    /// Whether the CPU waits for others that it has called.
    pub fn is_calling(&self) -> bool {
        self.calls.is_calling()
    }

    /// Where the CPU keeps what is too large for the area or not made with it: threads, timers, calls. Null what it has not.
    pub fn parts(&self) -> [*const u8; 2] {
        [self.scheduler.load(Relaxed).cast_const().cast(), self.calls.mailbox_address()]
    }

    /// The number of the CPU.
    pub fn cpu(&self) -> u32 {
        self.cpu.load(Relaxed)
    }
}

impl Default for PerCpuArea {
    fn default() -> Self {
        Self::new()
    }
}

/// The boot CPU's, until it has per-CPU memory.
static BOOT_CPU: PerCpuArea = PerCpuArea::new();

/// Gives the boot CPU its area. The first thing the kernel does: locks and logging need it.
pub fn init_boot_cpu() {
    // SAFETY: a static, and this is the boot CPU.
    unsafe { install(&BOOT_CPU, 0) };
}

/// Moves the boot CPU's area from the image to `to`, the static part of its per-CPU memory (Linux: `switch_gs_base` and
/// `setup_per_cpu_areas`, which copies the initial values).
///
/// # Safety
/// Once, on the boot CPU, with interrupts off and no lock held; `to` is the boot CPU's alone, for good.
pub unsafe fn move_boot_cpu(to: NonNull<PerCpuArea>) {
    // SAFETY: the caller's place; nothing changes the old area meanwhile, and it holds nothing that refers to itself but
    // what `install` sets. Whoever has a reference to it from before finds a copy that nobody changes any more.
    unsafe {
        core::ptr::copy_nonoverlapping(&raw const BOOT_CPU, to.as_ptr(), 1);
        install(to.as_ref(), 0);
    }
}

/// Makes `area` the area of the CPU that runs this, with number `cpu`.
///
/// # Safety
/// No other CPU uses `area`, and nothing on this CPU holds a reference from [`this_cpu`].
pub unsafe fn install(area: &'static PerCpuArea, cpu: u32) {
    area.this.store(core::ptr::from_ref(area) as u64, Relaxed);
    area.cpu.store(cpu, Relaxed);
    area.held_locks.store(core::ptr::from_ref(&area.locks).cast_mut(), Relaxed);
    let base = VirtAddr::from_ptr(area);
    GsBase::write(base);
    // What SWAPGS brings when user space is entered: nothing of ours.
    KernelGsBase::write(VirtAddr::zero());
}

/// Says which stacks the area's CPU has, so that backtraces may read there.
///
/// # Safety
/// They are mapped for good.
pub unsafe fn set_stacks(area: &PerCpuArea, start: Range<u64>, ist: [Range<u64>; NR_IST]) {
    for ([first, end], stack) in area.stacks.iter().zip([start].into_iter().chain(ist)) {
        first.store(stack.start, Relaxed);
        end.store(stack.end, Relaxed);
    }
}

/// The area of the CPU that runs this. Meaningful while the caller cannot migrate.
#[inline]
pub fn this_cpu() -> &'static PerCpuArea {
    let area: *const PerCpuArea;
    // SAFETY: by I1 the first word is the area's address.
    unsafe { asm!("mov {}, gs:[0]", out(reg) area, options(nostack, preserves_flags, readonly)) };
    // SAFETY: I1 and I2; all fields are atomics.
    unsafe { &*area }
}
