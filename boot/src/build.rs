//! Builds the kernel and the in-kernel test suites for the bare machine, by a nested cargo.
//!
//! No precompiled standard library for x86_64-unknown-none is needed: `core` and `alloc` are built from source, which a
//! stable cargo does under `RUSTC_BOOTSTRAP=1`. The nested cargo has a target directory of its own, so that it does not
//! wait for the lock of the cargo that runs us, and never makes it rebuild anything.

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that the kernel is compiled for.
pub const TARGET: &str = "x86_64-unknown-none";

/// A package that links to a bootable kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// The kernel (`kernel/`), optimised as the product.
    Kernel,
    /// The kernel with the in-kernel tests as its workload (`tests/kernel/`), with assertions.
    KernelTests,
}

impl Package {
    /// The name of the package, of its binary, and of what is made of it.
    pub fn name(self) -> &'static str {
        match self {
            Package::Kernel => "strata-kernel",
            Package::KernelTests => "strata-ktests",
        }
    }

    fn profile(self) -> &'static str {
        match self {
            Package::Kernel => "release",
            Package::KernelTests => "ktest",
        }
    }
}

/// Builds `package` and returns the path of the linked ELF file, with its symbols.
///
/// Cargo's messages go to standard error. Costs about a second when nothing has changed.
pub fn build(package: Package) -> Result<PathBuf> {
    let script = workspace::root().join("kernel/kernel.ld");
    if !script.is_file() {
        bail!("the kernel's linker script {} is missing", script.display());
    }
    let target_dir = workspace::target().join("kernel");
    let status = cargo()
        .args(["build", "--package", package.name(), "--profile", package.profile(), "--target", TARGET])
        .args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&script))
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("building {} failed", package.name());
    }
    Ok(target_dir.join(TARGET).join(package.profile()).join(package.name()))
}

/// Static code in the top 2 GiB, with frame pointers for backtraces. Encoded as cargo wants it, so that the
/// repository's path may contain spaces.
fn rustflags(linker_script: &Path) -> String {
    [
        "-Crelocation-model=static",
        "-Ccode-model=kernel",
        "-Cforce-frame-pointers=yes",
        &format!("-Clink-arg=-T{}", linker_script.display()),
    ]
    .join("\x1f")
}

/// The cargo that runs us (else the one in PATH), without what the outer cargo has told its children: only the
/// user's own settings pass, and rustup's choice of the toolchain.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root()).env("RUSTC_BOOTSTRAP", "1");
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| !passes_to_nested_cargo(name)) {
            command.env_remove(name);
        }
    }
    command
}

fn passes_to_nested_cargo(variable: &str) -> bool {
    const USER_SETTINGS: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
    ];
    const OUTER_BUILD: [&str; 8] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "MAKEFLAGS",
        "MFLAGS",
        "TARGET",
        "PROFILE",
        "OUT_DIR",
    ];
    if variable.starts_with("CARGO_") {
        return USER_SETTINGS.iter().any(|setting| variable.starts_with(setting));
    }
    variable != "CARGO" && !OUTER_BUILD.contains(&variable)
}

/// A tool of LLVM that comes with the toolchain (component `llvm-tools`; setup.sh links the distribution's).
pub fn llvm_tool(name: &str) -> Result<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir"])
        .current_dir(workspace::root())
        .output()
        .context("cannot start rustc")?;
    let libdir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let tool = libdir.with_file_name("bin").join(name);
    if !tool.is_file() {
        bail!("{name} is missing ({}): run ./setup.sh", tool.display());
    }
    Ok(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nested_cargo_inherits_the_users_settings_only() {
        for name in
            ["PATH", "HOME", "CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN", "CARGO_TERM_COLOR"]
        {
            assert!(passes_to_nested_cargo(name), "{name}");
        }
        for name in
            ["CARGO_TARGET_DIR", "CARGO_MAKEFLAGS", "CARGO_PKG_NAME", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"]
        {
            assert!(!passes_to_nested_cargo(name), "{name}");
        }
    }

    #[test]
    fn flags_keep_a_linker_script_with_spaces_in_one_piece() {
        let flags = rustflags(Path::new("/a b/kernel.ld"));
        assert_eq!(flags.split('\x1f').next_back(), Some("-Clink-arg=-T/a b/kernel.ld"));
    }
}
