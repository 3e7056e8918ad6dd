//! The log and the console from contexts that hold locks.

use core::fmt::{self, Write};

use kernel::{console, ktest, println};
use mm::arch;
use mm::page_alloc::AllocError;
use mm::{Gfp, Order};

use crate::support::{Hoard, leaks_nothing, memory};

ktest!(the_log_works_while_a_zone_is_locked);
ktest!(the_log_works_while_the_console_is_locked);
ktest!(a_display_may_log_itself);
ktest!(the_state_of_memory_is_printed_with_a_zone_locked);
ktest!(a_failed_allocation_is_reported_with_locks_held);

fn the_log_works_while_a_zone_is_locked() {
    for zone in memory().pages.nodes().populated_zones() {
        let free = zone.free().lock();
        log::info!("{} pages of {} are free", free.free_pages(), zone.idx().name());
        println!("raw text too");
    }
    mm::sync::assert_none_held("when all were given back");
}

fn the_log_works_while_the_console_is_locked() {
    let irqs = arch::irqs_enabled();
    let mut console = console::lock();
    log::info!("a line inside");
    writeln!(console, "the console goes on").expect("the console takes all");
    drop(console);
    assert_eq!(arch::irqs_enabled(), irqs);
}

fn a_display_may_log_itself() {
    struct Chatty;
    impl fmt::Display for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            log::info!("while a line is being written");
            f.write_str("done")
        }
    }
    log::info!("{Chatty}");
    println!("{Chatty}");
}

fn the_state_of_memory_is_printed_with_a_zone_locked() {
    for zone in memory().pages.nodes().populated_zones() {
        let free = zone.free().lock();
        memory().pages.show_mem();
        drop(free);
    }
}

fn a_failed_allocation_is_reported_with_locks_held() {
    leaks_nothing(|memory| {
        let mut hoard = Hoard::new();
        hoard.exhaust(Gfp::KERNEL);
        let spaces = memory.spaces.lock();
        assert_eq!(memory.pages.alloc_pages(Gfp::NOWAIT, Order::MAX).err(), Some(AllocError));
        drop(spaces);
        hoard.free();
    });
}
