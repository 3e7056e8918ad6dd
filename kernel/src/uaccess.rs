//! Copies between the kernel and user space. A bad pointer gives an error, never a fault.
//!
//! # Invariants
//! - I1: an address is checked to lie below the end of user space before it is used, so that a caller cannot make the
//!   kernel read or write its own memory.
//! - I2: each instruction that touches user memory has an entry in the exception table; its fix-up leaves in RCX how
//!   much is left, and passes CLAC.
//!
//! # Locking
//! A copy may fault, and serving the fault sleeps: threads only, with no spin lock held. Where interrupts or preemption are
//! off, pages that are not there are an error.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use mm::VirtAddr;
use mm::arch::layout::USER_END;

use crate::cpu::features::SMAP;
use crate::ex_table;

/// A user address is bad (Linux: `-EFAULT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How many bytes at the end were not copied.
    pub left: usize,
}

/// Fills `to` from user memory at `from` (Linux: `copy_from_user`). On error the rest of `to` is as it was.
pub fn copy_from_user(to: &mut [u8], from: VirtAddr) -> Result<(), Fault> {
    check(from, to.len())?;
    // SAFETY: `to` is ours to write; the user side is checked (I1).
    unsafe { copy(to.as_mut_ptr(), from.as_ptr(), to.len()) }
}

/// Copies `from` to user memory at `to` (Linux: `copy_to_user`).
pub fn copy_to_user(to: VirtAddr, from: &[u8]) -> Result<(), Fault> {
    check(to, from.len())?;
    // SAFETY: `from` is ours to read; the user side is checked (I1).
    unsafe { copy(to.as_mut_ptr(), from.as_ptr(), from.len()) }
}

/// Zeroes `length` bytes of user memory at `to` (Linux: `clear_user`).
pub fn clear_user(to: VirtAddr, length: usize) -> Result<(), Fault> {
    check(to, length)?;
    let left: usize;
    // SAFETY: writes to user memory only (I1); faults are fixed up (I2).
    unsafe {
        asm!(
            "test {smap}, {smap}", "jz 2f", "stac", "2:",
            "3: rep stosq",
            "mov rcx, {tail}",
            "4: rep stosb",
            "jmp 6f",
            "5: lea rcx, [{tail} + rcx * 8]",
            "6: test {smap}, {smap}", "jz 7f", "clac", "7:",
            ex_table!("3b", "5b"),
            ex_table!("4b", "6b"),
            smap = in(reg) usize::from(SMAP.load(Relaxed)),
            tail = in(reg) length % 8,
            inout("rcx") length / 8 => left,
            inout("rdi") to.as_u64() => _,
            in("rax") 0u64,
            options(nostack),
        );
    }
    if left == 0 { Ok(()) } else { Err(Fault { left }) }
}

/// Reads a value from user memory (Linux: `get_user`).
pub fn get_user<T: Plain>(from: VirtAddr) -> Result<T, Fault> {
    let mut value = T::default();
    check(from, size_of::<T>())?;
    // SAFETY: `value` is ours and any bytes are a value of it (`Plain`); the user side is checked (I1).
    unsafe { copy((&raw mut value).cast(), from.as_ptr(), size_of::<T>()) }?;
    Ok(value)
}

/// Writes a value to user memory (Linux: `put_user`).
pub fn put_user<T: Plain>(to: VirtAddr, value: T) -> Result<(), Fault> {
    check(to, size_of::<T>())?;
    // SAFETY: `value` is ours and has no padding (`Plain`); the user side is checked (I1).
    unsafe { copy(to.as_mut_ptr(), (&raw const value).cast(), size_of::<T>()) }
}

/// Integers: any bytes are a value, and every byte is initialised.
///
/// # Safety
/// Only for such types.
pub unsafe trait Plain: Copy + Default {}

// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: an integer.
unsafe impl Plain for u16 {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}

/// I1 (Linux: `access_ok`).
fn check(address: VirtAddr, length: usize) -> Result<(), Fault> {
    let end = address.as_u64().checked_add(length as u64);
    if end.is_some_and(|end| end <= USER_END) { Ok(()) } else { Err(Fault { left: length }) }
}

/// Copies `length` bytes, of which one side is user memory.
///
/// # Safety
/// One side is checked user memory, the other the caller's.
unsafe fn copy(to: *mut u8, from: *const u8, length: usize) -> Result<(), Fault> {
    let left: usize;
    // SAFETY: the caller's promise; faults at user addresses are fixed up (I2).
    unsafe {
        asm!(
            "test {smap}, {smap}", "jz 2f", "stac", "2:",
            "3: rep movsq",
            "mov rcx, {tail}",
            "4: rep movsb",
            "jmp 6f",
            "5: lea rcx, [{tail} + rcx * 8]",
            "6: test {smap}, {smap}", "jz 7f", "clac", "7:",
            ex_table!("3b", "5b"),
            ex_table!("4b", "6b"),
            smap = in(reg) usize::from(SMAP.load(Relaxed)),
            tail = in(reg) length % 8,
            inout("rcx") length / 8 => left,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack),
        );
    }
    if left == 0 { Ok(()) } else { Err(Fault { left }) }
}
