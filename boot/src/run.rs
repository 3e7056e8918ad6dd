//! Runs a machine to its end, and says how it ended.

use crate::console::FirmwareFilter;
use crate::image::Firmware;
use crate::qemu::Machine;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;
use wait_timeout::ChildExt;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel reported success (0x10 to isa-debug-exit).
    Success,
    /// The kernel reported failure: a panic, a failed check (0x11 to isa-debug-exit).
    Failure,
    /// The machine was reset or switched off without a verdict of the kernel: a triple fault, most likely.
    Reset,
    /// QEMU was ended by this signal.
    Signal(i32),
    /// QEMU ended with another status: it could not run the machine, and has said why on standard error.
    Qemu(i32),
    /// The time was up.
    Timeout,
}

impl Outcome {
    /// Reads the exit status of QEMU (isa-debug-exit turns a written value v into 2v + 1).
    pub fn of(status: ExitStatus) -> Outcome {
        match (status.code(), status.signal()) {
            (Some(33), _) => Outcome::Success,
            (Some(35), _) => Outcome::Failure,
            (Some(0), _) => Outcome::Reset,
            (Some(code), _) => Outcome::Qemu(code),
            (None, signal) => Outcome::Signal(signal.unwrap_or_default()),
        }
    }

    /// The exit status of `cargo run`.
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Success => 0,
            Outcome::Timeout => 124,
            _ => 1,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Success => f.write_str("the kernel reported success"),
            Outcome::Failure => f.write_str("the kernel reported failure"),
            Outcome::Reset => {
                f.write_str("the machine was reset without a word of the kernel (a triple fault?)")
            }
            Outcome::Signal(signal) => write!(f, "QEMU was ended by signal {signal}"),
            Outcome::Qemu(code) => write!(f, "QEMU failed with status {code}"),
            Outcome::Timeout => f.write_str("the time is up"),
        }
    }
}

/// Boots `image` on `machine`, the console on our own standard input and output, for at most `timeout`.
pub fn run(machine: &Machine, image: &Path, timeout: Option<Duration>) -> Result<Outcome> {
    let mut command = machine.command(image);
    if machine.firmware == Firmware::Uefi {
        command.stdout(Stdio::piped());
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let console = child.stdout.take().map(|stdout| thread::spawn(move || show(stdout)));
    let status = match timeout {
        None => Some(child.wait()?),
        Some(timeout) => child.wait_timeout(timeout)?,
    };
    let outcome = match status {
        Some(status) => Outcome::of(status),
        None => {
            end(&mut child)?;
            Outcome::Timeout
        }
    };
    // The pipe is closed by now; what is left in it has yet to be shown.
    match console.map(|console| console.join()) {
        Some(Ok(Err(error))) => Err(error).context("cannot write the console's output"),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        Some(Ok(Ok(()))) | None => Ok(outcome),
    }
}

/// Copies the console to standard output, without what the firmware does to terminals.
fn show(mut console: ChildStdout) -> io::Result<()> {
    let mut filter = FirmwareFilter::new();
    let (mut buffer, mut shown) = ([0; 4096], Vec::new());
    let mut stdout = io::stdout();
    loop {
        let length = match console.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        if length == 0 {
            return Ok(());
        }
        shown.clear();
        filter.pass(&buffer[..length], &mut shown);
        stdout.write_all(&shown)?;
        stdout.flush()?;
    }
}

/// Ends QEMU: asks first, so that it puts the terminal right, and kills it two seconds later.
pub fn end(child: &mut Child) -> Result<()> {
    // Both can only fail when it has ended by itself just now; then there is nothing left to do.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    if child.wait_timeout(Duration::from_secs(2))?.is_none() {
        let _ = child.kill();
        child.wait()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn means(raw: i32, outcome: Outcome, exit_code: u8) {
        let found = Outcome::of(ExitStatus::from_raw(raw));
        assert_eq!((found, found.exit_code()), (outcome, exit_code));
    }

    #[test]
    fn only_the_kernels_own_word_is_success() {
        means(33 << 8, Outcome::Success, 0);
        means(35 << 8, Outcome::Failure, 1);
        means(0, Outcome::Reset, 1);
        means(1 << 8, Outcome::Qemu(1), 1);
        means(9, Outcome::Signal(9), 1);
        assert_eq!(Outcome::Timeout.exit_code(), 124);
    }
}
