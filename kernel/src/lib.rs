//! The machine under Strata's memory subsystem: how the kernel starts, traps, prints and ends.
//!
//! ```text
//! start        one column of named steps from the boot loader's jump to the workload
//! cpu          per-CPU area, descriptor tables, processor features, paging registers, old interrupt controllers
//! trap         entry stubs, the saved registers, dispatch, reports of unexpected exceptions, fix-ups
//! console      serial port, log levels and time stamps, raw output
//! debug        panic, backtrace, symbols, known stacks
//! firmware     what the boot loader hands over, in the firmware's own terms; ACPI tables; fw_cfg
//! cmdline      the kernel's command line
//! image        the kernel image's own bounds
//! uaccess      copies from and to user space that survive bad pointers
//! thread       kernel threads
//! memory       the memory subsystem on this machine
//! bench        what operations cost
//! ktest        in-kernel tests: registration and runner
//! exit         how a run ends
//! ```
//!
//! # Locking
//! Interrupts are off from the loader's jump until threads run; from then on they are on but in handlers and under spin
//! locks, and a thread may be pre-empted, and go on elsewhere, wherever they are on and no `thread::preempt::Guard` lives.
//! Whoever waits for another CPU serves the others meanwhile: see `cpu::call`.
#![no_std]

extern crate alloc;

pub mod bench;
pub mod cmdline;
pub mod console;
pub mod cpu;
pub mod debug;
pub mod exit;
pub mod firmware;
pub mod image;
pub mod ktest;
pub mod memory;
pub mod start;
pub mod thread;
pub mod trap;
pub mod uaccess;

pub use start::{BOOTLOADER_CONFIG, Kernel, start};
