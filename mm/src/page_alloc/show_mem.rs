//! The state of memory in the log, line by line as Linux 6.1 has it.
//!
//! ```text
//! Mem-Info:            the machine's sums
//! Node 0 active_anon:  a line for each node
//! Node 0 DMA free:     two for each zone: limits and counts, lowmem_reserve[]
//! Node 0 DMA: 3*4kB    free blocks of each zone by order, and of which types
//! hugepages, page cache, swap, pages RAM and reserved
//! ```

use core::fmt::{self, Write};

use crate::arch;
use crate::buddy::FreeAreas;
use crate::counters::{NodeStat, ZoneStat};
use crate::gfp::MigrateType;
use crate::id::{NodeId, ZoneIdx};
use crate::node::Node;
use crate::numa::NodeMask;
use crate::order::Order;
use crate::zone::{Watermark, Zone};

use super::PageAllocator;
use super::report::letter;

const fn kb(pages: u64) -> u64 {
    pages << (crate::PAGE_SHIFT - 10)
}

/// Which nodes are shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Nodes<'a> {
    /// All.
    All,
    /// Those of a mask.
    Of(&'a NodeMask),
}

impl Nodes<'_> {
    fn has(self, node: NodeId) -> bool {
        match self {
            Self::All => true,
            Self::Of(mask) => mask.contains(node),
        }
    }
}

impl PageAllocator {
    /// Logs the state of memory (Linux: `show_mem`). Any context; takes each zone's lock for a moment, and leaves the free
    /// blocks of a zone out whose lock is held.
    pub fn show_mem(&self) {
        self.show_mem_of(Nodes::All);
    }

    #[cold]
    pub(super) fn show_mem_of(&self, shown: Nodes<'_>) {
        log::warn!("Mem-Info:");
        self.show_sums(shown);
        self.nodes().iter().filter(|node| shown.has(node.id())).for_each(|node| self.show_node(node));
        let zones = || self.nodes().populated_zones().filter(|zone| shown.has(zone.node()));
        zones().for_each(|zone| self.show_zone(zone));
        for zone in zones() {
            log::warn!("Node {} {}: {}", zone.node(), zone.idx().name(), FreeBlocks(zone));
        }
        for node in self.nodes().iter().filter(|node| shown.has(node.id())) {
            log::warn!(
                "Node {} hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=2048kB",
                node.id()
            );
        }
        log::warn!("{} total pagecache pages", self.node_sum(NodeStat::FilePages));
        log::warn!("{} pages in swap cache", self.node_sum(NodeStat::SwapCache));
        log::warn!("Free swap  = 0kB");
        log::warn!("Total swap = 0kB");
        let all = || self.nodes().populated_zones();
        log::warn!("{} pages RAM", all().map(Zone::present).sum::<u64>());
        log::warn!("0 pages HighMem/MovableOnly");
        log::warn!("{} pages reserved", all().map(|zone| zone.present() - zone.managed()).sum::<u64>());
        log::warn!("0 pages hwpoisoned");
    }

    fn node_sum(&self, stat: NodeStat) -> u64 {
        self.nodes().iter().map(|node| node.counters().get(stat)).sum()
    }

    fn zone_sum(&self, stat: ZoneStat) -> u64 {
        self.nodes().populated_zones().map(|zone| zone.stat(stat)).sum()
    }

    fn show_sums(&self, shown: Nodes<'_>) {
        use NodeStat as N;
        let node = |stat| self.node_sum(stat);
        let zones = self.nodes().populated_zones().filter(|zone| shown.has(zone.node()));
        let free_pcp: u64 = zones.map(|zone| self.pcp_pages(zone)).sum();
        log::warn!(
            "active_anon:{} inactive_anon:{} isolated_anon:{}",
            node(N::ActiveAnon),
            node(N::InactiveAnon),
            node(N::IsolatedAnon)
        );
        log::warn!(
            " active_file:{} inactive_file:{} isolated_file:{}",
            node(N::ActiveFile),
            node(N::InactiveFile),
            node(N::IsolatedFile)
        );
        log::warn!(
            " unevictable:{} dirty:{} writeback:{}",
            node(N::Unevictable),
            node(N::FileDirty),
            node(N::Writeback)
        );
        log::warn!(
            " slab_reclaimable:{} slab_unreclaimable:{}",
            node(N::SlabReclaimable),
            node(N::SlabUnreclaimable)
        );
        log::warn!(
            " mapped:{} shmem:{} pagetables:{}",
            node(N::FileMapped),
            node(N::Shmem),
            node(N::PageTable)
        );
        log::warn!(
            " sec_pagetables:{} bounce:{}",
            node(N::SecondaryPageTable),
            self.zone_sum(ZoneStat::Bounce)
        );
        log::warn!(" kernel_misc_reclaimable:{}", node(N::KernelMiscReclaimable));
        log::warn!(
            " free:{} free_pcp:{free_pcp} free_cma:{}",
            self.zone_sum(ZoneStat::FreePages),
            self.zone_sum(ZoneStat::FreeCma)
        );
    }

    fn show_node(&self, node: &Node) {
        let unreclaimable = self.hooks.reclaim().is_some_and(|r| r.is_unreclaimable(node.id()));
        log::warn!("{}", NodeLine(node, if unreclaimable { "yes" } else { "no" }));
    }

