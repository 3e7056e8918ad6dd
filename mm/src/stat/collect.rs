//! From the living structures to plain numbers. Nothing stops meanwhile, so sums may be a few pages apart; what CPUs have
//! not carried over is in them.

use super::freelists::FreeLists;
use super::meminfo::{MemInfo, Others, Reserves};
use super::node::NodeInfo;
use super::vmstat::VmStat;
use super::zoneinfo::{PageSet, ZoneInfo};
use crate::counters::{Item, NumaEvent, VmEvent};
use crate::counters::{NodeValues, ZoneValues};
use crate::gfp::MigrateType;
use crate::id::{CpuId, ZoneIdx};
use crate::node::{Node, Nodes};
use crate::order::{Order, PAGEBLOCK_NR_PAGES};
use crate::page_alloc::PageAllocator;
use crate::pcp::EventCounts;
use crate::zone::{Watermark, Zone};

/// A zone as `/proc/zoneinfo` shows it.
pub fn zone_info(pages: &PageAllocator, zone: &Zone) -> ZoneInfo {
    let watermark = |which| zone.watermark(which);
    ZoneInfo {
        node: zone.node(),
        zone: zone.idx(),
        boost: zone.watermark_boost(),
        watermarks: [watermark(Watermark::Min), watermark(Watermark::Low), watermark(Watermark::High)],
        spanned: zone.spanned(),
        present: zone.present(),
        managed: zone.managed(),
        cma: zone.cma_pages(),
        protection: protection(zone),
        stats: zone.counters().snapshot(),
        numa: if zone.is_populated() { pages.numa_events(zone) } else { [0; NumaEvent::COUNT] },
        node_unreclaimable: 0,
        start_pfn: zone.start_pfn().get(),
    }
}

/// Each CPU's lists of a zone.
pub fn page_sets<'a>(pages: &'a PageAllocator, zone: &'a Zone) -> impl Iterator<Item = PageSet> + 'a {
    (0..zone.pagesets().nr_cpus()).map(|cpu| PageSet {
        cpu,
        count: pages.pcp_count(zone, CpuId(cpu)),
        high: zone.pcp_high(),
        batch: zone.pcp_batch(),
        stat_threshold: zone.stat_threshold(),
    })
}

/// The free blocks of a zone. Holds the zone's lock for as many steps as there are lists.
pub fn free_lists(zone: &Zone) -> FreeLists {
    let free = zone.free().lock();
    let mut nr = [[0; MigrateType::COUNT]; Order::COUNT];
    for order in Order::all() {
        nr[order.index()] = MigrateType::ALL.map(|migrate_type| free.area(order).nr(migrate_type));
    }
    FreeLists { node: zone.node(), zone: zone.idx(), nr }
}

/// How many pageblocks of a zone are of each type. A step for each pageblock.
pub fn pageblocks(zone: &Zone) -> [u64; MigrateType::COUNT] {
    let mut blocks = [0; MigrateType::COUNT];
    let span = zone.span();
    let mut pfn = span.start;
    while pfn < span.end {
        let page = zone.sparse().page(pfn);
        if page.is_some_and(|page| page.node() == zone.node() && page.zone() == zone.idx()) {
            blocks[zone.sparse().migrate_type(pfn).index()] += 1;
        }
        pfn = (pfn + 1).align_up(PAGEBLOCK_NR_PAGES);
    }
    blocks
}

/// What `/proc/meminfo` is made from.
pub fn mem_info(nodes: &Nodes, others: Others) -> MemInfo {
    MemInfo {
        cma: nodes.populated_zones().map(Zone::cma_pages).sum(),
        total: nodes.populated_zones().map(Zone::managed).sum(),
        zones: zone_sums(nodes),
        nodes: node_sums(nodes),
        reserves: reserves(nodes),
        others,
    }
}

/// What `/proc/vmstat` is made from.
pub fn vm_stat(pages: &PageAllocator) -> VmStat {
    let (nodes, mut events) = (pages.nodes(), pages.vm_events().sums());
    let (mut all, mut numa) = (EventCounts::default(), [0; NumaEvent::COUNT]);
    for zone in nodes.populated_zones() {
        let counts = pages.events(zone);
        events[VmEvent::pg_alloc(zone.idx()).index()] += counts.pages_allocated();
        all.add(&counts);
        numa = add_up([numa, pages.numa_events(zone)].into_iter());
    }
    events[VmEvent::PgFree.index()] += all.pages_freed();
    let info = mem_info(nodes, Others::default());
    let dirty_limits = info.dirty_limits();
    VmStat { zones: info.zones, numa, nodes: info.nodes, dirty_limits, events }
}

/// What a node's `meminfo`, `numastat` and `vmstat` are made from. There are no huge pages yet.
pub fn node_info(pages: &PageAllocator, node: &Node) -> NodeInfo {
    NodeInfo {
        node: node.id(),
        total: node.populated_zones().map(Zone::managed).sum(),
        zones: add_up(node.populated_zones().map(|zone| zone.counters().snapshot())),
        numa: add_up(node.populated_zones().map(|zone| pages.numa_events(zone))),
        stats: node.counters().snapshot(),
        huge_pages: [0; 3],
    }
}

fn protection(zone: &Zone) -> [u64; ZoneIdx::COUNT] {
    ZoneIdx::ALL.map(|above| zone.lowmem_reserve(above))
}

fn reserves(nodes: &Nodes) -> Reserves {
    let mut reserves = Reserves::default();
    for zone in nodes.populated_zones() {
        // Linux adds watermarks without their boost here.
        let (low, high) =
            (zone.watermark_unboosted(Watermark::Low), zone.watermark_unboosted(Watermark::High));
        let protection = protection(zone);
        reserves.add_zone(&protection[zone.idx().index()..], low, high, zone.managed());
    }
    reserves
}

fn zone_sums(nodes: &Nodes) -> ZoneValues {
    add_up(nodes.populated_zones().map(|zone| zone.counters().snapshot()))
}

fn node_sums(nodes: &Nodes) -> NodeValues {
    add_up(nodes.iter().map(|node| node.counters().snapshot()))
}

fn add_up<const N: usize>(values: impl Iterator<Item = [u64; N]>) -> [u64; N] {
    values.fold([0; N], |sum, more| core::array::from_fn(|n| sum[n] + more[n]))
}
