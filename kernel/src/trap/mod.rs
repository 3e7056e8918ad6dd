//! Exceptions and interrupts: from the CPU's vector to who deals with it.
//!
//! ```text
//! CPU -> entry (stub of the vector) -> TrapFrame -> dispatch
//!          #PF  -> memory::fault, else the exception table, else a report
//!          #GP  -> the exception table, else a report
//!          NMI, PIC lines, vectors of nobody -> noted in the log
//!          vectors of the local APIC -> who they belong to, the interrupt ended before; then thread::irq_exit
//!          the rest -> a report: registers, backtrace, end of the run
//! ```
//!
//! # Locking
//! Handlers begin with interrupts off, and no lock is ever held with interrupts on (I2 of [`mm::sync`]), so interrupts find
//! none of their own CPU's locks taken:
//!
//! - Page faults of `uaccess` and of user space sleep for the lock of the address space in use, with interrupts on, if they
//!   were on where the fault happened; so a copy is made with no spin lock held. Others are told from them without a lock.
//! - The timer takes the locks of timers, wait lists and run queues, and the counters'. A call takes what the function that
//!   another CPU asks for takes. An interrupt's end may leave the CPU to another thread.
//! - NMIs and reports of exceptions come in the midst of anything: they take only the console, which lets its own CPU in
//!   again.

pub mod entry;
pub mod extable;
pub mod frame;
pub mod report;
pub mod vector;

use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;

pub use frame::{PageFaultError, TrapFrame};

use crate::cpu::apic::LocalApic;
use crate::cpu::percpu::{Kind, this_cpu};
use crate::cpu::{call, ipi, irq, pic};
use crate::memory::fault::{self, Outcome};
use crate::thread;

/// A page fault, as the memory code gets it.
#[derive(Debug)]
pub struct PageFault<'a> {
    /// The address that was accessed (CR2).
    pub address: VirtAddr,
    /// What kind of access it was, and why it failed.
    pub error: PageFaultError,
    /// The registers of who did it. RFLAGS there says whether interrupts were on.
    pub frame: &'a mut TrapFrame,
}

const NMI: u64 = 2;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;
const EXCEPTIONS: u64 = 32;

/// Called by the stubs, with interrupts off.
extern "C" fn dispatch(frame: &mut TrapFrame) {
    const FIRST_LINE: u64 = pic::BASE as u64;
    const LAST_LINE: u64 = (pic::BASE + pic::LINES - 1) as u64;
    match frame.vector {
        PAGE_FAULT => page_fault(frame),
        GENERAL_PROTECTION => general_protection(frame),
        NMI => nmi(),
        FIRST_LINE..=LAST_LINE => line(frame.vector as u8 - pic::BASE),
        0..EXCEPTIONS => report::die(frame, None),
        _ => interrupt(frame.vector as u8),
    }
}

fn nmi() {
    let _handler = irq::enter();
    ipi::nmi();
    log::warn!("NMI received for unknown reason on CPU {}.", mm::arch::cpu_id().0);
}

/// An interrupt of the local APIC. It is ended first: who it belongs to may leave the CPU to another thread.
fn interrupt(vector: u8) {
    let cpu = mm::arch::cpu_id();
    let apic = LocalApic::get();
    // A program may raise what no APIC has sent, and one that has vanished is in service nowhere.
    if let Some(apic) = apic.filter(|apic| apic.in_service(vector)) {
        apic.end_of_interrupt();
    }
    let handler = irq::enter();
    match vector {
        vector::TIMER => {
            this_cpu().interrupts.count(Kind::Timer);
            thread::tick();
        }
        vector::CALL_FUNCTION => call::interrupt(),
        // Its end is what it is for.
        vector::RESCHEDULE => this_cpu().interrupts.count(Kind::Reschedule),
        vector::ERROR => {
            this_cpu().interrupts.count(Kind::Error);
            let errors = vector::ApicErrors(apic.map_or(0, LocalApic::take_errors));
            log::debug!("APIC error on CPU{cpu}: {errors}");
        }
        vector::SPURIOUS => {
            this_cpu().interrupts.count(Kind::Spurious);
            log::info!("Spurious APIC interrupt (vector {vector:#04x}) on CPU#{cpu}.");
        }
        _ => log::warn!("{cpu}: No irq handler for vector {vector}"),
    }
    drop(handler);
    thread::irq_exit();
}

fn page_fault(frame: &mut TrapFrame) {
    // First of all: a nested fault would overwrite it.
    let address = Cr2::read_raw();
    let error = PageFaultError::from_bits_retain(frame.error_code);
    // A non-canonical CR2 does not exist: such accesses raise #GP.
    let fault = PageFault { address: VirtAddr::new_truncate(address), error, frame };
    if fault::handle(fault) == Outcome::Handled || fixed_up(frame) {
        return;
    }
    report::die(frame, Some(address))
}

fn general_protection(frame: &mut TrapFrame) {
    if !fixed_up(frame) {
        report::die(frame, None);
    }
}

/// Sends a kernel access that was expected to fail on its way.
fn fixed_up(frame: &mut TrapFrame) -> bool {
    if frame.from_user() {
        return false;
    }
    let fixup = extable::search(frame.rip);
    if let Some(rip) = fixup {
        frame.rip = rip;
    }
    fixup.is_some()
}

fn line(line: u8) {
    let _handler = irq::enter();
    if pic::acknowledge(line) {
        log::warn!("irq {line}: nobody cared");
    } else {
        log::debug!("spurious 8259A interrupt: IRQ{line}.");
    }
}
