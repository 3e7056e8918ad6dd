//! Per-CPU memory.

use core::hint::black_box;

use mm::Gfp;
use mm::percpu::Allocation;

use super::measure::{Back, Irqs, batch, each};
use super::{Case, Figures, failed, single};
use crate::memory::Memory;

pub(super) const CASES: &[Case] = &[
    Case::batch("percpu64_x64", batches),
    Case::single("percpu64_pair", |memory| {
        let size = black_box(64);
        single(each(200, Irqs::Untouched, || pair(memory, size)))
    }),
];

#[inline(never)]
fn pair(memory: &'static Memory, size: usize) {
    match memory.percpu.alloc(size, 8, Gfp::KERNEL) {
        // SAFETY: just allocated.
        Ok(allocation) => unsafe { memory.percpu.free(allocation) },
        Err(_) => failed(),
    }
}

fn batches(memory: &'static Memory) -> Figures {
    let Some(mut slots) = super::pages::slots::<Allocation>(64) else { return Figures::default() };
    batch(
        &mut slots,
        Irqs::Untouched,
        Back::InTurn,
        |slot| {
            *slot = memory.percpu.alloc(64, 8, Gfp::KERNEL).ok();
            if slot.is_none() {
                failed();
            }
        },
        |slot| {
            if let Some(allocation) = slot.take() {
                // SAFETY: allocated for this slot above.
                unsafe { memory.percpu.free(allocation) };
            }
        },
    )
}
