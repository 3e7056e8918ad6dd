//! Tests of who owns pages: compound pages and their users, split blocks, exact sizes, memory, wrong frees.

use super::*;
use crate::arch::run_as_cpu;
use crate::buddy::BadReason;
use crate::page::{Destructor, Folio, Frozen, PageFlags, PagePtr, PageRef};
use crate::testing::TestMachine;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::string::String;
use std::sync::Mutex;
use std::vec::Vec;

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

fn compound(m: &TestMachine, n: u8) -> PageRef {
    m.pages.alloc_pages(Gfp::KERNEL | Gfp::COMP, order(n)).unwrap().share().unwrap()
}

#[test]
fn every_page_of_a_compound_page_leads_to_its_head_and_counts_there() {
    let m = TestMachine::new(32);
    for n in Order::all() {
        let page = compound(&m, n.get());
        let folio = page.folio();
        assert_eq!((folio.order(), folio.nr_pages()), (n, n.nr_pages()));
        let destructor = if n == Order::ZERO { Destructor::Null } else { Destructor::Compound };
        assert_eq!(folio.destructor(), destructor);
        for (nr, of_it) in folio.pages().enumerate() {
            // SAFETY: `page` is a reference.
            let other = unsafe { PageRef::get(of_it) };
            assert_eq!(other.folio().head(), folio.head());
            assert_eq!((folio.refcount(), of_it.refcount()), (2, if nr == 0 { 2 } else { 0 }));
            m.pages.put_page(other);
        }
        let before = m.free_pages();
        m.pages.put_page(page);
        assert_eq!(m.free_pages() - before, n.nr_pages(), "the last put frees all of it");
    }
}

#[test]
fn a_tail_is_not_gotten_without_its_head() {
    let m = TestMachine::new(32);
    let page = compound(&m, 2);
    // SAFETY: nobody else frees pages.
    let (head, tail) =
        unsafe { (PageRef::try_get(page.folio().head()), PageRef::try_get(page.folio().page(1).unwrap())) };
    assert!(tail.is_none());
    m.pages.put_page(head.unwrap());
    m.pages.put_page(page);
}

#[test]
fn mappings_of_a_compound_page_are_counted_by_page_and_as_a_whole() {
    let m = TestMachine::new(32);
    let page = compound(&m, 3);
    let folio = page.folio();
    assert!(!folio.is_mapped());
    folio.entire_maps().unwrap().add();
    folio.page(2).unwrap().add_mapping();
    folio.page(2).unwrap().add_mapping();
    assert_eq!((folio.mapcount_of(0), folio.mapcount_of(2), folio.entire_mapcount()), (1, 3, 1));
    assert_eq!((folio.total_mapcount(), folio.mapcount_of(8), folio.is_mapped()), (3, 1, true));
    assert!(folio.entire_maps().unwrap().remove());
    assert!(!folio.page(2).unwrap().remove_mapping() && folio.page(2).unwrap().remove_mapping());
    m.pages.put_page(page);
}

#[test]
fn a_block_is_shared_only_when_its_pages_are_freed_together() {
    let m = TestMachine::new(32);
    let block = m.pages.alloc_pages(Gfp::KERNEL, order(2)).unwrap();
    m.pages.free_pages(block.share().unwrap_err());
    let page = m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap().share().unwrap();
    let other = page.clone();
    let page = PageBlock::try_from_ref(page).expect_err("there is another");
    m.pages.put_page(other);
    let block = PageBlock::try_from_ref(page).unwrap();
    assert_eq!((block.order(), block.page().refcount()), (Order::ZERO, 1));
    m.pages.free_pages(block);
}

#[test]
fn nobody_gets_a_frozen_page() {
    let m = TestMachine::new(32);
    let page = compound(&m, 1);
    let other = page.clone();
    let page = page.freeze().expect_err("two users");
    m.pages.put_page(other);
    let frozen = page.freeze().unwrap();
    // SAFETY: nobody else frees pages.
    assert!(unsafe { PageRef::try_get(frozen.folio().head()) }.is_none());
    m.pages.put_page(frozen.unfreeze());
    m.pages.free_frozen(compound(&m, 4).freeze().unwrap());
}

/// Keeps the first page that it gets, and lets the others go.
#[derive(Default)]
struct Pool(Mutex<Vec<Frozen>>);

impl Retire for Pool {
    fn retire(&self, page: Frozen) -> Option<Frozen> {
        let mut kept = self.0.lock().unwrap();
        if !kept.is_empty() {
            return Some(page);
        }
        kept.push(page);
        None
    }
}

