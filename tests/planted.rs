//! The harness itself, proved on planted tests that fail in every way there is (tests/kernel/src/planted.rs).
//!
//! One series of boots serves all facts below: a test that takes the machine down costs a boot.

use boot::build::Package;
use boot::image::Kernel;
use harness::protocol::{self, Event};
use harness::runner::Series;
use harness::session::{Failure, Verdict};
use harness::{machines, registry};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// The one that passes comes last, after all that took their machine down.
const ORDER: [&str; 22] = [
    "planted::panics",
    "planted::panics_on_another_cpu",
    "planted::panics_on_all_cpus",
    "planted::fails_an_assertion",
    "planted::hangs",
    "planted::triple_faults",
    "planted::exits_early",
    "planted::overflows_the_stack",
    "planted::overflows_a_threads_stack",
    "planted::overflows_the_stack_of_nmis",
    "planted::overflows_the_stack_of_double_faults",
    "planted::writes_to_a_wild_pointer",
    "planted::reads_through_null_with_the_address_space_locked",
    "planted::writes_past_vmalloced_memory",
    "planted::writes_to_a_constant",
    "planted::calls_data",
    "planted::frees_a_page_twice",
    "planted::frees_a_page_in_use",
    "planted::frees_an_object_twice",
    "planted::takes_locks_in_the_wrong_order",
    "planted::is_unknown_to_the_kernel",
    "planted::passes",
];

/// Enough for a test that passes, on a busy machine; the one that hangs takes all of it.
const TIMEOUT: Duration = Duration::from_secs(60);

struct Results {
    verdicts: BTreeMap<String, Option<Failure>>,
    nr_boots: usize,
}

fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| Kernel::build(Package::KernelTests).expect("the in-kernel tests build"))
}

fn run(raw: &[&str], logs: &Path) -> Vec<Verdict> {
    run_on(machines::PLANTED, &ORDER, raw, logs)
}

