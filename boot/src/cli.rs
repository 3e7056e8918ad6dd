//! The command line of `cargo run`: options to a machine, a machine to an exit status.

use crate::build::Package;
use crate::image::{Firmware, Kernel};
use crate::numa::Spec;
use crate::qemu::Machine;
use crate::run::{self, Outcome};
use crate::size::Size;
use crate::{cpio, workspace};
use anyhow::{Context, Result};
use clap::{Parser, value_parser};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;

/// The exit status for bad usage, as clap has it.
const BAD_USAGE: u8 = 2;

/// Build Strata and boot it in QEMU.
///
/// Standard output is the serial console, standard input is typed into it. The exit status is 0 when the kernel ends
/// the run with success, 1 when it panics, reports failure or ends in any other way, 124 at the timeout, and 2 for bad
/// usage.
#[derive(Debug, Parser)]
#[command(name = "strata", bin_name = "cargo run --", version, max_term_width = 100)]
struct Options {
    /// RAM: a number of MiB, or with a unit, like 6G [default: 512M, or what --numa adds up to]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,

    /// Number of CPUs [default: 2; 1 with --icount]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=255))]
    smp: Option<u32>,

    /// NUMA nodes: a number of equal nodes or a list of sizes, and distances behind an @
    ///
    /// `2` splits memory and CPUs evenly over two nodes; `1G,3G` makes a node of 1 GiB and one of 3 GiB (0: no memory).
    /// `2@40` puts 40 between them instead of 20; `2@10,21;30,10` gives the whole matrix, a row per node.
    #[arg(long, value_name = "NODES[@DISTANCES]")]
    numa: Option<Spec>,

    /// What boots the machine
    #[arg(long, value_enum, value_name = "FIRMWARE", default_value = "bios")]
    firmware: Firmware,

    /// QEMU's CPU model [default: max,la57=off]
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,

    /// Wait for gdb on port 1234 before the first instruction
    #[arg(long)]
    gdb: bool,

    /// Count instructions: the TSC ticks once per instruction, and two runs agree
    #[arg(long)]
    icount: bool,

    /// End the run after so many seconds, with exit status 124
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..))]
    timeout: Option<u64>,

    /// An initramfs: a cpio archive, or a directory to make one of
    #[arg(long, value_name = "FILE|DIR")]
    initramfs: Option<PathBuf>,

    /// A disk: a raw image, as a virtio block device
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,

    /// QEMU flags, quoted as for a shell; they come last and win
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    qemu_args: Option<String>,

    /// The kernel's command line
    #[arg(last = true, value_name = "KERNEL COMMAND LINE")]
    cmdline: Vec<String>,
}

/// What `cargo run` does with `arguments` (the program's name first); returns its exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => {
            // Printing can only fail when nobody listens; the exit status still tells.
            let _ = error.print();
            return error.exit_code() as u8;
        }
    };
    let mut machine = match machine(&options) {
        Ok(machine) => machine,
        Err(error) => {
            eprintln!("error: {error}");
            return BAD_USAGE;
        }
    };
    match boot(&options, &mut machine) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            eprintln!("error: {error:#}");
            1
        }
    }
}

/// The machine that the options describe, or why there is none. Touches no file but to see that it is there.
fn machine(options: &Options) -> Result<Machine, String> {
    let smp = options.smp.unwrap_or(if options.icount { 1 } else { 2 });
    let memory = match (options.memory, options.numa.as_ref().and_then(Spec::memory)) {
        (Some(memory), _) | (None, Some(memory)) => memory,
        (None, None) => Machine::default().memory,
    };
    let topology = match &options.numa {
        Some(spec) => spec.topology(memory, smp).map_err(|error| format!("--numa: {error}"))?,
        None => Default::default(),
    };
    let raw = shell_words::split(options.qemu_args.as_deref().unwrap_or_default())
        .map_err(|error| format!("--qemu-args: {error}"))?;
    let initramfs = readable("--initramfs", options.initramfs.as_deref())?;
    let disk = readable("--disk", options.disk.as_deref())?;
    if disk.is_some_and(Path::is_dir) {
        return Err("--disk: a directory is no disk image".into());
    }
    let file = initramfs.filter(|path| !path.is_dir());
    let machine = Machine {
        firmware: options.firmware,
        memory,
        smp: Some(smp),
        cpu: options.cpu.clone(),
        topology,
        icount: options.icount,
        gdb: options.gdb,
        cmdline: options.cmdline.join(" "),
        files: file.map(|path| ("initramfs".to_owned(), path.to_owned())).into_iter().collect(),
        disks: disk.map(Path::to_owned).into_iter().collect(),
        raw,
    };
    machine.check_memory()?;
    Ok(machine)
}

