use super::*;
use crate::arch::SimMachine;
use crate::id::{NodeId, ZoneIdx};
use crate::page::Page;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

/// Types of pageblocks in a plain vector.
struct Types(RefCell<Vec<MigrateType>>);

impl Pageblocks for Types {
    fn migrate_type(&self, pfn: Pfn) -> MigrateType {
        self.0.borrow()[pfn.index() / 512]
    }

    fn set_migrate_type(&self, pfn: Pfn, migrate_type: MigrateType) {
        self.0.borrow_mut()[pfn.index() / 512] = migrate_type;
    }
}

/// A zone without the rest: its pages, free lists and pageblock types. What is free is also kept in a plain map.
struct TestZone {
    free: FreeAreas,
    types: Types,
    sim: SimMachine,
}

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

impl TestZone {
    /// Frames `span`, all in use; the frames around them are of another zone, and free ones at that.
    fn new(span: core::ops::Range<u64>) -> Self {
        let end = (span.end + 1024).next_multiple_of(1024);
        let sim = SimMachine::new(end * 4096);
        for pfn in 0..end {
            let zone = if span.contains(&pfn) { ZoneIdx::Normal } else { ZoneIdx::Dma32 };
            // SAFETY: inside the machine's vmemmap.
            unsafe { sim.machine().page(Pfn::new(pfn)).write(Page::free(NodeId(0), zone)) };
        }
        let frames = PfnRange::new(Pfn::new(span.start), Pfn::new(span.end));
        Self {
            free: FreeAreas::new(sim.machine(), Page::key_of(NodeId(0), ZoneIdx::Normal), frames),
            types: Types(RefCell::new(vec![MigrateType::Movable; end as usize / 512])),
            sim,
        }
    }

    /// The same with all pages free.
    fn full(span: core::ops::Range<u64>) -> Self {
        let mut zone = Self::new(span.clone());
        let mut at = span.start;
        while at < span.end {
            let fits = (at.trailing_zeros()).min((span.end - at).ilog2()).min(10);
            zone.give(at, fits as u8).unwrap();
            at += 1 << fits;
        }
        zone
    }

    fn page(&self, pfn: u64) -> PagePtr {
        // SAFETY: every page of the machine is initialised.
        unsafe { PagePtr::new(self.sim.machine(), Pfn::new(pfn)) }
    }

    fn give(&mut self, pfn: u64, n: u8) -> Result<(), BadPage> {
        let migrate_type = self.types.migrate_type(Pfn::new(pfn));
        // SAFETY: the tests keep account of what is theirs; those that do not look at the error.
        let block = unsafe { FreeBlock::from_raw(self.page(pfn), order(n)) };
        if self.free.has_guards() {
            return self.free.free_guarded(block, migrate_type, &self.types);
        }
        self.free.free(block, migrate_type, None, &self.types)
    }

    fn take(&mut self, n: u8, migrate_type: MigrateType) -> Option<u64> {
        let block = self.free.alloc(order(n), migrate_type, Fragment::Allowed, &self.types).unwrap()?;
        assert_eq!(block.order(), order(n));
        if self.free.has_guards() {
            self.free.keep_guards(&block).unwrap();
        }
        Some(block.page().pfn(self.sim.machine()).get())
    }

    fn validate(&self) {
        self.free.validate(&self.types);
        let span = self.free.span();
        self.free.validate_guards(span.iter().map(|pfn| self.page(pfn.get())));
    }

    /// The same with halves kept back.
    fn guarded(span: core::ops::Range<u64>, minorder: u8) -> Self {
        let mut zone = Self::full(span);
        zone.free.set_guard_minorder(order(minorder));
        zone
    }

    fn is_kept_back(&self, pfn: u64) -> bool {
        self.page(pfn).page_type() == crate::page::PageType::GUARD
    }
}

#[test]
fn halves_merge_up_to_the_largest_block() {
    let mut zone = TestZone::new(0..2048);
    for pfn in 0..2048 {
        zone.give(pfn, 0).unwrap();
    }
    zone.validate();
    assert_eq!(zone.free.area(Order::MAX).nr_free(), 2);
    assert_eq!(zone.free.free_pages(), 2048);
}

#[test]
fn merge_stops_at_the_zone_end() {
    let mut zone = TestZone::full(3..1020);
    zone.validate();
    assert_eq!(zone.free.free_pages(), 1017);
    // The frames around belong to another zone; were they listed there, they would not merge with ours either.
    for pfn in [0, 2, 1020, 1023] {
        zone.page(pfn).set_page_type(crate::page::PageType::BUDDY);
    }
    let all: Vec<u64> = core::iter::from_fn(|| zone.take(0, MigrateType::Movable)).collect();
    assert_eq!(all.len(), 1017);
    for pfn in all {
        zone.give(pfn, 0).unwrap();
    }
    zone.validate();
    assert_eq!(zone.free.area(order(9)).nr_free(), 0, "no block of 512 fits between frames 3 and 1020");
    assert_eq!(zone.free.area(order(8)).nr_free(), 2);
}

