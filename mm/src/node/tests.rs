use std::vec;
use std::vec::Vec;

use super::*;
use crate::PhysRange;
use crate::arch::SimMachine;
use crate::memblock::{Flags, Memblock, Region};
use crate::sparse::AlreadyPopulated;
use crate::zone::testdata::{Machine as Facts, machines};
use crate::zone::{OutOfRange, Setting, Sysctl, Watermark};

impl NodeMap for Facts {
    fn nr_ids(&self) -> usize {
        self.possible
    }
    fn is_possible(&self, node: NodeId) -> bool {
        node.index() < self.possible
    }
    fn is_online(&self, node: NodeId) -> bool {
        self.is_possible(node)
    }
    fn distance(&self, from: NodeId, to: NodeId) -> u64 {
        let row = self.distances.get(from.index()).and_then(|r| r.get(to.index()));
        row.copied().unwrap_or(if from == to { 10 } else { 20 })
    }
}

/// A machine with a node more that could come online.
struct OneMore<'f>(&'f Facts);

impl NodeMap for OneMore<'_> {
    fn nr_ids(&self) -> usize {
        self.0.nr_ids() + 1
    }
    fn is_possible(&self, node: NodeId) -> bool {
        node.index() < self.nr_ids()
    }
    fn is_online(&self, node: NodeId) -> bool {
        self.0.is_online(node)
    }
    fn distance(&self, from: NodeId, to: NodeId) -> u64 {
        self.0.distance(from, to)
    }
}

