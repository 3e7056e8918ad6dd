//! The files, read from machines that work.

use std::string::String;
use std::vec::Vec;

use core::fmt;

use super::meminfo::Others;
use super::slabinfo::SlabInfo;
use super::vmallocinfo::VmallocInfo;
use super::*;
use crate::arch::run_as_cpu;
use crate::counters::{NodeStat, VmEvent};
use crate::gfp::Gfp;
use crate::id::{CpuId, NodeId};
use crate::node::{NodeState, NodeStates};
use crate::numa::{NodeMask, Numa};
use crate::order::Order;
use crate::testing::TestMachine;
use crate::zone::{Setting, Sysctl};

struct OneCache;

impl SlabCaches for OneCache {
    fn for_each(&self, show: &mut dyn FnMut(&SlabInfo<'_>) -> fmt::Result) -> fmt::Result {
        show(&SlabInfo {
            name: "kmalloc-8",
            active_objs: 500,
            num_objs: 512,
            obj_size: 8,
            objs_per_slab: 512,
            order: Order::ZERO,
            num_slabs: 1,
        })
    }
}

struct NoAreas;

impl VmallocAreas for NoAreas {
    fn for_each(&self, _: &mut dyn FnMut(&VmallocInfo<'_>) -> fmt::Result) -> fmt::Result {
        Ok(())
    }
}

fn with_system<R>(m: &TestMachine, nr_cpus: u32, f: impl FnOnce(&System<'_>) -> R) -> R {
    let iomem = "00001000-0009fbff : System RAM\n";
    const CPU_NODES: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(0)];
    let numa = Numa::of(m.pages.nodes().nr_ids() as u16, &CPU_NODES);
    let states = NodeStates::new(&numa, m.pages.nodes(), |cpu| cpu.0 < nr_cpus);
    states.validate();
    f(&System {
        pages: &m.pages,
        slabs: &OneCache,
        vmalloc: &NoAreas,
        iomem: &iomem,
        topology: Topology { numa: &numa, states: &states, is_online: &|cpu| cpu.0 < nr_cpus },
        sysctl: &Sysctl::default(),
        others: Others::default(),
    })
}

fn text(file: File, system: &System<'_>) -> String {
    let mut out = String::new();
    file.write(system, &mut out).unwrap();
    out
}

/// The numbers that follow `name` in its lines.
fn values(text: &str, name: &str) -> Vec<u64> {
    text.lines()
        .filter_map(|line| {
            line.trim_start().strip_prefix(name)?.strip_prefix([' ', ':'])?.split_whitespace().next()
        })
        .map(|value| value.parse().unwrap())
        .collect()
}

#[test]
fn zoneinfo_shows_all_zones_and_each_nodes_counters_once() {
    let m = TestMachine::with(6 << 10, 2, 2);
    m.pages.nodes().iter().for_each(|node| node.counters().add(NodeStat::PageTable, 3));
    let text = with_system(&m, 2, |system| text(File::ZoneInfo, system));
    assert_eq!(text.lines().filter(|line| line.starts_with("Node ")).count(), 10, "{text}");
    assert_eq!(values(&text, "nr_page_table_pages"), [3, 3]);
    let at = |wanted: &str| {
        text.lines().position(|line| line == wanted).unwrap_or_else(|| panic!("{wanted}: {text}"))
    };
    assert_eq!(at("Node 0, zone      DMA") + 1, at("  per-node stats"));
    // Node 1 starts at 3 GiB: its first zone with memory is DMA32.
    assert_eq!(text.lines().nth(at("Node 1, zone    DMA32") + 1), Some("  per-node stats"));
    let free: u64 = values(&text, "nr_free_pages").iter().sum();
    assert_eq!(free, m.pages.free_pages_total());
    assert_eq!(values(&text, "cpu").len(), 2 * m.pages.nodes().populated_zones().count());
    assert_eq!(text.matches("  vm stats threshold: ").count(), 8);
}

#[test]
fn zoneinfo_leaves_out_nodes_that_are_not_online() {
    let m = TestMachine::with(6 << 10, 2, 1);
    with_system(&m, 1, |system| {
        let numa = Numa::of(1, &[NodeId(0)]);
        let states = NodeStates::new(&numa, m.pages.nodes(), |cpu| cpu == CpuId::BOOT);
        let topology = Topology { numa: &numa, states: &states, ..system.topology };
        let mut out = String::new();
        File::ZoneInfo.write(&System { topology, ..*system }, &mut out).unwrap();
        assert_eq!(out.lines().filter(|line| line.starts_with("Node ")).count(), 5, "{out}");
        assert!(!out.contains("Node 1"), "{out}");
    });
}

#[test]
fn free_lists_count_what_is_free() {
    let m = TestMachine::with(64, 1, 1);
    let block = run_as_cpu(CpuId(0), || m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap());
    with_system(&m, 1, |system| {
        for zone in m.pages.nodes().populated_zones() {
            assert_eq!(collect::free_lists(zone).nr_pages(), zone.nr_free());
        }
        let buddyinfo = text(File::BuddyInfo, system);
        assert_eq!(buddyinfo.lines().count(), 2, "{buddyinfo}");
        let pagetypeinfo = text(File::PageTypeInfo, system);
        assert_eq!(pagetypeinfo.lines().count(), 3 + 1 + 2 * 5 + 2 + 2, "{pagetypeinfo}");
        let blocks: u64 = m.pages.nodes().populated_zones().flat_map(collect::pageblocks).sum();
        assert_eq!(blocks, 64 / 2);
    });
    run_as_cpu(CpuId(0), || m.pages.free_pages(block));
}

#[test]
fn vmstat_and_zoneinfo_agree_on_allocations() {
    let m = TestMachine::with(64, 1, 2);
    let block = run_as_cpu(CpuId(1), || m.pages.alloc_pages(Gfp::KERNEL, Order::new(2).unwrap()).unwrap());
    with_system(&m, 2, |system| {
        system.pages.vm_events().count(VmEvent::PgFault);
        let vmstat = text(File::VmStat, system);
        let allocated: u64 =
            ["dma", "dma32", "normal"].map(|z| values(&vmstat, &std::format!("pgalloc_{z}"))[0]).iter().sum();
        assert_eq!(allocated, 4, "{vmstat}");
        assert_eq!((values(&vmstat, "pgfault")[0], values(&vmstat, "numa_hit")[0]), (1, 1));
        let zoneinfo = text(File::ZoneInfo, system);
        assert_eq!(values(&zoneinfo, "numa_hit").iter().sum::<u64>(), 1);
        assert_eq!(
            values(&vmstat, "nr_free_pages")[0],
            values(&zoneinfo, "nr_free_pages").iter().sum::<u64>()
        );
        let meminfo = text(File::MemInfo, system);
        assert_eq!(values(&meminfo, "MemFree")[0], 4 * m.pages.free_pages_total());
    });
    run_as_cpu(CpuId(1), || m.pages.free_pages(block));
}

#[test]
fn a_dump_stands_between_its_marks() {
    let m = TestMachine::new(64);
    with_system(&m, 1, |system| {
        let mut out = String::new();
        File::Iomem.dump(system, &mut out).unwrap();
        let wanted = "--- begin /proc/iomem ---\n00001000-0009fbff : System RAM\n--- end /proc/iomem ---\n";
        assert_eq!(out, wanted);
        assert!(text(File::SlabInfo, system).ends_with("kmalloc-8            500    512      8  512    1 : tunables    0    0    0 : slabdata      1      1      0\n"));
    });
}

#[test]
fn a_list_of_names_means_files_and_directories() {
    let online: NodeMask = [NodeId(0), NodeId(2)].into_iter().collect();
    let list = |names: &'static str| File::list(names, &online).collect::<Vec<_>>();
    let of = |node: u16| NodeFile::ALL.map(|file| Ok(File::OfNode(NodeId(node), file))).to_vec();
    assert_eq!(list("meminfo,iomem"), [Ok(File::MemInfo), Ok(File::Iomem)]);
    assert_eq!(list("all"), File::all(&online).map(Ok).collect::<Vec<_>>());
    assert_eq!(list("all").len(), File::PROC.len() + Setting::ALL.len() + 6 + 2 * 6);
    assert_eq!(list("zoneinfo,,nix"), [Ok(File::ZoneInfo), Err(Error::Unknown("nix"))]);
    assert_eq!(list(""), []);
    assert_eq!(list("node2"), of(2));
    assert_eq!(list("node1/meminfo"), [Err(Error::Unknown("node1/meminfo"))], "it is not online");
    let settings = Setting::ALL.map(|setting| Ok(File::Setting(setting))).to_vec();
    assert_eq!(list("/proc/*"), [File::PROC.map(Ok).to_vec(), settings].concat());
    let states = NodeState::ALL.map(|state| Ok(File::Nodes(state))).to_vec();
    assert_eq!(list("/sys/devices/system/node"), [states, of(0), of(2)].concat());
    let meminfo = |node| Ok(File::OfNode(NodeId(node), NodeFile::MemInfo));
    assert_eq!(list("node2/meminfo,online"), [meminfo(2), Ok(File::Nodes(NodeState::Online))]);
    assert_eq!(list("distance").len(), 2, "a name that is in no other place");
}

#[test]
fn nodes_show_their_cpus_memory_and_distances() {
    let m = TestMachine::with(6 << 10, 2, 2);
    let block = run_as_cpu(CpuId(1), || m.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap());
    with_system(&m, 2, |system| {
        let of = |node, file| text(File::OfNode(NodeId(node), file), system);
        assert_eq!(
            [of(0, NodeFile::CpuList), of(1, NodeFile::CpuList)],
            ["0\n", "1\n"],
            "the third does not run"
        );
        assert_eq!([of(0, NodeFile::CpuMap), of(1, NodeFile::CpuMap)], ["1\n", "2\n"]);
        assert_eq!(of(1, NodeFile::Distance), "20 10\n");
        assert!(of(1, NodeFile::NumaStat).starts_with("numa_hit 1\n"));
        assert!(of(0, NodeFile::NumaStat).starts_with("numa_hit 0\n"));
        let sum = |name: &str, file| [0, 1].map(|n| values(&of(n, file), name)[0]).iter().sum::<u64>();
        assert_eq!(sum("nr_free_pages", NodeFile::VmStat), m.pages.free_pages_total());
        let total = values(&text(File::MemInfo, system), "MemTotal")[0];
        let of_node = |n| values(&of(n, NodeFile::MemInfo), &std::format!("Node {n} MemTotal"))[0];
        assert_eq!(of_node(0) + of_node(1), total);
        assert_eq!(of(7, NodeFile::MemInfo), "", "there is no such node");
    });
    run_as_cpu(CpuId(1), || m.pages.free_pages(block));
}

#[test]
fn nodes_are_listed_by_state() {
    let m = TestMachine::with(6 << 10, 2, 1);
    with_system(&m, 1, |system| {
        let of = |state| text(File::Nodes(state), system);
        assert_eq!(NodeState::ALL.map(of), ["0-1\n", "0-1\n", "0-1\n", "0-1\n", "0\n", "\n"]);
        let mut out = String::new();
        File::Nodes(NodeState::HasCpu).dump(system, &mut out).unwrap();
        assert!(out.starts_with("--- begin /sys/devices/system/node/has_cpu ---\n0\n---"), "{out}");
    });
}

#[test]
fn settings_are_files_too() {
    let m = TestMachine::with(64, 1, 1);
    with_system(&m, 1, |system| {
        let online = system.topology.states.get(NodeState::Online);
        let files: Vec<_> = File::list("sys/vm", online).map(Result::unwrap).collect();
        assert_eq!(files, Setting::ALL.map(File::Setting));
        let ratio = File::list("lowmem_reserve_ratio", online).next().unwrap().unwrap();
        assert_eq!(text(ratio, system), "256\t256\t32\t0\t0\n");
    });
}