#[test]
fn a_split_block_gives_its_lower_part_first() {
    let mut zone = TestZone::full(1024..2048);
    assert_eq!(zone.take(0, MigrateType::Movable), Some(1024));
    assert_eq!(zone.take(0, MigrateType::Movable), Some(1025));
    assert_eq!(zone.take(1, MigrateType::Movable), Some(1026));
    assert_eq!(zone.take(9, MigrateType::Movable), Some(1536));
    zone.validate();
    assert_eq!(zone.free.free_pages(), 508);
}

#[test]
fn an_exhausted_zone_gives_nothing_and_loses_nothing() {
    for n in 0..=10 {
        let mut zone = TestZone::full(0..4096);
        let blocks: Vec<u64> = core::iter::from_fn(|| zone.take(n, MigrateType::Unmovable)).collect();
        assert_eq!(blocks.len(), 4096 >> n, "order {n}");
        assert_eq!((zone.free.free_pages(), zone.take(0, MigrateType::Movable)), (0, None));
        for pfn in blocks {
            zone.give(pfn, n).unwrap();
        }
        zone.validate();
        assert_eq!(zone.free.area(Order::MAX).nr_free(), 4, "order {n}");
    }
}

#[test]
fn a_block_whose_parent_is_likely_to_merge_waits_at_the_tail() {
    let mut zone = TestZone::full(0..1024);
    let all: Vec<u64> = core::iter::from_fn(|| zone.take(0, MigrateType::Movable)).collect();
    assert_eq!(all.len(), 1024);
    zone.give(8, 0).unwrap();
    // Pages 2 and 3 are free as one block: page 1, whose buddy is in use, waits for it.
    zone.give(2, 0).unwrap();
    zone.give(3, 0).unwrap();
    zone.give(1, 0).unwrap();
    let list = zone.free.area(Order::ZERO).list(MigrateType::Movable);
    assert_eq!(list.first(), Some(zone.page(8)));
    assert_eq!(list.last(), Some(zone.page(1)));
}

#[track_caller]
fn steals(wanted: MigrateType, n: u8, stock: &[(MigrateType, u8)], from: usize, retyped: bool) {
    let mut zone = TestZone::new(0..4096);
    for (block, &(migrate_type, size)) in stock.iter().enumerate() {
        let pfn = block as u64 * 1024;
        zone.types.set_migrate_type(Pfn::new(pfn), migrate_type);
        zone.types.set_migrate_type(Pfn::new(pfn + 512), migrate_type);
        zone.give(pfn, size).unwrap();
    }
    let got = zone.take(n, wanted).unwrap();
    assert_eq!(got / 1024, from as u64, "{wanted:?} of order {n} from {stock:?}");
    assert_eq!(zone.types.migrate_type(Pfn::new(got)) == wanted, retyped, "type of the pageblock");
    zone.validate();
}

#[test]
fn other_types_are_stolen_from_in_linux_order() {
    use MigrateType::{Movable, Reclaimable, Unmovable};
    steals(Unmovable, 0, &[(Movable, 9), (Reclaimable, 9)], 1, true);
    steals(Movable, 0, &[(Unmovable, 9), (Reclaimable, 9)], 1, true);
    steals(Reclaimable, 0, &[(Movable, 9), (Unmovable, 9)], 1, true);
    // The largest block first, whatever its type.
    steals(Unmovable, 0, &[(Movable, 9), (Reclaimable, 4)], 0, true);
    // Movable pages take the smallest block that does, and leave the pageblock alone.
    steals(Movable, 0, &[(Unmovable, 3), (Unmovable, 1)], 1, false);
    // A small part of a pageblock whose other pages are in use, perhaps by movable pages.
    steals(Unmovable, 0, &[(Movable, 2)], 0, true);
    steals(Unmovable, 0, &[(Reclaimable, 2)], 0, false);
}

#[test]
fn fragments_are_avoided_when_asked() {
    let mut zone = TestZone::new(0..2048);
    zone.give(0, 8).unwrap();
    let mut ask = |fragment| {
        zone.free.alloc(Order::ZERO, MigrateType::Unmovable, fragment, &zone.types).unwrap().is_some()
    };
    assert!(!ask(Fragment::Avoided));
    assert!(ask(Fragment::Allowed));
}

