//! The stacks that the kernel knows: only there a backtrace reads.
//!
//! ```text
//! boot stack   guard page | 64 KiB | guard page       in the image's bss
//! IST stacks   guard page | 16 KiB | guard page       each; likewise, see cpu::tables
//! other CPUs   the stack that a CPU started on, and its IST stacks, in the vmalloc space with holes around
//! threads      as given to thread::spawn; the current one only
//!
//! Of CPUs other than the boot CPU only the one that looks knows its own.
//! ```
//!
//! # Invariants
//! - I1: the kernel's own page tables leave the pages around the image's stacks unmapped ([`is_guard_page`]).

use core::cell::UnsafeCell;
use core::ops::Range;

use crate::cpu::percpu::this_cpu;
use crate::cpu::tables;
use crate::thread;

/// Size of the stack that the boot CPU starts on.
pub const BOOT_STACK_SIZE: usize = 64 * 1024;
const GUARD_SIZE: usize = 4096;

#[repr(C, align(4096))]
struct Page([u8; GUARD_SIZE]);

/// A stack of `N` bytes in the image, with a page on either side that is never mapped.
#[repr(C, align(4096))]
pub(crate) struct Guarded<const N: usize> {
    below: Page,
    stack: [u8; N],
    above: Page,
}

impl<const N: usize> Guarded<N> {
    pub(crate) const fn new() -> Self {
        const { assert!(N.is_multiple_of(GUARD_SIZE)) };
        Self { below: Page([0; GUARD_SIZE]), stack: [0; N], above: Page([0; GUARD_SIZE]) }
    }

    /// The addresses of the stack of the one at `this`.
    pub(crate) const fn range(this: *const Self) -> (*const u8, usize) {
        (this.cast::<u8>().wrapping_add(core::mem::offset_of!(Self, stack)), N)
    }
}

struct StackCell(UnsafeCell<Guarded<BOOT_STACK_SIZE>>);

// SAFETY: only the boot CPU's stack pointer refers to it.
unsafe impl Sync for StackCell {}

static BOOT_STACK: StackCell = StackCell(UnsafeCell::new(Guarded::new()));

/// A stack by name and virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// For reports.
    pub name: &'static str,
    /// From the lowest address to one past the first word pushed.
    pub range: Range<u64>,
}

/// The boot CPU's stack.
pub fn boot_stack() -> Range<u64> {
    let (start, size) = Guarded::range(BOOT_STACK.0.get());
    start as u64..start as u64 + size as u64
}

/// The stacks of the image.
pub fn of_image() -> impl Iterator<Item = Stack> {
    let ist = tables::IST_NAMES.into_iter().zip(tables::boot_ist_stacks());
    ist.map(|(name, range)| Stack { name, range }).chain([Stack { name: "boot", range: boot_stack() }])
}

/// Whether the page at `page` is next to a stack of the image (I1).
pub fn is_guard_page(page: u64) -> bool {
    of_image().any(|stack| page + GUARD_SIZE as u64 == stack.range.start || page == stack.range.end)
}

/// The stack that `address` is in, if the kernel knows it.
pub fn containing(address: u64) -> Option<Stack> {
    all().find(|stack| stack.range.contains(&address))
}

/// The stack whose guard page was hit by an access to `address` with stack pointer `rsp`.
pub fn guard_hit(rsp: u64, address: u64) -> Option<Stack> {
    let below = |address: u64, stack: &Stack| {
        (stack.range.start.saturating_sub(GUARD_SIZE as u64)..stack.range.start + 256).contains(&address)
    };
    all().find(|stack| below(address, stack) && below(rsp, stack))
}

fn all() -> impl Iterator<Item = Stack> {
    let current = thread::current_stack().map(|range| Stack { name: "task", range });
    current.into_iter().chain(of_this_cpu()).chain(of_image())
}

fn of_this_cpu() -> impl Iterator<Item = Stack> {
    let names = ["start"].into_iter().chain(tables::IST_NAMES);
    names.zip(this_cpu().stacks()).map(|(name, range)| Stack { name, range })
}
