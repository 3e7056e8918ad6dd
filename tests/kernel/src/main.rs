//! The in-kernel test suites.
#![no_std]
#![no_main]
