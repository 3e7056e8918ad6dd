//! `numa=fake=`.

use super::*;
use crate::numa::Options;

/// RAM as a firmware map has it: first byte, last byte.
type Ram<'r> = &'r [(u64, u64)];

const MIB: u64 = 1 << 20;
/// 3 GiB below the hole under 4 GiB, 1 GiB above.
const FOUR_GIB: Ram<'static> = &[(0, 3072 * MIB - 1), (4096 * MIB, 5120 * MIB - 1)];

/// What became of RAM: the log, and memblock's memory by node.
struct Outcome {
    log: Vec<String>,
    memory: Vec<(PhysRange, u16)>,
    distances: Vec<Vec<u8>>,
    cpus: Vec<Vec<u16>>,
    online: Vec<u16>,
}

impl Outcome {
    /// MiB of RAM by node.
    fn sizes(&self) -> Vec<u64> {
        let bytes = |node| self.memory.iter().filter(|m| m.1 == node).map(|m| m.0.len_bytes()).sum::<u64>();
        self.online.iter().map(|&node| bytes(node) >> 20).collect()
    }
}

fn emulate(ram: Ram<'_>, srat: Option<&[u8]>, slit: Option<&[u8]>, numa: &str, cpus: &[u32]) -> Outcome {
    let raw: Vec<_> = ram.iter().map(|&(first, last)| (first, last, 1)).collect();
    with_memblock(&raw, |memblock, max_pfn| {
        let mut options = Options::default();
        options.add(numa).unwrap();
        let tables = Tables { srat, slit, apic_mode: ApicMode::XApic };
        let before = memblock.memory_bytes();
        let (numa, log) = capture(|| Numa::init(&tables, options, cpus, memblock, max_pfn).unwrap());
        numa.validate(memblock);
        memblock.validate();
        assert_eq!(memblock.memory_bytes(), before, "RAM is neither made nor lost");
        let memory: Vec<_> =
            memblock.memory().iter().map(|r| (r.range, r.node.expect("all RAM is on a node").0)).collect();
        let online = nodes(numa.online());
        assert!(memory.iter().all(|m| online.contains(&m.1)));
        let each = |n: &u16| NodeId(*n);
        let distances =
            online.iter().map(each).map(|a| online.iter().map(each).map(|b| numa.distance(a, b)).collect());
        let on = |cpu| online.iter().copied().filter(|n| numa.is_cpu_on(CpuId(cpu), NodeId(*n))).collect();
        let cpus = (0..cpus.len() as u32).map(on).collect();
        Outcome { log, memory, distances: distances.collect(), cpus, online }
    })
}

fn two_nodes() -> Vec<u8> {
    let entries = [
        tables::memory(0, 0, 1 << 30, 1),
        tables::memory(1, 1 << 30, 1 << 30, 1),
        tables::cpu(0, 0, 1),
        tables::cpu(1, 1, 1),
    ];
    tables::srat(3, &entries)
}

const TWO_GIB: Ram<'static> = &[(0, 2048 * MIB - 1)];

#[test]
fn each_node_is_split_into_so_many_of_the_same_span() {
    let got = emulate(TWO_GIB, Some(&two_nodes()), None, "fake=2U", &[0, 1]);
    assert_eq!(got.online, [0, 1, 2, 3]);
    assert!(got.log.contains(&"Faking node 3 at [mem 0x0000000060000000-0x000000007fffffff] (512MB)".into()));
    assert_eq!(got.memory.last().unwrap().0, PhysRange::new(1536 * MIB, 2048 * MIB).unwrap());
    assert_eq!(got.distances, [[10, 10, 20, 20], [10, 10, 20, 20], [20, 20, 10, 10], [20, 20, 10, 10]]);
    assert_eq!(got.cpus, [[0, 1], [2, 3]], "emulated nodes share their node's CPUs");
}

#[test]
fn emulated_nodes_take_turns_over_the_physical_ones() {
    let got = emulate(TWO_GIB, Some(&two_nodes()), None, "fake=8", &[0, 1]);
    assert_eq!(got.cpus, [[0, 2, 4, 6], [1, 3, 5, 7]]);
    assert_eq!(got.sizes(), [255, 256, 256, 256, 256, 256, 256, 256]);
}

#[test]
fn a_split_that_does_not_come_out_even_is_given_up() {
    let got = emulate(FOUR_GIB, None, None, "fake=3U", &[0]);
    assert_eq!(got.online, [0, 1, 2]);
    // 5 GiB with the hole, in fifths: the fourth would be the hole, so the third takes it.
    let got = emulate(FOUR_GIB, None, None, "fake=5U", &[0]);
    assert!(
        got.log.contains(&"numa_emulation: phys: 0 only got 4 of 5 nodes, failing".into()),
        "{:?}",
        got.log
    );
    assert_eq!(got.online, [0]);
}

