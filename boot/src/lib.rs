//! Strata's host program: builds the kernel, makes disk images and runs them in QEMU.
