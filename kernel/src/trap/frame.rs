//! The registers of the interrupted code, as the entry stubs save them.

use bitflags::bitflags;

/// All registers of the interrupted code (Linux: `pt_regs`). Changes take effect on return.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "registers by their names")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The number of the exception or interrupt.
    pub vector: u64,
    /// The exception's error code; 0 where there is none.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<TrapFrame>() == 22 * 8, "entry.rs pushes that many");

impl TrapFrame {
    /// Whether user space was interrupted.
    pub fn from_user(&self) -> bool {
        self.cs & 3 != 0
    }
}

bitflags! {
    /// The error code of a page fault (Linux: `enum x86_pf_error_code`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PageFaultError: u64 {
        /// The page was present: its rights forbid the access. Else it was not present.
        const PROTECTION = 1 << 0;
        /// A write. Else a read or an instruction fetch.
        const WRITE = 1 << 1;
        /// From ring 3.
        const USER = 1 << 2;
        /// A reserved bit is set in a page-table entry.
        const RESERVED = 1 << 3;
        /// An instruction fetch.
        const FETCH = 1 << 4;
        /// A protection key forbids the access.
        const KEY = 1 << 5;
    }
}
