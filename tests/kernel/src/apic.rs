//! The local APIC of the boot CPU, and its timer.

use kernel::cpu::apic::timer::{self, When};
use kernel::cpu::apic::{self, Interrupt, LocalApic, Register, ipi};
use kernel::cpu::percpu::{Kind, this_cpu};
use kernel::trap::vector;
use kernel::{console, ktest};

ktest!(the_apic_of_the_boot_cpu_is_on_and_has_its_id);
ktest!(the_timer_ticks_until_it_is_stopped);
ktest!(a_timer_set_once_ticks_once);
ktest!(ticks_wait_while_interrupts_are_off);
ktest!(a_cpu_interrupts_itself);
ktest!(an_interrupt_that_no_apic_sent_ends_none);

fn apic() -> LocalApic {
    LocalApic::get().expect("the machine has one")
}

fn ticks() -> u32 {
    this_cpu().interrupts.get(Kind::Timer)
}

/// With interrupts on; where they were off before, they are off afterwards.
fn wait_us(us: u64) {
    let end = console::clock::uptime_us() + us;
    let were_on = mm::arch::irqs_enabled();
    x86_64::instructions::interrupts::enable();
    while console::clock::uptime_us() < end {
        core::hint::spin_loop();
    }
    if !were_on {
        x86_64::instructions::interrupts::disable();
    }
}

/// Waits for `done` with interrupts on, long enough for a busy host.
fn wait_for(done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        wait_us(1000);
    }
    panic!("it does not happen");
}

fn the_apic_of_the_boot_cpu_is_on_and_has_its_id() {
    assert_eq!(apic().id(), apic::apic_id());
    assert_eq!(apic().read(Register::Spurious) & 0x1ff, 0x100 | u32::from(vector::SPURIOUS));
    assert!((0..8).all(|word| apic().read(Register::InService(word)) == 0));
    assert_eq!(apic().take_errors(), 0);
}

fn the_timer_ticks_until_it_is_stopped() {
    let (begin, before) = (console::clock::uptime_us(), ticks());
    timer::start(When::EachTick);
    wait_for(|| ticks().wrapping_sub(before) >= 5);
    timer::stop();
    // One may be on its way.
    wait_us(100);
    let (took, seen) = (console::clock::uptime_us() - begin, ticks().wrapping_sub(before));
    // A busy host loses ticks; there are never more than there was time for, but for what the rate was measured wrong by.
    let most = took * timer::HZ / 1_000_000;
    assert!(u64::from(seen) <= most + most / 10 + 1, "{seen} ticks in {took} us");
    wait_us(20_000);
    let after = ticks();
    timer::start(When::EachTick);
    assert_eq!(after.wrapping_sub(before), seen, "it is stopped");
}

fn a_timer_set_once_ticks_once() {
    timer::stop();
    wait_us(100);
    let before = ticks();
    timer::start(When::OnceAfterUs(500));
    wait_for(|| ticks() != before);
    wait_us(5_000);
    let after = ticks();
    timer::start(When::EachTick);
    assert_eq!(after.wrapping_sub(before), 1);
}

fn ticks_wait_while_interrupts_are_off() {
    let before = {
        let _irq = mm::arch::IrqGuard::new();
        let before = ticks();
        timer::start(When::OnceAfterUs(1));
        let end = console::clock::uptime_us() + 2000;
        while console::clock::uptime_us() < end {}
        assert_eq!(ticks(), before);
        before
    };
    wait_for(|| ticks() != before);
    timer::start(When::EachTick);
}

fn a_cpu_interrupts_itself() {
    let before = this_cpu().interrupts.get(Kind::Spurious);
    ipi::send(apic().id(), Interrupt::fixed(vector::SPURIOUS)).expect("it can be sent to");
    wait_for(|| this_cpu().interrupts.get(Kind::Spurious) != before);
    assert!(!apic().in_service(vector::SPURIOUS), "it was ended");
}

fn an_interrupt_that_no_apic_sent_ends_none() {
    // SAFETY: its handler only logs.
    unsafe { core::arch::asm!("int 0x50") };
    assert!(!apic().in_service(0x50));
}
