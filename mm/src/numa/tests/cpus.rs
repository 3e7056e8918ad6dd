//! Which CPUs a MADT makes possible.

use super::*;
use crate::acpi::{CpuLimits, NO_APIC, PossibleCpus};

fn entries() -> Vec<Vec<u8>> {
    vec![
        tables::lapic(0, 1),
        tables::lapic(1, 1),
        tables::lapic(2, 0),
        tables::lapic(3, 2),
        tables::lapic(0xff, 1),
        vec![1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        tables::lx2apic(1, 1),
        tables::lx2apic(0x1234, 1),
        tables::lx2apic(u32::MAX, 1),
    ]
}

/// The APIC ids, how many are present, and the log.
fn possible(
    madt: &[u8],
    boot: u32,
    mode: ApicMode,
    nr_cpus: u32,
    max_cpus: u32,
) -> (Vec<u32>, u32, Vec<String>) {
    possible_with(madt, boot, mode, CpuLimits { nr_cpus, max_cpus, possible: None })
}

fn possible_with(madt: &[u8], boot: u32, mode: ApicMode, limits: CpuLimits) -> (Vec<u32>, u32, Vec<String>) {
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, _| {
        let madt = Madt::new(madt).unwrap();
        let (cpus, log) = capture(|| madt.possible(boot, mode, limits, memblock).unwrap());
        assert_eq!(cpus.nr(), cpus.nr_present + cpus.nr_absent());
        (cpus.apic_ids.to_vec(), cpus.nr_present, log)
    })
}

#[test]
fn possible_cpus_decides_how_many_are_possible_and_nr_cpus_limits_it() {
    let madt = tables::madt(3, &[(0, 1), (1, 1), (2, 0)].map(|(id, flags)| tables::lapic(id, flags)));
    let with = |possible, nr_cpus, max_cpus| {
        possible_with(&madt, 0, ApicMode::XApic, CpuLimits { nr_cpus, possible, max_cpus })
    };
    assert_eq!(with(None, 8192, 8192), (vec![0, 1, NO_APIC], 2, vec![]));
    assert_eq!(with(Some(2), 8192, 8192), (vec![0, 1], 2, vec![]));
    // Fewer than are there: the rest is not possible.
    assert_eq!(with(Some(1), 8192, 8192), (vec![0], 1, vec![]));
    assert_eq!(with(Some(0), 8192, 8192), (vec![0], 1, vec![]));
    let (ids, present, log) = with(Some(8192), 8192, 8192);
    assert_eq!((ids.len(), present, log), (8192, 2, vec![]));
    assert!(ids.starts_with(&[0, 1]) && ids[2..].iter().all(|&id| id == NO_APIC));
    let (ids, present, log) = with(Some(1 << 30), 8192, 8192);
    assert_eq!((ids.len(), present, log.len()), (8192, 2, 1), "one line for what is too much");
    assert_eq!(with(Some(9), 4, 8192).0, [0, 1, NO_APIC, NO_APIC]);
    assert_eq!(with(Some(9), 8192, 0).0, [0]);
}

#[test]
fn each_enabled_cpu_is_possible_once_the_boot_cpu_first_and_absent_ones_last() {
    let madt = tables::madt(5, &entries());
    let ids = |mode| possible(&madt, 1, mode, 8192, 8192);
    assert_eq!(ids(ApicMode::X2Apic), (vec![1, 0, 0x1234, NO_APIC], 3, vec![]));
    assert_eq!(ids(ApicMode::XApic), (vec![1, 0, NO_APIC], 2, vec![]));
    // Before revision 5, no flag says which slots can be filled.
    let old = possible(&tables::madt(4, &entries()), 1, ApicMode::XApic, 8192, 8192);
    assert_eq!(old.0, [1, 0, NO_APIC, NO_APIC]);
}

#[test]
fn a_broken_entry_ends_the_table_and_the_boot_cpu_is_there_all_the_same() {
    let mut short = entries();
    short.insert(1, vec![0, 5, 0, 0, 0]);
    let (ids, present, log) = possible(&tables::madt(3, &short), 7, ApicMode::XApic, 8192, 8192);
    assert_eq!((ids, present, log.len()), (vec![7, 0], 2, 1));
}

