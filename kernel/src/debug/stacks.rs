//! The stacks that the kernel knows: only there a backtrace reads.
//!
//! ```text
//! boot stack   guard page | 64 KiB      in the image's bss; the guard is left unmapped by the kernel's own tables
//! IST stacks   4 x 16 KiB               see cpu::tables
//! threads      as given to thread::spawn; the current one only
//! ```

use core::cell::UnsafeCell;
use core::ops::Range;

use crate::cpu::tables;
use crate::thread;

/// Size of the stack that the boot CPU starts on.
pub const BOOT_STACK_SIZE: usize = 64 * 1024;
const GUARD_SIZE: usize = 4096;

#[repr(C, align(4096))]
struct BootStack {
    guard: [u8; GUARD_SIZE],
    stack: [u8; BOOT_STACK_SIZE],
}

struct StackCell(UnsafeCell<BootStack>);

// SAFETY: only the boot CPU's stack pointer refers to it.
unsafe impl Sync for StackCell {}

static BOOT_STACK: StackCell =
    StackCell(UnsafeCell::new(BootStack { guard: [0; GUARD_SIZE], stack: [0; BOOT_STACK_SIZE] }));

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
    let start = boot_stack_guard().end;
    start..start + BOOT_STACK_SIZE as u64
}

/// The page below the boot stack: the kernel's page tables leave it unmapped.
pub fn boot_stack_guard() -> Range<u64> {
    let start = BOOT_STACK.0.get() as u64;
    start..start + GUARD_SIZE as u64
}

/// Whether the page at `page` is the one below the boot stack.
pub fn is_guard_page(page: u64) -> bool {
    boot_stack_guard().contains(&page)
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
    let ist = tables::boot_ist_stacks().map(|range| Stack { name: "IST", range });
    let current = thread::current_stack().map(|range| Stack { name: "task", range });
    current.into_iter().chain([Stack { name: "boot", range: boot_stack() }]).chain(ist)
}
