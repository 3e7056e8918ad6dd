//! The gdb script, driven in batch mode.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs gdb's commands after the script's, and returns what it printed, errors included.
fn gdb(commands: &[&str]) -> String {
    let script = boot::workspace::root().join("kernel/gdb/strata.py");
    let mut gdb = Command::new("gdb");
    // Outside of the repository: nothing may depend on where gdb is started.
    gdb.current_dir("/").args(["-nx", "-batch", "-x"]).arg(script);
    // Where no kernel is built.
    gdb.env("CARGO_TARGET_DIR", PathBuf::from("/nonexistent"));
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let Output { stdout, stderr, .. } = gdb.output().expect("gdb is installed by setup.sh");
    String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
}

#[test]
fn every_command_is_explained() {
    let text = gdb(&["help mm"]);
    for name in ["nodes", "zones", "free", "page", "slabs", "vmas", "use"] {
        assert!(text.contains(&format!("\nmm {name} -- ")), "mm {name}: {text}");
    }
}

#[test]
fn without_symbols_the_error_says_what_to_load() {
    let text = gdb(&["mm nodes"]);
    assert!(text.contains("no symbol kernel::memory::MEMORY: load the kernel with symbols"), "{text}");
    assert!(text.contains("/nonexistent/strata/strata-kernel does not exist yet"), "{text}");
}

#[test]
fn wrong_arguments_are_refused() {
    for (command, error) in [
        ("mm nodes 1", "mm nodes takes no arguments"),
        ("mm free all", "usage: mm free [blocks]"),
        ("mm nix", "Undefined mm command"),
    ] {
        let text = gdb(&[command]);
        assert!(text.contains(error), "{command}: {text}");
    }
}
