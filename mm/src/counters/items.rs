//! What is counted, in Linux 6.1's order and with the names of its `/proc` files.
//!
//! The list is that of Debian's cloud kernel, which the reference boots ran: without CMA, zswap, memory-failure
//! handling and `debug_tlbflush`, with everything else; items of features that do not exist here stay 0, as there.

use crate::id::ZoneIdx;

/// A kind of counter: one of a fixed list, each with a name in `/proc`.
pub trait Item: Copy + core::fmt::Debug + 'static {
    /// All of them, in Linux's order.
    const ALL: &'static [Self];

    /// Its place in [`ALL`](Self::ALL).
    fn index(self) -> usize;

    /// Its name in `/proc`.
    fn name(self) -> &'static str;
}

macro_rules! items {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// How many there are.
            pub const COUNT: usize = <Self as Item>::ALL.len();
        }

        impl Item for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[inline(always)]
            fn index(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

items! {
    /// What each zone counts (Linux: `enum zone_stat_item`). In pages.
    ZoneStat {
        /// Pages on the free lists.
        FreePages = "nr_free_pages",
        /// Anonymous pages on the inactive list.
        InactiveAnon = "nr_zone_inactive_anon",
        /// Anonymous pages on the active list.
        ActiveAnon = "nr_zone_active_anon",
        /// File pages on the inactive list.
        InactiveFile = "nr_zone_inactive_file",
        /// File pages on the active list.
        ActiveFile = "nr_zone_active_file",
        /// Pages on the unevictable list.
        Unevictable = "nr_zone_unevictable",
        /// Pages that are dirty or being written.
        WritePending = "nr_zone_write_pending",
        /// Pages locked by mlock.
        Mlock = "nr_mlock",
        /// Bounce buffer pages.
        Bounce = "nr_bounce",
        /// Pages of the compressed-object allocator.
        ZsPages = "nr_zspages",
        /// Free pages of CMA areas.
        FreeCma = "nr_free_cma",
    }
}

items! {
    /// Where allocations found their pages, counted in the zone that gave them (Linux: `enum numa_stat_item`).
    NumaEvent {
        /// Allocated here as wanted.
        Hit = "numa_hit",
        /// Allocated here though another node was wanted.
        Miss = "numa_miss",
        /// Wanted here and allocated elsewhere.
        Foreign = "numa_foreign",
        /// Interleaved allocations that got this node as wanted.
        Interleave = "numa_interleave",
        /// Allocated here by a CPU of the node.
        Local = "numa_local",
        /// Allocated here by a CPU of another node.
        Other = "numa_other",
    }
}

items! {
    /// What each node counts (Linux: `enum node_stat_item`). In pages unless named otherwise.
    NodeStat {
        /// Anonymous pages on the inactive list.
        InactiveAnon = "nr_inactive_anon",
        /// Anonymous pages on the active list.
        ActiveAnon = "nr_active_anon",
        /// File pages on the inactive list.
        InactiveFile = "nr_inactive_file",
        /// File pages on the active list.
        ActiveFile = "nr_active_file",
        /// Pages on the unevictable list.
        Unevictable = "nr_unevictable",
        /// Pages of slab caches that shrinkers can empty.
        SlabReclaimable = "nr_slab_reclaimable",
        /// Pages of the other slab caches.
        SlabUnreclaimable = "nr_slab_unreclaimable",
        /// Anonymous pages taken off the lists for a while.
        IsolatedAnon = "nr_isolated_anon",
        /// File pages taken off the lists for a while.
        IsolatedFile = "nr_isolated_file",
        /// Page-cache tree nodes that hold shadow entries.
        WorkingsetNodes = "workingset_nodes",
        /// Anonymous pages that came back after eviction.
        WorkingsetRefaultAnon = "workingset_refault_anon",
        /// File pages that came back after eviction.
        WorkingsetRefaultFile = "workingset_refault_file",
        /// Anonymous pages activated as they came back.
        WorkingsetActivateAnon = "workingset_activate_anon",
        /// File pages activated as they came back.
        WorkingsetActivateFile = "workingset_activate_file",
        /// Anonymous pages that were of the working set before their eviction.
        WorkingsetRestoreAnon = "workingset_restore_anon",
        /// File pages that were of the working set before their eviction.
        WorkingsetRestoreFile = "workingset_restore_file",
        /// Shadow nodes reclaimed.
        WorkingsetNodereclaim = "workingset_nodereclaim",
        /// Anonymous pages that are mapped.
        AnonMapped = "nr_anon_pages",
        /// File pages that are mapped.
        FileMapped = "nr_mapped",
        /// Pages in the page cache, shared memory and swap cache included.
        FilePages = "nr_file_pages",
        /// File pages to be written.
        FileDirty = "nr_dirty",
        /// File pages being written.
        Writeback = "nr_writeback",
        /// Pages being written through a temporary copy (FUSE).
        WritebackTemp = "nr_writeback_temp",
        /// Pages of shared memory and tmpfs.
        Shmem = "nr_shmem",
        /// Huge pages of shared memory, in base pages.
        ShmemThps = "nr_shmem_hugepages",
        /// Huge pages of shared memory mapped whole, in base pages.
        ShmemPmdMapped = "nr_shmem_pmdmapped",
        /// Huge pages of files, in base pages.
        FileThps = "nr_file_hugepages",
        /// Huge pages of files mapped whole, in base pages.
        FilePmdMapped = "nr_file_pmdmapped",
        /// Anonymous huge pages, in base pages.
        AnonThps = "nr_anon_transparent_hugepages",
        /// Pages that reclaim began to write.
        VmscanWrite = "nr_vmscan_write",
        /// Pages to be reclaimed when their write ends.
        VmscanImmediate = "nr_vmscan_immediate_reclaim",
        /// Pages made dirty since boot.
        Dirtied = "nr_dirtied",
        /// Pages written since boot.
        Written = "nr_written",
        /// Pages written while reclaim was throttled.
        ThrottledWritten = "nr_throttled_written",
        /// Pages of the kernel that can be reclaimed but are not slab.
        KernelMiscReclaimable = "nr_kernel_misc_reclaimable",
        /// Pins taken on user pages since boot.
        FollPinAcquired = "nr_foll_pin_acquired",
        /// Pins released since boot.
        FollPinReleased = "nr_foll_pin_released",
        /// KiB of kernel stacks.
        KernelStackKb = "nr_kernel_stack",
        /// Pages of page tables.
        PageTable = "nr_page_table_pages",
        /// Pages of secondary page tables (virtual machines).
        SecondaryPageTable = "nr_sec_page_table_pages",
        /// Pages in the swap cache.
        SwapCache = "nr_swapcached",
        /// Pages promoted to a faster node.
        PromoteSuccess = "pgpromote_success",
        /// Pages found worth promoting.
        PromoteCandidate = "pgpromote_candidate",
    }
}

items! {
    /// What happened since boot, over the whole machine (Linux: `enum vm_event_item`).
    VmEvent {
        /// KiB read from block devices.
        PgPgIn = "pgpgin",
        /// KiB written to block devices.
        PgPgOut = "pgpgout",
        /// Pages read from swap.
        PSwpIn = "pswpin",
        /// Pages written to swap.
        PSwpOut = "pswpout",
        /// Pages allocated from `DMA`.
        PgAllocDma = "pgalloc_dma",
        /// Pages allocated from `DMA32`.
        PgAllocDma32 = "pgalloc_dma32",
        /// Pages allocated from `Normal`.
        PgAllocNormal = "pgalloc_normal",
        /// Pages allocated from `Movable`.
        PgAllocMovable = "pgalloc_movable",
        /// Pages allocated from `Device`.
        PgAllocDevice = "pgalloc_device",
        /// Allocations that had to reclaim for `DMA`.
        AllocStallDma = "allocstall_dma",
        /// Allocations that had to reclaim for `DMA32`.
        AllocStallDma32 = "allocstall_dma32",
        /// Allocations that had to reclaim for `Normal`.
        AllocStallNormal = "allocstall_normal",
        /// Allocations that had to reclaim for `Movable`.
        AllocStallMovable = "allocstall_movable",
        /// Allocations that had to reclaim for `Device`.
        AllocStallDevice = "allocstall_device",
        /// Pages skipped by reclaim, being above, in `DMA`.
        PgSkipDma = "pgskip_dma",
        /// Pages skipped by reclaim, being above, in `DMA32`.
        PgSkipDma32 = "pgskip_dma32",
        /// Pages skipped by reclaim, being above, in `Normal`.
        PgSkipNormal = "pgskip_normal",
        /// Pages skipped by reclaim, being above, in `Movable`.
        PgSkipMovable = "pgskip_movable",
        /// Pages skipped by reclaim, being above, in `Device`.
        PgSkipDevice = "pgskip_device",
        /// Pages freed.
        PgFree = "pgfree",
        /// Pages moved to an active list.
        PgActivate = "pgactivate",
        /// Pages moved to an inactive list.
        PgDeactivate = "pgdeactivate",
        /// Pages marked to be freed lazily.
        PgLazyFree = "pglazyfree",
        /// Page faults.
        PgFault = "pgfault",
        /// Page faults that had to read.
        PgMajFault = "pgmajfault",
        /// Lazily freed pages that went.
        PgLazyFreed = "pglazyfreed",
        /// Pages scanned on an active list.
        PgRefill = "pgrefill",
        /// Write faults that kept the page, being its only user.
        PgReuse = "pgreuse",
        /// Pages reclaimed by kswapd.
        PgStealKswapd = "pgsteal_kswapd",
        /// Pages reclaimed by allocations.
        PgStealDirect = "pgsteal_direct",
        /// Pages demoted to a slower node by kswapd.
        PgDemoteKswapd = "pgdemote_kswapd",
        /// Pages demoted to a slower node by allocations.
        PgDemoteDirect = "pgdemote_direct",
        /// Pages scanned by kswapd.
        PgScanKswapd = "pgscan_kswapd",
        /// Pages scanned by allocations.
        PgScanDirect = "pgscan_direct",
        /// Allocations made to wait because reserves ran low.
        PgScanDirectThrottle = "pgscan_direct_throttle",
        /// Anonymous pages scanned.
        PgScanAnon = "pgscan_anon",
        /// File pages scanned.
        PgScanFile = "pgscan_file",
        /// Anonymous pages reclaimed.
        PgStealAnon = "pgsteal_anon",
        /// File pages reclaimed.
        PgStealFile = "pgsteal_file",
        /// Node-local reclaims that found nothing.
        ZoneReclaimFailed = "zone_reclaim_failed",
        /// Pages reclaimed by freeing inodes.
        PgInodeSteal = "pginodesteal",
        /// Slab objects scanned by shrinkers.
        SlabsScanned = "slabs_scanned",
        /// Pages reclaimed by kswapd freeing inodes.
        KswapdInodeSteal = "kswapd_inodesteal",
        /// Times kswapd slept and soon met the low watermark again.
        KswapdLowWmarkHitQuickly = "kswapd_low_wmark_hit_quickly",
        /// Times kswapd slept and soon met the high watermark again.
        KswapdHighWmarkHitQuickly = "kswapd_high_wmark_hit_quickly",
        /// Runs of kswapd.
        PageOutRun = "pageoutrun",
        /// Pages moved to the end of an inactive list.
        PgRotated = "pgrotated",
        /// Times the page cache was dropped.
        DropPageCache = "drop_pagecache",
        /// Times slab caches were dropped.
        DropSlab = "drop_slab",
        /// Processes killed for lack of memory.
        OomKill = "oom_kill",
        /// Page-table entries made to fault for NUMA balancing.
        NumaPteUpdates = "numa_pte_updates",
        /// As `NumaPteUpdates`, huge entries.
        NumaHugePteUpdates = "numa_huge_pte_updates",
        /// NUMA balancing faults.
        NumaHintFaults = "numa_hint_faults",
        /// NUMA balancing faults on the local node.
        NumaHintFaultsLocal = "numa_hint_faults_local",
        /// Pages migrated by NUMA balancing.
        NumaPagesMigrated = "numa_pages_migrated",
        /// Pages migrated.
        PgMigrateSuccess = "pgmigrate_success",
        /// Pages that could not be migrated.
        PgMigrateFail = "pgmigrate_fail",
        /// Huge pages migrated.
        ThpMigrationSuccess = "thp_migration_success",
        /// Huge pages that could not be migrated.
        ThpMigrationFail = "thp_migration_fail",
        /// Huge pages split to be migrated.
        ThpMigrationSplit = "thp_migration_split",
        /// Pages scanned by compaction for pages to move.
        CompactMigrateScanned = "compact_migrate_scanned",
        /// Pages scanned by compaction for free ones.
        CompactFreeScanned = "compact_free_scanned",
        /// Pages taken by compaction.
        CompactIsolated = "compact_isolated",
        /// Allocations that compacted.
        CompactStall = "compact_stall",
        /// Compactions that failed.
        CompactFail = "compact_fail",
        /// Compactions that succeeded.
        CompactSuccess = "compact_success",
        /// Times kcompactd was woken.
        CompactDaemonWake = "compact_daemon_wake",
        /// As `CompactMigrateScanned`, by kcompactd.
        CompactDaemonMigrateScanned = "compact_daemon_migrate_scanned",
        /// As `CompactFreeScanned`, by kcompactd.
        CompactDaemonFreeScanned = "compact_daemon_free_scanned",
        /// Huge pages of hugetlb got from the page allocator.
        HtlbBuddyAllocSuccess = "htlb_buddy_alloc_success",
        /// Huge pages of hugetlb that the page allocator did not have.
        HtlbBuddyAllocFail = "htlb_buddy_alloc_fail",
        /// Pages moved to the unevictable list.
        UnevictablePgsCulled = "unevictable_pgs_culled",
        /// Unevictable pages scanned.
        UnevictablePgsScanned = "unevictable_pgs_scanned",
        /// Pages moved back from the unevictable list.
        UnevictablePgsRescued = "unevictable_pgs_rescued",
        /// Pages locked by mlock.
        UnevictablePgsMlocked = "unevictable_pgs_mlocked",
        /// Pages unlocked by munlock.
        UnevictablePgsMunlocked = "unevictable_pgs_munlocked",
        /// Locked pages unlocked on their way out.
        UnevictablePgsCleared = "unevictable_pgs_cleared",
        /// Pages that could not be isolated to be unlocked.
        UnevictablePgsStranded = "unevictable_pgs_stranded",
        /// Huge pages allocated by faults.
        ThpFaultAlloc = "thp_fault_alloc",
        /// Faults that fell back to base pages.
        ThpFaultFallback = "thp_fault_fallback",
        /// As `ThpFaultFallback`, because of a memory cgroup.
        ThpFaultFallbackCharge = "thp_fault_fallback_charge",
        /// Huge pages allocated by khugepaged.
        ThpCollapseAlloc = "thp_collapse_alloc",
        /// Huge pages that khugepaged did not get.
        ThpCollapseAllocFailed = "thp_collapse_alloc_failed",
        /// Huge pages allocated for files.
        ThpFileAlloc = "thp_file_alloc",
        /// File allocations that fell back to base pages.
        ThpFileFallback = "thp_file_fallback",
        /// As `ThpFileFallback`, because of a memory cgroup.
        ThpFileFallbackCharge = "thp_file_fallback_charge",
        /// Huge pages of files mapped.
        ThpFileMapped = "thp_file_mapped",
        /// Huge pages split.
        ThpSplitPage = "thp_split_page",
        /// Huge pages that could not be split.
        ThpSplitPageFailed = "thp_split_page_failed",
        /// Huge pages queued to be split.
        ThpDeferredSplitPage = "thp_deferred_split_page",
        /// Huge mappings split.
        ThpSplitPmd = "thp_split_pmd",
        /// Scans of khugepaged ended by too many empty entries.
        ThpScanExceedNonePte = "thp_scan_exceed_none_pte",
        /// Scans of khugepaged ended by too many swap entries.
        ThpScanExceedSwapPte = "thp_scan_exceed_swap_pte",
        /// Scans of khugepaged ended by too many shared pages.
        ThpScanExceedSharePte = "thp_scan_exceed_share_pte",
        /// 1 GiB mappings split.
        ThpSplitPud = "thp_split_pud",
        /// Huge zero pages allocated.
        ThpZeroPageAlloc = "thp_zero_page_alloc",
        /// Huge zero pages that could not be allocated.
        ThpZeroPageAllocFailed = "thp_zero_page_alloc_failed",
        /// Huge pages swapped out whole.
        ThpSwpOut = "thp_swpout",
        /// Huge pages split to be swapped out.
        ThpSwpOutFallback = "thp_swpout_fallback",
        /// Pages given to a balloon.
        BalloonInflate = "balloon_inflate",
        /// Pages got back from a balloon.
        BalloonDeflate = "balloon_deflate",
        /// Balloon pages migrated.
        BalloonMigrate = "balloon_migrate",
        /// Swap read-ahead pages.
        SwapRa = "swap_ra",
        /// Swap read-ahead pages that were used.
        SwapRaHit = "swap_ra_hit",
        /// Merged pages copied at swap-in.
        KsmSwpInCopy = "ksm_swpin_copy",
        /// Merged pages copied at a write.
        CowKsm = "cow_ksm",
        /// 2 MiB pages of the direct map split.
        DirectMapLevel2Splits = "direct_map_level2_splits",
        /// 1 GiB pages of the direct map split.
        DirectMapLevel3Splits = "direct_map_level3_splits",
    }
}

impl NodeStat {
    /// Whether `/proc` shows it in huge pages rather than base pages (Linux: `vmstat_item_print_in_thp`).
    pub const fn shown_in_huge_pages(self) -> bool {
        matches!(
            self,
            Self::AnonThps | Self::FileThps | Self::ShmemThps | Self::ShmemPmdMapped | Self::FilePmdMapped
        )
    }
}

impl VmEvent {
    /// Pages allocated from that zone (Linux: `PGALLOC_DMA` and so on).
    #[inline(always)]
    pub const fn pg_alloc(zone: ZoneIdx) -> Self {
        Self::PG_ALLOC[zone.index()]
    }

    /// Allocations that had to reclaim for that zone (Linux: `ALLOCSTALL_DMA` and so on).
    pub const fn alloc_stall(zone: ZoneIdx) -> Self {
        match zone {
            ZoneIdx::Dma => Self::AllocStallDma,
            ZoneIdx::Dma32 => Self::AllocStallDma32,
            ZoneIdx::Normal => Self::AllocStallNormal,
            ZoneIdx::Movable => Self::AllocStallMovable,
            ZoneIdx::Device => Self::AllocStallDevice,
        }
    }

    /// Pages of that zone that reclaim skipped (Linux: `PGSCAN_SKIP_DMA` and so on).
    pub const fn pg_skip(zone: ZoneIdx) -> Self {
        match zone {
            ZoneIdx::Dma => Self::PgSkipDma,
            ZoneIdx::Dma32 => Self::PgSkipDma32,
            ZoneIdx::Normal => Self::PgSkipNormal,
            ZoneIdx::Movable => Self::PgSkipMovable,
            ZoneIdx::Device => Self::PgSkipDevice,
        }
    }

    const PG_ALLOC: [Self; ZoneIdx::COUNT] = [
        Self::PgAllocDma,
        Self::PgAllocDma32,
        Self::PgAllocNormal,
        Self::PgAllocMovable,
        Self::PgAllocDevice,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn names<I: Item>() -> Vec<&'static str> {
        I::ALL.iter().map(|i| i.name()).collect()
    }

    #[test]
    fn each_item_has_its_place_and_a_name_of_its_own() {
        #[track_caller]
        fn check<I: Item>(count: usize) {
            assert_eq!(I::ALL.len(), count);
            assert!(I::ALL.iter().enumerate().all(|(n, i)| i.index() == n));
            assert_eq!(names::<I>().into_iter().collect::<BTreeSet<_>>().len(), count);
        }
        check::<ZoneStat>(11);
        check::<NumaEvent>(6);
        check::<NodeStat>(43);
        check::<VmEvent>(VmEvent::COUNT);
    }

    #[test]
    fn events_of_a_zone_bear_its_name() {
        for zone in ZoneIdx::ALL {
            let ending = std::format!("_{}", zone.name().to_lowercase());
            for event in [VmEvent::pg_alloc(zone), VmEvent::alloc_stall(zone), VmEvent::pg_skip(zone)] {
                assert!(event.name().ends_with(&ending), "{} for {zone:?}", event.name());
            }
        }
    }
}
