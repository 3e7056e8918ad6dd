mod cpus;
mod emulation;
mod machines;
mod tables;

use super::*;
use crate::acpi::CpuLimits;
use crate::arch::SimMachine;
use crate::e820;
use crate::memblock::Region;
use crate::testlog::capture;
use proptest::prelude::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// A machine's tables, and what Linux made of them.
pub(super) struct Machine {
    pub(super) name: &'static str,
    /// What the command line says of `numa=`.
    pub(super) numa: &'static [&'static str],
    /// First and last byte, type.
    pub(super) e820: &'static [(u64, u64, u32)],
    pub(super) srat: Option<&'static str>,
    pub(super) slit: Option<&'static str>,
    pub(super) apic: Option<&'static str>,
    /// First and last byte.
    pub(super) reserved: &'static [(u64, u64)],
    /// First and last byte, flags, node.
    pub(super) memory: &'static [(u64, u64, u32, u16)],
    pub(super) log: &'static [&'static str],
    pub(super) possible: &'static [u16],
    pub(super) online: &'static [u16],
    pub(super) has_memory: &'static [u16],
    pub(super) cpu_nodes: &'static [u16],
    pub(super) distances: &'static [&'static [u8]],
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn nodes(mask: &NodeMask) -> Vec<u16> {
    mask.iter().map(|n| n.0).collect()
}

/// The first RAM that the simulated machine really has; what is allocated must lie there.
const SIM_BYTES: u64 = 8 << 30;

/// Runs `f` with memblock set up from a firmware map.
fn with_memblock<R>(raw: &[(u64, u64, u32)], f: impl FnOnce(&mut Memblock<'_>, Pfn) -> R) -> R {
    let sim = SimMachine::new(SIM_BYTES);
    let mut entries = vec![e820::Entry::EMPTY; 300];
    let mut map = e820::Map::new(&mut entries);
    for &(start, last, kind) in raw {
        map.add(start, last - start + 1, e820::Kind::from_raw(kind)).unwrap();
    }
    map.sanitise().unwrap();
    map.trim_bios_range().unwrap();
    let (mut memory, mut reserved) = (vec![Region::EMPTY; 128], vec![Region::EMPTY; 128]);
    let mut memblock = Memblock::new(&mut memory, &mut reserved);
    // SAFETY: the simulated RAM outlives `memblock`, and nobody else uses it.
    unsafe { memblock.allow_resize(sim.machine()) };
    memblock.set_current_limit(SIM_BYTES);
    memblock.add_usable(&map).unwrap();
    f(&mut memblock, map.end_of_ram_pfn())
}

fn check(machine: &Machine) {
    let [srat, slit, apic] = [machine.srat, machine.slit, machine.apic].map(|t| t.map(bytes));
    let tables = Tables { srat: srat.as_deref(), slit: slit.as_deref(), ..Tables::default() };
    let mut options = Options::default();
    machine.numa.iter().for_each(|value| options.add(value).unwrap());
    with_memblock(machine.e820, |memblock, max_pfn| {
        for &(start, last) in machine.reserved {
            memblock.reserve(PhysRange::new(start, last + 1).unwrap()).unwrap();
        }
        if machine.name == "srat-hotplug-movable" {
            memblock.avoid_hotplug();
            memblock.set_direction(Direction::BottomUp);
        }
        let apic = apic.unwrap();
        let madt = Madt::new(&apic).unwrap();
        let cpus = madt.possible(0, ApicMode::XApic, CpuLimits::default(), memblock).unwrap().apic_ids;
        let reserved_bytes = memblock.reserved_bytes();
        let (numa, log) = capture(|| Numa::init(&tables, options, cpus, memblock, max_pfn).unwrap());
        let name = machine.name;
        let log: Vec<&str> = log.iter().map(String::as_str).collect();
        assert_eq!(log, machine.log, "{name}: log");
        let memory: Vec<_> = memblock
            .memory()
            .iter()
            .map(|r| (r.range.start(), r.range.end() - 1, r.flags.bits(), r.node.unwrap().0))
            .collect();
        assert_eq!(memory, machine.memory, "{name}: memory");
        assert_eq!(nodes(numa.possible()), machine.possible, "{name}: possible");
        assert_eq!(nodes(numa.online()), machine.online, "{name}: online");
        assert_eq!(nodes(numa.with_memory()), machine.has_memory, "{name}: with memory");
        let cpu_nodes: Vec<_> = numa.cpu_nodes().iter().map(|n| n.0).collect();
        assert_eq!(cpu_nodes, machine.cpu_nodes, "{name}: CPUs");
        let online = || numa.online().iter();
        let distances: Vec<Vec<u8>> =
            online().map(|a| online().map(|b| numa.distance(a, b)).collect()).collect();
        assert_eq!(distances, machine.distances, "{name}: distances");
        let kept = memblock.reserved_bytes() - reserved_bytes;
        // Domains, one for each entry at most; distances; a node for each CPU and emulated node.
        assert!(kept <= 4 * 9 + 4 * 4 + 2 * 4 + 2 * 4, "{name}: {kept} bytes are left reserved");
        numa.validate(memblock);
        memblock.validate();
    });
}

#[test]
fn reference_machines_get_linuxs_nodes() {
    for machine in machines::machines() {
        check(machine);
    }
}

#[test]
fn a_node_without_memory_and_running_cpus_is_possible_all_the_same() {
    let machine = machines::machines().find(|m| m.name == "numa2-memoryless").unwrap();
    let srat = machine.srat.map(bytes);
    with_memblock(machine.e820, |memblock, max_pfn| {
        let tables = Tables { srat: srat.as_deref(), ..Tables::default() };
        let numa = Numa::init(&tables, Mode::On, &[0], memblock, max_pfn).unwrap();
        assert_eq!(nodes(numa.online()), [0]);
        assert!(crate::node::NodeMap::is_possible(&numa, NodeId(1)), "its zonelists lead to node 0");
    });
}

fn two_gib(srat: &[u8], slit: Option<&[u8]>) -> (Vec<u16>, Vec<String>) {
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
        let tables = Tables { srat: Some(srat), slit, apic_mode: ApicMode::X2Apic };
        let (numa, log) =
            capture(|| Numa::init(&tables, Mode::On, &[0, 1, 2, 3], memblock, max_pfn).unwrap());
        numa.validate(memblock);
        memblock.validate();
        (nodes(numa.possible()), log)
    })
}

