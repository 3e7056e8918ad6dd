//! What a cache is asked to be, and how asking can fail.

use core::fmt;
use core::ptr::NonNull;

bitflags::bitflags! {
    /// Wishes for a cache, with Linux 6.1's names and bits (`SLAB_...`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct CacheFlags: u32 {
        /// Objects start at cache lines, or at as much of one as small objects fill.
        const HWCACHE_ALIGN = 0x2000;
        /// Slabs come from below 16 MiB.
        const CACHE_DMA = 0x4000;
        /// Boot cannot go on without the cache: failing to create it panics.
        const PANIC = 0x40000;
        /// Objects are reclaimable: slabs are kept with other reclaimable pages and counted as such.
        const RECLAIM_ACCOUNT = 0x20000;
        /// A freed object's memory stays an object of this cache until readers under RCU are done.
        const TYPESAFE_BY_RCU = 0x80000;
        /// Accounted to memory cgroups.
        const ACCOUNT = 0x0400_0000;
    }
}

/// Makes a new object of its memory, once: before it is handed out for the first time. What it makes is still there when the
/// object is allocated, provided that who freed it had left it so.
///
/// # Safety
/// The object is the caller's and nobody else's, as large and aligned as the cache's objects are. The function does not use its
/// cache. It may run in any context.
pub type Constructor = unsafe fn(object: NonNull<u8>);

/// What to create (Linux: the arguments of `kmem_cache_create`).
#[derive(Clone, Copy, Debug)]
pub struct CacheParams<'a> {
    /// The name in `/proc/slabinfo`.
    pub name: &'a str,
    /// Bytes of an object.
    pub object_size: usize,
    /// Alignment in bytes, a power of two; 0 leaves it to the flags.
    pub align: usize,
    /// Wishes.
    pub flags: CacheFlags,
    /// Makes each object once.
    pub constructor: Option<Constructor>,
}

impl<'a> CacheParams<'a> {
    /// Objects of that many bytes, without wishes.
    pub const fn new(name: &'a str, object_size: usize) -> Self {
        Self { name, object_size, align: 0, flags: CacheFlags::empty(), constructor: None }
    }

    /// With an alignment.
    #[must_use]
    pub const fn align(self, align: usize) -> Self {
        Self { align, ..self }
    }

    /// With a constructor. Objects are not to be asked for zeroed then: it would be in vain.
    #[must_use]
    pub const fn constructor(self, constructor: Constructor) -> Self {
        Self { constructor: Some(constructor), ..self }
    }

    /// With flags.
    #[must_use]
    pub const fn flags(self, flags: CacheFlags) -> Self {
        Self { flags, ..self }
    }
}

/// Why the slab allocator could not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The page allocator has no memory.
    NoMemory,
    /// Larger than any block of pages.
    TooLarge,
    /// No name, no size, an alignment that is no power of two, or no such node.
    Invalid,
    /// So many objects are in use that the cache cannot be destroyed.
    LiveObjects(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("out of memory"),
            Self::TooLarge => f.write_str("larger than the largest block of pages"),
            Self::Invalid => {
                f.write_str("a slab cache needs a name, a size, and a power of two as alignment")
            }
            Self::LiveObjects(nr) => write!(f, "{nr} objects are still in use"),
        }
    }
}

impl core::error::Error for Error {}
