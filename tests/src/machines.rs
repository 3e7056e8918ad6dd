//! The machines that in-kernel tests run on. A test's `machines=LIST` names them.

use boot::image::Firmware;
use boot::qemu::Machine;
use boot::size::Size;

/// What `machines=any` means: boots fastest.
pub const DEFAULT: &str = "bios-512m-1cpu";

/// The machine of the planted tests, which only the harness's own tests run.
pub const PLANTED: &str = "planted";

/// The machine of planted tests whose pages are poisoned when they are freed, and whose owners are recorded.
pub const PLANTED_DEBUG: &str = "planted-debug";

/// The machine of planted tests on which free pages are not mapped, and errors are not logged.
pub const PLANTED_PAGEALLOC: &str = "planted-pagealloc";

/// With debugging options of the page allocator: what `machines=debug` means, with the default machine.
const DEBUG: [&str; 2] = ["bios-128m-debug", "bios-128m-pagealloc"];

/// Free pages are not mapped, and single ones have a page beside them that is nobody's; all else at the same time.
const PAGEALLOC: &str = "debug_pagealloc=on debug_guardpage_minorder=1 page_owner=on init_on_free=on";

/// The machines of planted tests. Some of the first fail on a second CPU.
const PLANTED_ON: [Row; 3] = [
    Row(PLANTED, Firmware::Bios, 512, 2, None, ""),
    Row(PLANTED_DEBUG, Firmware::Bios, 128, 1, None, "page_owner=on page_poison=on"),
    Row(PLANTED_PAGEALLOC, Firmware::Bios, 128, 2, None, "debug_pagealloc=on page_owner=on loglevel=3"),
];

/// A machine's name, firmware, MiB, CPUs, NUMA shorthand and kernel command line.
struct Row(&'static str, Firmware, u32, u32, Option<&'static str>, &'static str);

const TABLE: [Row; 10] = [
    Row(DEFAULT, Firmware::Bios, 512, 1, None, ""),
    Row("bios-128m-1cpu", Firmware::Bios, 128, 1, None, ""),
    Row("bios-6g-4cpu", Firmware::Bios, 6144, 4, None, ""),
    Row("bios-4g-numa2", Firmware::Bios, 4096, 2, Some("1G,3G@21"), ""),
    Row("bios-2g-2x2cpu", Firmware::Bios, 2048, 4, Some("2"), ""),
    Row("uefi-512m-4cpu", Firmware::Uefi, 512, 4, None, ""),
    Row("uefi-2g-1cpu", Firmware::Uefi, 2048, 1, None, ""),
    Row("bios-512m-cma", Firmware::Bios, 512, 1, None, "cma=128M"),
    Row("bios-128m-debug", Firmware::Bios, 128, 1, None, "page_owner=on page_poison=on"),
    Row("bios-128m-pagealloc", Firmware::Bios, 128, 2, None, PAGEALLOC),
];

/// Machines with something about them that most tests do not expect: only tests that name one run on it.
const SPECIAL: [Row; 1] = [
    // Every allocation asks whether it is to fail. All zones on the second node, two on the first, 1.5 GiB in all, so that
    // nearly everything can be held.
    Row(
        "bios-2x2cpu-torture",
        Firmware::Bios,
        4608,
        4,
        Some("2"),
        "fail_page_alloc=1,0,0,-1 cma=64M movablecore=256M memmap=1536M$512M memmap=512M$2560M memmap=1G$4608M",
    ),
];

/// The names of all machines but the planted ones, in the order in which they are booted.
pub fn names() -> impl Iterator<Item = &'static str> {
    SPECIAL.iter().chain(&TABLE).map(|row| row.0)
}

/// How many times as long as usual a test on it may take.
pub fn patience(name: &str) -> u32 {
    if SPECIAL.iter().any(|row| row.0 == name) { 3 } else { 1 }
}

/// What `machines=all` means.
pub fn ordinary() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.0)
}

/// The names of the machines on which the page allocator is tested with and without debugging options.
pub fn debug() -> impl Iterator<Item = &'static str> {
    [DEFAULT].into_iter().chain(DEBUG)
}

/// The machine of this name.
pub fn find(name: &str) -> Option<Machine> {
    let Row(_, firmware, mib, smp, numa, cmdline) =
        PLANTED_ON.iter().chain(&SPECIAL).chain(&TABLE).find(|row| row.0 == name)?;
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
        for name in names().chain(debug()).chain(PLANTED_ON.map(|row| row.0)) {
            let machine = find(name).unwrap();
            assert_eq!(machine.check_memory(), Ok(()), "{name}");
        }
        assert!(find("pdp-11").is_none());
    }
}
