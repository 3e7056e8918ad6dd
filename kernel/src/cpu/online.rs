//! Which CPUs there are: the possible ones by number, and which of them run.
//!
//! ```text
//! Offline -> Starting -> Online            the CPU itself takes the last step, so both cannot disagree
//!               |
//!               +-> Failed                 it did not come up in time; it has been reset, and stays out
//! ```
//!
//! # Invariants
//! - O1: `SLOTS` is set once, on the boot CPU, before there is another; a slot for each possible CPU.
//! - O2: an online CPU has its area, and the area is its for good; with other CPUs, a mailbox in it.
//! - O3: no CPU from `END` on has ever been sent for: who looks at all that run need not look at all that are possible.
//!
//! # Locking
//! None: a state is an atomic. The boot CPU starts CPUs one at a time.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use alloc::vec::Vec;
use mm::CpuId;
use mm::acpi::{NO_APIC, PossibleCpus};
use spin::Once;

use super::percpu::{PerCpuArea, this_cpu};

/// How far a CPU is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    /// Not started; or not there.
    Offline,
    /// It has been sent for.
    Starting,
    /// It runs the kernel.
    Online,
    /// It did not come.
    Failed,
}

/// What is known of a possible CPU.
#[derive(Debug)]
struct Slot {
    apic_id: u32,
    state: AtomicU8,
    area: AtomicPtr<PerCpuArea>,
}

/// The possible CPUs, by number. The debugger looks for them by this name.
static SLOTS: Once<&'static [Slot]> = Once::new();
static NR_ONLINE: AtomicU32 = AtomicU32::new(1);
static END: AtomicU32 = AtomicU32::new(1);

/// There is no memory for the list.
#[derive(Clone, Copy, Debug)]
pub struct OutOfMemory;

/// Takes note of the possible CPUs; the first is the boot CPU, which runs this.
///
/// # Errors
/// Then the boot CPU stays the only one.
pub fn init(cpus: PossibleCpus<'_>) -> Result<(), OutOfMemory> {
    let mut slots = Vec::new();
    slots.try_reserve_exact(cpus.apic_ids.len()).map_err(|_| OutOfMemory)?;
    slots.extend(cpus.apic_ids.iter().map(|&apic_id| Slot {
        apic_id,
        state: AtomicU8::new(State::Offline as u8),
        area: AtomicPtr::new(ptr::null_mut()),
    }));
    let boot: &Slot = &slots[0];
    boot.area.store(ptr::from_ref(this_cpu()).cast_mut(), Ordering::Relaxed);
    boot.state.store(State::Online as u8, Ordering::Relaxed);
    SLOTS.call_once(|| slots.leak());
    Ok(())
}

fn slot(cpu: CpuId) -> Option<&'static Slot> {
    SLOTS.get()?.get(cpu.index())
}

/// How many CPUs there can be (Linux: `nr_cpu_ids`); 1 until it is known.
pub fn nr_possible() -> u32 {
    SLOTS.get().map_or(1, |slots| slots.len() as u32)
}

/// How many run (Linux: `num_online_cpus`).
pub fn nr_online() -> u32 {
    NR_ONLINE.load(Ordering::Relaxed)
}

/// Whether a CPU runs (Linux: `cpu_online`). The boot CPU always does.
#[inline]
pub fn is_online(cpu: CpuId) -> bool {
    // Acquire pairs with the release in `arrive`: what the CPU has set up is seen.
    let runs = |slot: &Slot| slot.state.load(Ordering::Acquire) == State::Online as u8;
    cpu == CpuId::BOOT || slot(cpu).is_some_and(runs)
}

/// One past the highest CPU that runs or has been tried (O3).
pub(super) fn end() -> u32 {
    END.load(Ordering::Relaxed)
}

/// The CPUs that run, by number. Cost: a look at each that was started.
pub fn all() -> impl Iterator<Item = CpuId> + Clone {
    (0..end()).map(CpuId).filter(|&cpu| is_online(cpu))
}

/// The CPUs that are there and do not run, and were not tried.
pub(super) fn offline() -> impl Iterator<Item = CpuId> {
    let waits = |cpu: &CpuId| {
        let offline = |slot: &Slot| slot.state.load(Ordering::Relaxed) == State::Offline as u8;
        apic_id(*cpu).is_some() && slot(*cpu).is_some_and(offline)
    };
    (0..nr_possible()).map(CpuId).filter(waits)
}

/// The id by which a CPU is sent to; `None` when it is not there.
pub fn apic_id(cpu: CpuId) -> Option<u32> {
    slot(cpu).map(|slot| slot.apic_id).filter(|&id| id != NO_APIC)
}

/// The area of a CPU that runs: to look at what is atomic there.
pub fn area(cpu: CpuId) -> Option<&'static PerCpuArea> {
    let slot = slot(cpu).filter(|_| is_online(cpu))?;
    // SAFETY: O2: set before the CPU was online, and never freed.
    unsafe { slot.area.load(Ordering::Relaxed).as_ref() }
}

/// The CPU is about to be sent for, and will use this area.
pub(super) fn expect(cpu: CpuId, area: &'static PerCpuArea) {
    if let Some(slot) = slot(cpu) {
        slot.area.store(ptr::from_ref(area).cast_mut(), Ordering::Relaxed);
        // Before the CPU can be online: who knows of it counts it in. What it does first, it does after this.
        END.fetch_max(cpu.0 + 1, Ordering::Relaxed);
        slot.state.store(State::Starting as u8, Ordering::Release);
    }
}

/// The CPU that runs this is set up: it is online from now on. False when nobody expects it any more.
#[must_use]
pub(super) fn arrive() -> bool {
    // Counted first: who sees it online sees it counted. Release pairs with the acquire in `is_online`.
    NR_ONLINE.fetch_add(1, Ordering::Relaxed);
    let arrived = slot(mm::arch::cpu_id()).is_some_and(|slot| leave_starting(slot, State::Online));
    NR_ONLINE.fetch_sub(u32::from(!arrived), Ordering::Relaxed);
    arrived
}

/// A CPU that was expected is expected no more. False when it has just arrived.
#[must_use]
pub(super) fn give_up(cpu: CpuId) -> bool {
    slot(cpu).is_some_and(|slot| leave_starting(slot, State::Failed))
}

fn leave_starting(slot: &Slot, to: State) -> bool {
    slot.state.compare_exchange(State::Starting as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
}
