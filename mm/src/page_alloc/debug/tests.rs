use core::sync::atomic::{AtomicBool, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::DebugOptions;
use crate::arch::run_as_cpu;
use crate::gfp::Gfp;
use crate::id::CpuId;
use crate::order::Order;
use crate::page_alloc::{ContigError, ContigType, FailSpec, GuardMinorder, PageBlock};
use crate::pfn::{Pfn, PfnRange};
use crate::smp::OnlyThisCpu;
use crate::testing::TestMachine;
use crate::testlog::capture;

const TYPES: [Gfp; 3] = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL.union(Gfp::RECLAIMABLE)];

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

/// The memory of a block that is ours, or was.
#[expect(clippy::mut_from_ref, reason = "the memory is the simulated machine's, not the fixture's")]
fn bytes(m: &TestMachine, at: Pfn, order: Order) -> &mut [u8] {
    let start = m.machine().phys_to_virt(at.phys());
    // SAFETY: simulated RAM, which only this test's thread uses.
    unsafe { core::slice::from_raw_parts_mut(start, order.size_bytes()) }
}

fn alloc(m: &TestMachine, gfp: Gfp, order: Order) -> (PageBlock, Pfn) {
    let block = m.pages.alloc_pages(gfp, order).unwrap();
    let pfn = block.pfn(m.machine());
    (block, pfn)
}

/// What is logged when the block at `pfn` is freed, changed by `change`, and allocated again, with the panic's text at the
/// end, if there is one.
fn used_after_free(order: Order, change: impl FnOnce(&mut [u8])) -> (Vec<String>, u64, Option<String>) {
    let mut m = TestMachine::debugged(32, DebugOptions::POISON);
    m.allow_leaks();
    let (block, pfn) = alloc(&m, Gfp::KERNEL, order);
    m.pages.free_pages(block);
    let memory = bytes(&m, pfn, order);
    let at = memory.as_ptr() as u64;
    change(memory);
    let again = AssertUnwindSafe(|| _ = m.pages.alloc_pages(Gfp::KERNEL, order));
    let (result, lines) = capture(|| catch_unwind(again));
    (lines, at, result.err().map(|panic| panic.downcast_ref::<String>().unwrap().clone()))
}

#[test]
fn poison_finds_a_flipped_bit() {
    let (lines, at, panic) = used_after_free(Order::ZERO, |page| page[0x123] ^= 0x10);
    assert_eq!(lines[0], "pagealloc: single bit error");
    assert!(lines[1].starts_with(&std::format!("{:016x}: ba ", at + 0x123)), "{lines:?}");
    assert!(
        lines.contains(&String::from("page dumped because: pagealloc: corrupted page details")),
        "{lines:?}"
    );
    assert!(panic.unwrap().contains("BUG: Bad page state"));
}

#[test]
fn poison_finds_what_was_written_in_any_page_of_a_block() {
    for n in [0, 3, 4, 9, 10] {
        let last = order(n).size_bytes() - 0x20;
        let (lines, at, panic) =
            used_after_free(order(n), |block| block[last..last + 18].copy_from_slice(b"used after it died"));
        assert_eq!(lines[0], "pagealloc: memory corruption");
        assert_eq!(
            lines[1..3],
            [
                std::format!(
                    "{:016x}: 75 73 65 64 20 61 66 74 65 72 20 69 74 20 64 69  used after it di",
                    at + last as u64
                ),
                std::format!("{:016x}: 65 64 {:42} ed", at + last as u64 + 16, ""),
            ]
        );
        assert!(panic.is_some());
    }
}

#[test]
fn what_nobody_has_written_to_is_allocated_again() {
    let (lines, _, panic) = used_after_free(order(3), |_| {});
    assert_eq!((lines.len(), panic), (0, None));
}

