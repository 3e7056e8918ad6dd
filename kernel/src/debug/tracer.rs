//! Backtraces, functions' names and the clock, for what the memory subsystem remembers of its callers.

use core::fmt;

use mm::stackdepot::Tracer;

use super::{backtrace, symbols};
use crate::console::clock;

/// The CPU that asks.
#[derive(Clone, Copy, Debug)]
pub struct ThisCpu;

impl Tracer for ThisCpu {
    fn save(&self, entries: &mut [u64]) -> usize {
        let callers = backtrace::Frames::new(backtrace::frame_pointer());
        entries.iter_mut().zip(callers).map(|(entry, caller)| *entry = caller.address).count()
    }

    fn write_address(&self, address: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", symbols::Return(address))
    }

    fn now_ns(&self) -> u64 {
        clock::uptime_us() * 1000
    }
}
