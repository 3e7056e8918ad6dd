use super::*;
use crate::arch::SimMachine;
use crate::buddy::note_migrate_type;
use crate::id::{NodeId, ZoneIdx};
use crate::page::{Page, PagePtr};
use crate::pfn::Pfn;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec::Vec;

const BLOCKS: u64 = 64;
const LISTED_ORDERS: [u8; 5] = [0, 1, 2, 3, 9];

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

/// The free block of a list's order at a place that only this list uses.
fn block(sim: &SimMachine, n: u8, nr: u64) -> FreeBlock {
    let pfn = Pfn::new(u64::from(n) * BLOCKS * 8 + (nr << n.min(3)));
    // SAFETY: inside the machine's vmemmap; the test uses each block on one list at a time, and looks at its first page.
    unsafe {
        sim.machine().page(pfn).write(Page::free(NodeId(0), ZoneIdx::Normal));
        FreeBlock::from_raw(PagePtr::new(sim.machine(), pfn), order(n))
    }
}

fn list_of(n: u8, t: usize) -> ListIdx {
    ListIdx::new(order(n), MigrateType::ALL[t]).unwrap()
}

#[test]
fn only_small_orders_and_pageblocks_have_lists() {
    for n in 0..=10 {
        for t in MigrateType::ALL {
            let list = ListIdx::new(order(n), t);
            assert_eq!(list.is_some(), LISTED_ORDERS.contains(&n) && t.index() < 3, "order {n} {t:?}");
            assert!(list.is_none_or(|l| l.order() == order(n)));
        }
    }
}

#[track_caller]
fn gives_back(count: u64, high: u32, frees_before: u32, order_of_last: u8, expected: u32) {
    let limits = Limits { high, batch: 8 };
    let sim = SimMachine::new(32 << 20);
    let pcp = Pcp::new();
    for nr in 0..count {
        let _ = pcp.push(list_of(0, 0), block(&sim, 0, nr));
    }
    for _ in 0..frees_before {
        pcp.surplus(Order::ZERO, Limits { high: count as u32, batch: 1 });
    }
    assert_eq!(pcp.surplus(order(order_of_last), limits), expected);
}

#[test]
fn as_much_goes_back_as_in_linux() {
    gives_back(31, 32, 0, 0, 0); // below high
    gives_back(32, 32, 0, 0, 8); // a batch
    gives_back(32, 32, 1, 0, 16); // twice as much after one such free
    gives_back(32, 32, 5, 0, 24); // at most all but a batch
    gives_back(32, 4, 0, 0, 1); // high below batch
    gives_back(20, 32, 1, 2, 20); // a larger block among many frees: everything
    gives_back(20, 32, 0, 2, 0); // a larger block alone: nothing
    gives_back(20, 32, 1, 9, 0); // a pageblock: nothing
}

proptest! {
    #[test]
    fn lists_behave_like_deques(ops in prop::collection::vec((0u8..4, 0usize..5, 0usize..3), 0..300)) {
        let sim = SimMachine::new(32 << 20);
        let pcp = Pcp::new();
        let mut model: Vec<VecDeque<PagePtr>> = (0..ListIdx::COUNT).map(|_| VecDeque::new()).collect();
        let mut free: Vec<Vec<FreeBlock>> =
            LISTED_ORDERS.iter().map(|&n| (0..BLOCKS).map(|nr| block(&sim, n, nr)).collect()).collect();
        for (op, row, t) in ops {
            let (n, list) = (LISTED_ORDERS[row], list_of(LISTED_ORDERS[row], t));
            match op {
                0 | 1 => {
                    let Some(block) = free[row].pop() else { continue };
                    note_migrate_type(&block, MigrateType::ALL[t]);
                    if op == 0 {
                        model[list.index()].push_front(block.page());
                        let _ = pcp.push(list, block);
                    } else {
                        model[list.index()].push_back(block.page());
                        pcp.refill(list, block);
                    }
                }
                2 => {
                    let got = pcp.pop(list, order(n));
                    prop_assert_eq!(got.as_ref().map(FreeBlock::page), model[list.index()].pop_front());
                    free[row].extend(got);
                }
                _ => {
                    let mut at = list;
                    let Some((got, migrate_type)) = pcp.pop_oldest(&mut at) else {
                        prop_assert!(model.iter().all(VecDeque::is_empty));
                        continue;
                    };
                    prop_assert_eq!(Some(got.page()), model[at.index()].pop_back());
                    prop_assert_eq!(ListIdx::new(got.order(), migrate_type), Some(at));
                    let row = LISTED_ORDERS.iter().position(|&n| order(n) == got.order()).unwrap();
                    free[row].push(got);
                }
            }
            pcp.validate();
        }
    }
}

#[test]
fn the_spare_block_is_for_the_next_of_its_order_and_type() {
    let sim = SimMachine::new(32 << 20);
    let (pcp, [block, other]) = (with_high(64), [0, 1].map(|nr| block(&sim, 4, nr)));
    let page = block.page();
    note_migrate_type(&block, MigrateType::Movable);
    assert!(pcp.keep_spare(block).is_none());
    pcp.validate();
    assert_eq!(pcp.count(), 16);
    assert!(pcp.pop_spare(order(4), MigrateType::Unmovable).is_none());
    assert!(pcp.pop_spare(order(5), MigrateType::Movable).is_none());
    note_migrate_type(&other, MigrateType::Movable);
    let newer = other.page();
    assert_eq!(pcp.keep_spare(other).expect("the one before goes").page(), page);
    let got = pcp.pop_spare(order(4), MigrateType::Movable).expect("the block kept");
    assert_eq!((got.page(), got.order(), pcp.count()), (newer, order(4), 0));
    pcp.validate();
}

#[test]
fn a_block_that_would_make_a_cpu_hold_too_much_is_not_kept() {
    let sim = SimMachine::new(32 << 20);
    for (high, kept) in [(0, false), (16, false), (17, true)] {
        assert_eq!(with_high(high).keep_spare(block(&sim, 4, 0)).is_none(), kept, "high {high}");
    }
    let orders = Order::all().filter(|&order| Pcp::may_keep(order)).map(Order::get);
    assert!(orders.eq(4..=8));
}

fn with_high(high: u32) -> Pcp {
    let pcp = Pcp::new();
    pcp.high.store(high, Ordering::Relaxed);
    pcp
}
