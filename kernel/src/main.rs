//! The kernel image: the machine with the memory workload on top.
#![no_std]
#![no_main]

use kernel::{Kernel, bench, cmdline, exit, memory, thread};

kernel::entry!(run);

/// What the boot ends with.
fn run(kernel: &Kernel) -> ! {
    memory::workload::run(kernel.memory);
    match kernel.cmdline.value("dump") {
        None => {}
        Some("") => cmdline::malformed("dump"),
        Some(names) => memory::dump(kernel.memory, names),
    }
    match kernel.cmdline.value("bench") {
        None => {}
        Some("") => cmdline::malformed("bench"),
        Some(cases) => bench::run(kernel.memory, cases),
    }
    if kernel.cmdline.has("poweroff") {
        exit::power_off();
    }
    log::info!("Nothing more to run; \"poweroff\" on the command line would end the run here.");
    thread::wait::WaitQueue::new().wait_until(|| false);
    unreachable!("nobody says so")
}
