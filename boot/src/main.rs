//! `cargo run`: build the kernel, make a disk image, boot it in QEMU.

fn main() {}
