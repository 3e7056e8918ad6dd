//! Panics: a kernel bug was noticed. Prints what is known, Linux's way, and ends the run with failure.
//!
//! ```text
//! panic!  -> enter -> message, context, registers, call trace -> end
//! trap    -> enter -> registers, call trace                   -> end
//! a second one inside: one short line, end; a third: end at once
//! ```
//!
//! # Invariants
//! - I1: [`enter`] comes first: from then on this CPU's output waits for no lock of its own, and a running in-kernel
//!   test has been reported as failed.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::Ordering::Relaxed;

use x86_64::registers::rflags;

use super::{backtrace, symbols};
use crate::console::{self, emergency_line as line};
use crate::cpu::ipi;
use crate::cpu::percpu::this_cpu;
use crate::cpu::tables::{KERNEL_CS, KERNEL_DS};
use crate::{exit, ktest, thread, trap};

/// Starts a fatal report: `reason` is the failure of the in-kernel test that runs, if one does.
///
/// A report inside a report ends the run here.
pub fn enter(reason: fmt::Arguments<'_>) -> Report {
    x86_64::instructions::interrupts::disable();
    match this_cpu().reports.fetch_add(1, Relaxed) {
        0 => {}
        1 => {
            line(format_args!("Kernel panic - not syncing: {reason} (while another was being reported)"));
            exit::failure();
        }
        _ => exit::failure(),
    }
    // Of two CPUs that have something to report, one does. The other may be in the middle of a line: it ends that first.
    ipi::become_stopper();
    console::take_over();
    console::emergency(format_args!(""));
    ipi::stop_others();
    ktest::fail_running(reason);
    Report(())
}

/// Proof that [`enter`] was called.
#[derive(Debug)]
pub struct Report(());

/// Prints on which CPU and in which thread this happened.
pub fn print_context() {
    let (id, name) = thread::current_id_and_name();
    line(format_args!(
        "CPU: {} PID: {id} Comm: {name} Not tainted {}",
        this_cpu().cpu(),
        env!("CARGO_PKG_VERSION")
    ));
}

/// Prints the last lines of a report and ends the run with failure.
pub fn end(reason: fmt::Arguments<'_>) -> ! {
    line(format_args!("---[ end trace 0000000000000000 ]---"));
    line(format_args!("Kernel panic - not syncing: {reason}"));
    line(format_args!("---[ end Kernel panic - not syncing: {reason} ]---"));
    exit::failure()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Before `enter` turns interrupts off.
    let rflags = rflags::read_raw();
    let _report = enter(format_args!("{}", Reason(info)));
    line(format_args!("Kernel panic - not syncing: {}", info.message()));
    if let Some(location) = info.location() {
        line(format_args!("at {location}"));
    }
    print_context();
    registers(backtrace::frame_pointer(), rflags);
    backtrace::print();
    line(format_args!("---[ end Kernel panic - not syncing: {} ]---", info.message()));
    exit::failure()
}

/// Prints the registers of the function that panicked: those that its call of the panic machinery, with the frame at
/// `rbp`, has kept.
fn registers(rbp: u64, rflags: u64) {
    let in_core = |address: u64| {
        symbols::lookup(address.wrapping_sub(1)).is_some_and(|symbol| symbol.name.starts_with("core::"))
    };
    if let Some(caller) = backtrace::Frames::new(rbp).find(|caller| !in_core(caller.address)) {
        line(format_args!("RIP: {:04x}:{}", KERNEL_CS, symbols::Return(caller.address)));
        line(format_args!("RSP: {:04x}:{:016x} EFLAGS: {rflags:08x}", KERNEL_DS, caller.rsp));
        line(format_args!("RBP: {:016x}", caller.rbp));
    }
    trap::report::control_registers();
}

/// Message and place on one line.
struct Reason<'a>(&'a PanicInfo<'a>);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message())?;
        match self.0.location() {
            Some(location) => write!(f, " at {location}"),
            None => Ok(()),
        }
    }
}
