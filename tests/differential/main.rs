//! The kernel on the machines on which Linux was booted: the same memory, number for number.
//!
//! ```text
//! machines/NAME.txt --facts--> flags, options --boots--> our console --report--+
//!                       |                                                      +--checks--> trial differential::NAME
//!                       +------ what Linux reported ---------------------------+                  |
//!                                                                                            table at the end
//! ```
//!
//! [`corrupt`] boots one of the machines with broken ACPI tables.
//!
//! `cargo test --test differential` runs all machines, two at a time; their logs are `target/strata/logs/linux-NAME.log`.

mod boots;
mod checks;
mod corrupt;
mod facts;
mod formulas;
mod report;
mod table;
mod tables;
mod zoneinfo;

use anyhow::{Context, Result};
use boot::workspace;
use checks::Verdict;
use facts::Facts;
use libtest_mimic::{Arguments, Failed, Trial};
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;
use table::Table;

/// More boots at once would only slow each other down.
const MAX_BOOTS: usize = 2;

/// What a boot is asked to tell.
const TELL: &str = "memblock=debug loglevel=8 dump=zoneinfo,node,sys/vm poweroff";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(MAX_BOOTS).clamp(1, MAX_BOOTS));
    let table = Arc::new(Table::default());
    let trials = match trials(&table) {
        Ok(trials) => trials,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    print!("{table}");
    conclusion.exit_code()
}

fn trials(table: &Arc<Table>) -> Result<Vec<Trial>> {
    let machines = Facts::read_all(&workspace::root().join("tests/differential/machines"))?;
    let trial = |facts: Facts| {
        let table = Arc::clone(table);
        Trial::test(format!("differential::{}", facts.name), move || compare(&facts, &table))
    };
    let plain = machines.iter().find(|facts| facts.name == corrupt::MACHINE).cloned();
    let plain = Arc::new(plain.context("the machine for corrupt tables has no facts")?);
    let corrupt = corrupt::CASES.into_iter().map(|case| {
        let plain = Arc::clone(&plain);
        Trial::test(format!("corrupt::{}", case.name), move || corrupt::run(&case, &plain))
    });
    Ok(machines.into_iter().map(trial).chain(corrupt).collect())
}

/// Boots the machine and compares.
fn compare(facts: &Facts, table: &Table) -> Result<(), Failed> {
    let verdicts =
        boot(facts).map(|report| checks::run(facts, &report)).map_err(|error| format!("{error:#}"))?;
    table.add(&facts.name, verdicts.clone());
    let mut differences = String::new();
    for (name, verdict) in checks::names().zip(&verdicts) {
        if let Verdict::Differs(expected, found) = verdict {
            writeln!(differences, "{name}")?;
            expected.iter().try_for_each(|line| writeln!(differences, "    expected: {line}"))?;
            found.iter().try_for_each(|line| writeln!(differences, "    found:    {line}"))?;
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.into()) }
}

fn boot(facts: &Facts) -> Result<report::Report> {
    let files = tempfile::tempdir().context("cannot make a temporary directory")?;
    let flags = tables::expand(&facts.qemu, files.path())?;
    let cmdline = format!("{} {TELL}", facts.cmdline);
    boots::boot(&format!("linux-{}", facts.name), flags, cmdline.trim_start())
}