/// Builds a machine's nodes, without touching its struct pages, and shows them to `check`.
fn with_nodes(m: &Facts, check: impl FnOnce(&Memblock<'_>, Nodes)) {
    with_nodes_of(m, m, check);
}

fn with_nodes_of(m: &Facts, map: &impl NodeMap, check: impl FnOnce(&Memblock<'_>, Nodes)) {
    let end = m.ram.iter().map(|r| r.pages.end).max().unwrap();
    let sim = SimMachine::new(end.align_up(crate::sparse::SECTION_NR_PAGES).byte());
    let (mut memory, mut reserved) = (vec![Region::EMPTY; 64], vec![Region::EMPTY; 64]);
    let mut memblock = Memblock::new(&mut memory, &mut reserved);
    for r in &m.ram {
        let bytes = PhysRange::new(r.pages.start.byte(), r.pages.end.byte()).unwrap();
        let pluggable = m.hotplug.iter().any(|h| h.pages.intersect(r.pages) == r.pages);
        let flags = if pluggable { Flags::HOTPLUG } else { Flags::empty() };
        memblock.add_node(bytes, r.node, flags).unwrap();
    }
    // SAFETY: simulated RAM of this machine, nobody else's; it outlives the nodes.
    let setup = unsafe {
        memblock.allow_resize(sim.machine());
        let data = NodeData::allocate(&mut memblock, sim.machine(), map).unwrap();
        let sparse = Sparse::init(&mut memblock, sim.machine(), &mut AlreadyPopulated).unwrap();
        Setup::new(&mut memblock, data, sparse, m.online, m.movable_request()).unwrap()
    };
    let nodes = setup.build_zonelists(&mut memblock, map).unwrap();
    nodes.validate();
    nodes.sparse().validate(&memblock);
    check(&memblock, nodes);
    memblock.validate();
}

#[test]
fn fallback_orders_and_zonelists_are_linuxs() {
    for m in machines().into_iter().filter(|m| !m.distances.is_empty()) {
        with_nodes(&m, |_, nodes| {
            for (id, order) in &m.fallback {
                let node = nodes.get(*id).unwrap();
                let mut got = vec![*id];
                got.extend(node.zonelist(ZonelistKind::Fallback).entries().iter().map(ZoneRef::node));
                got.dedup();
                assert_eq!(&got, order, "{} node {id}", m.name);
            }
            for (kind, id, highest, zones) in &m.zonelists {
                let kind = if kind == "general" { ZonelistKind::Fallback } else { ZonelistKind::ThisNode };
                let list = nodes.get(*id).unwrap().zonelist(kind);
                let got: Vec<_> = list.zones(*highest).map(|z| (z.node(), z.idx())).collect();
                assert_eq!(&got, zones, "{} {kind:?} {id}:{highest:?}", m.name);
                assert_eq!(list.preferred(*highest).map(|z| (z.node(), z.idx())), zones.first().copied());
            }
        });
    }
}

#[test]
fn holes_are_filed_under_linuxs_zones() {
    for m in machines() {
        with_nodes(&m, |memblock, nodes| {
            let mut got = Vec::new();
            crate::init::holes(memblock, &nodes, |node, zone, pages| got.push((node, zone, pages)));
            assert_eq!(got, m.unavailable, "{}", m.name);
        });
    }
}

#[test]
fn limits_follow_from_managed_pages_as_in_linux() {
    // Others set something while running, or were given pages in between.
    let steady =
        |m: &Facts| m.user_min_free.is_none() && m.zones.iter().all(|z| z.managed == [z.managed[0]; 5]);
    let mut seen = 0;
    for m in machines().into_iter().filter(steady) {
        with_nodes(&m, |_, nodes| {
            seen += 1;
            let zone = |z: &crate::zone::testdata::ZoneFacts| nodes.get(z.node).unwrap().zone(z.idx);
            m.zones.iter().for_each(|z| zone(z).add_managed(z.managed[0]));
            let of_node = |id| m.zones.iter().find(|z| z.node == id).map_or(0, |z| z.cpus);
            let cpus = Cpus { online: m.online, of_node: &of_node };
            let mut sysctl = Sysctl {
                lowmem_reserve_ratio: m.ratio,
                percpu_pagelist_high_fraction: m.high_fraction,
                ..Sysctl::default()
            };
            nodes.init_watermarks(&mut sysctl, cpus);
            let huge = if m.huge_pages { HugePages::Wanted } else { HugePages::Never };
            nodes.raise_min_free(&mut sysctl, huge, cpus);
            assert_eq!(sysctl.min_free_kbytes, m.min_free_kbytes, "{}", m.name);
            for facts in &m.zones {
                let zone = zone(facts);
                let got = [Watermark::Min, Watermark::Low, Watermark::High].map(|w| zone.watermark(w));
                let pcp = (zone.pcp_high(), zone.pcp_batch(), zone.stat_threshold());
                assert_eq!(got, facts.watermarks, "{} {zone:?}", m.name);
                assert_eq!(pcp, (facts.high, facts.batch, facts.threshold), "{} {zone:?}", m.name);
                assert_eq!(
                    ZoneIdx::ALL.map(|z| zone.lowmem_reserve(z)),
                    facts.protection,
                    "{} {zone:?}",
                    m.name
                );
            }
            nodes.validate();
        });
    }
    assert!(seen >= 20, "{seen} machines");
}

#[test]
fn a_value_that_the_user_set_is_raised_but_never_lowered() {
    let m = machines().into_iter().find(|m| m.name == "uma-2g").unwrap();
    with_nodes(&m, |_, nodes| {
        m.zones.iter().for_each(|z| nodes.get(z.node).unwrap().zone(z.idx).add_managed(z.managed[0]));
        let cpus = Cpus { online: 1, of_node: &|_| 1 };
        for (set, want) in [(1024, 45056), (65536, 65536)] {
            let mut sysctl = Sysctl::default();
            (sysctl.min_free_kbytes, sysctl.user_min_free_kbytes) = (set, Some(set));
            nodes.raise_min_free(&mut sysctl, HugePages::Wanted, cpus);
            assert_eq!(sysctl.min_free_kbytes, want);
        }
    });
}

#[test]
fn what_follows_from_a_setting_is_computed_again() {
    let m = machines().into_iter().find(|m| m.name == "uma-4g").unwrap();
    with_nodes(&m, |_, nodes| {
        m.zones.iter().for_each(|z| nodes.get(z.node).unwrap().zone(z.idx).add_managed(z.managed[0]));
        let cpus = Cpus { online: 2, of_node: &|_| 2 };
        let mut sysctl = Sysctl::default();
        nodes.init_watermarks(&mut sysctl, cpus);
        let normal = nodes.get(NodeId::FIRST).unwrap().zone(ZoneIdx::Normal);
        let dma = nodes.get(NodeId::FIRST).unwrap().zone(ZoneIdx::Dma);
        let mut set = |setting, text: &str| nodes.set(setting, text, &mut sysctl, cpus);

        set(Setting::MinFreeKbytes, "65536").unwrap();
        let share = 65536 / 4 * normal.managed() / nodes.managed();
        assert_eq!(normal.watermark(Watermark::Min), share);
        let low = normal.watermark(Watermark::Low);
        assert_eq!(u64::from(normal.pcp_high()), low / 2);
        set(Setting::WatermarkScaleFactor, "1000").unwrap();
        assert_eq!(normal.watermark(Watermark::Low), share + normal.managed() / 10);
        set(Setting::PercpuPagelistHighFraction, "100").unwrap();
        assert_eq!(u64::from(normal.pcp_high()), normal.managed() / 100 / 2);
        let above = nodes.managed() - dma.managed();
        assert_eq!(dma.lowmem_reserve(ZoneIdx::Normal), above / 256);
        set(Setting::LowmemReserveRatio, "64").unwrap();
        assert_eq!(dma.lowmem_reserve(ZoneIdx::Normal), above / 64);

        assert_eq!(set(Setting::MinFreeKbytes, "much"), Err(OutOfRange));
        assert_eq!(normal.watermark(Watermark::Min), share);
    });
}

#[test]
fn everything_is_computed_again_when_a_zone_has_grown() {
    let m = machines().into_iter().find(|m| m.name == "uma-4g").unwrap();
    with_nodes(&m, |_, nodes| {
        let cpus = Cpus { online: 1, of_node: &|_| 1 };
        let zone = |idx| nodes.get(NodeId::FIRST).unwrap().zone(idx);
        let (dma, normal) = (zone(ZoneIdx::Dma), zone(ZoneIdx::Normal));
        dma.add_managed(3840);
        normal.add_managed(20_000);
        let mut sysctl = Sysctl::default();
        nodes.init_watermarks(&mut sysctl, cpus);
        let small = sysctl;
        normal.add_managed(200_000);
        nodes.init_watermarks(&mut sysctl, cpus);

        assert!(sysctl.min_free_kbytes > small.min_free_kbytes);
        let share = sysctl.min_free_kbytes / 4 * normal.managed() / nodes.managed();
        assert_eq!(normal.watermark(Watermark::Min), share);
        assert_eq!(u64::from(normal.pcp_high()), normal.watermark(Watermark::Low));
        assert_eq!(normal.pcp_batch(), crate::zone::limits::pcp_batch(220_000));
        assert_eq!(normal.stat_threshold(), crate::zone::limits::stat_threshold(220_000, 1));
        assert_eq!(dma.lowmem_reserve(ZoneIdx::Normal), 220_000 / 256);
    });
}

#[test]
fn zonelists_are_logged_as_linux_logs_them() {
    for m in machines().into_iter().filter(|m| !m.zonelists.is_empty()) {
        let lines = crate::testlog::capture(|| with_nodes(&m, |_, nodes| nodes.log_zonelists())).1;
        let got: Vec<_> = lines.iter().filter(|l| l.starts_with("mminit::zonelist")).collect();
        assert_eq!(got.len(), m.zonelists.len(), "{}", m.name);
        for (line, (kind, id, highest, zones)) in got.into_iter().zip(&m.zonelists) {
            let mut want = std::format!("mminit::zonelist {kind} {id}:{} = ", highest.name());
            zones.iter().for_each(|(n, z)| want += &std::format!("{n}:{} ", z.name()));
            assert_eq!(line, &want, "{}", m.name);
        }
    }
}

/// The lines that boot logs of a machine's nodes, struct pages included.
fn boot_log(m: &Facts) -> Vec<std::string::String> {
    let log = || {
        with_nodes(m, |memblock, nodes| {
            // SAFETY: simulated pages that nobody uses, of the sections made from this memblock.
            unsafe { crate::init::struct_pages(memblock, &nodes) };
        });
    };
    crate::testlog::capture(log).1
}

#[test]
fn boot_logs_what_linux_logs() {
    let m = machines().into_iter().find(|m| m.name == "cmd-kernelcore1g-numa2").unwrap();
    let got = boot_log(&m);
    let want = [
        "Zone ranges:",
        "  DMA      [mem 0x0000000000001000-0x0000000000ffffff]",
        "  DMA32    [mem 0x0000000001000000-0x00000000ffffffff]",
        "  Normal   [mem 0x0000000100000000-0x00000001bfffffff]",
        "  Device   empty",
        "Movable zone start for each node",
        "  Node 1: 0x0000000100000000",
        "Early memory node ranges",
        "  node   0: [mem 0x0000000000001000-0x000000000009efff]",
        "  node   0: [mem 0x0000000000100000-0x000000007fffffff]",
        "  node   1: [mem 0x0000000080000000-0x00000000bffdffff]",
        "  node   1: [mem 0x0000000100000000-0x00000001bfffffff]",
        "Initmem setup node 0 [mem 0x0000000000001000-0x000000007fffffff]",
        "Initmem setup node 1 [mem 0x0000000080000000-0x00000001bfffffff]",
        "Fallback order for Node 0: 0 1 ",
        "Fallback order for Node 1: 1 0 ",
    ];
    let at = got.iter().position(|l| l == want[0]).unwrap();
    assert_eq!(&got[at..at + want.len()], want);
    let size = size_of::<Node>().next_multiple_of(crate::PAGE_SIZE) as u64;
    let data = std::format!("NODE_DATA(0) allocated [mem {:#010x}-0x7fffffff]", 0x8000_0000 - size);
    assert!(got.contains(&data), "{data}");
    assert!(got.iter().any(|l| l.starts_with("Built 2 zonelists, mobility grouping on.  Total pages: ")));
    assert!(got.iter().any(|l| l == "Policy zone: DMA32"));
    for line in ["0, zone DMA: 1", "0, zone DMA: 97", "1, zone Movable: 32"] {
        assert!(got.contains(&std::format!("On node {line} pages in unavailable ranges")), "{line}");
    }
}

#[test]
fn a_node_that_is_not_online_has_zonelists_but_is_not_counted() {
    let m = machines().into_iter().find(|m| m.name == "uma-2g").unwrap();
    let got = crate::testlog::capture(|| with_nodes_of(&m, &OneMore(&m), |_, _| ())).1;
    for line in ["Initializing node 1 as memoryless", "Fallback order for Node 1: 1 0 "] {
        assert!(got.iter().any(|l| l == line), "{line}");
    }
    assert!(got.iter().any(|l| l.starts_with("Built 1 zonelists, ")), "{got:?}");
}

#[test]
fn an_order_takes_a_few_looks_at_each_node() {
    struct Ring(core::cell::Cell<usize>);
    impl Topology for Ring {
        fn distance(&self, from: NodeId, to: NodeId) -> u64 {
            self.0.set(self.0.get() + 1);
            10 + u64::from(from.0.abs_diff(to.0) % 7)
        }
        fn has_memory(&self, _: NodeId) -> bool {
            true
        }
        fn has_cpus(&self, _: NodeId) -> bool {
            false
        }
    }
    let (mut load, mut order) = (vec![0; 256], vec![Default::default(); 256]);
    let (ring, mut seen) = (Ring(Default::default()), 0);
    let mut orders = FallbackOrder::new(&mut load, &mut order);
    (0..256).for_each(|local| orders.build(NodeId(local), &ring, |_| seen += 1));
    assert_eq!(seen, 256 * 256);
    assert!(ring.0.get() <= 3 * seen, "{} looks", ring.0.get());
}
