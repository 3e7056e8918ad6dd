//! Names of CPUs, nodes, zones and sections.

use core::fmt;

/// A logical CPU, numbered from 0 in the order in which the MADT lists the enabled ones, the boot CPU first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct CpuId(pub u32);

impl CpuId {
    /// The CPU that boots the machine.
    pub const BOOT: Self = Self(0);

    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A NUMA node, numbered from 0 in the order in which the SRAT first names their proximity domains.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct NodeId(pub u16);

/// How many nodes there can be (Linux: `MAX_NUMNODES`, here Debian's 1024). Bounded by the bits for the node in a
/// page's flags.
pub const MAX_NUMNODES: usize = 1024;

impl NodeId {
    /// The first node, the only one of a machine without NUMA.
    pub const FIRST: Self = Self(0);

    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The zones of a node, lowest first. Each holds what the ones below cannot: memory that fewer users can take.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum ZoneIdx {
    /// Below 16 MiB: for devices with 24 address bits.
    Dma = 0,
    /// Below 4 GiB: for devices with 32 address bits.
    Dma32 = 1,
    /// The rest.
    Normal = 2,
    /// Memory for movable pages only.
    Movable = 3,
    /// Memory of devices; never handed to the page allocator.
    Device = 4,
}

impl ZoneIdx {
    /// How many zones a node has (Linux: `MAX_NR_ZONES`).
    pub const COUNT: usize = 5;
    /// All zones, lowest first.
    pub const ALL: [Self; Self::COUNT] = [Self::Dma, Self::Dma32, Self::Normal, Self::Movable, Self::Device];

    /// The number as an index.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The zone with that number.
    pub const fn from_index(index: usize) -> Option<Self> {
        if index < Self::COUNT { Some(Self::ALL[index]) } else { None }
    }

    /// Linux's name: `DMA`, `DMA32`, `Normal`, `Movable`, `Device`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
            Self::Movable => "Movable",
            Self::Device => "Device",
        }
    }
}

/// A memory section: 128 MiB of physical memory, the unit in which the vmemmap is populated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct SectionNr(pub u32);
