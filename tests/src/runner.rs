//! Boots a machine as often as its tests need, and passes their verdicts on as they come.

use crate::protocol;
use crate::session::{Session, Verdict};
use anyhow::{Context, Result, anyhow};
use boot::qemu::Machine;
use boot::run::{self, Outcome};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

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

        let mut child = machine
            .command(&self.image)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start qemu-runner.sh")?;
        let lines = lines_of(&mut child)?;
        let log = self.logs.join(format!("{}-{number}.log", self.name));
        let mut log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut session = Session::new(tests);
        let outcome = self.follow(&mut child, &lines, |line| {
            log.write_all(line.as_bytes())?;
            if let Some(verdict) = session.line(line) {
                settle(verdict);
            }
            Ok(())
        })?;
        writeln!(log, "(harness: {outcome})")?;
        let (verdicts, left) = session.end(outcome);
        verdicts.into_iter().for_each(settle);
        Ok(left)
    }

    /// Passes lines on until the machine ends, or until a test takes too long.
    fn follow(
        &self,
        child: &mut Child,
        lines: &Receiver<String>,
        mut take: impl FnMut(&str) -> Result<()>,
    ) -> Result<Outcome> {
        let mut deadline = Instant::now() + self.timeout;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if protocol::parse(&line).is_some() {
                        deadline = Instant::now() + self.timeout;
                    }
                    take(&line)?;
                }
                Err(RecvTimeoutError::Timeout) => {
                    run::end(child)?;
                    return Ok(Outcome::Timeout);
                }
                // Both pipes are closed: QEMU has ended.
                Err(RecvTimeoutError::Disconnected) => return Ok(Outcome::of(child.wait()?)),
            }
        }
    }
}

/// What the machine prints and what QEMU complains of, line by line.
fn lines_of(child: &mut Child) -> Result<Receiver<String>> {
    let (sender, receiver) = mpsc::sync_channel(1000);
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("QEMU's output is not piped"))?;
    let stderr = child.stderr.take().ok_or_else(|| anyhow!("QEMU's errors are not piped"))?;
    let errors = sender.clone();
    thread::spawn(move || forward(stdout, &sender));
    thread::spawn(move || forward(stderr, &errors));
    Ok(receiver)
}

fn forward(from: impl Read, to: &mpsc::SyncSender<String>) {
    /// A line that does not end is cut.
    const MAX_LINE: u64 = 64 << 10;
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(1..) = from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
        // Nobody listens after a timeout.
        if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
        line.clear();
    }
}

/// Where boots leave their logs.
pub fn log_directory(products: &Path) -> PathBuf {
    products.join("logs")
}
