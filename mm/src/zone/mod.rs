//! A zone: the part of a node's memory that a class of users can take, its limits, counters and free pages.
//!
//! ```text
//! read by every allocation    watermarks, boost, lowmem_reserve | pagesets -> Pcp of each CPU
//! changed with the lock       free: SpinLock<FreeAreas>
//! changed by anybody          vm_stat, a part of it by each CPU
//!
//!           spanned                        managed = present - what boot keeps
//! start_pfn |-- present --| hole |-- present --|
//! ```
//!
//! # Invariants
//! - I1: `managed <= present <= spanned`. A zone without present pages may span a hole.
//! - I2: `min <= low <= high` of the watermarks.
//! - I3: `NR_FREE_PAGES` counts exactly the pages on the zone's free lists but those of isolated pageblocks; those on per-CPU
//!   lists are not in it.
//!
//! # Locking
//! `free`'s lock (level Zone) guards the free lists, the pageblocks' migratetypes and `NR_FREE_PAGES`. All else is atomics
//! that boot and sysctls change.
//!
//! # Not here
//! What happens under the lock: [`crate::buddy`]. Per-CPU lists: [`crate::pcp`]. The order of zones: [`crate::node`].

mod layout;
pub mod limits;
mod movable;
mod sysctl;
#[cfg(test)]
pub(crate) mod testdata;
#[cfg(test)]
mod tests;

pub use layout::{MAX_DMA_PFN, MAX_DMA32_PFN, NodeRam, ZoneLimits, estimated_managed, node_span};
pub use movable::{Amount, MovableRequest};
pub use sysctl::{OutOfRange, Setting, Sysctl};

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::buddy::FreeAreas;
use crate::counters::{NumaBase, ZoneCounters, ZoneStat};
use crate::gfp::MigrateType;
use crate::id::{NodeId, ZoneIdx};
use crate::order::PAGEBLOCK_NR_PAGES;
use crate::page::Page;
use crate::pcp::Pcp;
use crate::percpu::PerCpu;
use crate::pfn::{Pfn, PfnRange};
use crate::sparse::Sparse;
use crate::sync::{Level, SpinLock};

/// A zone's watermarks, lowest first (Linux: `enum zone_watermarks`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Watermark {
    /// Below it only allocations of high priority succeed.
    Min = 0,
    /// Below it kswapd wakes.
    Low = 1,
    /// Above it kswapd sleeps.
    High = 2,
}

/// Whether a boost raised the watermarks.
#[must_use = "kswapd may have to be told"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Boost {
    /// Yes.
    Raised,
    /// There is none in this zone.
    None,
}

/// What goes on in a zone (Linux: `enum zone_flags`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ZoneFlag {
    /// kswapd is at work: per-CPU lists hold no more than four batches.
    ReclaimActive = 1,
}

/// A zone (Linux: `struct zone`).
#[repr(C, align(64))]
pub struct Zone {
    watermarks: [AtomicU64; 3],
    watermark_boost: AtomicU64,
    /// How far the boost may go; 0: there is none.
    max_boost: AtomicU64,
    /// Boosted since kswapd was woken last (Linux: `ZONE_BOOSTED_WATERMARK`).
    boosted: AtomicBool,
    nr_reserved_highatomic: AtomicU64,
    lowmem_reserve: [AtomicU64; ZoneIdx::COUNT],
    pcp_high: AtomicU32,
    pcp_batch: AtomicU32,
    flags: AtomicU32,
    node: NodeId,
    idx: ZoneIdx,
    pagesets: PerCpu<Pcp>,
    sparse: Sparse,
    start_pfn: AtomicU64,
    spanned: AtomicU64,
    present: AtomicU64,
    managed: AtomicU64,
    cma_pages: AtomicU64,
    numa_base: NumaBase,
    free: Line<SpinLock<FreeAreas>>,
    vm_stat: Line<ZoneCounters>,
}

/// On cache lines of its own: readers of the zone's limits are not disturbed by writers.
#[repr(align(64))]
struct Line<T>(T);

/// Where a zone is and how much it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// All frames from the first to the last, holes included.
    pub pages: PfnRange,
    /// How many of them are RAM.
    pub present: u64,
}

