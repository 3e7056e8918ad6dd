//! The in-kernel test suites: the kernel with tests in place of its workload.
#![no_std]
#![no_main]

mod planted;
mod smoke;

kernel::entry!(kernel::ktest::run);