#[track_caller]
fn refused(srat: &[u8], why: &str) {
    let (possible, log) = two_gib(srat, None);
    assert_eq!(possible, [0]);
    assert!(log.iter().any(|l| l.contains(why)), "{log:?}");
    assert!(log.iter().any(|l| l == "No NUMA configuration found"), "{log:?}");
}

#[test]
fn broken_tables_are_refused_with_a_message() {
    let good = tables::srat(3, &[tables::memory(0, 0, 1 << 30, 1), tables::memory(1, 1 << 30, 1 << 30, 1)]);
    assert_eq!(two_gib(&good, None).0, [0, 1]);
    let mut broken = good.clone();
    broken[60] ^= 1;
    refused(&broken, "ACPI: SRAT: Incorrect checksum");
    refused(&good[..good.len() - 1], "ACPI: SRAT: Truncated table");
    refused(&good[..20], "Truncated table");
    refused(&[], "Truncated table");
    refused(&tables::table(*b"SLIT", 1, &[0; 20]), "Unexpected signature");
    refused(&tables::table(*b"SRAT", 3, &[0; 4]), "Truncated table");
    let all = tables::memory(0, 0, 2 << 30, 1);
    let with = |last: &[u8]| tables::srat(3, &[all.clone(), last.to_vec()]);
    refused(&with(&[1, 40, 0, 0]), "ACPI: [SRAT:0x01] Entry past the end of the table");
    refused(&with(&[7]), "ACPI: [SRAT:0x01] Entry past the end of the table");
    refused(&with(&[0, 8, 0, 0, 1, 0, 0, 0]), "ACPI: SRAT: SRAT not used.");
    refused(
        &tables::srat(3, &[tables::memory(0, 1 << 50, 1 << 30, 1)]),
        "nodes only cover 0MB of your 2047MB",
    );
}

const NO_NODES: [&str; 2] =
    ["No NUMA configuration found", "Faking a node at [mem 0x0000000000000000-0x000000007fffffff]"];