impl Zone {
    /// A zone with nothing free and all limits zero. `pagesets` and `counters` have a slot for each possible CPU when `span`
    /// is populated.
    pub fn new(
        node: NodeId,
        idx: ZoneIdx,
        span: Span,
        sparse: Sparse,
        pagesets: PerCpu<Pcp>,
        counters: ZoneCounters,
    ) -> Self {
        Self {
            watermarks: [const { AtomicU64::new(0) }; 3],
            watermark_boost: AtomicU64::new(0),
            max_boost: AtomicU64::new(0),
            boosted: AtomicBool::new(false),
            nr_reserved_highatomic: AtomicU64::new(0),
            lowmem_reserve: [const { AtomicU64::new(0) }; ZoneIdx::COUNT],
            // As long as nobody has computed them, a per-CPU list holds nothing (Linux: boot pagesets).
            pcp_high: AtomicU32::new(0),
            pcp_batch: AtomicU32::new(1),
            flags: AtomicU32::new(0),
            node,
            idx,
            pagesets,
            sparse,
            start_pfn: AtomicU64::new(span.pages.start.get()),
            spanned: AtomicU64::new(span.pages.nr_pages()),
            present: AtomicU64::new(span.present),
            managed: AtomicU64::new(0),
            cma_pages: AtomicU64::new(0),
            numa_base: NumaBase::new(),
            free: Line(SpinLock::new(
                Level::Zone,
                FreeAreas::new(sparse.machine(), Page::key_of(node, idx), span.pages),
            )),
            vm_stat: Line(counters),
        }
    }

    /// Which zone of its node it is.
    #[inline]
    pub fn idx(&self) -> ZoneIdx {
        self.idx
    }

    /// Its node.
    #[inline]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The section tables, for migratetypes of pageblocks.
    #[inline]
    pub fn sparse(&self) -> &Sparse {
        &self.sparse
    }

    /// The per-CPU lists.
    #[inline]
    pub fn pagesets(&self) -> &PerCpu<Pcp> {
        &self.pagesets
    }

    /// The free lists.
    #[inline]
    pub fn free(&self) -> &SpinLock<FreeAreas> {
        &self.free.0
    }

    /// First frame of the span (Linux: `zone_start_pfn`).
    #[inline]
    pub fn start_pfn(&self) -> Pfn {
        Pfn::new(self.start_pfn.load(Ordering::Relaxed))
    }

    /// The frames from the first to the last, holes included.
    #[inline]
    pub fn span(&self) -> PfnRange {
        PfnRange { start: self.start_pfn(), end: self.start_pfn() + self.spanned() }
    }

    /// Frames in the span.
    #[inline]
    pub fn spanned(&self) -> u64 {
        self.spanned.load(Ordering::Relaxed)
    }

    /// Pages of RAM in the span.
    #[inline]
    pub fn present(&self) -> u64 {
        self.present.load(Ordering::Relaxed)
    }

    /// Pages that the page allocator has or has given out: `present` less what boot keeps.
    #[inline]
    pub fn managed(&self) -> u64 {
        self.managed.load(Ordering::Relaxed)
    }

    /// Counts `nr_pages` more as managed: memory that boot gives to the page allocator.
    pub fn add_managed(&self, nr_pages: u64) {
        self.managed.fetch_add(nr_pages, Ordering::Relaxed);
    }

    /// Whether there is RAM in it (Linux: `populated_zone`).
    #[inline]
    pub fn is_populated(&self) -> bool {
        self.present() != 0
    }

    /// A watermark in pages, boost included (Linux: `wmark_pages`).
    #[inline]
    pub fn watermark(&self, which: Watermark) -> u64 {
        self.watermarks[which as usize].load(Ordering::Relaxed) + self.watermark_boost()
    }

    /// A watermark in pages, without the boost.
    pub fn watermark_unboosted(&self, which: Watermark) -> u64 {
        self.watermarks[which as usize].load(Ordering::Relaxed)
    }

    /// What is added to the watermarks for now, so that kswapd makes up for fallbacks between migratetypes.
    #[inline]
    pub fn watermark_boost(&self) -> u64 {
        self.watermark_boost.load(Ordering::Relaxed)
    }

    /// Sets the boost, in pages.
    pub fn set_watermark_boost(&self, nr_pages: u64) {
        self.watermark_boost.store(nr_pages, Ordering::Relaxed);
    }

