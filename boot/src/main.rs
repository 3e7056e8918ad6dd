//! `cargo run`: build the kernel, make a disk image, boot it in QEMU.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(boot::cli::main(std::env::args_os()))
}