    fn show_zone(&self, zone: &Zone) {
        let local_pcp = {
            let _irq = arch::IrqGuard::new();
            self.pcp_count(zone, arch::cpu_id())
        };
        log::warn!("{}", ZoneLine { zone, free_pcp: self.pcp_pages(zone), local_pcp });
        log::warn!("lowmem_reserve[]:{}", Reserve(zone));
    }
}

struct NodeLine<'a>(&'a Node, &'static str);

impl fmt::Display for NodeLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use NodeStat as N;
        write!(f, "Node {}", self.0.id())?;
        for (name, stat) in [
            ("active_anon:", N::ActiveAnon),
            ("inactive_anon:", N::InactiveAnon),
            ("active_file:", N::ActiveFile),
            ("inactive_file:", N::InactiveFile),
            ("unevictable:", N::Unevictable),
            ("isolated(anon):", N::IsolatedAnon),
            ("isolated(file):", N::IsolatedFile),
            ("mapped:", N::FileMapped),
            ("dirty:", N::FileDirty),
            ("writeback:", N::Writeback),
            ("shmem:", N::Shmem),
            // With a space, as Linux has these.
            ("shmem_thp: ", N::ShmemThps),
            ("shmem_pmdmapped: ", N::ShmemPmdMapped),
            ("anon_thp: ", N::AnonThps),
            ("writeback_tmp:", N::WritebackTemp),
        ] {
            write!(f, " {name}{}kB", kb(self.0.counters().get(stat)))?;
        }
        write!(
            f,
            " kernel_stack:{}kB pagetables:{}kB sec_pagetables:{}kB all_unreclaimable? {}",
            self.0.counters().get(N::KernelStackKb),
            kb(self.0.counters().get(N::PageTable)),
            kb(self.0.counters().get(N::SecondaryPageTable)),
            self.1
        )
    }
}

struct ZoneLine<'a> {
    zone: &'a Zone,
    free_pcp: u64,
    local_pcp: u32,
}

impl fmt::Display for ZoneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ZoneStat as Z;
        let Self { zone, free_pcp, local_pcp } = *self;
        write!(
            f,
            "Node {} {} free:{}kB boost:{}kB min:{}kB low:{}kB high:{}kB reserved_highatomic:{}KB",
            zone.node(),
            zone.idx().name(),
            kb(zone.nr_free()),
            kb(zone.watermark_boost()),
            kb(zone.watermark(Watermark::Min)),
            kb(zone.watermark(Watermark::Low)),
            kb(zone.watermark(Watermark::High)),
            kb(zone.nr_reserved_highatomic())
        )?;
        for (name, pages) in [
            ("active_anon", zone.stat(Z::ActiveAnon)),
            ("inactive_anon", zone.stat(Z::InactiveAnon)),
            ("active_file", zone.stat(Z::ActiveFile)),
            ("inactive_file", zone.stat(Z::InactiveFile)),
            ("unevictable", zone.stat(Z::Unevictable)),
            ("writepending", zone.stat(Z::WritePending)),
            ("present", zone.present()),
            ("managed", zone.managed()),
            ("mlocked", zone.stat(Z::Mlock)),
            ("bounce", zone.stat(Z::Bounce)),
            ("free_pcp", free_pcp),
            ("local_pcp", u64::from(local_pcp)),
            ("free_cma", zone.stat(Z::FreeCma)),
        ] {
            write!(f, " {name}:{}kB", kb(pages))?;
        }
        Ok(())
    }
}

struct Reserve<'a>(&'a Zone);

impl fmt::Display for Reserve<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ZoneIdx::ALL.iter().try_for_each(|&above| write!(f, " {}", self.0.lowmem_reserve(above)))
    }
}

/// `3*4kB (UM) 1*8kB (U) ... = 2048kB`.
struct FreeBlocks<'a>(&'a Zone);

impl fmt::Display for FreeBlocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is locked is counted now, and written when the lock is free again: the console may take its time.
        let Some(free) = self.0.free().try_lock() else { return f.write_str("(locked)") };
        let counts = Order::all().map(|order| (order, free.area(order).nr_free(), types(&free, order)));
        let mut lines = [(Order::ZERO, 0, 0); Order::COUNT];
        lines.iter_mut().zip(counts).for_each(|(line, count)| *line = count);
        drop(free);
        let mut total = 0;
        for (order, nr, types) in lines {
            write!(f, "{nr}*{}kB ", kb(order.nr_pages()))?;
            total += nr * order.nr_pages();
            if nr > 0 {
                f.write_str("(")?;
                for migrate_type in MigrateType::ALL.into_iter().filter(|t| types >> t.index() & 1 != 0) {
                    f.write_char(letter(migrate_type))?;
                }
                f.write_str(") ")?;
            }
        }
        write!(f, "= {}kB", kb(total))
    }
}

/// A bit for each type that has a block of that order.
fn types(free: &FreeAreas, order: Order) -> u32 {
    let area = free.area(order);
    MigrateType::ALL.into_iter().filter(|&t| area.nr(t) > 0).fold(0, |bits, t| bits | 1 << t.index())
}
