//! The report of an exception that nobody deals with, worded as Linux words it; it ends the run.
//!
//! # Invariants
//! - I1: prints by [`emergency_line`](crate::console::emergency_line) only, which waits for nobody for long: not for this CPU, nor
//!   for one that was stopped while it printed. Takes no other lock. Reads memory through checked stacks, and what is always
//!   mapped: symbols, struct pages and the records of their owners.

use core::fmt;

use x86_64::registers::control::{Cr0, Cr2, Cr3, Cr4};
use x86_64::registers::model_specific::{FsBase, GsBase, KernelGsBase};

use super::{PageFaultError, TrapFrame};
use crate::console::emergency_line as line;
use crate::debug::{backtrace, panic, symbols};
use crate::memory;

const DOUBLE_FAULT: u64 = 8;

/// Reports the exception in `frame` (a page fault at `address`, if so) and ends the run with failure.
pub fn die(frame: &TrapFrame, address: Option<u64>) -> ! {
    let at = symbols::Symbolic(frame.rip);
    let _report = match address {
        Some(address) => panic::enter(format_args!("page fault for address {address:016x} at {at}")),
        None => panic::enter(format_args!("{} at {at}", Name(frame.vector))),
    };
    match address {
        Some(address) => page_fault_header(frame, address),
        None if frame.vector == DOUBLE_FAULT => double_fault_header(frame),
        None => {}
    }
    line(format_args!(
        "{}: {:04x} [#1] SMP{}",
        if address.is_some() { "Oops" } else { Name(frame.vector).text() },
        frame.error_code,
        if memory::debug_pagealloc_enabled() { " DEBUG_PAGEALLOC" } else { "" }
    ));
    panic::print_context();
    registers(frame);
    backtrace::print_from(frame.rip, frame.rsp, frame.rbp);
    panic::end(format_args!("Fatal exception"))
}

fn page_fault_header(frame: &TrapFrame, address: u64) {
    let error = PageFaultError::from_bits_retain(frame.error_code);
    if address < 4096 {
        line(format_args!("BUG: kernel NULL pointer dereference, address: {address:016x}"));
    } else {
        line(format_args!("BUG: unable to handle page fault for address: {address:016x}"));
    }
    let access = if error.contains(PageFaultError::FETCH) {
        "instruction fetch"
    } else if error.contains(PageFaultError::WRITE) {
        "write access"
    } else {
        "read access"
    };
    let by = if error.contains(PageFaultError::USER) { "user" } else { "supervisor" };
    let mode = if frame.from_user() { "user" } else { "kernel" };
    line(format_args!("#PF: {by} {access} in {mode} mode"));
    let reason = if !error.contains(PageFaultError::PROTECTION) {
        "not-present page"
    } else if error.contains(PageFaultError::RESERVED) {
        "reserved bit violation"
    } else if error.contains(PageFaultError::KEY) {
        "protection keys violation"
    } else {
        "permissions violation"
    };
    line(format_args!("#PF: error_code({:#06x}) - {reason}", frame.error_code));
    if let Some(pfn) = memory::freed_page(address) {
        line(format_args!("#PF: pfn:{pfn:05x} is free, and not mapped for debug_pagealloc=on"));
        memory::dump_freed(pfn, &mut line);
    }
}

/// A double fault is mostly a stack that is full: pushing the first exception's frame faulted.
fn double_fault_header(frame: &TrapFrame) {
    let faulted = Cr2::read_raw();
    if let Some(stack) = crate::debug::stacks::guard_hit(frame.rsp, faulted) {
        line(format_args!(
            "BUG: {} stack guard page was hit at {faulted:016x} (stack is {:016x}..{:016x})",
            stack.name,
            stack.range.start,
            stack.range.end - 1
        ));
    }
}

fn registers(frame: &TrapFrame) {
    let f = frame;
    line(format_args!("RIP: {:04x}:{}", f.cs, symbols::Symbolic(f.rip)));
    line(format_args!("RSP: {:04x}:{:016x} EFLAGS: {:08x}", f.ss, f.rsp, f.rflags));
    line(format_args!("RAX: {:016x} RBX: {:016x} RCX: {:016x}", f.rax, f.rbx, f.rcx));
    line(format_args!("RDX: {:016x} RSI: {:016x} RDI: {:016x}", f.rdx, f.rsi, f.rdi));
    line(format_args!("RBP: {:016x} R08: {:016x} R09: {:016x}", f.rbp, f.r8, f.r9));
    line(format_args!("R10: {:016x} R11: {:016x} R12: {:016x}", f.r10, f.r11, f.r12));
    line(format_args!("R13: {:016x} R14: {:016x} R15: {:016x}", f.r13, f.r14, f.r15));
    control_registers();
}

/// Prints the registers that say which memory is seen.
pub fn control_registers() {
    let (fs, gs, kernel_gs) = (FsBase::read(), GsBase::read(), KernelGsBase::read());
    line(format_args!("FS:  {fs:016x} GS:{gs:016x} knlGS:{kernel_gs:016x}"));
    line(format_args!("CR0: {:016x} CR2: {:016x}", Cr0::read_raw(), Cr2::read_raw()));
    let (table, flags) = Cr3::read_raw();
    line(format_args!(
        "CR3: {:016x} CR4: {:016x}",
        table.start_address().as_u64() | u64::from(flags),
        Cr4::read_raw()
    ));
}

/// An exception's name, as Linux prints it.
#[derive(Clone, Copy)]
struct Name(u64);

impl Name {
    fn text(self) -> &'static str {
        match self.0 {
            0 => "divide error",
            1 => "debug",
            3 => "int3",
            4 => "overflow",
            5 => "bounds",
            6 => "invalid opcode",
            7 => "device not available",
            8 => "double fault",
            10 => "invalid TSS",
            11 => "segment not present",
            12 => "stack segment",
            13 => "general protection fault",
            14 => "page fault",
            16 => "fpu exception",
            17 => "alignment check",
            18 => "machine check",
            19 => "simd exception",
            20 => "virtualization exception",
            21 => "control protection",
            _ => "reserved exception",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
