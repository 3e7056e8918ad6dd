//! Where things are: the repository, and what is made in it.

use std::env;
use std::path::{Path, PathBuf};

/// The repository's root directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("boot/ lies inside the repository")
}

/// Cargo's target directory of the repository: `CARGO_TARGET_DIR` when it is set, else `target/`.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        // A relative one is relative to where cargo was started, which is also where its programs start.
        Some(dir) if !dir.is_empty() => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        _ => root().join("target"),
    }
}

/// Where bootable things go: ELF files with symbols for gdb, symbol tables, disk images. Stable paths.
pub fn products() -> PathBuf {
    target().join("strata")
}
