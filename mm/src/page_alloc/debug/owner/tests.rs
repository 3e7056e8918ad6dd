use core::cell::{Cell, RefCell};
use core::fmt;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, thread_local, vec};

use proptest::prelude::*;

use super::record::State;
use super::record_of;
use crate::arch::run_as_cpu;
use crate::gfp::Gfp;
use crate::id::CpuId;
use crate::init::testing::Spec;
use crate::order::Order;
use crate::page_alloc::{ContigType, DebugOptions, PageBlock};
use crate::pfn::{Pfn, PfnRange};
use crate::smp::OnlyThisCpu;
use crate::stackdepot::{Tracer, set_tracer};
use crate::testing::TestMachine;
use crate::testlog::capture;

thread_local! {
    static CALLERS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// The callers and the time that a test says.
struct Said;

impl Tracer for Said {
    fn save(&self, entries: &mut [u64]) -> usize {
        CALLERS.with_borrow(|callers| {
            entries.iter_mut().zip(callers).for_each(|(entry, caller)| *entry = *caller);
            callers.len()
        })
    }

    fn write_address(&self, address: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "f{address}+0x1/0x2")
    }

    fn now_ns(&self) -> u64 {
        NOW.get()
    }
}

/// From now on the functions that run are these, at that time.
fn say(callers: &[u64], now: u64) {
    CALLERS.set(callers.to_vec());
    NOW.set(now);
}

fn machine(mib: u64) -> TestMachine {
    set_tracer(&Said);
    say(&[1], 0);
    TestMachine::debugged(mib, DebugOptions::OWNER)
}

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

fn file(m: &TestMachine) -> String {
    let mut text = String::new();
    m.pages.write_page_owner(&mut text).unwrap();
    text
}

/// State, order, stack and free stack of a page.
type Seen = Option<(State, Order, Vec<u64>, Vec<u64>)>;

fn seen(m: &TestMachine, pfn: Pfn) -> Seen {
    let page = m.pages.nodes().sparse().page(pfn).unwrap();
    let known = record_of(&page).expect("every page has a record").get()?;
    let entries =
        |stack: Option<crate::stackdepot::Stack>| stack.map_or(Vec::new(), |s| s.entries().to_vec());
    Some((known.state, known.allocation.order, entries(known.allocation.stack), entries(known.free_stack)))
}

#[test]
fn the_file_is_as_linux_has_it() {
    let m = machine(32);
    assert_eq!(file(&m), "", "boot's pages are nobody's");
    say(&[7, 8], 1234);
    let block = m.pages.alloc_pages(Gfp::KERNEL | Gfp::ZERO, order(2)).unwrap();
    let pfn = block.pfn(m.machine());
    let flags = crate::page::FlagNames(&block.page()).to_string();
    let text = file(&m);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "Page allocated via order 2, mask 0xdc0(GFP_KERNEL|__GFP_ZERO), pid 0, tgid 0 (swapper/0), ts 1234 ns, \
             free_ts 0 ns",
            &format!(
                "PFN {} type Unmovable Block {} type {} Flags {flags}",
                pfn.get(),
                pfn.get() / 512,
                m.pages.nodes().sparse().migrate_type(pfn).name()
            ),
            " f7+0x1/0x2",
            " f8+0x1/0x2",
            "",
        ]
    );
    m.pages.free_pages(block);
    assert_eq!(file(&m), "");
}

#[test]
fn a_page_remembers_who_freed_it_and_a_new_owner_takes_over() {
    let m = machine(32);
    say(&[1, 2], 10);
    let block = m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap();
    let pfn = block.pfn(m.machine());
    assert_eq!(seen(&m, pfn), Some((State::Allocated, Order::ZERO, vec![1, 2], vec![])));
    say(&[3], 20);
    m.pages.free_pages(block);
    assert_eq!(seen(&m, pfn), Some((State::Freed, Order::ZERO, vec![1, 2], vec![3])));
    say(&[4], 30);
    let block = m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap();
    assert_eq!(block.pfn(m.machine()), pfn);
    assert_eq!(seen(&m, pfn), Some((State::Allocated, Order::ZERO, vec![4], vec![3])));
    assert!(file(&m).contains("ts 30 ns, free_ts 20 ns"));
    m.pages.free_pages(block);
}

#[test]
fn parts_of_a_block_have_its_owner() {
    let m = machine(32);
    say(&[1, 2], 10);
    let block = m.pages.alloc_pages(Gfp::KERNEL, order(3)).unwrap();
    let first = block.pfn(m.machine());
    let pages = block.split().unwrap();
    for nr in 0..8 {
        assert_eq!(seen(&m, first + nr), Some((State::Allocated, Order::ZERO, vec![1, 2], vec![])));
    }
    assert_eq!(file(&m).matches("Page allocated via order 0,").count(), 8);
    pages.for_each(|page| m.pages.free_pages(page));
    let exact = m.pages.alloc_pages_exact(5 * 4096, Gfp::KERNEL).unwrap();
    assert_eq!(file(&m).matches("Page allocated via order 0,").count(), 5);
    m.pages.free_pages_exact(exact);
    // Some pageblock that the depot has no page in.
    let pages = (1..16).find_map(|nr| {
        let range = PfnRange::new(Pfn::new(nr * 512), Pfn::new(nr * 512 + 30));
        m.pages.alloc_contig_range(range, ContigType::Movable, Gfp::KERNEL, &OnlyThisCpu).ok()
    });
    let pages = pages.expect("most of memory is free");
    assert_eq!(file(&m).matches("Page allocated via order 0,").count(), 30);
    m.pages.free_contig_range(pages);
    assert_eq!(file(&m), "");
}

