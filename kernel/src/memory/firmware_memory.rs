//! The firmware's memory after the boot loader's page tables have been left: mapped for as long as it is read.
//!
//! ```text
//! boot loader's tables      acpi::Tables::find      all is mapped
//! own tables                early_memremap          a slot of the fixmap
//! memory is set up          ioremap_cache           an area of the vmalloc space
//! ```

use core::ops::Deref;

use mm::PhysAddr;

use super::early_ioremap::{self, EarlyMemory};
use super::ioremap::{self, IoMapping};
use crate::firmware::acpi;

/// Maps the firmware's tables by whatever way there is now. Tables in RAM that the firmware has left to the kernel are not
/// mapped when memory is set up: they may be overwritten.
#[derive(Clone, Copy, Debug)]
pub struct FirmwareMemory;

/// Mapped bytes of the firmware.
#[derive(Debug)]
pub enum Bytes {
    /// Before memory is set up.
    Early(EarlyMemory),
    /// Afterwards.
    Mapped(IoMapping),
}

impl acpi::Mapper for FirmwareMemory {
    type Bytes = Bytes;

    fn map(&self, at: PhysAddr, len_bytes: usize) -> Option<Bytes> {
        match super::memory() {
            Some(memory) => ioremap::ioremap_cache(memory, at, len_bytes as u64).ok().map(Bytes::Mapped),
            // SAFETY: where the firmware's tables are is memory, and the firmware does not run any more.
            None => unsafe { early_ioremap::early_memremap(at, len_bytes as u64) }.ok().map(Bytes::Early),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Early(memory) => memory,
            // SAFETY: where the firmware's tables are is memory, and the firmware does not run any more.
            Self::Mapped(mapping) => unsafe { mapping.as_bytes() },
        }
    }
}
