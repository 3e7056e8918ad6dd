//! Makes disk images that boot a kernel under BIOS and UEFI.
//!
//! The image holds the kernel without its symbols, because BIOS loading is slow, and the symbol table of
//! [`crate::symbols`] as the loader's ramdisk. Products under stable names in `target/strata/`:
//!
//! ```text
//! NAME            the ELF file with symbols and debug information, for gdb
//! NAME.stripped   what is booted
//! NAME.symbols    the symbol table
//! NAME-bios.img   NAME-uefi.img   each with a .key beside it: the hash of what it was made from
//! ```
//!
//! # Invariants
//!
//! - I1: a product appears complete or not at all: it is written under a name of its own and renamed. QEMUs that still
//!   run on the old one keep it.
//! - I2: a `.key` file is written after its image, so an image with a fitting key is made from just those inputs.
//!
//! # Locking
//!
//! The file lock `.lock` in the directory is held while products are compared with their keys and made, so that threads
//! and processes that want the same image make it once.

use crate::build::{self, Package};
use crate::{symbols, workspace};
use anyhow::{Context, Result, bail};
use bootloader::DiskImageBuilder;
use clap::ValueEnum;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The firmware that boots the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Firmware {
    /// SeaBIOS, from a master boot record.
    Bios,
    /// OVMF, from an EFI system partition.
    Uefi,
}

impl Firmware {
    /// The firmware's name in options and file names.
    pub fn name(self) -> &'static str {
        match self {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
        }
    }
}

/// A kernel that is built: the ELF file with symbols, and what an image of it holds.
#[derive(Clone, Debug)]
pub struct Kernel {
    name: &'static str,
    /// The ELF file with symbols and debug information, at a stable path.
    pub elf: PathBuf,
    stripped: PathBuf,
    symbols: PathBuf,
}

impl Kernel {
    /// Builds `package` and derives from it what is booted.
    pub fn build(package: Package) -> Result<Kernel> {
        let linked = build::build(package)?;
        let products = workspace::products();
        fs::create_dir_all(&products).with_context(|| format!("cannot make {}", products.display()))?;
        let name = package.name();
        let kernel = Kernel {
            name,
            elf: products.join(name),
            stripped: products.join(format!("{name}.stripped")),
            symbols: products.join(format!("{name}.symbols")),
        };
        let bytes = fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
        let key = hash_of(&[&bytes]);
        let _lock = lock()?;
        if !is_current(&kernel.elf, &key) || !kernel.stripped.is_file() || !kernel.symbols.is_file() {
            replace(&kernel.symbols, |path| Ok(fs::write(path, symbols::table(&bytes)?)?))?;
            replace(&kernel.stripped, |path| strip(&linked, path))?;
            replace(&kernel.elf, |path| Ok(fs::write(path, &bytes)?))?;
            replace(&key_path(&kernel.elf), |path| Ok(fs::write(path, &key)?))?;
        }
        Ok(kernel)
    }

    /// Makes the disk image for `firmware`, unless an image of just this kernel exists, and returns its path.
    pub fn image(&self, firmware: Firmware) -> Result<PathBuf> {
        let image = workspace::products().join(format!("{}-{}.img", self.name, firmware.name()));
        let _lock = lock()?;
        let key = hash_of(&[&fs::read(&self.stripped)?, &fs::read(&self.symbols)?, LOADER.as_bytes()]);
        if !is_current(&image, &key) {
            replace(&image, |path| self.make_image(firmware, path))?;
            replace(&key_path(&image), |path| Ok(fs::write(path, &key)?))?;
        }
        Ok(image)
    }

    fn make_image(&self, firmware: Firmware, path: &Path) -> Result<()> {
        let mut config = bootloader::BootConfig::default();
        // The loader's chatter would mix with the kernel's log on the serial line; its errors are wanted.
        config.log_level = bootloader_boot_config::LevelFilter::Error;
        config.frame_buffer_logging = false;
        let mut builder = DiskImageBuilder::new(self.stripped.clone());
        builder.set_ramdisk(self.symbols.clone()).set_boot_config(&config);
        match firmware {
            Firmware::Bios => builder.create_bios_image(path),
            Firmware::Uefi => builder.create_uefi_image(path),
        }
    }
}

/// Part of every image's key, so that a change of the loader or of its configuration makes new images.
const LOADER: &str = "bootloader 0.11.15, errors only";

/// Dropping the file gives the lock back.
fn lock() -> Result<File> {
    let path = workspace::products().join(".lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    let status =
        Command::new(build::llvm_tool("llvm-objcopy")?).arg("--strip-all").arg(from).arg(to).status()?;
    if !status.success() {
        bail!("llvm-objcopy could not strip {}", from.display());
    }
    Ok(())
}

fn hash_of(inputs: &[&[u8]]) -> String {
    let mut hasher = DefaultHasher::new();
    inputs.hash(&mut hasher);
    let lengths: Vec<String> = inputs.iter().map(|input| input.len().to_string()).collect();
    format!("{:016x} {}", hasher.finish(), lengths.join(" "))
}

fn key_path(product: &Path) -> PathBuf {
    with_suffix(product, ".key")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn is_current(product: &Path, key: &str) -> bool {
    product.is_file() && fs::read_to_string(key_path(product)).is_ok_and(|found| found == key)
}

/// Lets `make` write a temporary file and puts it in the place of `product` (I1).
fn replace(product: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let unique = format!(".{}-{}.tmp", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let temporary = with_suffix(product, &unique);
    let made = make(&temporary)
        .and_then(|()| fs::rename(&temporary, product).context("cannot rename"))
        .with_context(|| format!("cannot make {}", product.display()));
    if made.is_err() {
        // Best effort: the error that is reported is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_cannot_be_made_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let product = dir.path().join("image");
        let result = replace(&product, |path| {
            fs::write(path, "half")?;
            bail!("full")
        });
        assert!(result.is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_product_is_current_only_with_the_key_of_its_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let product = dir.path().join("image");
        assert!(!is_current(&product, "1"));
        replace(&product, |path| Ok(fs::write(path, "image")?)).unwrap();
        assert!(!is_current(&product, "1"));
        replace(&key_path(&product), |path| Ok(fs::write(path, "1")?)).unwrap();
        assert!(is_current(&product, "1") && !is_current(&product, "2"));
    }

    #[test]
    fn threads_may_make_the_same_product() {
        let dir = tempfile::tempdir().unwrap();
        let product = dir.path().join("image");
        // All have written before one of them renames.
        let written = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for byte in *b"abc" {
                let (product, written) = (&product, &written);
                let make = move |path: &Path| {
                    fs::write(path, vec![byte; 1 << 16])?;
                    written.wait();
                    Ok(())
                };
                scope.spawn(move || replace(product, make).unwrap());
            }
        });
        let content = fs::read(&product).unwrap();
        assert!(content.len() == 1 << 16 && content.iter().all(|byte| *byte == content[0]));
    }

    #[test]
    fn the_key_depends_on_where_an_input_ends() {
        assert_ne!(hash_of(&[b"ab", b"c"]), hash_of(&[b"a", b"bc"]));
    }
}