#[test]
fn the_last_put_asks_the_destructor() {
    for kind in [Destructor::HugeTlb, Destructor::TransHuge] {
        let m = TestMachine::new(32);
        let pool: &'static Pool = Box::leak(Box::default());
        assert!(m.pages.set_destructor(kind, pool) && !m.pages.set_destructor(kind, pool));
        let before = m.free_pages();
        let huge = |m: &TestMachine| {
            let page = compound(m, 9);
            // SAFETY: its only user; the pool takes whatever it gets.
            unsafe { page.folio().set_destructor(kind) };
            page
        };
        let (first, second) = (huge(&m), huge(&m));
        m.pages.put_page(first.clone());
        m.pages.put_page(first);
        assert_eq!(m.free_pages(), before - 1024, "the pool has it");
        m.pages.put_page(second);
        assert_eq!(m.free_pages(), before - 512, "the pool has let it go");
        let kept = pool.0.lock().unwrap().pop().unwrap();
        assert_eq!((kept.folio().order(), kept.folio().refcount()), (order(9), 0));
        m.pages.free_frozen(kept);
    }
    let m = TestMachine::new(32);
    assert!(!m.pages.set_destructor(Destructor::Compound, Box::leak(Box::<Pool>::default())));
}

#[test]
fn a_split_block_is_freed_page_by_page() {
    let m = TestMachine::new(32);
    for n in Order::all() {
        let before = m.free_pages();
        let pages = m.pages.alloc_pages(Gfp::KERNEL, n).unwrap().split().unwrap();
        assert_eq!(pages.len() as u64, n.nr_pages());
        for (freed, page) in pages.enumerate() {
            assert_eq!((page.order(), page.page().refcount()), (Order::ZERO, 1));
            assert_eq!(m.free_pages(), before - n.nr_pages() + freed as u64);
            m.pages.free_pages(page);
        }
    }
    let whole = m.pages.alloc_pages(Gfp::KERNEL | Gfp::COMP, order(1)).unwrap();
    m.pages.free_pages(whole.split().expect_err("compound"));
}

#[test]
fn who_uses_the_first_page_of_a_block_keeps_it_when_it_is_split() {
    let m = TestMachine::new(32);
    let block = m.pages.alloc_pages(Gfp::KERNEL, order(2)).unwrap();
    // SAFETY: the block's first page.
    let other = unsafe { PageRef::get(block.page()) };
    let before = m.free_pages();
    block.split().unwrap().for_each(|page| m.pages.free_pages(page));
    assert_eq!(m.free_pages() - before, 3);
    m.pages.put_page(other);
}

#[test]
fn exact_sizes_take_no_page_too_many() {
    let m = TestMachine::new(32);
    for nr_pages in [1, 2, 3, 4, 5, 7, 8, 9, 100, 513, 1023, 1024] {
        let before = m.free_pages();
        let mut pages =
            m.pages.alloc_pages_exact(nr_pages * crate::PAGE_SIZE - 1, Gfp::KERNEL | Gfp::COMP).unwrap();
        assert_eq!((pages.nr_pages(), before - m.free_pages()), (nr_pages as u64, nr_pages as u64));
        pages.as_uninit().fill(core::mem::MaybeUninit::new(0xa5));
        assert_eq!(pages.as_uninit().len(), nr_pages * crate::PAGE_SIZE);
        m.pages.free_pages_exact(pages);
        assert_eq!(m.free_pages(), before);
    }
    for size in [0, (4 << 20) + 1, usize::MAX] {
        assert!(m.pages.alloc_pages_exact(size, Gfp::KERNEL).is_err(), "{size}");
    }
}

#[test]
fn memory_comes_and_goes_by_its_address() {
    let m = TestMachine::new(32);
    let mut memory = m.pages.get_free_pages(Gfp::KERNEL, order(3)).unwrap();
    assert_eq!((memory.as_uninit().len(), memory.address().as_ptr() as usize % (8 << 12)), (8 << 12, 0));
    memory.as_uninit().fill(core::mem::MaybeUninit::new(0x77));
    m.pages.free_memory(memory);
    let mut page = m.pages.get_zeroed_page(Gfp::KERNEL).unwrap();
    // SAFETY: zeroed, so all of it is initialised.
    assert!(page.as_uninit().iter().all(|byte| unsafe { byte.assume_init() } == 0));
    let (at, n) = page.into_raw();
    // SAFETY: taken apart just now.
    m.pages.free_memory(unsafe { PageMemory::from_raw(at, n) });
}

