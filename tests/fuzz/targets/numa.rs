//! Nodes from a whole machine: memory map, SRAT, SLIT and MADT as they stand behind each other.
//!
//! Input: a byte of flags, the boot CPU's APIC id, the number of map entries, with the flag for it a value of `numa=` (its
//! length, then text), the entries (20 bytes each), the tables.

use mm::acpi::CpuLimits;
use mm::e820::{Entry, Kind, Map};
use mm::memblock::{Direction, Memblock};
use mm::numa::srat::Affinity;
use mm::numa::{ApicMode, LOCAL_DISTANCE, Madt, Mode, Numa, Options, Srat, Tables};
use mm::{CpuId, NodeId, Pfn, PhysRange};

use crate::input::Input;
use crate::machine::with_memblock;
use crate::tables::{repaired, split};

const MAX_ENTRIES: usize = 40;
/// With this much memory free in one piece, nothing may fail: tables of the size of an input need less. Under
/// `movable_node` the tables themselves can forbid all of it.
const PLENTY_BYTES: u64 = 32 << 20;

const NUMA_OFF: u8 = 1;
const X2APIC: u8 = 2;
const MOVABLE_NODE: u8 = 4;
const WITH_OPTION: u8 = 8;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (flags, boot_id, nr) = (input.u8(), u32::from(input.u8()), usize::from(input.u8()).min(MAX_ENTRIES));
    let value = if flags & WITH_OPTION != 0 { input.text() } else { String::new() };
    let mut options = Options::from(if flags & NUMA_OFF != 0 { Mode::Off } else { Mode::On });
    let before = options;
    if options.add(&value).is_err() {
        assert_eq!(options, before, "{value:?} is malformed and left something behind");
    }
    let mut storage = vec![Entry::EMPTY; 3 * 2 * (nr + 2)];
    let mut map = Map::new(&mut storage);
    for _ in 0..nr {
        let (start, size, kind) = input.e820_entry();
        map.add(start, size, Kind::from_raw(kind)).expect("room for every entry");
    }
    map.sanitise().expect("room for what sanitising makes of them");
    map.trim_bios_range().expect("room for two ranges more");

    let tables = split(input.rest());
    let find = |signature: &[u8; 4]| {
        tables.iter().find(|table| table.starts_with(signature)).map(|table| repaired(table, *signature))
    };
    let (srat, slit, madt) = (find(b"SRAT"), find(b"SLIT"), find(b"APIC"));
    let apic_mode = if flags & X2APIC != 0 { ApicMode::X2Apic } else { ApicMode::XApic };
    let slots = [128, 16, 6, 3][usize::from(flags >> 6)];
    let tables = Tables { srat: srat.as_deref(), slit: slit.as_deref(), apic_mode };
    // The kernel does not get here without memory.
    let Some(max_pfn) = map.usable().map(|range| Pfn::down(range.end())).max() else { return };
    with_memblock(&map, slots, |memblock| {
        if flags & MOVABLE_NODE != 0 {
            memblock.avoid_hotplug();
            memblock.set_direction(Direction::BottomUp);
        }
        let plenty = flags & MOVABLE_NODE == 0
            && memblock.free_ranges(None).any(|range| usable_bytes(range.range) >= PLENTY_BYTES);
        let listed = madt.as_deref().and_then(|bytes| Madt::new(bytes).ok());
        let limits = CpuLimits::default();
        let found = listed.and_then(|madt| madt.possible(boot_id, apic_mode, limits, memblock));
        let cpus = found.map_or(&[0][..], |cpus| cpus.apic_ids);
        let before = (memblock.memory_bytes(), memblock.reserved_bytes());
        match Numa::init(&tables, options, cpus, memblock, max_pfn) {
            Ok(numa) => {
                check(&numa, cpus, memblock, before);
                distances(&numa, options.fake.is_some());
                if options.fake.is_none() {
                    memory_is_where_the_table_says(&numa, &tables, memblock);
                }
            }
            Err(error) => assert!(!plenty, "{error:?} with plenty of memory"),
        }
    });
}

fn usable_bytes(range: PhysRange) -> u64 {
    let low = PhysRange::new(0, 8 << 30).expect("a range");
    range.intersect(low).map_or(0, PhysRange::len_bytes)
}

fn check(numa: &Numa<'_>, cpus: &[u32], memblock: &Memblock<'_>, before: (u64, u64)) {
    numa.validate(memblock);
    memblock.validate();
    assert_eq!(memblock.memory_bytes(), before.0, "nodes change no memory");
    assert!(memblock.reserved_bytes() >= before.1, "nobody's memory is freed");
    let on_no_node: u64 = memblock
        .memory()
        .iter()
        .filter(|region| region.node.is_none())
        .map(|region| region.range.len_bytes())
        .sum();
    assert!(on_no_node < 1 << 20, "{on_no_node:#x} bytes are on no node");
    for node in numa.with_memory().iter() {
        assert!(numa.online().contains(node) && node.index() < numa.nr_node_ids());
    }
    assert_eq!(numa.cpu_nodes().len(), cpus.len());
    assert!((0..cpus.len() as u32).all(|cpu| numa.online().contains(numa.node_of_cpu(CpuId(cpu)))));
}

/// Emulated nodes on the same physical one are as near to each other as to themselves, and `numa=fake=` may say anything
/// about two nodes, as in Linux.
fn distances(numa: &Numa<'_>, emulated: bool) {
    // A table with many domains makes many pairs; the first ones do.
    let nodes = || (0..numa.nr_node_ids().min(24) as u16).chain([u16::MAX]).map(NodeId);
    for (from, to) in nodes().flat_map(|from| nodes().map(move |to| (from, to))) {
        let distance = numa.distance(from, to);
        match distance {
            LOCAL_DISTANCE => assert!(from == to || emulated, "{from} to {to}"),
            _ => assert!(from != to && (distance > LOCAL_DISTANCE || emulated), "{from} to {to}: {distance}"),
        }
    }
}

/// A range that the table puts into a domain has no memory on another node.
fn memory_is_where_the_table_says(numa: &Numa<'_>, tables: &Tables<'_>, memblock: &Memblock<'_>) {
    // Without domains no table was used.
    let Some(_) = numa.domain_of(NodeId::FIRST) else { return };
    let Some(srat) = tables.srat.and_then(|bytes| Srat::new(bytes).ok()) else { return };
    for affinity in srat.affinities().flatten() {
        let Affinity::Memory { pxm, base, size_bytes, .. } = affinity else { continue };
        let Some(range) = PhysRange::from_size(base, size_bytes) else { continue };
        for region in memblock.memory_in(range) {
            let domain = region.node.and_then(|node| numa.domain_of(node));
            assert_eq!(domain, Some(pxm), "{region:?} by the entry {range:?}");
        }
    }
}
