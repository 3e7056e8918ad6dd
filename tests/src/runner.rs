//! Boots a machine as often as its tests need, and passes their verdicts on as they come.

use crate::console::{self, Patience};
use crate::protocol;
use crate::session::{Session, Verdict};
use anyhow::{Context, Result};
use boot::qemu::Machine;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a test may take, and a boot until its first test, by the clock on the wall.
///
/// Generous, because a machine may be busy: `STRATA_TEST_TIMEOUT` (seconds) changes it.
pub fn timeout() -> Duration {
    let seconds = std::env::var("STRATA_TEST_TIMEOUT").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(240))
}

/// A series of boots of one machine.
pub struct Series<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// The machine.
    pub machine: Machine,
    /// What it boots.
    pub image: PathBuf,
    /// See [`timeout`].
    pub timeout: Duration,
    /// Each boot's serial log goes to `NAME-NUMBER.log` in here.
    pub logs: PathBuf,
}

impl Series<'_> {
    /// Runs the tests; each gets its verdict by `settle`.
    pub fn run(&self, tests: Vec<String>, mut settle: impl FnMut(Verdict)) -> Result<()> {
        fs::create_dir_all(&self.logs).with_context(|| format!("cannot make {}", self.logs.display()))?;
        let mut left = tests;
        let mut number = 1;
        // Ends, because each boot settles at least one test (session's I3).
        while !left.is_empty() {
            left = self.boot(number, left, &mut settle)?;
            number += 1;
        }
        Ok(())
    }

    fn boot(&self, number: u32, tests: Vec<String>, settle: &mut impl FnMut(Verdict)) -> Result<Vec<String>> {
        let mut selection = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
        selection.write_all(protocol::selection(tests.iter().map(String::as_str)).as_bytes())?;
        let mut machine = self.machine.clone();
        machine.files.push((protocol::SELECTION_FILE.to_owned(), selection.path().to_owned()));

        let log = self.logs.join(format!("{}-{number}.log", self.name));
        let mut log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut session = Session::new(tests);
        let outcome = console::follow(&machine, &self.image, self.timeout, |line| {
            log.write_all(line.as_bytes())?;
            if let Some(verdict) = session.line(line) {
                settle(verdict);
            }
            Ok(if protocol::parse(line).is_some() { Patience::Anew } else { Patience::AsBefore })
        })?;
        writeln!(log, "(harness: {outcome})")?;
        let (verdicts, left) = session.end(outcome);
        verdicts.into_iter().for_each(settle);
        Ok(left)
    }
}

/// Where boots leave their logs.
pub fn log_directory(products: &Path) -> PathBuf {
    products.join("logs")
}