#[test]
fn a_page_is_found_with_its_folio_from_any_of_its_pages() {
    let m = TestMachine::new(32);
    let page = compound(&m, 4);
    for nr in 0..16 {
        // SAFETY: `page` is a reference.
        assert_eq!(unsafe { Folio::of(page.folio().page(nr).unwrap()) }.head(), page.folio().head());
    }
    assert_eq!(page.folio().page(16), None);
    m.pages.put_page(page);
}

/// What freeing says is wrong.
#[track_caller]
fn is_a_bug(reason: BadReason, act: impl FnOnce(&TestMachine)) {
    let mut m = TestMachine::new(32);
    m.allow_leaks();
    let caught =
        std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| act(&m))).expect_err("it is noticed");
    let said = caught.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("BUG: Bad page state") && said.contains(reason.as_str()), "{said}");
}

fn free_as(m: &TestMachine, page: PagePtr, n: u8) {
    // SAFETY: none: it is wrong, and noticed.
    m.pages.free_pages(unsafe { PageBlock::from_raw(page, order(n)) });
}

#[test]
fn wrong_frees_of_compound_pages_are_noticed() {
    for wrong in [0, 1, 3, 10] {
        is_a_bug(BadReason::WrongOrder, |m| free_as(m, compound(m, 2).into_raw(), wrong));
    }
    for nr in 1..4 {
        is_a_bug(BadReason::TailFreed, |m| {
            let page = compound(m, 2);
            let tail = page.folio().page(nr).unwrap();
            let _head = page.into_raw();
            free_as(m, tail, 0);
        });
    }
    is_a_bug(BadReason::CompoundMapped, |m| {
        let page = compound(m, 2);
        page.folio().entire_maps().unwrap().add();
        m.pages.put_page(page);
    });
    is_a_bug(BadReason::NoDestructor, |m| {
        let page = compound(m, 2);
        // SAFETY: its only user.
        unsafe { page.folio().set_destructor(Destructor::HugeTlb) };
        m.pages.put_page(page);
    });
    for (word, reason) in [(0, BadReason::NotATail), (1 | 0x1000, BadReason::CorruptedTail)] {
        is_a_bug(reason, |m| {
            let page = compound(m, 2);
            // SAFETY: a tail's word, spoilt.
            unsafe { page.folio().page(3).unwrap().set_word(0, word) };
            m.pages.put_page(page);
        });
    }
}

#[test]
fn wrong_frees_of_other_pages_are_noticed() {
    is_a_bug(BadReason::NonzeroRefcount, |m| {
        let pages = m.pages.alloc_pages(Gfp::KERNEL, order(2)).unwrap().split().unwrap();
        free_as(m, pages.into_raw().0, 2);
    });
    is_a_bug(BadReason::AlreadyFree, |m| {
        let block = m.pages.alloc_pages(Gfp::KERNEL, order(10)).unwrap();
        let page = block.page();
        m.pages.free_pages(block);
        // SAFETY: within the block that was.
        free_as(m, unsafe { PagePtr::new(m.machine(), page.pfn(m.machine()) + 5) }, 0);
    });
    is_a_bug(BadReason::FlagsAtFree, |m| {
        let page = compound(m, 3);
        page.folio().page(5).unwrap().set_flags_owned(PageFlags::SLAB);
        m.pages.put_page(page);
    });
}

/// What a model's user holds.
#[derive(Debug)]
enum Held {
    Block(PageBlock),
    Ref(PageRef),
}

/// Users of each page that was given out, as the model knows; tails are kept by their head.
#[derive(Default)]
struct Model {
    users: BTreeMap<Pfn, (u64, u32)>,
}

impl Model {
    fn give(&mut self, at: Pfn, nr_pages: u64) {
        let overlap = self.users.range(..at + nr_pages).next_back().is_some_and(|(&s, &(nr, _))| s + nr > at);
        assert!(!overlap, "{at} given out twice");
        self.users.insert(at, (nr_pages, 1));
    }

    fn get(&mut self, at: Pfn) {
        self.users.get_mut(&at).unwrap().1 += 1;
    }

    fn put(&mut self, at: Pfn) {
        let users = &mut self.users.get_mut(&at).unwrap().1;
        *users -= 1;
        if *users == 0 {
            self.users.remove(&at);
        }
    }

    fn nr_pages(&self) -> u64 {
        self.users.values().map(|&(nr, _)| nr).sum()
    }
}

struct World {
    m: TestMachine,
    model: Model,
    held: Vec<Held>,
}

impl World {
    fn pfn(&self, page: PagePtr) -> Pfn {
        page.pfn(self.m.machine())
    }

    fn alloc(&mut self, n: u8, gfp: Gfp) {
        let Ok(block) = self.m.pages.alloc_pages(gfp | Gfp::NOWARN, order(n)) else { return };
        self.model.give(self.pfn(block.page()), order(n).nr_pages());
        self.held.push(Held::Block(block));
    }