fn readable<'a>(option: &str, path: Option<&'a Path>) -> Result<Option<&'a Path>, String> {
    match path.map(|path| (path, File::open(path))) {
        Some((path, Err(error))) => Err(format!("{option}: {}: {error}", path.display())),
        Some((path, Ok(_))) => Ok(Some(path)),
        None => Ok(None),
    }
}

fn boot(options: &Options, machine: &mut Machine) -> Result<Outcome> {
    // Held until QEMU has ended: dropping it removes the file.
    let packed = match &options.initramfs {
        Some(directory) if directory.is_dir() => Some(pack(directory)?),
        _ => None,
    };
    if let Some(archive) = &packed {
        machine.files.push(("initramfs".to_owned(), archive.path().to_owned()));
    }
    let kernel = Kernel::build(Package::Kernel)?;
    let image = kernel.image(machine.firmware)?;
    if machine.gdb {
        eprintln!("Waiting for gdb. In another terminal, type:\n    {}", gdb_command(&kernel));
    }
    let timeout = options.timeout.map(Duration::from_secs);
    let outcome = run::run(machine, &image, timeout)?;
    match outcome {
        Outcome::Success => {}
        Outcome::Timeout => {
            eprintln!("strata: the run has not ended within {} s", options.timeout.unwrap_or_default());
        }
        _ => eprintln!("strata: {outcome}"),
    }
    Ok(outcome)
}

fn pack(directory: &Path) -> Result<NamedTempFile> {
    let mut archive = NamedTempFile::new().context("cannot make a temporary file")?;
    let mut out = BufWriter::new(archive.as_file_mut());
    cpio::pack(directory, &mut out)?;
    out.flush().context("cannot write the initramfs")?;
    drop(out);
    Ok(archive)
}

fn gdb_command(kernel: &Kernel) -> String {
    let script = workspace::root().join("kernel/gdb/init.gdb");
    shell_words::join(["gdb", "-x", &shown(&script), &shown(&kernel.elf)])
}

/// Relative to where the user is, if it lies below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Machine, String> {
        let words = shell_words::split(line).unwrap();
        let words = std::iter::once("strata".to_owned()).chain(words);
        let options = Options::try_parse_from(words).map_err(|error| error.to_string())?;
        machine(&options)
    }

    #[track_caller]
    fn refuses(line: &str, reason: &str) {
        let error = parse(line).expect_err(line);
        assert!(error.contains(reason), "{line}: {error}");
    }

    #[test]
    fn bad_usage_is_refused_with_a_reason() {
        refuses("--smp 0", "1..=255");
        refuses("--smp 256", "1..=255");
        refuses("--memory lots", "no size");
        refuses("--memory", "a value is required");
        refuses("--memory 8M", "too little");
        refuses("--firmware uefi --memory 33M", "too little");
        refuses("--qemu-args '-m 8M'", "too little");
        refuses("--memory 1G --numa 1G,1G", "does not add up");
        refuses("--numa 0", "1 to 128");
        refuses("--firmware coreboot", "bios, uefi");
        refuses("--timeout 0", "0 is not in");
        refuses("--initramfs /nonexistent", "/nonexistent");
        refuses("--disk /nonexistent", "/nonexistent");
        refuses("--disk /", "no disk");
        refuses("--qemu-args \"'\"", "quote");
        refuses("--frobnicate", "unexpected argument");
        refuses("poweroff", "unexpected argument");
    }

    #[test]
    fn the_kernel_command_line_follows_the_second_dashes() {
        assert_eq!(parse("-- dump=all poweroff").unwrap().cmdline, "dump=all poweroff");
        assert_eq!(parse("-- 'sysctl.vm.x=\"1 2\"' --x").unwrap().cmdline, "sysctl.vm.x=\"1 2\" --x");
        assert_eq!(parse("").unwrap().cmdline, "");
    }

    #[test]
    fn node_sizes_make_up_the_memory() {
        let machine = parse("--numa 1G,3G --smp 4").unwrap();
        assert_eq!((machine.memory, machine.topology.nodes.len()), (Size::mib(4096), 2));
        assert_eq!(parse("--numa 2").unwrap().topology.nodes[1].memory, Size::mib(256));
    }

    #[test]
    fn options_reach_the_machine() {
        let machine = parse("--icount --gdb --cpu qemu64 --qemu-args '-m 6G -name \"a b\"'").unwrap();
        assert!(machine.icount && machine.gdb);
        assert_eq!((machine.smp, machine.cpu.as_deref()), (Some(1), Some("qemu64")));
        assert_eq!(machine.raw, ["-m", "6G", "-name", "a b"]);
    }

    #[test]
    fn the_options_are_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }
}
