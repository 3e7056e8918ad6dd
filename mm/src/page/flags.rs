//! The flags and the type of a page, with Linux 6.1's names.

use core::fmt;

use super::refs::MapState;

bitflags::bitflags! {
    /// Flags of a page; bit numbers are Linux 6.1's (`enum pageflags`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PageFlags: u64 {
        /// Being read in or written out.
        const LOCKED = 1 << 0;
        /// Used since reclaim last looked.
        const REFERENCED = 1 << 1;
        /// Contents are valid.
        const UPTODATE = 1 << 2;
        /// To be written back.
        const DIRTY = 1 << 3;
        /// On an LRU list.
        const LRU = 1 << 4;
        /// On the active LRU list.
        const ACTIVE = 1 << 5;
        /// Was part of the working set when last evicted.
        const WORKINGSET = 1 << 6;
        /// Somebody waits for a flag.
        const WAITERS = 1 << 7;
        /// An input or output error happened.
        const ERROR = 1 << 8;
        /// Holds slab objects.
        const SLAB = 1 << 9;
        /// The owner's.
        const OWNER_PRIV_1 = 1 << 10;
        /// The architecture's.
        const ARCH_1 = 1 << 11;
        /// Not the page allocator's: the kernel image, holes, memory in use since boot.
        const RESERVED = 1 << 12;
        /// `private` belongs to a file system.
        const PRIVATE = 1 << 13;
        /// As `PRIVATE`, once more.
        const PRIVATE_2 = 1 << 14;
        /// Being written back.
        const WRITEBACK = 1 << 15;
        /// First page of a compound page.
        const HEAD = 1 << 16;
        /// Has blocks on disk.
        const MAPPEDTODISK = 1 << 17;
        /// To be reclaimed soon.
        const RECLAIM = 1 << 18;
        /// Backed by swap.
        const SWAPBACKED = 1 << 19;
        /// Cannot be evicted.
        const UNEVICTABLE = 1 << 20;
        /// Locked by `mlock`.
        const MLOCKED = 1 << 21;
        /// Hardware found it broken.
        const HWPOISON = 1 << 22;
    }
}

impl PageFlags {
    /// Flags that a page must not have when it is freed (Linux: `PAGE_FLAGS_CHECK_AT_FREE`).
    pub const CHECK_AT_FREE: Self = Self::LRU
        .union(Self::LOCKED)
        .union(Self::PRIVATE)
        .union(Self::PRIVATE_2)
        .union(Self::WRITEBACK)
        .union(Self::RESERVED)
        .union(Self::SLAB)
        .union(Self::ACTIVE)
        .union(Self::UNEVICTABLE)
        .union(Self::MLOCKED);
    /// Flags that a page must not have when it is allocated (Linux: `PAGE_FLAGS_CHECK_AT_PREP`): all but `HWPOISON`.
    pub const CHECK_AT_PREP: Self = Self::all().difference(Self::HWPOISON);
}

bitflags::bitflags! {
    /// The flags that whoever reaches a page may change: they say something of its contents, and nobody trusts them with
    /// memory. Bits are those of [`PageFlags`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct OwnerFlags: u64 {
        /// [`PageFlags::LOCKED`].
        const LOCKED = PageFlags::LOCKED.bits();
        /// [`PageFlags::REFERENCED`].
        const REFERENCED = PageFlags::REFERENCED.bits();
        /// [`PageFlags::UPTODATE`].
        const UPTODATE = PageFlags::UPTODATE.bits();
        /// [`PageFlags::DIRTY`].
        const DIRTY = PageFlags::DIRTY.bits();
        /// [`PageFlags::WORKINGSET`].
        const WORKINGSET = PageFlags::WORKINGSET.bits();
        /// [`PageFlags::ERROR`].
        const ERROR = PageFlags::ERROR.bits();
        /// [`PageFlags::OWNER_PRIV_1`].
        const OWNER_PRIV_1 = PageFlags::OWNER_PRIV_1.bits();
        /// [`PageFlags::ARCH_1`].
        const ARCH_1 = PageFlags::ARCH_1.bits();
        /// [`PageFlags::MAPPEDTODISK`].
        const MAPPEDTODISK = PageFlags::MAPPEDTODISK.bits();
        /// [`PageFlags::RECLAIM`].
        const RECLAIM = PageFlags::RECLAIM.bits();
    }
}

/// What an unmapped page is used for. Shares its word with the mapcount less one, so `NONE` is that of a page mapped
/// nowhere, and the others are numbers that no mapcount reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageType(u32);

impl PageType {
    /// No type and mapped nowhere.
    pub const NONE: Self = Self(u32::MAX);
    /// Head of a free block in the buddy allocator.
    pub const BUDDY: Self = Self(!0x80);
    /// Not there, for a balloon or memory hotplug.
    pub const OFFLINE: Self = Self(!0x100);
    /// A page table.
    pub const TABLE: Self = Self(!0x200);
    /// A guard page of `debug_pagealloc`.
    pub const GUARD: Self = Self(!0x400);
    /// Mapped at least once: no type.
    pub const MAPPED: Self = Self(0);

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        match MapState::of(bits) {
            MapState::Mapped(_) | MapState::Overflow => Self::MAPPED,
            MapState::Unmapped | MapState::Typed(_) | MapState::Underflow => Self(bits),
        }
    }
}

impl fmt::Debug for PageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::NONE => "none",
            Self::BUDDY => "buddy",
            Self::OFFLINE => "offline",
            Self::TABLE => "table",
            Self::GUARD => "guard",
            Self::MAPPED => "mapped",
            Self(bits) => return write!(f, "unknown({bits:#x})"),
        })
    }
}
