//! What a tick is worth: plain operations that other figures contain.

use mm::arch::{IrqGuard, Machine, clear_page, copy_page, ticks};
use mm::page_alloc::PageBlock;
use mm::{Gfp, Order};

use super::measure::{Irqs, Tenths, each};
use super::{Case, Figures, failed, single};
use crate::memory::Memory;

pub(super) const CASES: &[Case] = &[
    Case::single("rdtsc", |_| {
        single(each(1000, Irqs::Off, || {
            ticks();
        }))
    }),
    Case::single("irq_save_restore", |_| single(each(1000, Irqs::Untouched, || drop(IrqGuard::new())))),
    Case::single("clear_page", |memory| {
        with_page(memory, |page| {
            let at = page.address(Machine).as_ptr();
            // SAFETY: our own page.
            each(200, Irqs::Off, || unsafe { clear_page(at) })
        })
    }),
    Case::single("copy_page", |memory| {
        with_page(memory, |from| {
            let Ok(to) = memory.pages.alloc_pages(Gfp::KERNEL, Order::ZERO) else {
                failed();
                return Tenths::default();
            };
            let (source, target) = (from.address(Machine).as_ptr(), to.address(Machine).as_ptr());
            // SAFETY: two pages of our own.
            let figure = each(200, Irqs::Off, || unsafe { copy_page(target, source) });
            memory.pages.free_pages(to);
            figure
        })
    }),
    Case::single("clear_highpage", |memory| {
        with_page(memory, |page| {
            each(200, Irqs::Off, || {
                let at = core::hint::black_box(page).address(Machine).as_ptr();
                // SAFETY: our own page.
                unsafe { clear_page(at) };
            })
        })
    }),
];

fn with_page(memory: &'static Memory, measure: impl FnOnce(&PageBlock) -> Tenths) -> Figures {
    let Ok(page) = memory.pages.alloc_pages(Gfp::KERNEL, Order::ZERO) else {
        failed();
        return Figures::default();
    };
    let figure = measure(&page);
    memory.pages.free_pages(page);
    single(figure)
}
