//! Strata's host program as a library: builds the kernel, makes disk images and runs them in QEMU.
//!
//! ```text
//! kernel/, tests/kernel/ --build--> ELF --symbols--> symbol table (the loader's ramdisk)
//!                                    |                    |
//!                                    +----strip-----> image (BIOS, UEFI) --qemu-runner.sh--> QEMU
//! ```
//!
//! `cargo run` is [`cli`] on top of this; the test harness uses the same modules.

pub mod build;
pub mod cli;
pub mod console;
pub mod cpio;
pub mod image;
pub mod numa;
pub mod qemu;
pub mod run;
pub mod size;
pub mod symbols;
pub mod workspace;
