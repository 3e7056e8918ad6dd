//! The machines that in-kernel tests run on. A test's `machines=LIST` names them.

use boot::image::Firmware;
use boot::qemu::Machine;
use boot::size::Size;

/// What `machines=any` means: boots fastest.
pub const DEFAULT: &str = "bios-512m-1cpu";

/// The machine of the planted tests, which only the harness's own tests run.
pub const PLANTED: &str = "planted";

/// A machine's name, firmware, MiB, CPUs, NUMA shorthand and kernel command line.
struct Row(&'static str, Firmware, u32, u32, Option<&'static str>, &'static str);

const TABLE: [Row; 8] = [
    Row(DEFAULT, Firmware::Bios, 512, 1, None, ""),
    Row("bios-128m-1cpu", Firmware::Bios, 128, 1, None, ""),
    Row("bios-6g-4cpu", Firmware::Bios, 6144, 4, None, ""),
    Row("bios-4g-numa2", Firmware::Bios, 4096, 2, Some("1G,3G@21"), ""),
    Row("bios-2g-2x2cpu", Firmware::Bios, 2048, 4, Some("2"), ""),
    Row("uefi-512m-4cpu", Firmware::Uefi, 512, 4, None, ""),
    Row("uefi-2g-1cpu", Firmware::Uefi, 2048, 1, None, ""),
    Row("bios-512m-cma", Firmware::Bios, 512, 1, None, "cma=128M"),
];

/// The names of all machines but the planted one, in the order in which they are booted.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.0)
}

/// The machine of this name.
pub fn find(name: &str) -> Option<Machine> {
    // Some fail on a second CPU.
    const TWO_CPUS: Row = Row(PLANTED, Firmware::Bios, 512, 2, None, "");
    let Row(_, firmware, mib, smp, numa, cmdline) = match name {
        PLANTED => &TWO_CPUS,
        _ => TABLE.iter().find(|row| row.0 == name)?,
    };
    let memory = Size::mib(*mib);
    let topology = numa.map(|numa| {
        let spec: boot::numa::Spec = numa.parse().expect("the table's shorthands are checked by a test");
        spec.topology(memory, *smp).expect("the table's shorthands are checked by a test")
    });
    Some(Machine {
        firmware: *firmware,
        memory,
        smp: Some(*smp),
        topology: topology.unwrap_or_default(),
        cmdline: (*cmdline).to_owned(),
        ..Machine::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_of_the_table_exists() {
        for name in names().chain([PLANTED]) {
            let machine = find(name).unwrap();
            assert_eq!(machine.check_memory(), Ok(()), "{name}");
        }
        assert!(find("pdp-11").is_none());
    }
}
