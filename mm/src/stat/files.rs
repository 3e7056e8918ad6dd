//! The files by name, and what they are read from.

use core::fmt::{self, Write};

use super::meminfo::{Others, write_meminfo};
use super::path::{Directory, Path};
use super::slabinfo::SlabInfo;
use super::vmallocinfo::{VmallocInfo, write_area};
use super::vmstat::write_vmstat;
use super::{collect, freelists, node, slabinfo, zoneinfo};
use crate::id::{CpuId, NodeId};
use crate::node::{Node, NodeState, NodeStates};
use crate::numa::{NodeMask, Numa};
use crate::page_alloc::PageAllocator;
use crate::zone::{Setting, Sysctl, Zone};

/// All that the files show. Borrowed from the machine for as long as one is written.
pub struct System<'a> {
    /// The page allocator, and through it nodes and zones.
    pub pages: &'a PageAllocator,
    /// The slab caches.
    pub slabs: &'a dyn SlabCaches,
    /// The vmalloc space.
    pub vmalloc: &'a dyn VmallocAreas,
    /// The resource tree, whose text is that of `/proc/iomem`.
    pub iomem: &'a dyn fmt::Display,
    /// Nodes and CPUs.
    pub topology: Topology<'a>,
    /// The settings of zones.
    pub sysctl: &'a Sysctl,
    /// What is counted elsewhere.
    pub others: Others,
}

/// Which nodes and CPUs there are, and how near.
#[derive(Clone, Copy)]
pub struct Topology<'a> {
    /// Distances, and the possible CPUs by node.
    pub numa: &'a Numa<'a>,
    /// The nodes by state.
    pub states: &'a NodeStates,
    /// Whether a possible CPU runs.
    pub is_online: &'a dyn Fn(CpuId) -> bool,
}

/// Whoever has slab caches to show.
pub trait SlabCaches {
    /// Calls `show` with each cache, in the order of `/proc/slabinfo`: the newest first.
    ///
    /// # Errors
    /// The first of `show`.
    fn for_each(&self, show: &mut dyn FnMut(&SlabInfo<'_>) -> fmt::Result) -> fmt::Result;
}

/// Whoever has areas of the vmalloc space to show.
pub trait VmallocAreas {
    /// Calls `show` with each area, by address.
    ///
    /// # Errors
    /// The first of `show`.
    fn for_each(&self, show: &mut dyn FnMut(&VmallocInfo<'_>) -> fmt::Result) -> fmt::Result;
}

impl fmt::Debug for System<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("others", &self.others).finish_non_exhaustive()
    }
}

/// A file about memory.
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
    /// Areas of the vmalloc space.
    VmallocInfo,
    /// Physical addresses and what is there.
    Iomem,
    /// Who has which pages; empty when that is not recorded. Too long for `dump=all`.
    PageOwner,
    /// A setting of zones.
    Setting(Setting),
    /// The nodes in a state.
    Nodes(NodeState),
    /// A file of an online node.
    OfNode(NodeId, NodeFile),
}

/// A file that each online node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeFile {
    /// Its CPUs that run, as a list.
    CpuList,
    /// The same as bits.
    CpuMap,
    /// Distances to the online nodes.
    Distance,
    /// Its memory in KiB.
    MemInfo,
    /// Where allocations found their pages.
    NumaStat,
    /// All its counters.
    VmStat,
}

