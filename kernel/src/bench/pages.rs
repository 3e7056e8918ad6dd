//! The page allocator: pairs of an allocation and its free, and batches of both.

use alloc::vec::Vec;
use core::hint::black_box;

use mm::arch::Machine;
use mm::page_alloc::{PageAllocator, PageBlock};
use mm::pfn::Pfn;
use mm::{Gfp, Order, PagePtr};

use super::measure::{Back, Irqs, batch, each, halves, time};
use super::{Case, Figures, failed, single};
use crate::memory::Memory;

/// For a transparent huge page, which need not be had (Linux: `GFP_TRANSHUGE`).
const TRANSHUGE: Gfp = Gfp::HIGHUSER_MOVABLE
    .difference(Gfp::KSWAPD_RECLAIM)
    .union(Gfp::COMP)
    .union(Gfp::NOMEMALLOC)
    .union(Gfp::NOWARN);

/// More pages than a CPU's lists hold by default, so that they are refilled and drained.
const MANY: usize = 32768;

pub(super) const CASES: &[Case] = &[
    Case::single("page_o0_pair", |m| pairs(m, Gfp::KERNEL, 0, 1000)),
    Case::single("page_o0_zero_pair", |m| pairs(m, Gfp::KERNEL.union(Gfp::ZERO), 0, 1000)),
    Case::single("page_o0_atomic_pair", |m| pairs(m, Gfp::ATOMIC_CONTEXT, 0, 1000)),
    Case::single("page_o0_movable_pair", |m| pairs(m, Gfp::HIGHUSER_MOVABLE, 0, 1000)),
    Case::single("page_o0_dma_pair", |m| pairs(m, Gfp::DMA, 0, 1000)),
    Case::single("get_zeroed_page_pair", zeroed_pairs),
    Case::single("page_o1_pair", |m| pairs(m, Gfp::KERNEL, 1, 500)),
    Case::single("page_o2_pair", |m| pairs(m, Gfp::KERNEL, 2, 500)),
    Case::single("page_o3_pair", |m| pairs(m, Gfp::KERNEL, 3, 500)),
    Case::single("page_o4_pair", |m| pairs(m, Gfp::KERNEL, 4, 500)),
    Case::single("page_o5_pair", |m| pairs(m, Gfp::KERNEL, 5, 20)),
    Case::single("page_o9_pair", |m| pairs(m, Gfp::KERNEL, 9, 20)),
    Case::single("page_o10_pair", |m| pairs(m, Gfp::KERNEL, 10, 20)),
    Case::single("page_o9_thp_pair", |m| pairs(m, TRANSHUGE, 9, 20)),
    Case::batch("page_o0_x512", |m| batches::<0>(m, 512, Irqs::Off, Back::InTurn)),
    Case::batch("page_o0_x512_lifo", |m| batches::<0>(m, 512, Irqs::Off, Back::Reversed)),
    Case::batch("page_o3_x64", |m| batches::<3>(m, 64, Irqs::Off, Back::InTurn)),
    Case::batch("page_o4_x64", |m| batches::<4>(m, 64, Irqs::Off, Back::InTurn)),
    Case::halves("bulk64", bulk),
    Case::batch("page_o0_x32768", |m| batches::<0>(m, MANY, Irqs::Untouched, Back::InTurn)),
];

fn pairs(memory: &'static Memory, gfp: Gfp, order: u8, ops: usize) -> Figures {
    let order = Order::new(order).unwrap_or(Order::ZERO);
    // Not to be folded into the operation.
    let (gfp, order) = black_box((gfp, order));
    single(each(ops, Irqs::Off, || pair(memory.pages, gfp, order)))
}

#[inline(never)]
fn pair(pages: &PageAllocator, gfp: Gfp, order: Order) {
    match pages.alloc_pages(gfp, order) {
        Ok(block) => pages.free_pages(block),
        Err(_) => failed(),
    }
}

fn zeroed_pairs(memory: &'static Memory) -> Figures {
    let pages = memory.pages;
    single(each(1000, Irqs::Off, || match pages.alloc_zeroed(Gfp::KERNEL, Order::ZERO) {
        Ok(block) => {
            // Known by its address only, as Linux's callers do.
            let at = block.address(Machine);
            let _ = block.into_raw();
            let pfn = Pfn::containing(Machine.virt_to_phys(black_box(at).as_ptr()));
            // SAFETY: the block just taken, found again.
            pages.free_pages(unsafe { PageBlock::from_raw(PagePtr::new(Machine, pfn), Order::ZERO) });
        }
        Err(_) => failed(),
    }))
}

/// Blocks of one order that are kept as their first pages, as Linux's callers do.
fn batches<const ORDER: u8>(memory: &'static Memory, nr: usize, irqs: Irqs, back: Back) -> Figures {
    let order = const { Order::new(ORDER).unwrap() };
    let Some(mut blocks) = slots::<PagePtr>(nr) else { return Figures::default() };
    batch(
        &mut blocks,
        irqs,
        back,
        |slot| {
            *slot = memory.pages.alloc_pages(Gfp::KERNEL, order).map(|block| block.into_raw().0).ok();
            if slot.is_none() {
                failed();
            }
        },
        |slot| {
            if let Some(page) = *slot {
                // SAFETY: the block of that order taken for this slot above.
                memory.pages.free_pages(unsafe { PageBlock::from_raw(page, order) });
            }
        },
    )
}

/// One call that takes 64 pages, and 64 that give one back each, as Linux was measured.
fn bulk(memory: &'static Memory) -> Figures {
    const NR: usize = 64;
    let mut slots = [const { None }; NR];
    halves(NR, NR, || {
        let taken = time(0..1, |_| {
            if memory.pages.alloc_pages_bulk(Gfp::KERNEL, &mut slots) != NR {
                failed();
            }
        });
        let given = time(slots.iter_mut(), |slot| {
            if let Some(block) = slot.take() {
                memory.pages.free_pages(block);
            }
        });
        [taken, given]
    })
}

/// That many empty slots.
pub(super) fn slots<T>(nr: usize) -> Option<Vec<Option<T>>> {
    let mut slots = Vec::new();
    if slots.try_reserve_exact(nr).is_err() {
        failed();
        return None;
    }
    slots.resize_with(nr, || None);
    Some(slots)
}
