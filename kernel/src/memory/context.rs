//! Who allocates, as the page allocator asks.

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use mm::page_alloc::Context;

use crate::cpu::percpu::this_cpu;
use crate::debug::{backtrace, panic};
use crate::thread;

/// The thread that runs on the CPU that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct CurrentThread;

impl Context for CurrentThread {
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(thread::current_id_and_name().1)
    }

    fn pid(&self) -> u32 {
        thread::current_id_and_name().0
    }

    fn preempt_count(&self) -> u32 {
        this_cpu().preempt_count.load(Relaxed)
    }

    fn dump_stack(&self) {
        panic::print_context();
        backtrace::print();
    }
}
