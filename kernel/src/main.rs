//! The kernel image: the machine with the memory workload on top.
#![no_std]
#![no_main]

use kernel::Kernel;

kernel::entry!(run);

/// What the boot ends with.
fn run(_kernel: &Kernel) -> ! {
    kernel::exit::success()
}