#[test]
fn options_are_all_that_the_contents_of_a_block_depend_on() {
    for (options, zeroed_by_itself) in [
        (DebugOptions::INIT_ON_ALLOC, true),
        (DebugOptions::INIT_ON_FREE, true),
        (DebugOptions::INIT_ON_ALLOC | DebugOptions::INIT_ON_FREE, true),
        (DebugOptions::POISON, false),
    ] {
        let m = TestMachine::debugged(32, options);
        for n in Order::all() {
            let (block, first) = alloc(&m, Gfp::KERNEL, n);
            bytes(&m, first, n).fill(0x5a);
            m.pages.free_pages(block);
            let freed = if options.contains(DebugOptions::INIT_ON_FREE) { Some(0) } else { None };
            let freed = if options.contains(DebugOptions::POISON) { Some(0xaa) } else { freed };
            let is_all = |pfn, byte| bytes(&m, pfn, n).iter().all(|&b| b == byte);
            assert!(
                freed.is_none_or(|byte| is_all(first, byte)),
                "{options:?} when freed, order {}",
                n.get()
            );
            let (plain, at) = alloc(&m, Gfp::KERNEL, n);
            assert!(is_all(at, if zeroed_by_itself { 0 } else { 0xaa }), "{options:?}, order {}", n.get());
            let (zeroed, at) = alloc(&m, Gfp::KERNEL | Gfp::ZERO, n);
            assert!(is_all(at, 0), "{options:?} with ZERO, order {}", n.get());
            [plain, zeroed].into_iter().for_each(|block| m.pages.free_pages(block));
        }
    }
}

#[test]
fn memory_of_boot_is_as_if_it_had_been_freed() {
    let m = TestMachine::debugged(16, DebugOptions::POISON);
    let blocks: Vec<_> =
        core::iter::from_fn(|| m.pages.alloc_pages(Gfp::KERNEL | Gfp::NOWARN | Gfp::MEMALLOC, order(0)).ok())
            .collect();
    assert!(blocks.len() as u64 > m.all_pages / 10 * 9);
    blocks.into_iter().for_each(|block| m.pages.free_pages(block));
}

#[test]
fn contiguous_ranges_are_checked_and_poisoned_too() {
    let m = TestMachine::debugged(64, DebugOptions::POISON);
    let range = PfnRange::new(Pfn::new(0x2000), Pfn::new(0x2000 + 600));
    for gfp in [Gfp::KERNEL, Gfp::KERNEL | Gfp::ZERO] {
        let pages = m.pages.alloc_contig_range(range, ContigType::Movable, gfp, &OnlyThisCpu).unwrap();
        let byte = if gfp.contains(Gfp::ZERO) { 0 } else { 0xaa };
        for pfn in range.iter() {
            let page = bytes(&m, pfn, Order::ZERO);
            assert!(page.iter().all(|&b| b == byte));
            page.fill(1);
        }
        m.pages.free_contig_range(pages);
    }
}

#[test]
fn a_page_is_mapped_just_while_it_is_in_use() {
    let m = TestMachine::debugged(32, DebugOptions::PAGEALLOC);
    let map = m.direct_map.unwrap();
    assert!(map.is_mapped(Pfn::new(0)), "boot's");
    assert!(!map.is_mapped(Pfn::new(1)));
    for n in Order::all() {
        let (block, first) = alloc(&m, Gfp::KERNEL, n);
        let pages = PfnRange::new(first, first + n.nr_pages());
        assert!(pages.iter().all(|pfn| map.is_mapped(pfn)), "order {}", n.get());
        bytes(&m, first, n).fill(1);
        m.pages.free_pages(block);
        assert!(!pages.iter().any(|pfn| map.is_mapped(pfn)), "order {}", n.get());
    }
}

#[test]
fn a_page_that_is_kept_back_makes_a_contiguous_range_fail() {
    let guards = GuardMinorder::new(1).unwrap();
    let m = TestMachine::guarded(64, 1, 1, DebugOptions::PAGEALLOC, guards);
    let (block, first) = alloc(&m, Gfp::KERNEL, Order::ZERO);
    m.pages.drain_local();
    let kept = Pfn::new(first.get() ^ 1);
    assert!(m.pages.guard_pages() > 0);
    let range = PfnRange::new(kept, kept + 1);
    let take = || m.pages.alloc_contig_range(range, ContigType::Movable, Gfp::KERNEL, &OnlyThisCpu);
    assert_eq!(take().unwrap_err(), ContigError::InUse(kept));
    m.pages.free_pages(block);
    m.pages.free_contig_range(take().unwrap());
}

#[test]
fn all_options_go_together_on_several_cpus() {
    let all = DebugOptions::all().settle();
    let m = TestMachine::guarded(64, 1, 3, all, GuardMinorder::new(2).unwrap());
    std::thread::scope(|scope| {
        for cpu in 0..3u32 {
            let m = &m;
            scope.spawn(move || {
                run_as_cpu(CpuId(cpu), || {
                    for round in 0..300u32 {
                        let n = order((round % 7) as u8);
                        let blocks: Vec<_> = (0..5).map(|_| alloc(m, TYPES[cpu as usize], n)).collect();
                        blocks.iter().for_each(|(_, at)| bytes(m, *at, n).fill(round as u8));
                        blocks.into_iter().for_each(|(block, _)| m.pages.free_pages(block));
                    }
                });
            });
        }
    });
    assert!(m.pages.has_page_owner());
}

