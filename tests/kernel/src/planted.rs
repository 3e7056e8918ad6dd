//! Tests that misbehave on purpose: the host's harness is tested with them. They run on no machine by themselves.

use core::arch::asm;

use kernel::ktest;

ktest!(passes, on "planted");
ktest!(panics, on "planted");
ktest!(fails_an_assertion, on "planted");
ktest!(hangs, on "planted");
ktest!(triple_faults, on "planted");
ktest!(exits_early, on "planted");
ktest!(overflows_the_stack, on "planted");
ktest!(writes_to_a_wild_pointer, on "planted");

fn passes() {}

fn panics() {
    panic!("a planted panic");
}

fn fails_an_assertion() {
    let two = core::hint::black_box(2);
    assert_eq!(two + 2, 5, "a planted assertion");
}

fn hangs() {
    loop {
        core::hint::spin_loop();
    }
}

fn triple_faults() {
    let empty = x86_64::structures::DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: ends the run, which is the point: without an IDT the breakpoint cannot be delivered, nor can the faults
    // that follow.
    unsafe {
        x86_64::instructions::tables::lidt(&empty);
        asm!("int3");
    }
}

fn exits_early() {
    kernel::exit::success()
}

#[expect(unconditional_recursion, reason = "the point of it")]
fn overflows_the_stack() {
    let frame = core::hint::black_box([0u8; 512]);
    overflows_the_stack();
    core::hint::black_box(frame);
}

fn writes_to_a_wild_pointer() {
    let wild = core::hint::black_box(0xffff_d000_0000_1000u64) as *mut u64;
    // SAFETY: none: nothing is mapped there, and the fault ends the run.
    unsafe { wild.write_volatile(1) };
}
