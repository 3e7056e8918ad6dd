//! Who allocates, as the page allocator asks.

use core::fmt;

use mm::page_alloc::Context;

use crate::cpu::irq;
use crate::debug::{backtrace, panic};
use crate::thread::{self, preempt};

/// The thread that runs on the CPU that asks, or that an interrupt came to there. Each answer is read in one instruction: between two, a thread that may be
/// moved could go on elsewhere, and get the answer for who runs there.
#[derive(Clone, Copy, Debug)]
pub(super) struct CurrentThread;

impl Context for CurrentThread {
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(thread::current_id_and_name().1)
    }

    fn pid(&self) -> u32 {
        thread::current_id_and_name().0
    }

    fn in_task(&self) -> bool {
        !irq::in_handler()
    }

    fn preempt_count(&self) -> u32 {
        preempt::count()
    }

    fn pause(&self) {
        thread::yield_now();
    }

    fn dump_stack(&self) {
        panic::print_context();
        backtrace::print();
    }
}
