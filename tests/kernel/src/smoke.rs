//! The machine itself: traps, user access, clock.

use core::arch::asm;

use kernel::{console, ktest, thread, uaccess};
use mm::{CpuId, VirtAddr};

ktest!(an_nmi_is_noted_and_the_interrupted_code_goes_on);
ktest!(the_cpu_number_of_the_boot_cpu_is_0);
ktest!(a_bad_user_pointer_gives_an_error);
ktest!(a_kernel_address_is_no_user_address);
ktest!(the_clock_goes_forward);
ktest!(a_code_address_has_its_functions_name);

fn an_nmi_is_noted_and_the_interrupted_code_goes_on() {
    let mut kept = core::hint::black_box(0x1234_5678_9abc_def0u64);
    // SAFETY: the handler of vector 2 returns with all registers as they were.
    unsafe { asm!("int 2", inout("r12") kept) };
    assert_eq!(kept, 0x1234_5678_9abc_def0);
}

fn the_cpu_number_of_the_boot_cpu_is_0() {
    let on_boot_cpu = thread::spawn_on(CpuId::BOOT, "ktest", mm::arch::cpu_id);
    assert_eq!(on_boot_cpu.expect("memory for a thread").join().0, 0);
}

fn a_bad_user_pointer_gives_an_error() {
    let hole = VirtAddr::new(0x5555_0000_0ff8);
    let mut bytes = [0; 27];
    assert_eq!(uaccess::copy_from_user(&mut bytes, hole), Err(uaccess::Fault { left: 27 }));
    assert_eq!(uaccess::copy_to_user(hole, &bytes), Err(uaccess::Fault { left: 27 }));
    assert_eq!(uaccess::clear_user(hole, 100), Err(uaccess::Fault { left: 100 }));
    assert_eq!(uaccess::get_user::<u64>(hole), Err(uaccess::Fault { left: 8 }));
    assert_eq!(uaccess::put_user(hole, 1u8), Err(uaccess::Fault { left: 1 }));
    assert_eq!(uaccess::copy_to_user(hole, &[]), Ok(()));
}

fn a_kernel_address_is_no_user_address() {
    let own = 7u64;
    let address = VirtAddr::from_ptr(&raw const own);
    assert!(uaccess::get_user::<u64>(address).is_err());
    assert!(uaccess::clear_user(VirtAddr::new(0x7fff_ffff_e000), 0x2000).is_err());
    assert_eq!(own, 7);
}

fn the_clock_goes_forward() {
    assert!(console::clock::tsc_khz() > 0);
    let begin = console::clock::uptime_us();
    while console::clock::uptime_us() < begin + 100 {
        core::hint::spin_loop();
    }
}

fn a_code_address_has_its_functions_name() {
    let here = a_code_address_has_its_functions_name as *const () as u64;
    let symbol = kernel::debug::symbols::lookup(here).expect("the boot loader brought the symbols");
    assert!(symbol.name.contains("a_code_address_has_its_functions_name"), "{}", symbol.name);
    assert_eq!(symbol.offset, 0);
}