fn run_on(name: &str, tests: &[&str], raw: &[&str], logs: &Path) -> Vec<Verdict> {
    let mut machine = machines::find(name).unwrap();
    machine.raw = raw.iter().map(|flag| flag.to_string()).collect();
    let image = kernel().image(machine.firmware).unwrap();
    let series = Series { name, machine, image, timeout: TIMEOUT, logs: logs.to_owned() };
    let mut verdicts = Vec::new();
    series
        .run(tests.iter().map(|test| test.to_string()).collect(), |verdict| verdicts.push(verdict))
        .unwrap();
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

/// The test failed for this reason; its log has `line` and nothing of the tests around it.
#[track_caller]
fn fails(name: &str, reason: &str, line: &str) {
    let failure = results().verdicts[name].as_ref().expect("it fails");
    assert!(failure.reason.contains(reason), "{failure:?}");
    assert!(failure.log.contains(line), "{failure:?}");
    let begins = failure.log.lines().filter(|line| matches!(protocol::parse(line), Some(Event::Begin(_))));
    assert_eq!(begins.count(), 1, "{failure:?}");
}

#[test]
fn a_test_that_passes_does_so_after_all_failures() {
    assert_eq!(results().verdicts["planted::passes"], None);
}

#[test]
fn a_panic_is_that_tests_failure_with_its_log() {
    fails("planted::panics", "", "a planted panic");
    fails("planted::fails_an_assertion", "", "a planted assertion");
}

#[test]
fn a_panic_of_another_cpu_ends_the_run_with_its_report() {
    let name = "planted::panics_on_another_cpu";
    fails(name, "a planted panic on CPU 1", "CPU: 1 PID: ");
    fails(name, "a planted panic on CPU 1", "Kernel panic - not syncing: a planted panic on CPU 1");
}

#[test]
fn of_cpus_that_panic_at_once_one_reports_undisturbed() {
    let name = "planted::panics_on_all_cpus";
    fails(name, "a planted panic of all CPUs", "Kernel panic - not syncing: a planted panic of all CPUs");
    let failure = results().verdicts[name].as_ref().expect("it fails");
    for once in ["CPU: ", "Call Trace:", "---[ end Kernel panic - not syncing: "] {
        assert_eq!(failure.log.matches(once).count(), 1, "{once}: {failure:?}");
    }
}

#[test]
fn a_fault_is_that_tests_failure_with_its_log() {
    fails("planted::overflows_the_stack", "", "");
    fails("planted::writes_to_a_wild_pointer", "", "ffffd00000001000");
}

/// As [`fails`], and the backtrace names the test's function.
#[track_caller]
fn fails_in_its_function(name: &str, line: &str) {
    fails(name, "", line);
    let failure = results().verdicts[name].as_ref().expect("it fails");
    let trace = failure.log.split_once("Call Trace:").map_or("", |(_, trace)| trace);
    assert!(trace.contains(&format!("strata_ktests::{name}+0x")), "{failure:?}");
}

#[test]
fn a_wrong_access_is_reported_with_the_functions_that_led_there() {
    fails_in_its_function("planted::writes_to_a_wild_pointer", "not-present page");
    fails_in_its_function("planted::writes_past_vmalloced_memory", "not-present page");
    fails_in_its_function("planted::writes_to_a_constant", "supervisor write access in kernel mode");
    fails_in_its_function("planted::writes_to_a_constant", "permissions violation");
    fails_in_its_function("planted::calls_data", "supervisor instruction fetch in kernel mode");
}

#[test]
fn a_null_pointer_is_reported_also_where_its_fault_would_need_a_lock_that_is_held() {
    let name = "planted::reads_through_null_with_the_address_space_locked";
    fails(name, "page fault", "BUG: kernel NULL pointer dereference, address: 0000000000000000");
}

#[test]
fn a_panic_prints_the_registers_of_the_function_that_panicked() {
    for name in ["planted::panics", "planted::fails_an_assertion"] {
        fails_in_its_function(name, &format!("RIP: 0008:strata_ktests::{name}+0x"));
        for register in ["RSP: 0010:ffff", "EFLAGS: ", "RBP: ", "CR2: ", "CR3: "] {
            fails(name, "", register);
        }
    }
}

#[test]
fn a_full_stack_is_reported_as_such() {
    fails_in_its_function("planted::overflows_the_stack", "task stack guard page was hit");
    fails("planted::overflows_a_threads_stack", "double fault", "task stack guard page was hit");
    fails("planted::overflows_a_threads_stack", "", "Comm: deep");
    for (stack, name) in [("nmis", "NMI"), ("double_faults", "#DF")] {
        let test = format!("planted::overflows_the_stack_of_{stack}");
        fails(&test, "double fault", &format!("BUG: {name} stack guard page was hit"));
    }
}

#[test]
fn misuse_of_memory_is_reported_as_linux_does() {
    fails_in_its_function("planted::frees_a_page_twice", "BUG: Bad page state  pfn:");
    fails("planted::frees_a_page_twice", "", "page dumped because: page is free already");
    fails_in_its_function("planted::frees_a_page_in_use", "page dumped because: PAGE_FLAGS_CHECK_AT_FREE");
    fails_in_its_function(
        "planted::frees_an_object_twice",
        "BUG kmalloc-64 (Not tainted): Object already free",
    );
}

/// What the test logs on a machine with a debugging option.
fn log_on(machine: &str, test: &str) -> String {
    let logs = tempfile::tempdir().unwrap();
    let [verdict] = run_on(machine, &[test], &[], logs.path()).try_into().unwrap();
    verdict.failure.expect("it fails").log
}

#[test]
fn a_write_to_a_freed_page_is_reported_when_it_is_allocated_again() {
    let log = log_on(machines::PLANTED_DEBUG, "planted::writes_to_a_page_that_was_freed");
    for line in [
        "pagealloc: memory corruption",
        "100: 00                                               .",
        "page dumped because: pagealloc: corrupted page details",
        "strata_ktests::planted::writes_to_a_page_that_was_freed+0x",
        "page_owner tracks the page as freed",
        "page last allocated via order 0, migratetype Unmovable, gfp_mask 0xcc0(GFP_KERNEL), pid ",
    ] {
        assert!(log.contains(line), "{log}");
    }
    let (_, freed) = log.split_once("page last free stack trace:").expect("who freed it");
    let (freed, _) = freed.split_once("panic").unwrap_or((freed, ""));
    assert!(freed.contains("planted::writes_to_a_page_that_was_freed"), "{log}");
}

#[test]
fn an_access_to_a_page_that_is_free_and_not_mapped_is_reported_at_once() {
    reports_an_access_to_a_free_page("planted::writes_to_a_page_that_was_freed");
}

#[test]
fn an_access_to_a_free_page_is_reported_when_another_cpu_does_not_give_the_console_back() {
    reports_an_access_to_a_free_page("planted::writes_to_a_freed_page_while_another_cpu_prints");
}

/// The whole report, though the machine logs no errors.
#[track_caller]
fn reports_an_access_to_a_free_page(test: &str) {
    let log = log_on(machines::PLANTED_PAGEALLOC, test);
    for line in [
        "BUG: unable to handle page fault for address: ffff8880",
        "#PF: supervisor write access in kernel mode",
        "#PF: error_code(0x0002) - not-present page",
        " is free, and not mapped for debug_pagealloc=on",
        "page dumped because: access to a free page",
        "page_owner tracks the page as freed",
        "Oops: 0002 [#1] SMP DEBUG_PAGEALLOC",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    let (freed, trace) = log.split_once("Oops: ").expect("a report");
    let (_, freed) = freed.split_once("page last free stack trace:").expect("who freed it");
    for functions in [freed, trace] {
        assert!(functions.contains("planted::writes_to_a_page_that_was_freed+0x"), "{log}");
    }
}

#[test]
fn a_wrong_lock_order_is_reported_with_both_chains() {
    let name = "planted::takes_locks_in_the_wrong_order";
    fails_in_its_function(name, "lock order: Spaces wanted while Zone is held");
    fails(name, "", "WARNING: possible circular locking dependency detected");
    fails(name, "", " (Spaces), at: tests/kernel/src/planted.rs:");
    fails(name, "", "the existing dependency chain (in reverse order) is:");
    fails(name, "", "-> #1 (Zone): taken at ");
    fails(name, "", "1 lock held by CPU 0:");
}

#[test]
fn a_hang_is_that_tests_failure() {
    fails("planted::hangs", "did not end in time", "");
}

#[test]
fn a_triple_fault_is_that_tests_failure() {
    fails("planted::triple_faults", "triple fault", "");
}

#[test]
fn an_early_exit_is_that_tests_failure_also_with_success() {
    fails("planted::exits_early", "ended the run early, with success", "");
}

#[test]
fn a_soft_failure_needs_no_new_boot() {
    let failure = results().verdicts["planted::is_unknown_to_the_kernel"].as_ref().expect("it fails");
    assert!(failure.reason.contains("no such test"), "{failure:?}");
    assert_eq!(results().nr_boots, 21, "one boot, and one after each of the twenty that ended theirs");
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