/// What Debian's Linux 6.1.192 logged with the same tables.
#[test]
fn each_physical_node_must_make_so_many() {
    let entries = [
        tables::memory(0, 0, 960 * MIB, 1),
        tables::memory(1, 960 * MIB, 64 * MIB, 1),
        tables::cpu(0, 0, 1),
        tables::cpu(1, 1, 1),
    ];
    let got = emulate(&[(0, 0x3ffd_ffff)], Some(&tables::srat(3, &entries)), None, "fake=4U", &[0, 1]);
    let want = [
        "Fake node size 240MB too small, increasing to 256MB",
        "Faking node 0 at [mem 0x0000000000000000-0x000000000fffffff] (256MB)",
        "Faking node 1 at [mem 0x0000000010000000-0x000000001fffffff] (256MB)",
        "Faking node 2 at [mem 0x0000000020000000-0x000000002fffffff] (256MB)",
        "Faking node 3 at [mem 0x0000000030000000-0x000000003bffffff] (192MB)",
        "Fake node size 15MB too small, increasing to 32MB",
        "Faking node 4 at [mem 0x000000003c000000-0x000000003ffdffff] (63MB)",
        "numa_emulation: phys: 1 only got 1 of 4 nodes, failing",
    ];
    assert_eq!(got.log[4..12], want);
    assert_eq!((got.online, got.cpus), (vec![0, 1], vec![vec![0], vec![1]]));
}

#[test]
fn too_small_and_too_many_is_said() {
    let got = emulate(TWO_GIB, None, None, "fake=100", &[0]);
    assert!(got.log.contains(&"Not enough memory for each node.  NUMA emulation disabled.".into()));
    assert_eq!(got.online, [0]);
    let got = emulate(TWO_GIB, None, None, "fake=5000", &[0]);
    assert!(got.log.contains(&"numa=fake=5000 too large, reducing to 1024".into()));
    assert_eq!(got.online, [0]);
    let got = emulate(TWO_GIB, None, None, "fake=1M", &[0]);
    assert!(got.log.contains(&"Fake node size 1MB too small, increasing to 32MB".into()));
    assert_eq!(got.online.len(), 63, "the last one takes what is too little for one more");
    let got = emulate(TWO_GIB, None, None, "fake=100G", &[0]);
    assert_eq!(got.online, [0]);
}

#[test]
fn distances_may_be_given() {
    let got = emulate(TWO_GIB, Some(&two_nodes()), None, "fake=2:10,15,25,10,", &[0]);
    assert_eq!(got.distances, [[10, 15], [25, 10]]);
    let got = emulate(TWO_GIB, Some(&two_nodes()), None, "fake=2:11,300,25", &[0]);
    assert_eq!(got.distances, [[10, 20], [20, 10]]);
    let warnings: Vec<_> = got.log.iter().filter(|l| l.starts_with("Warning")).collect();
    assert_eq!(
        warnings,
        ["Warning: invalid distance parameter, from=0 to=0 distance=11"],
        "the first one only"
    );
}

#[test]
fn cpus_of_a_node_without_memory_go_to_node_0() {
    let entries = [tables::memory(0, 0, 2 << 30, 1), tables::cpu(0, 0, 1), tables::cpu(1, 1, 1)];
    let srat = tables::srat(3, &entries);
    for numa in ["fake=2", "fake=2U", "fake=900M"] {
        let got = emulate(TWO_GIB, Some(&srat), None, numa, &[0, 1]);
        assert_eq!((got.online, got.cpus), (vec![0, 1], vec![vec![0, 1]; 2]), "{numa}");
    }
}

#[test]
fn one_node_is_split_when_tables_are_not_read() {
    let mut options = Options::default();
    ["fake=2", "noacpi"].iter().for_each(|value| options.add(value).unwrap());
    let srat = two_nodes();
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
        let tables = Tables { srat: Some(&srat), ..Tables::default() };
        let (numa, log) = capture(|| Numa::init(&tables, options, &[0, 1], memblock, max_pfn).unwrap());
        assert_eq!(log[0], "No NUMA configuration found");
        assert_eq!((nodes(numa.online()), numa.distance(NodeId(0), NodeId(1))), (vec![0, 1], 10));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn all_ram_is_on_a_node_whatever_is_asked_for(
        pieces in prop::collection::vec((1u64..700, 0u64..300, 0u32..4), 1..7),
        number in 1u64..40,
        form in prop::sample::select(vec!["", "U", "M", "G", "0M", "00M", ":10,20,", ":10,20,30,10,"]),
    ) {
        // Each piece follows a hole; sizes in units that are no multiple of a grain.
        let (mut at, mut ram, mut entries) = (0, Vec::new(), Vec::new());
        for (size, hole, pxm) in pieces {
            let start = at + hole * 3 * MIB;
            at = start + size * 3 * MIB / 2 / 4096 * 4096;
            ram.push((start, at - 1));
            entries.push(tables::memory(pxm, start, at - start, 1));
        }
        // Where allocations come from.
        ram.push((at, at + 64 * MIB - 1));
        entries.push(tables::memory(0, at, 64 * MIB, 1));
        let srat = tables::srat(3, &entries);
        let slit = tables::slit(4, &[10, 20, 30, 40, 20, 10, 20, 30, 30, 20, 10, 20, 40, 30, 20, 10]);
        emulate(&ram, Some(&srat), Some(&slit), &std::format!("fake={number}{form}"), &[0, 1]);
    }
}
