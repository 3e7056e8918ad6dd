//! The entry stubs: 256 of 16 bytes, which bring every vector to one frame layout and one Rust function.
//!
//! ```text
//!            on the stack, down from what the CPU pushed:
//! CPU        ss rsp rflags cs rip [error code]
//! stub       [0 where the CPU pushes no error code] vector
//! common     rdi rsi rdx rcx rax r8 r9 r10 r11 rbx rbp r12 r13 r14 r15   = TrapFrame
//!            rip rbp                                                      a call frame for backtraces
//! ```
//!
//! # Invariants
//! - I1: stub `v` starts at `trap_stubs + 16 * v`.
//! - I2: `dispatch` gets interrupts off, the direction flag clear, AC clear, the kernel's GS base.

use core::arch::global_asm;

global_asm!(
    r#"
    .pushsection .text.entry, "ax"
    .balign 16
    .global trap_stubs
    trap_stubs:
    .set vector, 0
    .rept 256
        .balign 16
        # 8, 10 to 14, 17, 21, 29 and 30 come with an error code.
        .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
            push 0
        .endif
        push vector
        jmp trap_common
        .set vector, vector + 1
    .endr

    .balign 16
    .type trap_common, @function
    trap_common:
        push rdi
        push rsi
        push rdx
        push rcx
        push rax
        push r8
        push r9
        push r10
        push r11
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        cld
        test byte ptr [rsp + {cs}], 3
        jz 2f
        swapgs
    2:
        # The CPU leaves AC as it was: user pages shall not be accessible in a handler.
        cmp byte ptr [rip + {smap}], 0
        je 3f
        clac
    3:
        mov rdi, rsp
        # A call frame that leads from the handler to the interrupted code.
        push qword ptr [rdi + {rip}]
        push rbp
        mov rbp, rsp
        # The CPU aligned the stack to 16 bytes, and 22 + 2 words were pushed since.
        call {dispatch}
        add rsp, 16
        test byte ptr [rsp + {cs}], 3
        jz 4f
        swapgs
    4:
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        pop r11
        pop r10
        pop r9
        pop r8
        pop rax
        pop rcx
        pop rdx
        pop rsi
        pop rdi
        add rsp, 16
        iretq
    .size trap_common, . - trap_common
    .popsection
    "#,
    cs = const core::mem::offset_of!(super::TrapFrame, cs),
    rip = const core::mem::offset_of!(super::TrapFrame, rip),
    smap = sym crate::cpu::features::SMAP,
    dispatch = sym super::dispatch,
);

unsafe extern "C" {
    static trap_stubs: u8;
}

/// The address of the stub of `vector`.
pub(crate) fn stub(vector: u8) -> u64 {
    (&raw const trap_stubs) as u64 + 16 * u64::from(vector)
}
