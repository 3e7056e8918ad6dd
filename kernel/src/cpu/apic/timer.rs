//! The local APIC's timer: a counter that falls at the rate of the bus and interrupts its own CPU at zero.
//!
//! # Invariants
//! - T1: [`KHZ`] is the counter's rate with [`DIVIDE_BY_16`], measured once on the boot CPU; 0 when there is no timer.
//! - T2: a CPU starts and stops its own timer only.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mm::arch::{self, IrqGuard};

use super::{LocalApic, Lvt, Register};
use crate::console::clock;
use crate::trap::vector;

/// Ticks in a second (Linux: `CONFIG_HZ`, Debian's).
pub const HZ: u64 = 250;

/// The counter falls once in 16 cycles of the bus (Linux: `APIC_DIVISOR`).
const DIVIDE_BY_16: u32 = 0b0011;
const DIVISOR: u64 = 16;
/// How long to measure: reading both clocks is short beside it.
const MEASURE_US: u64 = 2000;
/// How often. Between the readings of both clocks a busy host may let the guest wait: the median is right.
const MEASUREMENTS: usize = 3;

static KHZ: AtomicU64 = AtomicU64::new(0);

/// When the timer is to interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// [`HZ`] times a second.
    EachTick,
    /// Once, after so many microseconds.
    OnceAfterUs(u64),
}

/// The rate of the counter, in kHz; 0 when there is no timer.
pub fn counter_khz() -> u64 {
    KHZ.load(Relaxed)
}

/// Measures the rate against the TSC (Linux: `calibrate_APIC_clock`). Takes 6 ms.
pub(super) fn calibrate(apic: LocalApic) {
    let mut rates = [(); MEASUREMENTS].map(|()| measure_khz(apic));
    rates.sort_unstable();
    let khz = rates[MEASUREMENTS / 2];
    KHZ.store(khz, Relaxed);
    let bus = khz * DIVISOR;
    match khz {
        0 => log::warn!("APIC frequency too slow, disabling apic timer"),
        _ => log::info!("APIC timer: {}.{:03} MHz bus, {HZ} ticks a second", bus / 1000, bus % 1000),
    }
}

fn measure_khz(apic: LocalApic) -> u64 {
    let _irq = IrqGuard::new();
    let tsc_khz = clock::tsc_khz();
    apic.write(Register::TimerDivide, DIVIDE_BY_16);
    apic.write(Register::LvtTimer, Lvt::MASKED.0);
    apic.write(Register::TimerInitialCount, u32::MAX);
    let read = || (apic.read(Register::TimerCurrentCount), arch::ticks());
    let (first, begin) = read();
    let mut now = (first, begin);
    while now.1 - begin < tsc_khz * MEASURE_US / 1000 {
        core::hint::spin_loop();
        now = read();
    }
    apic.write(Register::TimerInitialCount, 0);
    u64::from(first.wrapping_sub(now.0)) * tsc_khz / (now.1 - begin).max(1)
}

/// Lets the timer of this CPU interrupt, [`thread::tick`](crate::thread::tick) being what happens then. Replaces what it did
/// before. Nothing without a timer. Interrupts arrive when they are on.
pub fn start(when: When) {
    let khz = counter_khz();
    let Some(apic) = LocalApic::get().filter(|_| khz != 0) else { return };
    let entry = Lvt::fixed(vector::TIMER);
    let (entry, count) = match when {
        When::EachTick => (entry.periodic(), khz * 1000 / HZ),
        When::OnceAfterUs(us) => (entry, khz.saturating_mul(us) / 1000),
    };
    let _irq = IrqGuard::new();
    apic.write(Register::TimerDivide, DIVIDE_BY_16);
    apic.write(Register::LvtTimer, entry.0);
    // Zero would stop it.
    apic.write(Register::TimerInitialCount, u32::try_from(count).unwrap_or(u32::MAX).max(1));
}

/// Stops the timer of this CPU. One interrupt may still be on its way.
pub fn stop() {
    let Some(apic) = LocalApic::get() else { return };
    let _irq = IrqGuard::new();
    apic.write(Register::LvtTimer, Lvt::MASKED.0);
    apic.write(Register::TimerInitialCount, 0);
}
