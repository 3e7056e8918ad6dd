//! The table of all machines and checks, printed when a run ends.

use crate::checks::{self, Verdict};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};

/// What each machine that has booted gave, by name.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<BTreeMap<String, Vec<Verdict>>>);

impl Table {
    pub(crate) fn add(&self, machine: &str, verdicts: Vec<Verdict>) {
        // A map is whole between two calls, whoever panicked.
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.insert(machine.to_owned(), verdicts);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(f, "Compared with Linux (n.a.: the machine has nothing of the kind):\n")?;
        for (number, name) in (1..).zip(checks::names()) {
            writeln!(f, "  {number:2} {name}")?;
        }
        let width = rows.keys().map(String::len).max().unwrap_or(0);
        let mut head = format!("\n{:width$}", "");
        for (number, _) in (1..).zip(checks::names()) {
            write!(head, "  {number:<4}")?;
        }
        writeln!(f, "{}", head.trim_end())?;
        for (machine, verdicts) in &*rows {
            let cells: String = verdicts.iter().map(|verdict| format!("  {verdict:<4}")).collect();
            writeln!(f, "{machine:width$}{}", cells.trim_end())?;
        }
        let all = || rows.values().flatten();
        let differ = all().filter(|verdict| matches!(verdict, Verdict::Differs(..))).count();
        let same = all().filter(|verdict| **verdict == Verdict::Same).count();
        writeln!(f, "\n{} machines: {same} comparisons equal, {differ} different", rows.len())
    }
}
