//! The kernel's command line: fetched from the host, kept for good, checked for unknown options.
//!
//! # Invariants
//! - I1: `BUFFER` is written once, by [`init`], before anybody reads it.

use core::cell::UnsafeCell;

use mm::cmdline::{Cmdline, Joined};

use crate::console;
use crate::firmware::fw_cfg::FwCfg;

/// The file of fw_cfg that holds it.
const FILE: &str = "opt/strata/cmdline";
/// Longest command line; Linux's limit on x86 is 2048.
const MAX: usize = 16 * 1024;

struct Buffer(UnsafeCell<[u8; MAX]>);

// SAFETY: I1.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; MAX]));

/// The options that some part of the kernel reads. Everything else is init's.
const KNOWN: &[&str] = &[
    "cma",
    "bench",
    "debug",
    "debug_guardpage_minorder",
    "debug_pagealloc",
    "dump",
    "fail_page_alloc",
    "ignore_loglevel",
    "init_on_alloc",
    "init_on_free",
    "kernelcore",
    "ktest",
    "loglevel",
    "maxcpus",
    "mem",
    "memblock",
    "memmap",
    "mminit_loglevel",
    "movable_node",
    "movablecore",
    // There is no randomised layout to turn off.
    "nokaslr",
    "nosmp",
    "nr_cpus",
    "numa",
    "page_owner",
    "page_poison",
    "possible_cpus",
    "poweroff",
    "quiet",
    "transparent_hugepage",
];

/// Reads the command line: empty where there is no fw_cfg or no such file. Bytes that are no text become `?`.
///
/// # Safety
/// Once, before other CPUs run.
pub unsafe fn init(fw_cfg: Option<&FwCfg>) -> Cmdline<'static> {
    let Some((device, file)) = fw_cfg.and_then(|device| Some((device, device.find(FILE)?))) else {
        return Cmdline::new("");
    };
    // SAFETY: called once (I1).
    let buffer = unsafe { &mut *BUFFER.0.get() };
    let length = device.read(file, buffer);
    if file.size as usize > MAX {
        log::warn!("Command line too long: {} bytes, only the first {MAX} are used", file.size);
    }
    let text = &mut buffer[..length];
    for byte in text.iter_mut().filter(|byte| !matches!(**byte, b' '..=b'~' | b'\t' | b'\n')) {
        *byte = b'?';
    }
    Cmdline::new(core::str::from_utf8(text).unwrap_or("").trim_end_matches(['\n', '\0']))
}

/// Sets the console's level: the last of `quiet`, `debug` and `loglevel=N` wins, `ignore_loglevel` over all.
pub fn apply_loglevel(cmdline: &Cmdline<'_>) {
    let ignore = cmdline.has("ignore_loglevel");
    if ignore {
        console::set_level(u8::MAX);
    }
    let set = |level| {
        if !ignore {
            console::set_level(level);
        }
    };
    for param in cmdline.params() {
        match (param.name, param.value) {
            ("quiet", _) => set(4),
            ("debug", _) => set(10),
            ("loglevel", value) => match value.and_then(|value| value.parse().ok()) {
                Some(level @ 1..) => set(level),
                _ => malformed("loglevel"),
            },
            _ => {}
        }
    }
}

/// Reports that an option's value makes no sense; the option is ignored.
pub fn malformed(name: &str) {
    log::warn!("Malformed early option '{name}'");
}

/// Reports what nobody reads, once, as Linux does. `sysctl.` and other dotted names belong to parts that check them.
pub fn report_unknown(cmdline: &Cmdline<'_>) {
    let mut unknown = cmdline.unknown(KNOWN).peekable();
    if unknown.peek().is_none() {
        return;
    }
    log::info!(
        "Unknown kernel command line parameters \"{}\", will be passed to user space.",
        Joined::new(unknown)
    );
}
