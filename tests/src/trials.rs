//! In-kernel tests as trials of `cargo test`: `kernel::MACHINE::module::test`.
//!
//! Listing boots nothing. The first trial that runs starts the boots of all selected tests, at most two machines at
//! once; each trial waits for its own verdict.
//!
//! # Locking
//!
//! `Shared::state` protects the machines that wait for a boot and the verdicts; it is not held while a machine runs.

use crate::registry::{self, Test};
use crate::runner::{self, Series};
use crate::session::{Failure, Verdict};
use crate::{machines, runner::log_directory};
use anyhow::{Context, Result};
use boot::build::Package;
use boot::image::Kernel;
use boot::workspace;
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;

/// More boots at once would only slow each other down into their timeouts.
const MAX_BOOTS: usize = 2;

/// Builds the in-kernel tests, and returns them as trials. Those that `arguments` select are booted when one runs.
pub fn trials(arguments: &Arguments) -> Result<Vec<Trial>> {
    let kernel = Kernel::build(Package::KernelTests)?;
    let elf = std::fs::read(&kernel.elf).with_context(|| format!("cannot read {}", kernel.elf.display()))?;
    let groups = groups(&registry::read(&elf)?);
    let selected = groups.iter().filter_map(|(machine, tests)| {
        let chosen = |test: &&String| is_selected(arguments, &trial_name(machine, test));
        let tests: Vec<String> = tests.iter().filter(chosen).cloned().collect();
        (!tests.is_empty()).then(|| (machine.clone(), tests))
    });
    let shared = Arc::new(Shared {
        kernel,
        nr_workers: arguments.test_threads.unwrap_or(MAX_BOOTS).clamp(1, MAX_BOOTS),
        start: Once::new(),
        state: Mutex::new(State { machines: selected.collect(), verdicts: BTreeMap::new() }),
        settled: Condvar::new(),
    });
    let mut trials = Vec::new();
    for (machine, tests) in groups {
        for test in tests {
            let (shared, key) = (Arc::clone(&shared), (machine.clone(), test));
            let name = trial_name(&key.0, &key.1);
            trials.push(Trial::test(name, move || shared.wait(&key)));
        }
    }
    Ok(trials)
}

fn trial_name(machine: &str, test: &str) -> String {
    format!("kernel::{machine}::{test}")
}

/// The tests by machine, machines in the table's order. Planted ones are left out.
fn groups(tests: &[Test]) -> Vec<(String, Vec<String>)> {
    let tests_on = |machine: &str| -> Vec<String> {
        let on_machine = |test: &&Test| test.machines.iter().any(|name| name == machine);
        tests.iter().filter(on_machine).map(|test| test.name.clone()).collect()
    };
    machines::names().map(|name| (name.to_owned(), tests_on(name))).collect()
}

/// The same choice that libtest_mimic makes.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let fits = |pattern: &String| if arguments.exact { name == pattern } else { name.contains(pattern) };
    arguments.filter.as_ref().is_none_or(fits) && !arguments.skip.iter().any(fits) && !arguments.ignored
}

type Key = (String, String);

struct Shared {
    kernel: Kernel,
    nr_workers: usize,
    start: Once,
    state: Mutex<State>,
    settled: Condvar,
}

struct State {
    /// Not booted yet, with their tests.
    machines: VecDeque<(String, Vec<String>)>,
    verdicts: BTreeMap<Key, Option<Failure>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A worker that panicked has left both collections whole: each change to them is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(self: &Arc<Shared>, key: &Key) -> Result<(), Failed> {
        self.start.call_once(|| {
            for _ in 0..self.nr_workers {
                let shared = Arc::clone(self);
                thread::spawn(move || shared.work());
            }
        });
        let mut state = self.lock();
        loop {
            match state.verdicts.remove(key) {
                Some(None) => return Ok(()),
                Some(Some(failure)) => return Err(describe(&failure).into()),
                None => state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn work(&self) {
        loop {
            let Some((machine, tests)) = self.lock().machines.pop_front() else { return };
            let mut left = tests.clone();
            let error = self.boot(&machine, tests, |verdict| {
                left.retain(|name| *name != verdict.name);
                self.settle(&machine, verdict);
            });
            // Only an error of the host leaves any.
            let reason = error.err().map_or("no verdict".to_owned(), |error| format!("{error:#}"));
            for name in left {
                let failure = Failure { reason: reason.clone(), log: String::new() };
                self.settle(&machine, Verdict { name, failure: Some(failure) });
            }
        }
    }

    fn boot(&self, name: &str, tests: Vec<String>, settle: impl FnMut(Verdict)) -> Result<()> {
        let machine = machines::find(name).context("no such machine")?;
        let image = self.kernel.image(machine.firmware)?;
        let logs = log_directory(&workspace::products());
        let timeout = runner::timeout() * machines::patience(name);
        Series { name, machine, image, timeout, logs }.run(tests, settle)
    }

    fn settle(&self, machine: &str, verdict: Verdict) {
        self.lock().verdicts.insert((machine.to_owned(), verdict.name), verdict.failure);
        self.settled.notify_all();
    }
}

fn describe(failure: &Failure) -> String {
    match failure.log.trim_end() {
        "" => failure.reason.clone(),
        log => format!("{}\n--- serial log ---\n{log}\n--- end ---", failure.reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn selects(arguments: &[&str], name: &str, selected: bool) {
        let arguments = Arguments::from_iter(std::iter::once(&"ktests").chain(arguments));
        assert_eq!(is_selected(&arguments, name), selected);
    }

    #[test]
    fn filters_select_what_is_booted() {
        selects(&[], "kernel::m::a::b", true);
        selects(&["a::"], "kernel::m::a::b", true);
        selects(&["c"], "kernel::m::a::b", false);
        selects(&["--exact", "a::b"], "kernel::m::a::b", false);
        selects(&["--exact", "kernel::m::a::b"], "kernel::m::a::b", true);
        selects(&["--skip", "a"], "kernel::m::a::b", false);
        selects(&["--ignored"], "kernel::m::a::b", false);
    }

    #[test]
    fn planted_tests_are_in_no_group() {
        let test = |name: &str, machine: &str| Test { name: name.into(), machines: vec![machine.into()] };
        let groups = groups(&[test("a", machines::DEFAULT), test("b", machines::PLANTED)]);
        let tests: Vec<_> = groups.into_iter().flat_map(|(_, tests)| tests).collect();
        assert_eq!(tests, ["a"]);
    }
}