/// Checks what is logged with a SRAT of these entries on 2 GiB: what Debian's Linux 6.1.192 logged, but for the end of memory.
#[track_caller]
fn logs(entries: &[Vec<u8>], want: &[&str]) {
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
        let srat = tables::srat(3, entries);
        let tables = Tables { srat: Some(&srat), ..Tables::default() };
        let (_, log) = capture(|| Numa::init(&tables, Mode::On, &[0, 1], memblock, max_pfn).unwrap());
        assert_eq!(log, want);
    });
}

#[test]
fn odd_tables_are_refused_as_by_linux() {
    let cpu0 = || tables::cpu(0, 0, 1);
    let half = || tables::memory(0, 0, 1 << 30, 1);
    let all = || tables::memory(0, 0, 2 << 30, 1);
    logs(
        &[tables::memory(5000, 0, 2 << 30, 1), cpu0()],
        &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "ACPI: SRAT: Too many proximity domains.",
            "ACPI: SRAT: SRAT not used.",
            NO_NODES[0],
            NO_NODES[1],
        ],
    );
    logs(
        &[all(), tables::cpu(5000, 0, 1)],
        &["SRAT: Too many proximity domains 1388", "ACPI: SRAT: SRAT not used.", NO_NODES[0], NO_NODES[1]],
    );
    logs(
        &[all(), vec![7, 0, 0, 0]],
        &[
            "ACPI: [SRAT:0x00] Invalid zero length",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff]",
            "ACPI: [SRAT:0x01] Invalid zero length",
            NO_NODES[0],
            NO_NODES[1],
        ],
    );
    let mut short = vec![1, 20];
    short.resize(20, 0);
    logs(
        &[half(), short],
        &[
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x3fffffff]",
            "ACPI: SRAT: Unexpected header length: 20",
            "ACPI: SRAT: SRAT not used.",
            NO_NODES[0],
            NO_NODES[1],
        ],
    );
    logs(
        &[cpu0(), tables::cpu(1, 1, 1)],
        &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "SRAT: PXM 1 -> APIC 0x01 -> Node 1",
            NO_NODES[0],
            NO_NODES[1],
        ],
    );
}

#[test]
fn odd_entries_are_passed_over_as_by_linux() {
    let half = || tables::memory(0, 0, 1 << 30, 1);
    let all = || tables::memory(0, 0, 2 << 30, 1);
    logs(
        &[
            half(),
            tables::memory(2, 1 << 30, 1 << 30, 5),
            tables::cpu(0x201, 1, 1),
            tables::x2apic(2, 300, 1),
            tables::generic(7, 1),
            tables::cpu(9, 0, 0),
        ],
        &[
            "SRAT: PXM 513 -> APIC 0x01 -> Node 0",
            "SRAT: PXM 2 -> X2APIC 0x012c ignored",
            "ACPI: SRAT: Node 2 PXM 0 [mem 0x00000000-0x3fffffff]",
            "ACPI: SRAT: Node 3 PXM 2 [mem 0x40000000-0x7fffffff] non-volatile",
        ],
    );
    logs(
        &[
            all(),
            tables::memory(1, u64::MAX - (1 << 30) + 1, 2 << 30, 1),
            tables::memory(1, 8 << 30, 0, 1),
            tables::cpu(1, 1, 1),
        ],
        &[
            "SRAT: PXM 1 -> APIC 0x01 -> Node 0",
            "ACPI: SRAT: Node 1 PXM 0 [mem 0x00000000-0x7fffffff]",
            "Warning: invalid memblk node 0 [mem 0xffffffffc0000000-0x3fffffff]",
            "ACPI: SRAT: Node 0 PXM 1 [mem 0xffffffffc0000000-0x3fffffff]",
            "ACPI: SRAT: Node 0 PXM 1 [mem 0x200000000-0x1ffffffff]",
        ],
    );
}