impl NodeFile {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::CpuList, Self::CpuMap, Self::Distance, Self::MemInfo, Self::NumaStat, Self::VmStat];

    /// Its name in the node's directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuList => "cpulist",
            Self::CpuMap => "cpumap",
            Self::Distance => "distance",
            Self::MemInfo => "meminfo",
            Self::NumaStat => "numastat",
            Self::VmStat => "vmstat",
        }
    }
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
    /// Those of `/proc`, in the order of `dump=all`. Showing areas takes memory for a moment, so they come first: all others show
    /// the same state.
    pub const PROC: [Self; 8] = [
        Self::VmallocInfo,
        Self::ZoneInfo,
        Self::BuddyInfo,
        Self::PageTypeInfo,
        Self::SlabInfo,
        Self::MemInfo,
        Self::VmStat,
        Self::Iomem,
    ];

    /// All files of a machine with these online nodes, in the order of `dump=all`.
    pub fn all(online: &NodeMask) -> impl Iterator<Item = Self> + Clone {
        let of_nodes = online
            .iter()
            .flat_map(|node| NodeFile::ALL.into_iter().map(move |file| Self::OfNode(node, file)));
        let settings = Setting::ALL.into_iter().map(Self::Setting);
        Self::PROC
            .into_iter()
            .chain(settings)
            .chain(NodeState::ALL.into_iter().map(Self::Nodes))
            .chain(of_nodes)
    }

    /// Its path.
    pub fn path(self) -> Path {
        let proc = |name| Path { directory: Directory::Proc, name };
        match self {
            Self::ZoneInfo => proc("zoneinfo"),
            Self::BuddyInfo => proc("buddyinfo"),
            Self::PageTypeInfo => proc("pagetypeinfo"),
            Self::SlabInfo => proc("slabinfo"),
            Self::MemInfo => proc("meminfo"),
            Self::VmStat => proc("vmstat"),
            Self::VmallocInfo => proc("vmallocinfo"),
            Self::Iomem => proc("iomem"),
            Self::PageOwner => Path { directory: Directory::Debug, name: "page_owner" },
            Self::Setting(setting) => Path { directory: Directory::SysVm, name: setting.name() },
            Self::Nodes(state) => Path { directory: Directory::Nodes, name: state.name() },
            Self::OfNode(node, file) => Path { directory: Directory::Node(node), name: file.name() },
        }
    }

    /// The files of a list like `zoneinfo,node0/meminfo` or `all`, name by name; empty names are passed over. A name is a
    /// path, its last parts, or directories in it, for all files below. That of a file in `/proc` means only this one.
    pub fn list<'n>(names: &'n str, online: &NodeMask) -> impl Iterator<Item = Result<Self, Error<'n>>> {
        names.split(',').filter(|name| !name.is_empty()).flat_map(move |name| {
            let proc = Self::PROC.into_iter().find(|file| file.path().name == name);
            let meant = move |file: &Self| match proc {
                Some(proc) => *file == proc,
                None => name == "all" || file.path().is_meant_by(name),
            };
            let by_name = [Self::PageOwner].into_iter().filter(move |file| name != "all" && meant(file));
            let mut files = Self::all(online).filter(meant).chain(by_name).peekable();
            let none = files.peek().is_none().then_some(Err(Error::Unknown(name)));
            files.map(Ok).chain(none)
        })
    }

    /// Writes its text; nothing for a node that is not online. Takes each zone's lock for a moment; any context that may.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(self, system: &System<'_>, out: &mut dyn Write) -> fmt::Result {
        match self {
            Self::ZoneInfo => write_zoneinfo(system, out),
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
            Self::VmStat => write_vmstat(out, &collect::vm_stat(system.pages)),
            Self::VmallocInfo => system.vmalloc.for_each(&mut |area| write_area(out, area)),
            Self::Iomem => write!(out, "{}", system.iomem),
            Self::PageOwner => system.pages.write_page_owner(out),
            Self::Setting(setting) => setting.show(system.sysctl, out),
            Self::Nodes(state) => {
                node::write_list(out, system.topology.states.get(state).iter().map(|n| u32::from(n.0)))
            }
            Self::OfNode(id, file) => match system.pages.nodes().get(id) {
                Some(node) => file.write(node, system, out),
                None => Ok(()),
            },
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

impl NodeFile {
    fn write(self, node: &Node, system: &System<'_>, out: &mut dyn Write) -> fmt::Result {
        let Topology { numa, states, is_online } = system.topology;
        let runs_here = |cpu: u32| is_online(CpuId(cpu)) && numa.is_cpu_on(CpuId(cpu), node.id());
        match self {
            Self::CpuList => node::write_list(out, (0..numa.nr_cpu_ids()).filter(|cpu| runs_here(*cpu))),
            Self::CpuMap => node::write_map(out, numa.nr_cpu_ids(), runs_here),
            Self::Distance => {
                let online = states.get(NodeState::Online).iter();
                node::write_distance(out, online.map(|to| (to, numa.distance(node.id(), to))))
            }
            Self::MemInfo => node::write_node_meminfo(out, &collect::node_info(system.pages, node)),
            Self::NumaStat => node::write_numastat(out, &collect::node_info(system.pages, node).numa),
            Self::VmStat => node::write_node_vmstat(out, &collect::node_info(system.pages, node)),
        }
    }
}

fn write_zoneinfo(system: &System<'_>, out: &mut dyn Write) -> fmt::Result {
    let (pages, online) = (system.pages, system.topology.states.get(NodeState::Online));
    for node in pages.nodes().iter().filter(|node| online.contains(node.id())) {
        let first = node.populated_zones().next().map(Zone::idx);
        for zone in node.zones() {
            let node_stats = (first == Some(zone.idx())).then(|| node.counters().snapshot());
            let info = collect::zone_info(pages, zone);
            let sets =
                collect::page_sets(pages, zone).filter(|set| (system.topology.is_online)(CpuId(set.cpu)));
            zoneinfo::write_zone(out, &info, node_stats.as_ref(), sets)?;
        }
    }
    Ok(())
}

fn write_pagetypeinfo(pages: &PageAllocator, out: &mut dyn Write) -> fmt::Result {
    let types = freelists::shown_types(pages.nodes().populated_zones().map(Zone::cma_pages).sum());
    for node in pages.nodes().iter().filter(|node| Node::has_memory(node)) {
        freelists::write_pagetype_head(out)?;
        for zone in node.populated_zones() {
            freelists::write_pagetype_free(out, &collect::free_lists(zone), types)?;
        }
        freelists::write_pageblock_head(out, types)?;
        for zone in node.populated_zones() {
            freelists::write_pageblocks(out, zone.node(), zone.idx(), &collect::pageblocks(zone), types)?;
        }
    }
    Ok(())
}
