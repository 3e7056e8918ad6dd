//! One CPU's part: a stream of random operations.
//!
//! ```text
//! phases, 32768 operations each:  Small -> AllOrders -> Small -> Full -> AllOrders -> Emptying -> ...
//! operation: allocate into a slot (what was there is freed) | free a slot | the rest of the allocator, now and then
//! ```

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kernel::cpu::call::{self, Interrupts};
use kernel::cpu::online;
use mm::arch::{IrqGuard, Machine};
use mm::cma::Wanted;
use mm::numa::NodeMask;
use mm::page::PageRef;
use mm::page_alloc::{ContigType, FailSpec, PageBlock};
use mm::{CpuId, Gfp, NodeId, Order, PAGE_SIZE, Pfn, PfnRange};

use super::slots::{self, Ledger, PER_CPU};
use super::tally::Tally;
use crate::support::{Random, memory, order};

const PHASE_OPERATIONS: u64 = 32_768;

/// What a CPU does mostly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Small blocks, half of the slots used.
    Small,
    /// Blocks of all orders.
    AllOrders,
    /// Large blocks, until nothing is left.
    Full,
    /// More frees than allocations.
    Emptying,
}

impl Phase {
    const CYCLE: [Self; 6] =
        [Self::Small, Self::AllOrders, Self::Small, Self::Full, Self::AllOrders, Self::Emptying];

    /// How many of 90000 operations allocate.
    fn allocations(self) -> u64 {
        match self {
            Self::Small | Self::AllOrders => 45_000,
            Self::Full => 75_000,
            Self::Emptying => 20_000,
        }
    }
}

/// Kinds of allocations; the usual ones stand there several times.
const KINDS: [Gfp; 32] = [
    Gfp::KERNEL,
    Gfp::KERNEL,
    Gfp::KERNEL,
    Gfp::KERNEL_ACCOUNT,
    Gfp::KERNEL.union(Gfp::COMP),
    Gfp::KERNEL.union(Gfp::COMP),
    Gfp::KERNEL.union(Gfp::RECLAIMABLE),
    Gfp::KERNEL.union(Gfp::RECLAIMABLE),
    Gfp::NOFS.union(Gfp::RECLAIMABLE),
    Gfp::NOIO,
    Gfp::ATOMIC_CONTEXT,
    Gfp::ATOMIC_CONTEXT,
    Gfp::ATOMIC_CONTEXT.union(Gfp::COMP),
    Gfp::ATOMIC_CONTEXT.union(Gfp::NOMEMALLOC),
    Gfp::NOWAIT,
    Gfp::NOWAIT.union(Gfp::RECLAIMABLE),
    Gfp::USER,
    Gfp::HIGHUSER,
    Gfp::HIGHUSER_MOVABLE,
    Gfp::HIGHUSER_MOVABLE,
    Gfp::HIGHUSER_MOVABLE,
    Gfp::HIGHUSER_MOVABLE.union(Gfp::COMP),
    Gfp::TRANSHUGE,
    Gfp::TRANSHUGE_LIGHT,
    Gfp::KERNEL.union(Gfp::DMA),
    Gfp::NOWAIT.union(Gfp::DMA),
    Gfp::KERNEL.union(Gfp::DMA32),
    Gfp::KERNEL.union(Gfp::DMA32).union(Gfp::MOVABLE),
    Gfp::KERNEL.union(Gfp::NORETRY),
    Gfp::KERNEL.union(Gfp::RETRY_MAYFAIL),
    Gfp::KERNEL.union(Gfp::HIGH),
    Gfp::HIGHUSER_MOVABLE.union(Gfp::WRITE),
];

/// A CPU at work.
#[derive(Debug)]
pub(super) struct Worker {
    cpu: CpuId,
    ledger: Ledger,
    random: Random,
    phase: Phase,
    nr_nodes: u64,
    pub(super) tally: Tally,
}