#[test]
fn a_bad_page_is_reported_with_its_owners() {
    let mut m = machine(32);
    m.allow_leaks();
    say(&[1], 10);
    let block = m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap();
    say(&[2], 20);
    let (page, order) = block.into_raw();
    // SAFETY: the first time; the second is refused.
    let free = || m.pages.free_pages(unsafe { PageBlock::from_raw(page, order) });
    free();
    let (result, lines) = capture(|| catch_unwind(AssertUnwindSafe(free)));
    assert!(result.is_err());
    let at = lines.iter().position(|line| line.starts_with("page dumped because")).unwrap();
    assert_eq!(
        lines[at + 1..at + 6],
        [
            "page_owner tracks the page as freed",
            "page last allocated via order 0, migratetype Unmovable, gfp_mask 0xcc0(GFP_KERNEL), pid 0, tgid 0 \
             (swapper/0), ts 10, free_ts 20",
            " f1+0x1/0x2",
            "page last free stack trace:",
            " f2+0x1/0x2",
        ]
    );
}

#[test]
fn without_room_for_records_it_is_off_and_nothing_is_lost() {
    // Two sections, room for the records of one.
    let spec = || Spec::new().ram(0, 0x1000..3 << 20).ram(0, 128 << 20..129 << 20);
    let plain = spec().boot();
    let (machine, lines) = capture(|| spec().debugging(DebugOptions::OWNER).boot());
    assert!(
        lines.contains(&"page_owner: no memory for the records of section 1: it is off".into()),
        "{lines:?}"
    );
    assert!(!machine.allocator().has_page_owner());
    assert_eq!(machine.given(), plain.given());
    let page = machine.nodes().sparse().page(Pfn::new(0x100)).unwrap();
    assert!(record_of(&page).is_none());
}

#[test]
fn cpus_record_at_the_same_time() {
    set_tracer(&Said);
    let m = TestMachine::boot(64, 1, 3, DebugOptions::OWNER | DebugOptions::POISON);
    std::thread::scope(|scope| {
        for cpu in 0..3u32 {
            let m = &m;
            scope.spawn(move || {
                run_as_cpu(CpuId(cpu), || {
                    for round in 0..600u64 {
                        say(&[round % 97, u64::from(cpu)], round);
                        let n = order((round % 4) as u8);
                        let block = m.pages.alloc_pages(Gfp::KERNEL, n).unwrap();
                        let pfn = block.pfn(m.machine());
                        let wanted = vec![round % 97, u64::from(cpu)];
                        assert!(
                            matches!(seen(m, pfn), Some((State::Allocated, o, s, _)) if o == n && s == wanted)
                        );
                        m.pages.free_pages(block);
                    }
                });
            });
        }
    });
    assert_eq!(m.pages.debugging.owner.as_ref().unwrap().depot.nr_stacks(), 3 * 97);
}

/// What a page's record must say.
#[derive(Clone)]
struct Wanted {
    state: State,
    order: Order,
    stack: Vec<u64>,
    free_stack: Vec<u64>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn records_are_a_map_of_who_has_which_page(operations: Vec<(u8, u8, u8)>) {
        let m = machine(16);
        let mut model: BTreeMap<Pfn, Wanted> = BTreeMap::new();
        let mut held: Vec<PageBlock> = Vec::new();
        for (now, (what, n, caller)) in operations.into_iter().enumerate() {
            let stack = vec![u64::from(caller) + 1, u64::from(what)];
            say(&stack, now as u64);
            match what % 3 {
                0 if !held.is_empty() => {
                    let block = held.swap_remove(usize::from(n) % held.len());
                    let first = block.pfn(m.machine());
                    for nr in 0..block.order().nr_pages() {
                        let page = model.get_mut(&(first + nr)).unwrap();
                        (page.state, page.free_stack) = (State::Freed, stack.clone());
                    }
                    m.pages.free_pages(block);
                }
                1 if !held.is_empty() => {
                    let first = held.swap_remove(usize::from(n) % held.len());
                    match first.split() {
                        Err(block) => held.push(block),
                        Ok(pages) => pages.for_each(|page| {
                            model.get_mut(&page.pfn(m.machine())).unwrap().order = Order::ZERO;
                            held.push(page);
                        }),
                    }
                }
                _ => {
                    let n = order(n % 6);
                    let Ok(block) = m.pages.alloc_pages(Gfp::KERNEL | Gfp::NOWARN, n) else { continue };
                    let first = block.pfn(m.machine());
                    for nr in 0..n.nr_pages() {
                        let free_stack = model.remove(&(first + nr)).map_or(Vec::new(), |page| page.free_stack);
                        let page = Wanted { state: State::Allocated, order: n, stack: stack.clone(), free_stack };
                        model.insert(first + nr, page);
                    }
                    held.push(block);
                }
            }
        }
        for (pfn, Wanted { state, order, stack, free_stack }) in &model {
            let is_depots = seen(&m, *pfn).is_none();
            let wanted = (*state, *order, stack.clone(), free_stack.clone());
            prop_assert!(is_depots && *state == State::Freed || seen(&m, *pfn) == Some(wanted));
        }
        let in_use = model.iter().filter(|(pfn, page)| {
            page.state == State::Allocated && pfn.is_aligned(page.order.nr_pages())
        });
        prop_assert_eq!(file(&m).matches("Page allocated via").count(), in_use.count());
        held.into_iter().for_each(|block| m.pages.free_pages(block));
        m.pages.debugging.owner.as_ref().unwrap().depot.validate();
    }
}
