//! What the hot paths cost, in instructions: loops for `valgrind --tool=callgrind --toggle-collect='*::measured_NAME'` on
//! an optimised test binary (`cargo test --release -p strata-mm -- --ignored cost`). Each runs its case 1000 times.

use super::*;
use crate::testing::TestMachine;
use std::hint::black_box;
use std::vec::Vec;

const TIMES: usize = 1000;

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

#[inline(never)]
fn pairs(pages: &PageAllocator, gfp: Gfp, order: Order) {
    for _ in 0..TIMES {
        pages.free_pages(black_box(pages.alloc_pages(gfp, order).unwrap()));
    }
}

macro_rules! pair {
    ($($name:ident $measured:ident $gfp:expr, $order:expr;)*) => { $(
        #[test]
        #[ignore = "for callgrind"]
        fn $name() {
            let m = TestMachine::new(256);
            pairs(&m.pages, $gfp, order($order));
            $measured(&m.pages);
        }

        #[inline(never)]
        fn $measured(pages: &PageAllocator) {
            for _ in 0..TIMES {
                pages.free_pages(black_box(pages.alloc_pages(black_box($gfp), order($order)).unwrap()));
            }
        }
    )* };
}

pair! {
    cost_order0 measured_order0 Gfp::KERNEL, 0;
    cost_order0_movable measured_order0_movable Gfp::HIGHUSER_MOVABLE, 0;
    cost_order1 measured_order1 Gfp::KERNEL, 1;
    cost_order3 measured_order3 Gfp::KERNEL, 3;
    cost_order4 measured_order4 Gfp::KERNEL, 4;
    cost_order9 measured_order9 Gfp::KERNEL, 9;
    cost_order10 measured_order10 Gfp::KERNEL, 10;
}

#[test]
#[ignore = "for callgrind"]
fn cost_512_pages() {
    let m = TestMachine::new(256);
    measured_512(&m.pages);
    measured_512(&m.pages);
}

/// 512 allocations, then 512 frees.
#[inline(never)]
fn measured_512(pages: &PageAllocator) {
    let blocks: Vec<_> = (0..512).map(|_| pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap()).collect();
    blocks.into_iter().for_each(|b| pages.free_pages(b));
}
