//! Tests that misbehave on purpose: the host's harness is tested with them. They run on no machine by themselves.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use kernel::cpu::call;
use kernel::debug::stacks;
use kernel::memory::{space, vmalloc};
use kernel::{console, ktest, thread};
use mm::arch::Machine;
use mm::page::OwnerFlags;
use mm::page_alloc::PageBlock;
use mm::{CpuId, Gfp, Order, PAGE_SIZE};

use crate::support::memory;

ktest!(passes, on "planted");
ktest!(panics, on "planted");
ktest!(panics_on_another_cpu, on "planted");
ktest!(panics_on_all_cpus, on "planted");
ktest!(fails_an_assertion, on "planted");
ktest!(hangs, on "planted");
ktest!(triple_faults, on "planted");
ktest!(exits_early, on "planted");
ktest!(overflows_the_stack, on "planted");
ktest!(overflows_a_threads_stack, on "planted");
ktest!(overflows_the_stack_of_nmis, on "planted");
ktest!(overflows_the_stack_of_double_faults, on "planted");
ktest!(writes_to_a_wild_pointer, on "planted");
ktest!(reads_through_null_with_the_address_space_locked, on "planted");
ktest!(writes_past_vmalloced_memory, on "planted");
ktest!(writes_to_a_constant, on "planted");
ktest!(calls_data, on "planted");
ktest!(frees_a_page_twice, on "planted");
ktest!(frees_a_page_in_use, on "planted");
ktest!(frees_an_object_twice, on "planted");
ktest!(takes_locks_in_the_wrong_order, on "planted");
ktest!(writes_to_a_page_that_was_freed, on "planted-debug,planted-pagealloc");
ktest!(writes_to_a_freed_page_while_another_cpu_prints, on "planted-pagealloc");

fn passes() {}

fn panics() {
    panic!("a planted panic");
}

fn panics_on_another_cpu() {
    call::on_one(CpuId(1), &|| panic!("a planted panic on CPU {}", mm::arch::cpu_id()));
    unnoticed();
}

fn panics_on_all_cpus() {
    call::on_all(&|| panic!("a planted panic of all CPUs"));
    unnoticed();
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

fn overflows_a_threads_stack() {
    thread::spawn("deep", overflows_the_stack).expect("memory for a thread").join();
}

fn overflows_the_stack_of_nmis() {
    overflows_stack("NMI");
}

fn overflows_the_stack_of_double_faults() {
    overflows_stack("#DF");
}

/// As a handler would that runs on that stack.
fn overflows_stack(name: &str) -> ! {
    let stack = stacks::of_image().find(|stack| stack.name == name).expect("a stack of that name");
    // SAFETY: ends the run, which is the point.
    unsafe { asm!("mov rsp, {}", "call {}", "ud2", in(reg) stack.range.end, sym overflow, options(noreturn)) }
}

extern "C" fn overflow() {
    overflows_the_stack();
}

fn reads_through_null_with_the_address_space_locked() {
    space::enter(memory()).expect("memory for an address space");
    let read = space::with(memory(), |space| {
        let _areas = space.lock();
        let null = core::hint::black_box(core::ptr::null::<u64>());
        // SAFETY: none: nothing is mapped there, and the fault ends the run.
        unsafe { null.read_volatile() }
    });
    core::hint::black_box(read);
}

fn writes_past_vmalloced_memory() {
    let area = vmalloc::vmalloc(memory(), 2 * PAGE_SIZE as u64).expect("plenty is free");
    // There is another one behind the guard page.
    let _next = vmalloc::vmalloc(memory(), PAGE_SIZE as u64).expect("plenty is free");
    let past = core::hint::black_box(area.address().as_ptr().wrapping_add(2 * PAGE_SIZE));
    // SAFETY: none: nothing is mapped there, and the fault ends the run.
    unsafe { past.write_volatile(1) };
    unnoticed();
}

fn writes_to_a_constant() {
    static CONSTANT: u64 = 5;
    let constant = core::hint::black_box(&raw const CONSTANT).cast_mut();
    // SAFETY: none: it is mapped read-only, and the fault ends the run.
    unsafe { constant.write_volatile(6) };
    unnoticed();
}

fn calls_data() {
    static VARIABLE: AtomicU64 = AtomicU64::new(0xc3);
    let data = core::hint::black_box(VARIABLE.as_ptr());
    // SAFETY: none: it is not executable, and the fault ends the run.
    let call = unsafe { core::mem::transmute::<*mut u64, extern "C" fn()>(data) };
    call();
    unnoticed();
}

/// Comes last in what must not get so far; and so, calls before it are no jumps, and the backtrace names the test.
fn unnoticed() -> ! {
    panic!("nobody noticed");
}

fn page() -> PageBlock {
    memory().pages.alloc_pages(Gfp::KERNEL, Order::ZERO).expect("plenty is free")
}

fn frees_a_page_twice() {
    let (page, order) = page().into_raw();
    for _ in 0..2 {
        // SAFETY: the first time; the second ends the run.
        memory().pages.free_pages(unsafe { PageBlock::from_raw(page, order) });
    }
    unnoticed();
}

fn frees_a_page_in_use() {
    let block = page();
    block.page().set_flags(OwnerFlags::LOCKED);
    memory().pages.free_pages(block);
    unnoticed();
}

fn writes_to_a_page_that_was_freed() {
    let block = page();
    let at = core::hint::black_box(block.address(Machine));
    memory().pages.free_pages(block);
    // SAFETY: none: the page is not ours any more, and this, or the next one to get it, ends the run.
    unsafe { at.add(0x100).write_volatile(0) };
    let _never_used = page();
    unnoticed();
}

fn writes_to_a_freed_page_while_another_cpu_prints() {
    static PRINTS: AtomicBool = AtomicBool::new(false);
    let endless = || {
        let _console = console::lock();
        PRINTS.store(true, Relaxed);
        hangs();
    };
    let _never_ends = thread::spawn_on(CpuId(1), "printer", endless).expect("memory for a thread");
    while !PRINTS.load(Relaxed) {
        core::hint::spin_loop();
    }
    writes_to_a_page_that_was_freed();
}

fn frees_an_object_twice() {
    let object = memory().slub.kmalloc(64, Gfp::KERNEL).expect("plenty is free");
    for _ in 0..2 {
        // SAFETY: the first time; the second ends the run.
        unsafe { memory().slub.kfree(object) };
    }
    unnoticed();
}

fn takes_locks_in_the_wrong_order() {
    let zone = memory().pages.nodes().populated_zones().next().expect("a zone");
    {
        let _outer = memory().spaces.lock();
        let _free = zone.free().lock();
    }
    let _free = zone.free().lock();
    let _outer = memory().spaces.lock();
    unnoticed();
}

fn writes_to_a_wild_pointer() {
    let wild = core::hint::black_box(0xffff_d000_0000_1000u64) as *mut u64;
    // SAFETY: none: nothing is mapped there, and the fault ends the run.
    unsafe { wild.write_volatile(1) };
}
