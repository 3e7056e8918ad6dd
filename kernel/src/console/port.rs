//! The serial port and the lock around it.
//!
//! # Invariants
//! - I1: `OWNER` is the CPU that may write, plus one; 0 when nobody does. Interrupts are off on the owner, so whoever
//!   finds its own CPU there is inside the owner's call: a fault or a panic. A fatal report becomes the owner in the place
//!   of a CPU that does not come to an end.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mm::arch::{IrqGuard, cpu_id};
use uart_16550::SerialPort;

const COM1: u16 = 0x3f8;
/// Loops before a fatal report stops waiting for the owner.
const PATIENCE: u32 = 10_000_000;

static OWNER: AtomicU32 = AtomicU32::new(0);
/// A fatal report is under way: nobody else may print any more.
static TAKEN_OVER: AtomicU32 = AtomicU32::new(0);
static PRESENT: AtomicBool = AtomicBool::new(true);

fn port() -> SerialPort {
    // SAFETY: COM1, which only this module touches.
    unsafe { SerialPort::new(COM1) }
}

pub(super) fn init() {
    port().init();
    // No port: status reads as all ones, and every write would look sent.
    // SAFETY: reads COM1's line status.
    let status: u8 = unsafe { x86_64::instructions::port::Port::new(COM1 + 5).read() };
    PRESENT.store(status != 0xff, Ordering::Relaxed);
}

/// From now on only this CPU prints: it reports a fatal error.
pub fn take_over() {
    TAKEN_OVER.store(cpu_id().0 + 1, Ordering::Relaxed);
}

/// The right to write to the port.
#[derive(Debug)]
pub(super) struct Guard {
    /// Whether the drop gives `OWNER` back: not for who came in again.
    owns: bool,
    _irq: IrqGuard,
}

impl Guard {
    /// Waits for the port.
    pub(super) fn new() -> Self {
        Self::acquire(u32::MAX)
    }

    /// Waits for the port, but not forever: then writes all the same.
    pub(super) fn new_bounded() -> Self {
        Self::acquire(PATIENCE)
    }

    fn acquire(patience: u32) -> Self {
        let irq = IrqGuard::new();
        let me = cpu_id().0 + 1;
        let mut waited = 0;
        loop {
            let reporter = TAKEN_OVER.load(Ordering::Relaxed);
            let mine = reporter == 0 || reporter == me;
            // Acquire pairs with the release in `drop`: what the last owner did at the port is done.
            let owner = match mine {
                true => OWNER.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed),
                false => Err(u32::MAX),
            };
            match owner {
                Ok(_) => return Self { owns: true, _irq: irq },
                Err(owner) if owner == me => return Self { owns: false, _irq: irq },
                Err(_) if mine && waited >= patience => {
                    // It was stopped in the midst of a line: a report takes its place, and so waits once, not for each line.
                    let owns = reporter == me;
                    if owns {
                        OWNER.store(me, Ordering::Relaxed);
                    }
                    return Self { owns, _irq: irq };
                }
                Err(_) => {}
            }
            waited = waited.saturating_add(u32::from(patience != u32::MAX));
            core::hint::spin_loop();
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        if PRESENT.load(Ordering::Relaxed) {
            let mut port = port();
            for &byte in bytes {
                port.send_raw(byte);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.owns {
            // Release pairs with the acquire in `acquire`.
            OWNER.store(0, Ordering::Release);
        }
    }
}