    fn alloc_exact(&mut self, size_bytes: usize) {
        let Ok(pages) = self.m.pages.alloc_pages_exact(size_bytes, Gfp::KERNEL | Gfp::NOWARN) else { return };
        let (first, nr_pages) = pages.into_pages().into_raw();
        (0..nr_pages).for_each(|nr| self.model.give(self.pfn(first) + nr, 1));
        // SAFETY: taken apart just now.
        self.held.extend(unsafe { SplitPages::from_raw(first, nr_pages) }.map(Held::Block));
    }

    /// A user more, where it can be.
    fn share(&mut self, held: Held) {
        let page = match held {
            Held::Block(block) => match block.share() {
                Ok(page) => page,
                Err(block) => return self.split(block),
            },
            Held::Ref(page) => page,
        };
        let tail = page.folio().pages().last().unwrap();
        // SAFETY: `page` is a reference.
        let other = unsafe { PageRef::get(tail) };
        self.model.get(self.pfn(page.folio().head()));
        self.held.extend([Held::Ref(page), Held::Ref(other)]);
    }

    fn split(&mut self, block: PageBlock) {
        let at = self.pfn(block.page());
        self.model.put(at);
        (0..block.order().nr_pages()).for_each(|nr| self.model.give(at + nr, 1));
        self.held.extend(block.split().unwrap().map(Held::Block));
    }

    fn free(&mut self, held: Held) {
        match held {
            Held::Block(block) => {
                self.model.put(self.pfn(block.page()));
                self.m.pages.free_pages(block);
            }
            Held::Ref(page) => {
                self.model.put(self.pfn(page.folio().head()));
                match PageBlock::try_from_ref(page) {
                    Ok(block) => self.m.pages.free_pages(block),
                    Err(page) => self.m.pages.put_page(page),
                }
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.m.free_pages(), self.m.all_pages - self.model.nr_pages());
        for (&at, &(_, users)) in &self.model.users {
            // SAFETY: a page of the machine.
            assert_eq!(unsafe { PagePtr::new(self.m.machine(), at) }.refcount(), users, "{at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Blocks, compound pages, split ones and references to all of them, by several CPUs: each page has the users that it
    /// should, and is free exactly when it has none.
    #[test]
    fn pages_have_the_users_that_a_model_says(
        ops in prop::collection::vec((0u8..6, 0u32..3, 0u8..=10, any::<prop::sample::Index>()), 1..200),
    ) {
        let mut w = World { m: TestMachine::with(64, 2, 3), model: Model::default(), held: Vec::new() };
        for (op, cpu, n, pick) in ops {
            run_as_cpu(CpuId(cpu), || match op {
                0 => w.alloc(n, Gfp::KERNEL | Gfp::COMP),
                1 => w.alloc(n % 6, Gfp::HIGHUSER_MOVABLE),
                2 => w.alloc_exact(pick.index(200_000)),
                _ if w.held.is_empty() => {}
                3 => {
                    let held = w.held.swap_remove(pick.index(w.held.len()));
                    w.share(held);
                }
                _ => {
                    let held = w.held.swap_remove(pick.index(w.held.len()));
                    w.free(held);
                }
            });
            w.check();
        }
        w.m.pages.validate();
        while let Some(held) = w.held.pop() {
            w.free(held);
        }
    }
}

#[test]
fn users_on_several_cpus_free_each_page_once() {
    const ROUNDS: usize = 3_000;
    let m = TestMachine::with(64, 2, 4);
    let pages = &m.pages;
    for n in [0, 2, 9] {
        std::thread::scope(|s| {
            let (to, from) =
                (0..4).map(|_| std::sync::mpsc::channel::<PageRef>()).unzip::<_, _, Vec<_>, Vec<_>>();
            for (cpu, from) in from.into_iter().enumerate() {
                let to: Vec<_> = to.clone();
                s.spawn(move || {
                    run_as_cpu(CpuId(cpu as u32), || {
                        for _ in 0..if n == 9 { 100 } else { ROUNDS } {
                            let gfp = Gfp::KERNEL | Gfp::COMP | Gfp::NOWARN;
                            let Ok(block) = pages.alloc_pages(gfp, order(n)) else { continue };
                            let page = block.share().unwrap();
                            to.iter().for_each(|to| to.send(page.clone()).unwrap());
                            pages.put_page(page);
                            from.try_iter().for_each(|page| pages.put_page(page));
                        }
                        drop(to);
                        from.iter().for_each(|page| pages.put_page(page));
                    });
                });
            }
            drop(to);
        });
    }
}