#[test]
fn a_node_of_2_mib_is_a_node() {
    let entries = [
        tables::memory(0, 0, 1 << 30, 1),
        tables::memory(1, 1 << 30, 2 << 20, 1),
        tables::memory(0, (1 << 30) + (2 << 20), (1 << 30) - (2 << 20), 1),
    ];
    let srat = tables::srat(3, &entries);
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
        let tables = Tables { srat: Some(&srat), ..Tables::default() };
        let numa = Numa::init(&tables, Mode::On, &[0], memblock, max_pfn).unwrap();
        assert_eq!(nodes(numa.with_memory()), [0, 1]);
        assert_eq!(memblock.node_of((1 << 30) + 5), Some(NodeId(1)));
    });
}

#[test]
fn more_ranges_than_there_can_be_make_the_srat_useless() {
    let entries = |nr: u64| -> Vec<_> {
        let size = (2 << 30) / nr;
        (0..nr).map(|i| tables::memory(0, i * size, size, 1)).collect()
    };
    let most = tables::srat(3, &entries(2048));
    assert_eq!(two_gib(&most, None).0, [0]);
    assert!(!two_gib(&most, None).1.iter().any(|line| line.contains("not used")));
    let too_many = two_gib(&tables::srat(3, &[entries(2048), entries(1)].concat()), None).1;
    let at = too_many.iter().position(|line| line == "too many memblk ranges").unwrap();
    assert_eq!(too_many[at + 1], "ACPI: SRAT: Failed to add memblk to node 0 [mem 0x00000000-0x7fffffff]");
    assert_eq!(too_many[at + 2], "ACPI: SRAT: SRAT not used.");
}

#[test]
fn entries_that_are_not_enabled_do_not_count() {
    let entries = [tables::memory(7, 0, 1 << 30, 0), tables::memory(3, 0, 2 << 30, 1), tables::cpu(9, 1, 0)];
    let (possible, log) = two_gib(&tables::srat(3, &entries), None);
    assert_eq!(possible, [0]);
    assert_eq!(log, ["ACPI: SRAT: Node 0 PXM 3 [mem 0x00000000-0x7fffffff]"]);
}

#[test]
fn domains_are_numbered_as_cpus_then_memory_name_them() {
    let entries = [
        tables::memory(500, 0, 1 << 30, 1),
        tables::memory(2, 1 << 30, 1 << 30, 5),
        tables::cpu(0x201, 1, 1),
        tables::x2apic(2, 300, 1),
        tables::x2apic(2, 1 << 20, 1),
    ];
    let (possible, log) = two_gib(&tables::srat(3, &entries), None);
    assert_eq!(possible, [0, 1, 2]);
    let want = [
        "SRAT: PXM 513 -> APIC 0x01 -> Node 0",
        "SRAT: PXM 2 -> APIC 0x012c -> Node 1",
        "SRAT: PXM 2 -> APIC 0x100000 -> Node 1 skipped apicid that is too big",
        "ACPI: SRAT: Node 2 PXM 500 [mem 0x00000000-0x3fffffff]",
        "ACPI: SRAT: Node 1 PXM 2 [mem 0x40000000-0x7fffffff] non-volatile",
    ];
    assert_eq!(log, want);
    // Before revision 2, a domain was one byte.
    let (_, log) =
        two_gib(&tables::srat(1, &[tables::memory(0x302, 0, 2 << 30, 1), tables::cpu(0x201, 1, 1)]), None);
    assert_eq!(log[0], "SRAT: PXM 1 -> APIC 0x01 -> Node 0");
    assert_eq!(log[1], "ACPI: SRAT: Node 1 PXM 2 [mem 0x00000000-0x7fffffff]");
}

#[test]
fn overlap_within_a_node_is_only_warned_of() {
    let entries = [tables::memory(0, 0, 3 << 29, 1), tables::memory(0, 1 << 30, 1 << 30, 1)];
    let (possible, log) = two_gib(&tables::srat(3, &entries), None);
    assert_eq!(possible, [0]);
    assert!(log.contains(&String::from(
        "Warning: node 0 [mem 0x00000000-0x5fffffff] overlaps with itself [mem 0x40000000-0x7fffffff]"
    )));
    assert!(log.contains(&String::from(
        "NUMA: Node 0 [mem 0x00000000-0x5fffffff] + [mem 0x40000000-0x7fffffff] -> [mem 0x00000000-0x7fffffff]"
    )));
}

