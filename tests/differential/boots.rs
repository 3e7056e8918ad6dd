//! Boots the kernel on a machine, and returns what it reported.

use crate::report::Report;
use anyhow::{Context, Result, anyhow, bail};
use boot::build::Package;
use boot::image::{Firmware, Kernel};
use boot::qemu::Machine;
use boot::run::Outcome;
use boot::workspace;
use harness::console::{self, Patience};
use harness::runner;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The CPU that Linux was booted on.
const CPU: &str = "max,la57=off,erms=off";

/// Boots on the machine that `qemu`'s flags describe, with `cmdline`; `name` is the log's.
///
/// Fails unless the kernel powers off with success.
pub(crate) fn boot(name: &str, qemu: Vec<String>, cmdline: &str) -> Result<Report> {
    let machine = Machine {
        firmware: Firmware::Bios,
        cpu: Some(CPU.to_owned()),
        cmdline: cmdline.to_owned(),
        raw: qemu,
        ..Machine::default()
    };
    let logs = runner::log_directory(&workspace::products());
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let path = logs.join(format!("{name}.log"));
    let mut log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut report = Report::default();
    let outcome = console::follow(&machine, &image()?, runner::timeout(), |line| {
        log.write_all(line.as_bytes())?;
        report.line(line);
        Ok(Patience::AsBefore)
    })?;
    match outcome {
        Outcome::Success => Ok(report),
        outcome => bail!("{outcome}; the log is {}:\n{}", path.display(), end(&report)),
    }
}

/// The kernel's image, built when it is first wanted.
fn image() -> Result<PathBuf> {
    static IMAGE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || Kernel::build(Package::Kernel)?.image(Firmware::Bios);
    IMAGE
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

/// The log's last lines.
fn end(report: &Report) -> String {
    const LINES: usize = 40;
    let log = &report.log;
    log[log.len().saturating_sub(LINES)..].join("\n")
}
