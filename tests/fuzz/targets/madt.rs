//! The MADT: the list of CPUs has each once, the boot CPU first, and keeps to its limits; each I/O APIC has an address of its own.
//!
//! Input: the boot CPU's APIC id, then the table.

use mm::acpi::{CpuLimits, NO_APIC, PossibleCpus};
use mm::numa::madt::CpuState;
use mm::numa::{ApicMode, Madt};

use crate::input::Input;
use crate::machine::with_memory;
use crate::tables::raw_and_repaired;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let boot_id = u32::from(input.u8());
    raw_and_repaired(input.rest(), *b"APIC", |table| {
        let Ok(madt) = Madt::new(table) else { return };
        assert!(madt.cpus().count() <= table.len() / 2 + 1);
        let _ = madt.local_apic_address();
        let io_apics: Vec<_> = madt.io_apics().map(|io_apic| io_apic.address).collect();
        assert!(io_apics.iter().enumerate().all(|(i, a)| *a != 0 && !io_apics[..i].contains(a)));
        with_memory(16 << 20, |memblock| {
            for mode in [ApicMode::XApic, ApicMode::X2Apic] {
                let all = CpuLimits::default();
                let cpus = madt.possible(boot_id, mode, all, memblock).expect("memory for a few ids");
                check(&madt, cpus, boot_id, mode);
                let two = madt.possible(boot_id, mode, CpuLimits { nr_cpus: 2, ..all }, memblock);
                assert!(two.is_some_and(|two| two.nr() == cpus.nr().min(2)));
                let many = madt.possible(boot_id, mode, CpuLimits { possible: Some(300), ..all }, memblock);
                assert!(many.is_some_and(|many| many.nr() == 300 && many.nr_present <= cpus.nr_present));
                let one = madt.possible(boot_id, mode, CpuLimits { max_cpus: 0, ..all }, memblock);
                assert!(one.is_some_and(|one| one.apic_ids == [boot_id]));
            }
        });
    });
}

fn check(madt: &Madt<'_>, cpus: PossibleCpus<'_>, boot_id: u32, mode: ApicMode) {
    let (ids, absent) = cpus.apic_ids.split_at(cpus.nr_present as usize);
    assert!(absent.iter().all(|&id| id == NO_APIC));
    assert_eq!(ids.first(), Some(&boot_id));
    let sound = || madt.cpus().map_while(Result::ok);
    let listed = |id| sound().any(|cpu| cpu.apic_id == id && cpu.state == CpuState::Enabled);
    for (i, &id) in ids.iter().enumerate().skip(1) {
        assert!(!ids[..i].contains(&id), "APIC id {id} twice");
        assert!(mode.can_address(id) && listed(id), "APIC id {id}");
    }
    let wanted = sound().filter(|cpu| cpu.state == CpuState::Enabled && mode.can_address(cpu.apic_id));
    assert!(wanted.map(|cpu| cpu.apic_id).all(|id| ids.contains(&id)), "a CPU is missing");
}