#[test]
fn a_cpu_that_no_table_names_gets_the_next_node_in_turn() {
    let entries =
        [tables::memory(0, 0, 1 << 30, 1), tables::memory(1, 1 << 30, 1 << 30, 1), tables::cpu(1, 0, 1)];
    let srat = tables::srat(3, &entries);
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
        let tables = Tables { srat: Some(&srat), slit: None, ..Tables::default() };
        let numa = Numa::init(&tables, Mode::On, &[0, 1, 2, 3], memblock, max_pfn).unwrap();
        // The CPU entry comes first: domain 1 is node 0. CPU 0 is named; the turns go on under it.
        let got: Vec<_> = (0..5).map(|c| numa.node_of_cpu(CpuId(c)).0).collect();
        assert_eq!(got, [0, 1, 0, 1, 0]);
        assert_eq!((numa.domain_of(NodeId(0)), numa.domain_of(NodeId(2))), (Some(1), None));
    });
}

#[test]
fn a_slit_must_be_complete_and_make_sense() {
    let entries = [tables::memory(0, 0, 1 << 30, 1), tables::memory(2, 1 << 30, 1 << 30, 1)];
    let srat = tables::srat(3, &entries);
    let used = |slit: &[u8]| {
        !two_gib(&srat, Some(slit)).1.contains(&"ACPI: SLIT table looks invalid. Not used.".into())
    };
    assert!(used(&tables::slit(3, &[10, 20, 30, 20, 10, 40, 30, 40, 10])));
    assert!(used(&tables::slit(1, &[10])));
    assert!(used(&tables::slit(0, &[])));
    assert!(!used(&tables::slit(3, &[10, 20, 30, 20, 10, 40, 30, 40])));
    assert!(!used(&tables::slit(2, &[10, 10, 20, 10])));
    assert!(!used(&tables::slit(2, &[10, 20, 20, 11])));
    assert!(!used(&tables::slit(u64::MAX, &[10])));
    assert!(!used(&tables::slit(1 << 32, &[10])));
    let slit = tables::slit(3, &[10, 20, 30, 20, 10, 40, 31, 40, 10]);
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
        let tables = Tables { srat: Some(&srat), slit: Some(&slit), ..Tables::default() };
        let numa = Numa::init(&tables, Mode::On, &[0], memblock, max_pfn).unwrap();
        assert_eq!((numa.distance(NodeId(0), NodeId(1)), numa.distance(NodeId(1), NodeId(0))), (30, 31));
        assert_eq!((numa.distance(NodeId(5), NodeId(5)), numa.distance(NodeId(0), NodeId(5))), (10, 20));
    });
}

#[test]
fn distances_are_done_without_when_all_memory_is_pluggable_and_to_be_avoided() {
    let srat = tables::srat(3, &[tables::memory(0, 0, 2 << 30, 3), tables::cpu(1, 0, 1)]);
    let slit = tables::slit(2, &[10, 30, 30, 10]);
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
        memblock.reserve(PhysRange::new(0, 1 << 20).unwrap()).unwrap();
        memblock.avoid_hotplug();
        let tables = Tables { srat: Some(&srat), slit: Some(&slit), ..Tables::default() };
        let (numa, log) = capture(|| Numa::init(&tables, Mode::On, &[0], memblock, max_pfn).unwrap());
        assert!(log.contains(&"Warning: can't allocate distance table!".into()), "{log:?}");
        assert_eq!((nodes(numa.with_memory()), numa.distance(NodeId(0), NodeId(1))), (vec![1], 20));
        numa.validate(memblock);
    });
}

#[test]
fn the_slit_is_judged_without_an_srat_too() {
    let judged = |srat: Option<&[u8]>, slit: &[u8]| {
        with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
            let tables = Tables { srat, slit: Some(slit), ..Tables::default() };
            let reserved = memblock.reserved_bytes();
            let (numa, log) = capture(|| Numa::init(&tables, Mode::On, &[0], memblock, max_pfn).unwrap());
            assert!(memblock.reserved_bytes() - reserved < 64, "nothing is left of tables that are not used");
            assert_eq!(nodes(numa.possible()), [0]);
            log[0].clone()
        })
    };
    const INVALID: &str = "ACPI: SLIT table looks invalid. Not used.";
    assert_eq!(judged(None, &tables::slit(2, &[10, 20, 20, 30])), INVALID);
    assert_eq!(judged(None, &tables::slit(2, &[10, 20, 20, 10])), "No NUMA configuration found");
    let no_memory = tables::srat(3, &[tables::generic(3, 1)]);
    assert_eq!(judged(Some(&no_memory), &tables::slit(2, &[10, 20, 20, 30])), INVALID);
    let none_known = judged(Some(&no_memory), &tables::slit(2, &[10, 20, 20, 10]));
    assert_eq!(none_known, "No NUMA configuration found", "the SLIT has no distance of domain 3");
}

