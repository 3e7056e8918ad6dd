//! A machine's console, line by line while it runs.

use anyhow::{Context, Result, anyhow};
use boot::qemu::Machine;
use boot::run::{self, Outcome};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What a line says about how long to wait for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The machine has come further: the time begins anew.
    Anew,
    /// Nothing.
    AsBefore,
}

/// Boots `image` on `machine`, and passes what it prints and what QEMU complains of to `take`, line by line. Ends the
/// machine when the time is up, or when `take` fails.
pub fn follow(
    machine: &Machine,
    image: &Path,
    timeout: Duration,
    take: impl FnMut(&str) -> Result<Patience>,
) -> Result<Outcome> {
    let mut child = machine
        .command(image)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start qemu-runner.sh")?;
    let lines = lines_of(&mut child)?;
    let outcome = read(&lines, timeout, take);
    match outcome {
        Ok(true) => Ok(Outcome::of(child.wait()?)),
        Ok(false) => {
            run::end(&mut child)?;
            Ok(Outcome::Timeout)
        }
        Err(error) => {
            run::end(&mut child)?;
            Err(error)
        }
    }
}

/// Whether the machine has ended by itself.
fn read(
    lines: &Receiver<String>,
    timeout: Duration,
    mut take: impl FnMut(&str) -> Result<Patience>,
) -> Result<bool> {
    let mut deadline = Instant::now() + timeout;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if take(&line)? == Patience::Anew {
                    deadline = Instant::now() + timeout;
                }
            }
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            // Both pipes are closed: QEMU has ended.
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
        }
    }
}

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