#[test]
fn faults_and_options_go_together() {
    let mut m = TestMachine::debugged(32, DebugOptions::POISON);
    m.pages.inject_faults(FailSpec::parse("2,100,0,-1,min-order=0,ignore-gfp-wait=N").unwrap(), 0);
    let results: Vec<_> = (0..4)
        .map(|_| {
            m.pages.alloc_pages(Gfp::KERNEL | Gfp::NOWARN, Order::ZERO).map(|b| m.pages.free_pages(b)).is_ok()
        })
        .collect();
    assert_eq!(results, [true, false, true, false]);
}

#[test]
fn free_lists_are_in_order_while_other_cpus_allocate() {
    let m = TestMachine::with(64, 1, 3);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for cpu in [1, 2] {
            let (m, stop) = (&m, &stop);
            scope.spawn(move || {
                run_as_cpu(CpuId(cpu), || {
                    for round in 0u32.. {
                        let n = order(
                            round.wrapping_mul(cpu).wrapping_mul(0x9e37_79b1).wrapping_shr(28) as u8 % 11,
                        );
                        let gfp = TYPES[round as usize % 3] | Gfp::NOWARN;
                        let blocks: Vec<_> =
                            (0..9).filter_map(|_| m.pages.alloc_pages(gfp, n).ok()).collect();
                        blocks.into_iter().for_each(|block| m.pages.free_pages(block));
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
            });
        }
        (0..50).for_each(|_| m.pages.validate_running());
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_broken_counter_is_found_while_the_zone_is_in_use() {
    let mut m = TestMachine::new(32);
    m.allow_leaks();
    m.pages.validate_running();
    let zone = m.pages.nodes().populated_zones().next().unwrap();
    let free = zone.free().lock();
    let head = Order::all()
        .rev()
        .find_map(|n| crate::gfp::MigrateType::ALL.into_iter().find_map(|t| free.area(n).list(t).first()));
    head.unwrap().set_page_type(crate::page::PageType::NONE);
    drop(free);
    assert!(catch_unwind(AssertUnwindSafe(|| m.pages.validate_running())).is_err());
}

/// A block that the model knows, and the byte that it was filled with.
struct Held {
    block: PageBlock,
    at: Pfn,
    byte: u8,
}

fn operate(options: DebugOptions, operations: &[(u8, u8, u8)]) {
    let m = TestMachine::debugged(16, options);
    let mut held: Vec<Held> = Vec::new();
    let zeroes = options.intersects(DebugOptions::INIT_ON_ALLOC | DebugOptions::INIT_ON_FREE);
    for &(what, n, byte) in operations {
        if what % 2 == 0 && !held.is_empty() {
            let Held { block, at, byte } = held.swap_remove(usize::from(what / 2) % held.len());
            assert!(bytes(&m, at, block.order()).iter().all(|&b| b == byte), "nobody else writes there");
            m.pages.free_pages(block);
            continue;
        }
        let n = order(n % 11);
        let more = [Gfp::empty(), Gfp::ZERO, Gfp::COMP][usize::from(byte) % 3] | Gfp::NOWARN;
        let Ok(block) = m.pages.alloc_pages(TYPES[usize::from(what / 2) % 3] | more, n) else { continue };
        let at = block.pfn(m.machine());
        let wanted = match zeroes || more.contains(Gfp::ZERO) {
            true => 0,
            false => 0xaa,
        };
        assert!(bytes(&m, at, n).iter().all(|&b| b == wanted));
        bytes(&m, at, n).fill(byte);
        held.push(Held { block, at, byte });
    }
    held.into_iter().for_each(|held| m.pages.free_pages(held.block));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn blocks_have_the_contents_that_options_say(operations: Vec<(u8, u8, u8)>, which in 0usize..4) {
        let options = [
            DebugOptions::POISON,
            DebugOptions::INIT_ON_ALLOC,
            DebugOptions::INIT_ON_FREE,
            DebugOptions::INIT_ON_ALLOC | DebugOptions::INIT_ON_FREE,
        ][which];
        operate(options, &operations);
    }
}
