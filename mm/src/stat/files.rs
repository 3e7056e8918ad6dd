//! The files by name, and what they are read from.

use core::fmt::{self, Write};

use super::meminfo::{Others, write_meminfo};
use super::slabinfo::SlabInfo;
use super::vmstat::write_vmstat;
use super::{collect, freelists, slabinfo, zoneinfo};
use crate::counters::CpuEvents;
use crate::node::Node;
use crate::page_alloc::PageAllocator;
use crate::zone::Zone;

/// All that the files show. Borrowed from the machine for as long as one is written.
pub struct System<'a> {
    /// The page allocator, and through it nodes and zones.
    pub pages: &'a PageAllocator,
    /// The slab caches.
    pub slabs: &'a dyn SlabCaches,
    /// The resource tree, whose text is that of `/proc/iomem`.
    pub iomem: &'a dyn fmt::Display,
    /// Events that the page allocator does not count itself.
    pub events: &'a CpuEvents,
    /// What is counted elsewhere.
    pub others: Others,
}

/// Whoever has slab caches to show.
pub trait SlabCaches {
    /// Calls `show` with each cache, in the order of `/proc/slabinfo`: the newest first.
    ///
    /// # Errors
    /// The first of `show`.
    fn for_each(&self, show: &mut dyn FnMut(&SlabInfo<'_>) -> fmt::Result) -> fmt::Result;
}

impl fmt::Debug for System<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("others", &self.others).finish_non_exhaustive()
    }
}

/// A file of `/proc` about memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// Zones: limits, counters, per-CPU lists.
    ZoneInfo,
    /// Free blocks by order.
    BuddyInfo,
    /// Free blocks by order and type, pageblocks by type.
    PageTypeInfo,
    /// Slab caches.
    SlabInfo,
    /// The machine's memory in KiB.
    MemInfo,
    /// All counters.
    VmStat,
    /// Physical addresses and what is there.
    Iomem,
}

/// The text could not be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error<'a> {
    /// There is no file of that name.
    Unknown(&'a str),
    /// The writer failed.
    Write,
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no file named '{name}'"),
            Self::Write => f.write_str("the text could not be written"),
        }
    }
}

impl core::error::Error for Error<'_> {}

impl From<fmt::Error> for Error<'_> {
    fn from(_: fmt::Error) -> Self {
        Self::Write
    }
}

impl File {
    /// All of them, in the order of `dump=all`.
    pub const ALL: [Self; 7] = [
        Self::ZoneInfo,
        Self::BuddyInfo,
        Self::PageTypeInfo,
        Self::SlabInfo,
        Self::MemInfo,
        Self::VmStat,
        Self::Iomem,
    ];

    /// Its name for `dump=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZoneInfo => "zoneinfo",
            Self::BuddyInfo => "buddyinfo",
            Self::PageTypeInfo => "pagetypeinfo",
            Self::SlabInfo => "slabinfo",
            Self::MemInfo => "meminfo",
            Self::VmStat => "vmstat",
            Self::Iomem => "iomem",
        }
    }

    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ZoneInfo => "/proc/zoneinfo",
            Self::BuddyInfo => "/proc/buddyinfo",
            Self::PageTypeInfo => "/proc/pagetypeinfo",
            Self::SlabInfo => "/proc/slabinfo",
            Self::MemInfo => "/proc/meminfo",
            Self::VmStat => "/proc/vmstat",
            Self::Iomem => "/proc/iomem",
        }
    }

    /// The file of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
    }

    /// The files of a list like `zoneinfo,meminfo` or `all`, in its order; empty names are passed over.
    pub fn list(names: &str) -> impl Iterator<Item = Result<Self, Error<'_>>> {
        names.split(',').filter(|name| !name.is_empty()).flat_map(|name| {
            let files: &'static [Self] = if name == "all" { &Self::ALL } else { &[] };
            let one = (name != "all").then(|| Self::named(name).ok_or(Error::Unknown(name)));
            files.iter().copied().map(Ok).chain(one)
        })
    }

    /// Writes its text. Takes each zone's lock for a moment; any context that may.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(self, system: &System<'_>, out: &mut dyn Write) -> fmt::Result {
        match self {
            Self::ZoneInfo => write_zoneinfo(system.pages, out),
            Self::BuddyInfo => {
                let mut zones = system.pages.nodes().populated_zones();
                zones.try_for_each(|zone| freelists::write_buddyinfo(out, &collect::free_lists(zone)))
            }
            Self::PageTypeInfo => write_pagetypeinfo(system.pages, out),
            Self::SlabInfo => {
                slabinfo::write_head(out)?;
                system.slabs.for_each(&mut |cache| slabinfo::write_cache(out, cache))
            }
            Self::MemInfo => write_meminfo(out, &collect::mem_info(system.pages.nodes(), system.others)),
            Self::VmStat => write_vmstat(out, &collect::vm_stat(system.pages, system.events.sums())),
            Self::Iomem => write!(out, "{}", system.iomem),
        }
    }

    /// Writes its text between lines that say which file it is, as `dump=` does.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn dump(self, system: &System<'_>, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "--- begin {} ---", self.path())?;
        self.write(system, out)?;
        writeln!(out, "--- end {} ---", self.path())
    }
}

/// Writes the text of the file of that name.
///
/// # Errors
/// When there is none, or as `out`.
pub fn write<'a>(name: &'a str, system: &System<'_>, out: &mut dyn Write) -> Result<(), Error<'a>> {
    File::named(name).ok_or(Error::Unknown(name))?.write(system, out)?;
    Ok(())
}

fn write_zoneinfo(pages: &PageAllocator, out: &mut dyn Write) -> fmt::Result {
    for node in pages.nodes().iter() {
        let first = node.populated_zones().next().map(Zone::idx);
        for zone in node.zones() {
            let node_stats = (first == Some(zone.idx())).then(|| node.counters().snapshot());
            let info = collect::zone_info(pages, zone);
            zoneinfo::write_zone(out, &info, node_stats.as_ref(), collect::page_sets(pages, zone))?;
        }
    }
    Ok(())
}

fn write_pagetypeinfo(pages: &PageAllocator, out: &mut dyn Write) -> fmt::Result {
    for node in pages.nodes().iter().filter(|node| Node::has_memory(node)) {
        freelists::write_pagetype_head(out)?;
        for zone in node.populated_zones() {
            freelists::write_pagetype_free(out, &collect::free_lists(zone))?;
        }
        freelists::write_pageblock_head(out)?;
        for zone in node.populated_zones() {
            freelists::write_pageblocks(out, zone.node(), zone.idx(), &collect::pageblocks(zone))?;
        }
    }
    Ok(())
}
