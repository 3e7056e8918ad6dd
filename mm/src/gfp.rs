//! What an allocation may do and where it may come from: Linux's GFP flags and the zone table.

use crate::id::ZoneIdx;

bitflags::bitflags! {
    /// "Get free pages" flags. Bits have Linux 6.1's meaning and names (`__GFP_DMA` is [`Gfp::DMA`]).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Gfp: u32 {
        /// From below 16 MiB.
        const DMA = 0x01;
        /// The kernel needs no mapping of it: all of user space's pages. With [`Gfp::MOVABLE`] from the movable zone.
        const HIGHMEM = 0x02;
        /// From below 4 GiB.
        const DMA32 = 0x04;
        /// The page can be moved. With [`Gfp::HIGHMEM`] it may come from the movable zone.
        const MOVABLE = 0x08;
        /// The page can be freed on demand.
        const RECLAIMABLE = 0x10;
        /// High priority: may use part of the reserves.
        const HIGH = 0x20;
        /// May start physical input and output.
        const IO = 0x40;
        /// May call into file systems.
        const FS = 0x80;
        /// Zero the memory.
        const ZERO = 0x100;
        /// Cannot sleep and must not fail for lack of reclaim: may use high-atomic reserves.
        const ATOMIC = 0x200;
        /// May reclaim directly, so it may sleep.
        const DIRECT_RECLAIM = 0x400;
        /// Wakes kswapd when memory gets low.
        const KSWAPD_RECLAIM = 0x800;
        /// The caller will write to the page: rather from a node with few dirty pages.
        const WRITE = 0x1000;
        /// Do not report a failure.
        const NOWARN = 0x2000;
        /// Retry reclaim as long as it makes progress.
        const RETRY_MAYFAIL = 0x4000;
        /// Never fail.
        const NOFAIL = 0x8000;
        /// Do not retry.
        const NORETRY = 0x10000;
        /// May use all reserves.
        const MEMALLOC = 0x20000;
        /// Make a compound page.
        const COMP = 0x40000;
        /// Must not use the reserves.
        const NOMEMALLOC = 0x80000;
        /// Obey the cpuset.
        const HARDWALL = 0x100000;
        /// Only the given node.
        const THISNODE = 0x200000;
        /// Account to the memory cgroup.
        const ACCOUNT = 0x400000;

        /// Both kinds of reclaim.
        const RECLAIM = Self::DIRECT_RECLAIM.bits() | Self::KSWAPD_RECLAIM.bits();
        /// The usual allocation of the kernel, from a context that may sleep.
        const KERNEL = Self::RECLAIM.bits() | Self::IO.bits() | Self::FS.bits();
        /// From a context that must not sleep.
        const ATOMIC_CONTEXT = Self::HIGH.bits() | Self::ATOMIC.bits() | Self::KSWAPD_RECLAIM.bits();
        /// From a context that must not sleep and can live with a failure.
        const NOWAIT = Self::KSWAPD_RECLAIM.bits();
        /// For user space.
        const USER = Self::KERNEL.bits() | Self::HARDWALL.bits();
        /// For user space, without a mapping of the kernel's.
        const HIGHUSER = Self::USER.bits() | Self::HIGHMEM.bits();
        /// For user space, movable.
        const HIGHUSER_MOVABLE = Self::HIGHUSER.bits() | Self::MOVABLE.bits();
        /// As `KERNEL`, charged to the memory cgroup.
        const KERNEL_ACCOUNT = Self::KERNEL.bits() | Self::ACCOUNT.bits();
        /// From within a file system.
        const NOFS = Self::RECLAIM.bits() | Self::IO.bits();
        /// From within input and output.
        const NOIO = Self::RECLAIM.bits();
        /// A huge page that nobody waits for.
        const TRANSHUGE_LIGHT = (Self::HIGHUSER_MOVABLE.bits() | Self::COMP.bits() | Self::NOMEMALLOC.bits()
            | Self::NOWARN.bits()) & !Self::RECLAIM.bits();
        /// A huge page that is worth reclaim.
        const TRANSHUGE = Self::TRANSHUGE_LIGHT.bits() | Self::DIRECT_RECLAIM.bits();
    }
}

/// What the pages of a pageblock are used for; free lists are kept by it to keep unmovable pages together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum MigrateType {
    /// Cannot be moved.
    Unmovable = 0,
    /// Can be moved.
    Movable = 1,
    /// Can be freed on demand.
    Reclaimable = 2,
    /// Kept for high-priority atomic allocations.
    HighAtomic = 3,
    /// Of a contiguous-memory area: for movable pages until the area is asked for memory.
    Cma = 4,
    /// Set aside; nothing is allocated from it.
    Isolate = 5,
}