#[test]
fn nr_cpus_limits_who_is_possible() {
    let four = tables::madt(3, &[0, 1, 2, 3].map(|id| tables::lapic(id, 1)));
    let (ids, present, log) = possible(&four, 3, ApicMode::XApic, 2, 8192);
    assert_eq!((ids, present), (vec![3, 0], 2));
    assert_eq!(
        log,
        [
            "APIC: NR_CPUS/possible_cpus limit of 2 reached. Processor 0x1 ignored.",
            "APIC: NR_CPUS/possible_cpus limit of 2 reached. Processor 0x2 ignored.",
            "4 Processors exceeds NR_CPUS limit of 2",
        ]
    );
    assert_eq!(possible(&four, 0, ApicMode::XApic, 1, 8192).0, [0]);
    assert_eq!(possible(&four, 0, ApicMode::XApic, 4, 8192), (vec![0, 1, 2, 3], 4, vec![]));
}

#[test]
fn maxcpus_leaves_others_possible_unless_it_is_0() {
    let four = tables::madt(3, &[0, 1, 2, 3].map(|id| tables::lapic(id, 1)));
    assert_eq!(possible(&four, 0, ApicMode::XApic, 8192, 1).0, [0, 1, 2, 3]);
    let (ids, present, log) = possible(&four, 0, ApicMode::XApic, 8192, 0);
    assert_eq!((ids, present), (vec![0], 1));
    assert_eq!(log, ["4 Processors exceeds max_cpus limit of 0"]);
}

#[test]
fn a_machine_without_a_table_has_its_boot_cpu() {
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, _| {
        let cpus = PossibleCpus::only(5, memblock).unwrap();
        assert_eq!((cpus.apic_ids, cpus.nr_present), (&[5][..], 1));
    });
}

#[test]
fn a_cpu_that_is_not_there_is_near_to_nodes_in_turn_whatever_the_table_names() {
    let srat = tables::srat(
        3,
        &[
            tables::x2apic(1, u32::MAX, 1),
            tables::cpu(1, 0, 1),
            tables::memory(0, 0, 1 << 30, 1),
            tables::memory(1, 1 << 30, 1 << 30, 1),
        ],
    );
    with_memblock(&[(0, (2 << 30) - 1, 1)], |memblock, max_pfn| {
        let tables = Tables { srat: Some(&srat), slit: None, apic_mode: ApicMode::X2Apic };
        let numa = Numa::init(&tables, Mode::On, &[0, NO_APIC, NO_APIC], memblock, max_pfn).unwrap();
        let near: Vec<u16> = numa.cpu_nodes().iter().map(|node| node.0).collect();
        let by_domain = |pxm| (0..2).find(|&n| numa.domain_of(NodeId(n)) == Some(pxm)).unwrap();
        assert_eq!(near, [by_domain(1), 1, 0]);
    });
}

#[test]
fn ids_above_255_are_cpus_of_their_own_and_one_in_both_kinds_of_entries_is_one_cpu() {
    // As firmware lists more than 255 CPUs: those that xAPIC can name in its entries, the others in the wide ones; some
    // list the first in both.
    let narrow = (0..255u8).map(|id| tables::lapic(id, 1));
    let wide = (0..1000u32).map(|id| tables::lx2apic(id, 1));
    let madt = tables::madt(5, &narrow.chain(wide).collect::<Vec<_>>());
    let (ids, present, log) = possible(&madt, 0, ApicMode::X2Apic, 8192, 8192);
    assert_eq!((ids, present, log), ((0..1000).collect(), 1000, vec![]));
    // Without x2APIC, only those that can be sent to.
    let (ids, present, log) = possible(&madt, 0, ApicMode::XApic, 8192, 8192);
    assert_eq!((ids, present, log), ((0..255).collect(), 255, vec![]));
    // A boot CPU that is not the first of the list.
    let (ids, present, _) = possible(&madt, 700, ApicMode::X2Apic, 8192, 8192);
    assert_eq!((ids[0], ids[1], ids.len(), present), (700, 0, 1000, 1000));
}