    /// Says how far [`boost_watermarks`](Self::boost_watermarks) may go, in pages.
    pub fn set_max_boost(&self, nr_pages: u64) {
        self.max_boost.store(nr_pages, Ordering::Relaxed);
    }

    /// Types were mixed within a pageblock: raises the watermarks by as much, so that kswapd frees larger blocks (Linux:
    /// `boost_watermark`). Whether they are higher now. Not in zones that are too small for that to help.
    pub fn boost_watermarks(&self, _free: &FreeAreas) -> Boost {
        let most = self.max_boost.load(Ordering::Relaxed);
        if most == 0 || self.managed() < 4 * PAGEBLOCK_NR_PAGES {
            return Boost::None;
        }
        self.set_watermark_boost((self.watermark_boost() + PAGEBLOCK_NR_PAGES).min(most));
        Boost::Raised
    }

    /// Says that kswapd is to be told of the boost.
    pub fn set_boosted(&self) {
        self.boosted.store(true, Ordering::Relaxed);
    }

    /// Whether kswapd is to be told of a boost; it counts as told then.
    #[inline]
    pub fn take_boosted(&self) -> bool {
        // A load first: the line is shared and seldom written.
        self.boosted.load(Ordering::Relaxed) && self.boosted.swap(false, Ordering::Relaxed)
    }

    /// Pages of the pageblocks that are set apart for atomic allocations of large blocks.
    #[inline]
    pub fn nr_reserved_highatomic(&self) -> u64 {
        self.nr_reserved_highatomic.load(Ordering::Relaxed)
    }

    /// Changes that; the zone is locked, as `_free` shows.
    pub fn add_reserved_highatomic(&self, _free: &mut FreeAreas, delta: i64) {
        let pages = self.nr_reserved_highatomic().saturating_add_signed(delta);
        self.nr_reserved_highatomic.store(pages, Ordering::Relaxed);
    }

    /// Sets the watermarks, in pages: min, low, high.
    pub fn set_watermarks(&self, pages: [u64; 3]) {
        debug_assert!(pages.is_sorted());
        for (watermark, pages) in self.watermarks.iter().zip(pages) {
            watermark.store(pages, Ordering::Relaxed);
        }
    }

    /// Pages of this zone kept from allocations that could be served by zone `for_zone` (Linux: `lowmem_reserve`).
    #[inline]
    pub fn lowmem_reserve(&self, for_zone: ZoneIdx) -> u64 {
        self.lowmem_reserve[for_zone.index()].load(Ordering::Relaxed)
    }

    /// Sets what [`lowmem_reserve`](Self::lowmem_reserve) returns for each zone.
    pub fn set_lowmem_reserve(&self, pages: [u64; ZoneIdx::COUNT]) {
        for (reserve, pages) in self.lowmem_reserve.iter().zip(pages) {
            reserve.store(pages, Ordering::Relaxed);
        }
    }

    /// How many pages a CPU's lists may hold before they are drained, unless the zone is being reclaimed.
    #[inline]
    pub fn pcp_high(&self) -> u32 {
        self.pcp_high.load(Ordering::Relaxed)
    }

    /// How many pages move between a CPU's lists and the free lists at a time.
    #[inline]
    pub fn pcp_batch(&self) -> u32 {
        self.pcp_batch.load(Ordering::Relaxed)
    }

    /// Sets [`pcp_high`](Self::pcp_high) and [`pcp_batch`](Self::pcp_batch).
    pub fn set_pcp_limits(&self, high: u32, batch: u32) {
        self.pcp_high.store(high, Ordering::Relaxed);
        self.pcp_batch.store(batch.max(1), Ordering::Relaxed);
        self.update_pcp_high();
    }

    /// Whether `flag` is set.
    #[inline]
    pub fn has_flag(&self, flag: ZoneFlag) -> bool {
        self.flags.load(Ordering::Relaxed) >> flag as u32 & 1 != 0
    }

    /// Sets `flag`. Takes the zone's lock.
    pub fn set_flag(&self, flag: ZoneFlag) {
        self.flags.fetch_or(1 << flag as u32, Ordering::Relaxed);
        self.update_pcp_high();
    }

    /// Clears `flag`. Takes the zone's lock.
    pub fn clear_flag(&self, flag: ZoneFlag) {
        self.flags.fetch_and(!(1 << flag as u32), Ordering::Relaxed);
        self.update_pcp_high();
    }