#[test]
fn isolated_pages_are_not_counted_and_merge_with_no_others() {
    let mut zone = TestZone::full(0..1024);
    let page = zone.page(512);
    let all = zone.take(10, MigrateType::Movable).unwrap();
    assert_eq!(zone.free.retype_pageblock(page, MigrateType::Isolate, &zone.types), Ok(0));
    zone.give(all, 9).unwrap();
    zone.give(512, 9).unwrap();
    zone.validate();
    assert_eq!((zone.free.free_pages(), zone.free.pages_of(MigrateType::Isolate)), (512, 512));
    assert_eq!(zone.free.retype_pageblock(page, MigrateType::Movable, &zone.types), Ok(512));
    assert_eq!(zone.free.free_pages(), 1024);
    // Nothing keeps the two apart any more.
    zone.validate();
    assert_eq!(zone.free.area(Order::MAX).nr_free(), 1);
}

#[test]
fn of_a_pageblock_that_the_zones_border_cuts_the_zones_part_changes_type() {
    let mut zone = TestZone::full(3..1020);
    let (first, last) = (zone.page(4), zone.page(512));
    assert_eq!(zone.free.retype_pageblock(first, MigrateType::Unmovable, &zone.types), Ok(509));
    assert_eq!(zone.free.pages_of(MigrateType::Unmovable), 509);
    assert_eq!(zone.free.pages_of(MigrateType::Movable), 508);
    assert_eq!(zone.free.retype_pageblock(last, MigrateType::Unmovable, &zone.types), Ok(508));
    zone.validate();
}

#[track_caller]
fn is_bad(reason: BadReason, spoil: impl FnOnce(&mut TestZone) -> Result<(), BadPage>) {
    let mut zone = TestZone::full(0..1024);
    assert_eq!(zone.take(0, MigrateType::Movable), Some(0));
    assert_eq!(spoil(&mut zone).unwrap_err().reason, reason);
}

#[test]
fn pages_in_a_wrong_state_are_refused() {
    is_bad(BadReason::AlreadyFree, |z| z.give(1, 0));
    is_bad(BadReason::NonzeroRefcount, |z| {
        z.page(0).set_refcount(1);
        z.give(0, 0)
    });
    is_bad(BadReason::NonzeroMapcount, |z| {
        z.page(0).add_mapping();
        z.give(0, 0)
    });
    is_bad(BadReason::FlagsAtFree, |z| {
        z.page(0).set_flags_owned(PageFlags::SLAB);
        z.give(0, 0)
    });
    is_bad(BadReason::FlagsAtFree, |z| {
        z.page(0).set_refcount(1);
        z.page(0).add_mapping();
        z.page(0).set_flags_owned(PageFlags::SLAB);
        z.give(0, 0)
    });
    is_bad(BadReason::NonzeroRefcount, |z| {
        z.page(0).set_refcount(1);
        z.page(0).add_mapping();
        z.give(0, 0)
    });
    is_bad(BadReason::Misplaced, |z| z.give(3, 1));
    is_bad(BadReason::Misplaced, |z| z.give(1024, 0));
}

#[test]
fn a_free_page_that_was_written_to_is_noticed() {
    for (word, value) in [(0, 0x4141_4141_4141_4141), (1, 8), (2, 3), (2, 0x900)] {
        let mut zone = TestZone::full(0..1024);
        assert_eq!(zone.take(0, MigrateType::Movable), Some(0));
        // SAFETY: it is what the test is about.
        unsafe { zone.page(1).set_word(word, value) };
        let taken = zone.free.alloc(Order::ZERO, MigrateType::Movable, Fragment::Allowed, &zone.types);
        assert_eq!(taken.unwrap_err().reason, BadReason::BrokenFreeList, "word {word}");
    }
}

#[test]
fn small_halves_of_a_split_are_kept_back_until_the_block_is_free_again() {
    let mut zone = TestZone::guarded(0..1024, 2);
    assert_eq!(zone.take(0, MigrateType::Movable), Some(0));
    zone.validate();
    let kept: Vec<u64> = (0..1024).filter(|&pfn| zone.is_kept_back(pfn)).collect();
    assert_eq!(kept, [1, 2], "orders 0 and 1");
    assert_eq!((zone.free.free_pages(), zone.free.guard_pages()), (1020, 3));
    assert_eq!(zone.take(1, MigrateType::Movable), Some(4), "not what is kept back");
    assert_eq!(zone.take(2, MigrateType::Movable), Some(8), "an order that keeps nothing back");
    assert_eq!((zone.free.free_pages(), zone.free.guard_pages()), (1012, 5));
    for (pfn, n) in [(0, 0), (8, 2), (4, 1)] {
        zone.give(pfn, n).unwrap();
        zone.validate();
    }
    assert_eq!((zone.free.free_pages(), zone.free.guard_pages()), (1024, 0));
    assert_eq!(zone.free.area(Order::MAX).nr_free(), 1);
}