#[test]
fn nodes_in_holes_are_possible_and_generic_initiators_bring_theirs_online() {
    let entries = [
        tables::memory(0, 0, 2 << 30, 1),
        tables::memory(1, 4 << 30, 1 << 30, 1),
        tables::memory(2, 32 << 30, 1 << 30, 1),
        tables::generic(9, 1),
        tables::cpu(0, 0, 1),
    ];
    let srat = tables::srat(3, &entries);
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
        let tables = Tables { srat: Some(&srat), ..Tables::default() };
        let numa = Numa::init(&tables, Mode::On, &[0], memblock, max_pfn).unwrap();
        numa.validate(memblock);
        // In the order of their first mention: the generic initiator, the CPU, then the ranges.
        assert_eq!(nodes(numa.possible()), [0, 1, 2, 3]);
        assert_eq!(nodes(numa.generic_initiators()), [0]);
        assert_eq!(nodes(numa.with_memory()), [1]);
        assert_eq!(nodes(numa.online()), [0, 1]);
    });
}

#[test]
fn masks_know_their_nodes() {
    let mut mask = NodeMask::EMPTY;
    assert!(mask.is_empty() && mask.last().is_none());
    for n in [1023, 0, 64, 63] {
        mask.insert(NodeId(n));
    }
    assert_eq!(nodes(&mask), [0, 63, 64, 1023]);
    let few: NodeMask = [NodeId(64), NodeId(2)].into_iter().collect();
    assert_eq!(nodes(&mask.intersection(&few)), [64]);
    assert!(!few.is_subset(&mask) && mask.intersection(&few).is_subset(&few));
    let mut rest = few;
    rest.remove(NodeId(64));
    rest.remove(NodeId(u16::MAX));
    assert_eq!(nodes(&rest), [2]);
    assert_eq!((mask.len(), mask.last()), (4, Some(NodeId(1023))));
    assert!(mask.contains(NodeId(63)) && !mask.contains(NodeId(62)) && !mask.contains(NodeId(u16::MAX)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn arbitrary_tables_never_panic(
        srat in prop::collection::vec(any::<u8>(), 0..200),
        slit in prop::collection::vec(any::<u8>(), 0..100),
        madt in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let _ = two_gib(&srat, Some(&slit));
        let srat = tables::table(*b"SRAT", 3, &srat);
        let _ = two_gib(&srat, Some(&tables::table(*b"SLIT", 1, &slit)));
        if let Ok(madt) = Madt::new(&tables::table(*b"APIC", 3, &madt)) {
            madt.cpus().for_each(drop);
        }
        let _ = Madt::new(&madt);
    }

    #[test]
    fn arbitrary_entries_make_valid_nodes_or_none(
        entries in prop::collection::vec(
            (prop::sample::select(vec![0u8, 1, 2, 5]), 0u32..6, 0u64..9, 0u64..5, 0u32..8, any::<bool>()), 0..12,
        ),
        revision in 0u8..4,
        matrix in prop::collection::vec(9u8..40, 16),
    ) {
        let made: Vec<_> = entries.iter().map(|&(kind, pxm, base, size, flags, odd)| match kind {
            0 => tables::cpu(pxm, base as u8, flags),
            2 => tables::x2apic(pxm, base as u32, flags),
            5 => tables::generic(pxm, flags),
            _ => tables::memory(pxm, (base << 28) + u64::from(odd), size << 28, flags),
        }).collect();
        let _ = two_gib(&tables::srat(revision, &made), Some(&tables::slit(4, &matrix)));
    }
}