    /// Tells each CPU's lists how much they may hold by the zone's state (Linux: `nr_pcp_high`, asked at each free there).
    fn update_pcp_high(&self) {
        // One at a time, so that the last one to tell knows what all of them have set.
        let _one = self.free().lock();
        let high = match self.has_flag(ZoneFlag::ReclaimActive) {
            true => self.pcp_high().min(self.pcp_batch() << 2),
            false => self.pcp_high(),
        };
        Pcp::set_high(&self.pagesets, high);
    }

    /// How far a CPU's part of a counter may be from zero before it is folded in.
    #[inline]
    pub fn stat_threshold(&self) -> u32 {
        self.vm_stat.0.threshold()
    }

    /// Sets [`stat_threshold`](Self::stat_threshold).
    pub fn set_stat_threshold(&self, threshold: u32) {
        self.vm_stat.0.set_threshold(threshold);
    }

    /// Free pages on the zone's lists that can be allocated (I3).
    #[inline]
    pub fn nr_free(&self) -> u64 {
        self.vm_stat.0.get(ZoneStat::FreePages)
    }

    /// What the zone counts.
    #[inline]
    pub fn counters(&self) -> &ZoneCounters {
        &self.vm_stat.0
    }

    /// A counter's value but for what CPUs have not carried over, at least zero (Linux: `zone_page_state`).
    #[inline]
    pub fn stat(&self, stat: ZoneStat) -> u64 {
        self.vm_stat.0.get(stat)
    }

    /// Changes a counter other than `NR_FREE_PAGES` (Linux: `mod_zone_page_state`). Any context.
    pub fn add_stat(&self, stat: ZoneStat, delta: i64) {
        debug_assert!(stat != ZoneStat::FreePages, "that one changes under the zone's lock");
        self.vm_stat.0.add(stat, delta);
    }

    /// Changes `NR_FREE_PAGES` and brings `NR_FREE_CMA_PAGES` up to date, without atomic read-modify-writes: the zone is
    /// locked, as `free` shows.
    #[inline]
    pub fn add_free(&self, free: &mut FreeAreas, delta: i64) {
        self.vm_stat.0.add_locked(ZoneStat::FreePages, delta);
        self.vm_stat.0.set_locked(ZoneStat::FreeCma, free.pages_of(MigrateType::Cma));
    }

    /// Pages of contiguous-memory areas in it (Linux: `zone_cma_pages`).
    pub fn cma_pages(&self) -> u64 {
        self.cma_pages.load(Ordering::Relaxed)
    }

    /// NUMA events that are not shown.
    pub(crate) fn numa_base(&self) -> &NumaBase {
        &self.numa_base
    }

    /// Counts `nr_pages` more as those of contiguous-memory areas.
    pub fn add_cma_pages(&self, nr_pages: u64) {
        self.cma_pages.fetch_add(nr_pages, Ordering::Relaxed);
    }

    /// Pages that users cannot count on: the high watermark and the largest reserve, at most all (Linux:
    /// `calculate_totalreserve_pages`, a zone's part).
    pub fn reserve_pages(&self) -> u64 {
        let largest = ZoneIdx::ALL.into_iter().map(|z| self.lowmem_reserve(z)).max().unwrap_or(0);
        (largest + self.watermark(Watermark::High)).min(self.managed())
    }

    /// Checks I1 and I2.
    ///
    /// # Panics
    /// When they do not hold.
    pub fn validate(&self) {
        let (spanned, present, managed) = (self.spanned(), self.present(), self.managed());
        assert!(managed <= present && present <= spanned, "{self:?}");
        assert!(self.watermarks.iter().map(|w| w.load(Ordering::Relaxed)).is_sorted(), "{self:?}");
        assert!(self.nr_free() <= managed, "{self:?}");
        assert!(present == 0 || self.pagesets.nr_cpus() != 0, "{self:?} has no per-CPU lists");
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone")
            .field("node", &self.node)
            .field("idx", &self.idx)
            .field("span", &self.span())
            .field("present", &self.present())
            .field("managed", &self.managed())
            .field("watermarks", &self.watermarks)
            .field("free", &self.nr_free())
            .finish_non_exhaustive()
    }
}
