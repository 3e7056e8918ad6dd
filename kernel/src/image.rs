//! The kernel image's own bounds, from the linker script (kernel/kernel.ld).
//!
//! # Invariants
//! - I1: the symbols are defined by the linker script; only their addresses mean something.

use core::ops::Range;

unsafe extern "C" {
    static __kernel_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
    static __bss_start: u8;
    static __bss_end: u8;
    static __kernel_end: u8;
}

macro_rules! range {
    ($(#[$doc:meta])* $name:ident, $start:ident, $end:ident) => {
        $(#[$doc])*
        pub fn $name() -> Range<u64> {
            (&raw const $start) as u64..(&raw const $end) as u64
        }
    };
}

range!(
    /// Virtual addresses of code: mapped readable and executable.
    text, __text_start, __text_end);
range!(
    /// Virtual addresses of constants: mapped read-only. The bounds are page-aligned.
    rodata, __rodata_start, __rodata_end);
range!(
    /// Virtual addresses of initialised variables; [`bss`] follows after the rest of the page.
    data, __data_start, __data_end);
range!(
    /// Virtual addresses of zeroed variables. The bounds are page-aligned.
    bss, __bss_start, __bss_end);
range!(
    /// Virtual addresses of everything that is writable: [`data`] and [`bss`]. The bounds are page-aligned.
    writable, __data_start, __bss_end);
range!(
    /// Virtual addresses of the whole image. The bounds are page-aligned.
    all, __kernel_start, __kernel_end);
