//! The kernel image's own bounds, from the linker script (kernel/kernel.ld).
//!
//! # Invariants
//! - I1: the symbols are defined by the linker script; only their addresses mean something.

use core::ops::Range;

use mm::PAGE_SIZE;
use mm::addr::PhysRange;
use mm::pgtable::Prot;

use crate::firmware::translate;

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

/// The parts of the image with one protection each, in address order, in whole pages.
pub fn sections() -> [(Range<u64>, Prot); 3] {
    [(text(), Prot::KERNEL_RX), (rodata(), Prot::KERNEL_RO), (writable(), Prot::KERNEL_RW)]
}

/// The frames of the whole image, in runs of neighbours: the boot loader does not put it in one piece. Walks the page
/// tables in use.
pub fn frames() -> impl Iterator<Item = PhysRange> + Clone {
    frames_of(all())
}

/// The frames of a part of the image, as [`frames`].
pub fn frames_of(part: Range<u64>) -> impl Iterator<Item = PhysRange> + Clone {
    let page = PAGE_SIZE as u64;
    let first = part.start & !(page - 1);
    let mut frames = translate::pages(first..part.end).map(|(_, phys)| phys.as_u64()).peekable();
    core::iter::from_fn(move || {
        let start = frames.next()?;
        let mut end = start + page;
        while frames.next_if_eq(&end).is_some() {
            end += page;
        }
        PhysRange::new(start, end)
    })
}
