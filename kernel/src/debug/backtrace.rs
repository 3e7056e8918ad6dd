//! Backtraces by frame pointers.
//!
//! ```text
//! rbp -> [ caller's rbp ][ return address ]      higher addresses are older
//! ```
//!
//! # Invariants
//! - I1: a frame, or a return address, is read only if it is whole inside a stack that the kernel knows, and aligned.
//! - I2: within a stack frames rise; a walk ends after [`MAX_FRAMES`]. So a broken chain neither faults nor loops.

use core::arch::asm;

use super::{stacks, symbols};
use crate::console::emergency_line as line;
use crate::image;

const MAX_FRAMES: usize = 64;

/// The frame pointer of the function that calls this.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// Where the function that calls this returns to; that function is not inlined (Linux: `__builtin_return_address(0)`).
#[inline(always)]
pub fn return_address() -> u64 {
    // SAFETY: all functions keep frame pointers, so above the saved one is the return address.
    unsafe { (frame_pointer() as *const u64).add(1).read() }
}

/// Prints the callers of the function that calls this, Linux's way.
#[inline(never)]
pub fn print() {
    print_frames(None, frame_pointer());
}

/// Prints a backtrace that starts at code address `rip` with stack pointer `rsp` and frame pointer `rbp`.
pub fn print_from(rip: u64, rsp: u64, rbp: u64) {
    print_frames(Some((rip, rsp)), rbp);
}

fn print_frames(begin: Option<(u64, u64)>, rbp: u64) {
    line(format_args!("Call Trace:"));
    line(format_args!(" <TASK>"));
    match begin {
        Some((rip, _)) if image::text().contains(&rip) => {
            line(format_args!(" {}", symbols::Symbolic(rip)));
        }
        // Something that is no code was called: who did it has no frame below, only what the call has pushed.
        Some((_, rsp)) => {
            if let Some(address) = return_address_at(rsp) {
                line(format_args!(" {}", symbols::Return(address)));
            }
        }
        None => {}
    }
    for caller in Frames::new(rbp) {
        // A call that never returns may be the last instruction of its function: look up the call, print the return.
        line(format_args!(" {}", symbols::Return(caller.address)));
    }
    line(format_args!(" </TASK>"));
}

/// The word on top of the stack, when it is a code address.
fn return_address_at(rsp: u64) -> Option<u64> {
    let whole = |stack: &stacks::Stack| rsp.is_multiple_of(8) && stack.range.contains(&(rsp + 7));
    stacks::containing(rsp).filter(whole)?;
    // SAFETY: I1: the word is on a known stack, which is mapped.
    let address = unsafe { (rsp as *const u64).read_volatile() };
    image::text().contains(&address).then_some(address)
}

/// A function that waits for a call to return, and its registers when that returns.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Where it goes on.
    pub address: u64,
    /// Its stack pointer.
    pub rsp: u64,
    /// Its frame pointer.
    pub rbp: u64,
}

/// The callers from a frame pointer up.
#[derive(Debug)]
pub struct Frames {
    rbp: u64,
    stack: Option<stacks::Stack>,
    left: usize,
}

impl Frames {
    /// Starts at frame pointer `rbp`, which may be anything.
    pub fn new(rbp: u64) -> Self {
        Self { rbp, stack: stacks::containing(rbp), left: MAX_FRAMES }
    }
}

impl Iterator for Frames {
    type Item = Caller;

    fn next(&mut self) -> Option<Caller> {
        let stack = self.stack.as_ref()?;
        let whole =
            self.rbp.is_multiple_of(8) && self.rbp.checked_add(16).is_some_and(|end| end <= stack.range.end);
        if self.left == 0 || !whole || !stack.range.contains(&self.rbp) {
            return None;
        }
        self.left -= 1;
        let frame = self.rbp as *const u64;
        // SAFETY: I1: the two words are on a known stack, which is mapped.
        let (rbp, address) = unsafe { (frame.read_volatile(), frame.add(1).read_volatile()) };
        if !image::text().contains(&address) {
            return None;
        }
        let caller = Caller { address, rsp: self.rbp + 16, rbp };
        if rbp <= self.rbp || !stack.range.contains(&rbp) {
            // From an interrupt stack to the interrupted one; never back to the same (I2).
            self.stack = stacks::containing(rbp).filter(|next| next != stack);
        }
        self.rbp = rbp;
        Some(caller)
    }
}