#[test]
fn what_is_kept_back_in_an_isolated_pageblock_is_not_free_when_it_comes_back() {
    let mut zone = TestZone::guarded(0..1024, 1);
    let taken = zone.take(0, MigrateType::Movable).unwrap();
    let page = zone.page(taken);
    assert_eq!(zone.free.retype_pageblock(page, MigrateType::Isolate, &zone.types), Ok(510));
    zone.validate();
    zone.give(taken, 0).unwrap();
    zone.validate();
    assert_eq!((zone.free.free_pages(), zone.free.pages_of(MigrateType::Isolate)), (512, 512));
    assert_eq!(zone.free.retype_pageblock(page, MigrateType::Movable, &zone.types), Ok(512));
    zone.validate();
    assert_eq!((zone.free.free_pages(), zone.free.guard_pages()), (1024, 0));
}

#[test]
fn a_page_that_is_kept_back_cannot_be_freed() {
    let mut zone = TestZone::guarded(0..1024, 1);
    assert_eq!(zone.take(0, MigrateType::Movable), Some(0));
    assert_eq!(zone.give(1, 0).unwrap_err().reason, BadReason::NonzeroMapcount);
    zone.validate();
}

/// The pages around a block below `minorder` are in no other block, nor free: those of the block of `minorder` around it.
fn stands_alone(zone: &TestZone, (pfn, n): (u64, u8), used: &BTreeMap<u64, u8>) -> bool {
    let minorder = zone.free.guards_below().get();
    let (start, size) = (pfn >> minorder << minorder, 1 << minorder);
    let span = zone.free.span();
    if n >= minorder || start < span.start.get() || start + size > span.end.get() {
        return true;
    }
    let others = (start..start + size).filter(|p| !(pfn..pfn + (1 << n)).contains(p));
    let is_free = |p: &u64| zone.page(*p).page_type() == crate::page::PageType::BUDDY;
    others.clone().all(|p| !used.contains_key(&p) && !is_free(&p))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Against a map of who has which pages: nothing is given out twice, nothing is lost, all sizes come out aligned.
    #[test]
    fn random_operations_lose_and_share_nothing(
        start in 0u64..700, size in 1u64..3000, minorder in prop_oneof![Just(0), 1..=5u8],
        ops in prop::collection::vec((any::<bool>(), 0u8..=10, 0usize..3, any::<prop::sample::Index>()), 1..400),
    ) {
        let mut zone = TestZone::guarded(start..start + size, minorder);
        let mut used: BTreeMap<u64, u8> = BTreeMap::new();
        let mut free_pages = size;
        for (take, n, t, pick) in ops {
            let blocks: Vec<(u64, u8)> = used.iter().map(|(&p, &n)| (p, n)).collect();
            if take {
                let possible = zone.free.has_block(order(n), &MigrateType::ALL[..3]);
                let got = zone.take(n, MigrateType::ALL[t]);
                prop_assert_eq!(got.is_some(), possible);
                if let Some(pfn) = got {
                    prop_assert!(pfn % (1 << n) == 0 && pfn >= start && pfn + (1 << n) <= start + size);
                    let before = used.range(..pfn + (1 << n)).next_back();
                    prop_assert!(before.is_none_or(|(&p, &o)| p + (1 << o) <= pfn), "{} given out twice", pfn);
                    used.insert(pfn, n);
                    free_pages -= 1 << n;
                }
            } else if !blocks.is_empty() {
                let (pfn, n) = blocks[pick.index(blocks.len())];
                used.remove(&pfn);
                zone.give(pfn, n).unwrap();
                free_pages += 1 << n;
            }
            prop_assert_eq!(zone.free.free_pages() + zone.free.guard_pages(), free_pages);
            prop_assert!(used.iter().all(|(&pfn, &n)| stands_alone(&zone, (pfn, n), &used)));
        }
        zone.validate();
        for (pfn, n) in used {
            zone.give(pfn, n).unwrap();
        }
        zone.validate();
        prop_assert_eq!(zone.free.free_pages(), size);
        // All free again: the blocks are the largest that the span allows.
        let fresh = TestZone::full(start..start + size);
        for n in Order::all() {
            prop_assert_eq!(zone.free.area(n).nr_free(), fresh.free.area(n).nr_free(), "order {}", n.get());
        }
    }
}
