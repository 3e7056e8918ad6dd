//! The harness itself, proved on planted tests that fail in every way there is (tests/kernel/src/planted.rs).
//!
//! One series of boots serves all facts below: a test that takes the machine down costs a boot.

use boot::build::Package;
use boot::image::Kernel;
use harness::runner::Series;
use harness::session::{Failure, Verdict};
use harness::{machines, registry};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// In this order, so that a test that passes follows each kind of failure.
const ORDER: [&str; 9] = [
    "planted::passes_first",
    "planted::fails_an_assertion",
    "planted::passes_second",
    "planted::hangs",
    "planted::passes_third",
    "planted::triple_faults",
    "planted::exits_early",
    "planted::is_unknown_to_the_kernel",
    "planted::passes_last",
];

/// Enough for a test that passes, on a busy machine; the one that hangs takes all of it.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Results {
    verdicts: BTreeMap<String, Option<Failure>>,
    nr_boots: usize,
}

fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| Kernel::build(Package::KernelTests).expect("the in-kernel tests build"))
}

fn run(raw: &[&str], logs: &Path) -> Vec<Verdict> {
    let mut machine = machines::find(machines::PLANTED).unwrap();
    machine.raw = raw.iter().map(|flag| flag.to_string()).collect();
    let image = kernel().image(machine.firmware).unwrap();
    let series = Series { name: machines::PLANTED, machine, image, timeout: TIMEOUT, logs: logs.to_owned() };
    let mut verdicts = Vec::new();
    series.run(ORDER.map(str::to_owned).to_vec(), |verdict| verdicts.push(verdict)).unwrap();
    verdicts
}

fn results() -> &'static Results {
    static RESULTS: OnceLock<Results> = OnceLock::new();
    RESULTS.get_or_init(|| {
        let logs = tempfile::tempdir().unwrap();
        let verdicts = run(&[], logs.path());
        assert_eq!(verdicts.len(), ORDER.len(), "each test gets one verdict");
        let nr_boots = fs::read_dir(logs.path()).unwrap().count();
        let verdicts = verdicts.into_iter().map(|verdict| (verdict.name, verdict.failure)).collect();
        Results { verdicts, nr_boots }
    })
}

#[track_caller]
fn passes(name: &str) {
    assert_eq!(results().verdicts[name], None);
}

/// The test failed for this reason; its log has `line` and nothing of the tests around it.
#[track_caller]
fn fails(name: &str, reason: &str, line: &str) {
    let failure = results().verdicts[name].as_ref().expect("it fails");
    assert!(failure.reason.contains(reason), "{failure:?}");
    assert!(failure.log.contains(line), "{failure:?}");
    let others = ORDER.iter().filter(|other| **other != name);
    for other in others {
        assert!(!failure.log.contains(&format!("KTEST begin {other}")), "{failure:?}");
    }
}

#[test]
fn tests_that_pass_do_so_around_all_failures() {
    for name in ORDER.iter().filter(|name| name.contains("passes")) {
        passes(name);
    }
}

#[test]
fn a_failed_assertion_is_that_tests_failure_with_its_log() {
    fails("planted::fails_an_assertion", "panicked", "planted: one is two");
}

#[test]
fn a_hang_is_that_tests_failure() {
    fails("planted::hangs", "did not end in time", "planted: hanging");
}

#[test]
fn a_triple_fault_is_that_tests_failure() {
    fails("planted::triple_faults", "triple fault", "planted: triple-faulting");
}

#[test]
fn an_early_exit_is_that_tests_failure_also_with_success() {
    fails("planted::exits_early", "ended the run early, with success", "planted: leaving");
}

#[test]
fn a_soft_failure_needs_no_new_boot() {
    fails("planted::is_unknown_to_the_kernel", "no such test", "");
    assert_eq!(results().nr_boots, 5, "one boot, and one after each of the four that took the machine down");
}

#[test]
fn what_qemu_complains_of_is_every_tests_failure() {
    let logs = tempfile::tempdir().unwrap();
    let verdicts = run(&["-frobnicate"], logs.path());
    assert_eq!(verdicts.len(), ORDER.len());
    for verdict in verdicts {
        let failure = verdict.failure.expect("no machine, no pass");
        assert!(failure.reason.contains("QEMU failed") && failure.log.contains("frobnicate"), "{failure:?}");
    }
}

#[test]
fn planted_tests_are_registered_for_their_machine_only() {
    let tests = registry::read(&fs::read(&kernel().elf).unwrap()).unwrap();
    for name in ORDER.iter().filter(|name| !name.contains("unknown")) {
        let test =
            tests.iter().find(|test| test.name == *name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(test.machines, [machines::PLANTED]);
    }
}