impl Worker {
    pub(super) fn new(cpu: CpuId, ledger: Ledger) -> Self {
        // Any numbers that differ between CPUs and are not 0.
        let random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(cpu.0 + 1) << 40);
        let nr_nodes = memory().pages.nodes().iter().count() as u64;
        Self { cpu, ledger, random, phase: Phase::Small, nr_nodes, tally: Tally::default() }
    }

    /// So many operations.
    pub(super) fn run(&mut self, operations: u64) {
        for n in 0..operations {
            if n % PHASE_OPERATIONS == 0 {
                self.enter(n / PHASE_OPERATIONS);
            }
            self.operation();
            self.tally.operations += 1;
        }
    }

    /// CPUs are half a cycle apart, so that one is short of memory while another is not; the first decides what fails.
    fn enter(&mut self, nr: u64) {
        self.phase = Phase::CYCLE[(nr + u64::from(self.cpu.0 % 2) * 3) as usize % Phase::CYCLE.len()];
        if self.cpu == CpuId(0) {
            let probability = [0, 2, 10, 30, 1][nr as usize % 5];
            let min_order = order((nr % 2) as u8);
            let spec =
                FailSpec { probability, times: -1, min_order, ignored: Gfp::empty(), ..FailSpec::default() };
            memory().pages.set_fail_spec(spec);
        }
    }

    fn operation(&mut self) {
        let pages = memory().pages;
        match self.random.below(100_000) {
            0..2_000 => self.split(),
            2_000..4_000 => self.exact(),
            4_000..7_000 => self.share(),
            7_000..8_500 => self.room(),
            8_500..9_100 => self.second_user(),
            9_100..9_500 => self.bulk(),
            9_500..9_700 => self.drain(|_| pages.drain_local()),
            9_700..9_900 => self.drain(|random| {
                let nr = random.below(pages.nodes().populated_zones().count() as u64);
                pages
                    .nodes()
                    .populated_zones()
                    .nth(nr as usize)
                    .into_iter()
                    .for_each(|zone| pages.drain_zone(zone));
            }),
            9_900..9_905 => self.drain(|_| pages.drain_all()),
            9_905..9_915 => self.range(),
            9_915..9_925 => self.area(),
            9_925..9_950 => self.in_interrupt(),
            9_950..10_000 => pages.set_fail_nth(self.random.below(8) as u32),
            roll if roll < 10_000 + self.phase.allocations() => {
                let (gfp, order) = (self.gfp(), self.order());
                if let Some(block) = self.allocate(gfp, order) {
                    self.put(block);
                }
            }
            _ => {
                if let Some(block) = self.take() {
                    self.give(block);
                }
            }
        }
    }

    /// Mostly small: a block of order 10 costs as much as a thousand of one page.
    fn order(&mut self) -> Order {
        let any = self.random.below(Order::COUNT as u64) as u8;
        let (roll, phase) = (self.random.below(100), self.phase);
        order(match roll {
            // Fills the machine within the phase, twice.
            0..4 if phase == Phase::Full => 10,
            0..12 if phase == Phase::AllOrders => any,
            0..55 => 0,
            55..70 => 1,
            70..82 => 2,
            82..92 => 3,
            92..94 => 9,
            94..98 => any % 8,
            _ => any,
        })
    }

    fn gfp(&mut self) -> Gfp {
        let mut gfp = KINDS[self.random.below(KINDS.len() as u64) as usize];
        match self.random.below(2_000) {
            // Reports are rate-limited, but long.
            0 => {}
            1..20 => gfp |= Gfp::NOWARN | Gfp::MEMALLOC,
            20..120 => gfp |= Gfp::NOWARN | Gfp::ZERO,
            _ => gfp |= Gfp::NOWARN,
        }
        gfp
    }

    /// A block, from anywhere or somewhere, as it should be.
    fn allocate(&mut self, mut gfp: Gfp, order: Order) -> Option<PageBlock> {
        let pages = memory().pages;
        let node = NodeId(self.random.below(self.nr_nodes) as u16);
        let block = match self.random.below(20) {
            0..12 => pages.alloc_pages(gfp, order),
            12..15 => pages.alloc_pages_node(node, gfp, order),
            15 => pages.alloc_pages_interleave(node, gfp, order),
            16 => {
                gfp |= Gfp::THISNODE;
                let block = pages.alloc_pages_node(node, gfp, order);
                block.inspect(|block| assert_eq!(block.page().node(), node, "{gfp:?}"))
            }
            17 => {
                let mut mask = NodeMask::EMPTY;
                mask.insert(node);
                let block = pages.alloc_pages_nodemask(gfp, order, None, Some(&mask));
                // Who may use reserves does so wherever they are.
                let anywhere = gfp.intersects(Gfp::ATOMIC | Gfp::MEMALLOC);
                block.inspect(|block| assert!(anywhere || block.page().node() == node, "{gfp:?}"))
            }
            18 if order.get() < 2 => {
                pages.alloc_pages((gfp | Gfp::KERNEL | Gfp::NOFAIL) - Gfp::ATOMIC, order)
            }
            _ => {
                gfp -= Gfp::DIRECT_RECLAIM;
                let _irq = IrqGuard::new();
                pages.alloc_pages(gfp, order)
            }
        };
        match block {
            Ok(block) => {
                came(&self.ledger, &block, gfp, order);
                self.tally.allocs[order.index()] += 1;
                Some(block)
            }
            Err(_) => {
                self.tally.failed += 1;
                None
            }
        }
    }

    /// A slot: mostly one of this CPU's.
    fn slot(&mut self) -> usize {
        let first = match self.random.below(4) {
            0 => self.random.below(u64::from(online::nr_online())) as usize,
            _ => self.cpu.index(),
        };
        first * PER_CPU + self.random.below(PER_CPU as u64) as usize
    }

    /// Takes a block that is held.
    fn take(&mut self) -> Option<PageBlock> {
        let slot = self.slot();
        let block = slots::exchange(slot, None)?;
        slots::check(&block);
        self.tally.handed_over += u64::from(slot / PER_CPU != self.cpu.index());
        Some(block)
    }

    /// Holds a block, and frees the one that was in its place.
    fn put(&mut self, block: PageBlock) {
        let slot = self.slot();
        if let Some(before) = slots::exchange(slot, Some(block)) {
            slots::check(&before);
            self.give(before);
        }
    }

    fn give(&mut self, block: PageBlock) {
        let nr = block.order().nr_pages();
        self.ledger.release(block.pfn(Machine), nr);
        self.tally.pages_freed += nr;
        memory().pages.free_pages(block);
    }

    /// Frees all that is held; for when the others are at rest.
    pub(super) fn empty(&mut self) {
        for slot in 0..slots::SLOTS.len() {
            if let Some(block) = slots::exchange(slot, None) {
                slots::check(&block);
                self.give(block);
            }
        }
    }

    /// Pages of a block, each by itself: a few are kept.
    fn split(&mut self) {
        let (gfp, order) = (self.gfp() - Gfp::COMP, order(1 + self.random.below(5) as u8));
        let Some(block) = self.allocate(gfp, order) else { return };
        self.tally.splits += 1;
        for (nr, page) in block.split().expect("it is not compound").enumerate() {
            slots::mark(&page);
            if nr % 4 == 0 { self.put(page) } else { self.give(page) }
        }
    }

    fn exact(&mut self) {
        let pages = memory().pages;
        let size = 1 + self.random.below(40 * PAGE_SIZE as u64) as usize;
        let gfp = self.gfp();
        let Ok(mut exact) = pages.alloc_pages_exact(size, gfp) else {
            self.tally.failed += 1;
            return;
        };
        let nr = exact.nr_pages();
        assert_eq!(nr, size.div_ceil(PAGE_SIZE) as u64);
        let order = Order::for_size(size).expect("there is such a block");
        self.tally.allocs[order.index()] += 1;
        self.tally.pages_freed += order.nr_pages() - nr;
        let first = Pfn::containing(Machine.virt_to_phys(exact.as_uninit().as_mut_ptr().cast()));
        self.ledger.claim(first, nr);
        if self.random.below(2) == 0 {
            self.ledger.release(first, nr);
            self.tally.pages_freed += nr;
            pages.free_pages_exact(exact);
        } else {
            for page in exact.into_pages() {
                slots::mark(&page);
                self.put(page);
            }
        }
    }

    /// A block that is held has another user for a while.
    fn share(&mut self) {
        let Some(block) = self.take() else { return };
        match block.share() {
            Ok(user) => {
                let other = user.clone();
                memory().pages.put_page(user);
                self.tally.shared += 1;
                self.put(PageBlock::try_from_ref(other).expect("nobody else uses it"));
            }
            Err(block) => self.put(block),
        }
    }

    /// A block is freed while its first page has another user, who frees that.
    fn second_user(&mut self) {
        let pages = memory().pages;
        let Some(block) = self.take() else { return };
        let (pfn, nr) = (block.pfn(Machine), block.order().nr_pages());
        // SAFETY: the block's first page, and its reference is ours.
        let user = unsafe { PageRef::get(block.page()) };
        let kept = if block.folio().is_compound() { nr } else { 1 };
        self.ledger.release(pfn + kept, nr - kept);
        pages.free_pages(block);
        self.ledger.release(pfn, kept);
        pages.put_page(user);
        self.tally.pages_freed += nr;
        self.tally.shared += 1;
    }

    /// Memory rather than pages.
    fn room(&mut self) {
        let pages = memory().pages;
        let (gfp, order) = (self.gfp(), self.order());
        let memory =
            if order == Order::ZERO { pages.get_zeroed_page(gfp) } else { pages.get_free_pages(gfp, order) };
        let Ok(memory) = memory else {
            self.tally.failed += 1;
            return;
        };
        let pfn = Pfn::containing(Machine.virt_to_phys(memory.address().as_ptr()));
        self.ledger.claim(pfn, order.nr_pages());
        if order == Order::ZERO {
            assert_zero(memory.address().as_ptr(), PAGE_SIZE);
        }
        self.ledger.release(pfn, order.nr_pages());
        self.tally.allocs[order.index()] += 1;
        self.tally.pages_freed += order.nr_pages();
        pages.free_memory(memory);
    }

    /// Several pages at once, some of which are kept.
    fn bulk(&mut self) {
        let pages = memory().pages;
        let gfp = self.gfp() - Gfp::COMP;
        let mut slots = [const { None }; 16];
        let wanted = 1 + self.random.below(slots.len() as u64) as usize;
        let nr = pages.alloc_pages_bulk(gfp, &mut slots[..wanted]);
        assert!(slots[..nr].iter().all(Option::is_some) && slots[nr..].iter().all(Option::is_none));
        slots.iter().flatten().for_each(|page| came(&self.ledger, page, gfp, Order::ZERO));
        self.tally.allocs[0] += nr as u64;
        self.tally.failed += u64::from(nr == 0);
        for page in slots.iter_mut().take(4).filter_map(Option::take) {
            self.put(page);
        }
        for page in slots.iter().flatten() {
            self.ledger.release(page.pfn(Machine), 1);
            self.tally.pages_freed += 1;
        }
        pages.free_pages_bulk(&mut slots);
    }

    fn drain(&mut self, drain: impl FnOnce(&mut Random)) {
        self.tally.drains += 1;
        drain(&mut self.random);
    }

    /// Just these pages: a whole pageblock, or a few in the middle of some.
    fn range(&mut self) {
        let memory = memory();
        let zones = || memory.pages.nodes().populated_zones();
        let Some(zone) = zones().nth(self.random.below(zones().count() as u64) as usize) else { return };
        let at = zone.start_pfn() + self.random.below(zone.spanned());
        let range = match self.random.below(4) {
            0 => PfnRange::new(at.align_down(512), at.align_down(512) + 512),
            _ => PfnRange::new(at, at + 1 + self.random.below(64)),
        };
        let near_area = PfnRange::new(range.start.align_down(512), (range.end + 511).align_down(512));
        if memory.cma.as_ref().is_some_and(|area| !area.pages().intersect(near_area).is_empty()) {
            return;
        }
        let gfp = if self.random.below(2) == 0 { Gfp::KERNEL } else { Gfp::KERNEL | Gfp::ZERO };
        match memory.pages.alloc_contig_range(range, ContigType::Movable, gfp, &Interrupts) {
            Ok(taken) => {
                self.count_range(range);
                memory.pages.free_contig_range(taken);
            }
            Err(_) => self.tally.ranges_failed += 1,
        }
    }

    /// Pages of the contiguous-memory area.
    fn area(&mut self) {
        let memory = memory();
        let Some(area) = &memory.cma else { return };
        let (nr_pages, align) = (1 + self.random.below(300), order(self.random.below(4) as u8));
        let wanted = Wanted { nr_pages, align, gfp: Gfp::KERNEL | Gfp::NOWARN };
        match area.alloc(memory.pages, wanted, &Interrupts) {
            Ok(taken) => {
                assert!(taken.pages().start.is_aligned(align.nr_pages()));
                self.count_range(taken.pages());
                area.release(memory.pages, taken).expect("they are the area's");
            }
            Err(_) => self.tally.ranges_failed += 1,
        }
    }

    fn count_range(&mut self, range: PfnRange) {
        self.ledger.claim(range.start, range.nr_pages());
        self.ledger.release(range.start, range.nr_pages());
        self.tally.ranges += 1;
        self.tally.range_pages += range.nr_pages();
        self.tally.pages_freed += range.nr_pages();
    }

    /// An interrupt handler of any CPU allocates, and frees what was in the place.
    fn in_interrupt(&mut self) {
        let (gfp, order, slot) = (self.gfp() - Gfp::DIRECT_RECLAIM, self.order(), self.slot());
        let cpu = CpuId(self.random.below(u64::from(online::nr_online())) as u32);
        let (allocated, freed) = (AtomicU64::new(0), AtomicU64::new(0));
        let ledger = self.ledger;
        call::on_one(cpu, &|| {
            let Ok(block) = memory().pages.alloc_pages(gfp, order) else { return };
            came(&ledger, &block, gfp, order);
            allocated.store(1, Relaxed);
            if let Some(before) = slots::exchange(slot, Some(block)) {
                let nr = before.order().nr_pages();
                slots::check(&before);
                ledger.release(before.pfn(Machine), nr);
                freed.store(nr, Relaxed);
                memory().pages.free_pages(before);
            }
        });
        self.tally.interrupts += 1;
        self.tally.allocs[order.index()] += allocated.load(Relaxed);
        self.tally.failed += 1 - allocated.load(Relaxed);
        self.tally.pages_freed += freed.load(Relaxed);
    }
}

/// A block that was just allocated is as `gfp` says, and nobody else's.
#[track_caller]
fn came(ledger: &Ledger, block: &PageBlock, gfp: Gfp, order: Order) {
    let (page, pfn) = (block.page(), block.pfn(Machine));
    assert!(block.order() == order && pfn.is_aligned(order.nr_pages()) && page.refcount() == 1, "{block:?}");
    assert!(page.zone().index() <= gfp.zone().index(), "{gfp:?} is from {:?}", page.zone());
    assert_eq!(block.folio().is_compound(), gfp.contains(Gfp::COMP) && order > Order::ZERO, "{block:?}");
    ledger.claim(pfn, order.nr_pages());
    if gfp.contains(Gfp::ZERO) {
        assert_zero(block.address(Machine).as_ptr(), order.size_bytes());
    }
    slots::mark(block);
}

#[track_caller]
fn assert_zero(start: *const u8, bytes: usize) {
    // SAFETY: the caller's memory, mapped.
    let words = unsafe { core::slice::from_raw_parts(start.cast::<u64>(), bytes / 8) };
    assert!(words.iter().all(|&word| word == 0), "pages at {start:p} are not zeros");
}