impl MigrateType {
    /// How many there are (Linux: `MIGRATE_TYPES`).
    pub const COUNT: usize = 6;
    /// How many have per-CPU lists (Linux: `MIGRATE_PCPTYPES`): the first ones.
    pub const PCP_COUNT: usize = 3;
    /// All, in Linux's order.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Unmovable, Self::Movable, Self::Reclaimable, Self::HighAtomic, Self::Cma, Self::Isolate];

    /// The number as an index.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The type with that number.
    #[inline(always)]
    pub const fn from_index(index: usize) -> Option<Self> {
        // Not through `ALL`: this way it costs a comparison and no load.
        match index {
            0 => Some(Self::Unmovable),
            1 => Some(Self::Movable),
            2 => Some(Self::Reclaimable),
            3 => Some(Self::HighAtomic),
            4 => Some(Self::Cma),
            5 => Some(Self::Isolate),
            _ => None,
        }
    }

    /// Linux's name in `/proc/pagetypeinfo`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmovable => "Unmovable",
            Self::Movable => "Movable",
            Self::Reclaimable => "Reclaimable",
            Self::HighAtomic => "HighAtomic",
            Self::Cma => "CMA",
            Self::Isolate => "Isolate",
        }
    }
}

impl Gfp {
    /// The highest zone that satisfies the flags (Linux: `gfp_zone`). `DMA` wins over `DMA32`, either over `HIGHMEM`;
    /// `MOVABLE` alone says nothing of the zone.
    #[inline(always)]
    pub const fn zone(self) -> ZoneIdx {
        const TABLE: [ZoneIdx; 16] = {
            let mut table = [ZoneIdx::Normal; 16];
            let mut bits = 0;
            while bits < table.len() {
                table[bits] = match Gfp::from_bits_retain(bits as u32) {
                    gfp if gfp.contains(Gfp::DMA) => ZoneIdx::Dma,
                    gfp if gfp.contains(Gfp::DMA32) => ZoneIdx::Dma32,
                    gfp if gfp.contains(Gfp::MOVABLE.union(Gfp::HIGHMEM)) => ZoneIdx::Movable,
                    _ => ZoneIdx::Normal,
                };
                bits += 1;
            }
            table
        };
        TABLE[self.bits() as usize % TABLE.len()]
    }

    /// The migratetype of pages allocated with the flags (Linux: `gfp_migratetype`).
    #[inline(always)]
    pub const fn migrate_type(self) -> MigrateType {
        // MOVABLE is bit 3 and RECLAIMABLE bit 4: together they are the type's number.
        const TABLE: [MigrateType; 4] = [
            MigrateType::Unmovable,
            MigrateType::Movable,
            MigrateType::Reclaimable,
            MigrateType::Reclaimable,
        ];
        TABLE[(self.bits() >> 3) as usize % TABLE.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_choose_the_zone() {
        assert_eq!(Gfp::KERNEL.zone(), ZoneIdx::Normal);
        assert_eq!((Gfp::KERNEL | Gfp::DMA).zone(), ZoneIdx::Dma);
        assert_eq!((Gfp::KERNEL | Gfp::DMA32).zone(), ZoneIdx::Dma32);
        assert_eq!(Gfp::HIGHUSER_MOVABLE.zone(), ZoneIdx::Movable);
        assert_eq!((Gfp::MOVABLE | Gfp::DMA32).zone(), ZoneIdx::Dma32);
        assert_eq!((Gfp::KERNEL | Gfp::MOVABLE).zone(), ZoneIdx::Normal);
        assert_eq!(Gfp::HIGHUSER.zone(), ZoneIdx::Normal);
    }

    #[test]
    fn combinations_have_linuxs_bits() {
        for (gfp, bits) in [
            (Gfp::KERNEL, 0xcc0),
            (Gfp::HIGHUSER_MOVABLE, 0x10_0cca),
            (Gfp::ATOMIC_CONTEXT, 0xa20),
            (Gfp::NOWAIT, 0x800),
            (Gfp::NOFS, 0xc40),
            (Gfp::KERNEL_ACCOUNT, 0x40_0cc0),
            (Gfp::TRANSHUGE, 0x1c_24ca),
        ] {
            assert_eq!(gfp.bits(), bits, "{gfp:?}");
        }
    }

    #[test]
    fn flags_choose_the_migratetype() {
        assert_eq!(Gfp::KERNEL.migrate_type(), MigrateType::Unmovable);
        assert_eq!(Gfp::HIGHUSER_MOVABLE.migrate_type(), MigrateType::Movable);
        assert_eq!((Gfp::KERNEL | Gfp::RECLAIMABLE).migrate_type(), MigrateType::Reclaimable);
    }
}
