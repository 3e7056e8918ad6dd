//! How a run ends: QEMU's isa-debug-exit device, else ACPI's soft-off port of QEMU's PC, else a halted CPU.
//!
//! The device is at port 0xf4; QEMU's exit status is the value written, shifted left, with bit 0 set: 33 for success
//! and 35 for failure.

use x86_64::instructions::{hlt, interrupts, port::Port};

const DEBUG_EXIT: u16 = 0xf4;
const SUCCESS: u32 = 0x10;
const FAILURE: u32 = 0x11;
/// PM1a control of QEMU's `pc`, once its firmware has placed it.
const PM1A_CONTROL: u16 = 0x604;
/// SLP_EN, with QEMU's SLP_TYP for S5.
const SOFT_OFF: u16 = 1 << 13;

/// Ends the run with success (QEMU's status 33).
pub fn success() -> ! {
    end(SUCCESS)
}

/// Ends the run with failure (QEMU's status 35).
pub fn failure() -> ! {
    end(FAILURE)
}

/// Switches the machine off, with success (Linux: `kernel_power_off`).
pub fn power_off() -> ! {
    log::info!("reboot: Power down");
    success()
}

fn end(code: u32) -> ! {
    interrupts::disable();
    // SAFETY: the port belongs to isa-debug-exit or to nothing.
    unsafe { Port::<u32>::new(DEBUG_EXIT).write(code) };
    // Still here: there is no such device.
    crate::cpu::ipi::become_stopper();
    crate::cpu::ipi::stop_others();
    if code == SUCCESS {
        // SAFETY: on machines without this register the write goes nowhere; we have nothing left to lose.
        unsafe { Port::<u16>::new(PM1A_CONTROL).write(SOFT_OFF) };
    }
    crate::console::emergency(format_args!("reboot: System halted\n"));
    loop {
        hlt();
    }
}
