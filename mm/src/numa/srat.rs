//! The SRAT: which memory and CPUs belong to which proximity domain.

use crate::acpi::table::{Entry, Table, TableError};

const FIXED_BYTES: usize = 48;
const CPU: u8 = 0;
pub(super) const MEMORY: u8 = 1;
const X2APIC_CPU: u8 = 2;
const GENERIC: u8 = 5;

bitflags::bitflags! {
    /// Flags of a memory entry.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MemoryFlags: u32 {
        /// The entry counts.
        const ENABLED = 1;
        /// Memory can be plugged in and out there.
        const HOT_PLUGGABLE = 2;
        /// Keeps its content without power.
        const NON_VOLATILE = 4;
    }
}

/// An entry that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Affinity {
    /// A CPU.
    Cpu {
        /// Its domain.
        pxm: u32,
        /// The id of its local APIC.
        apic_id: u32,
        /// Digits of the id in the log.
        width: usize,
    },
    /// Something else that uses memory, like an accelerator.
    Generic {
        /// Its domain.
        pxm: u32,
    },
    /// A range of memory, as the firmware gave it: it may be empty or wrap.
    Memory {
        /// Its domain.
        pxm: u32,
        /// First byte.
        base: u64,
        /// Size.
        size_bytes: u64,
        /// What it is like.
        flags: MemoryFlags,
    },
}

/// An SRAT.
#[derive(Clone, Copy, Debug)]
pub struct Srat<'t>(Table<'t>);

impl<'t> Srat<'t> {
    /// Checks the table.
    ///
    /// # Errors
    /// [`TableError`], but not of its entries.
    pub fn new(bytes: &'t [u8]) -> Result<Self, TableError> {
        Table::new(bytes, *b"SRAT").map(Self)
    }

    /// The entries that count, in the table's order; kinds that say nothing about CPUs or memory of this machine are
    /// skipped.
    pub fn affinities(&self) -> impl Iterator<Item = Result<Affinity, TableError>> + 't {
        let revision = self.0.revision();
        self.0.entries(FIXED_BYTES).filter_map(move |e| e.and_then(|e| affinity(&e, revision)).transpose())
    }
}

fn affinity(entry: &Entry<'_>, revision: u8) -> Result<Option<Affinity>, TableError> {
    let (enabled, found) = match entry.kind {
        CPU => {
            entry.exactly(16)?;
            // Three upper bytes of the domain came with revision 2; they held anything before.
            let high = if revision >= 2 { entry.u32(8)? & !0xff } else { 0 };
            let pxm = high | u32::from(entry.u8(2)?);
            (entry.u32(4)?, Affinity::Cpu { pxm, apic_id: entry.u8(3)?.into(), width: 4 })
        }
        X2APIC_CPU => {
            entry.exactly(24)?;
            (entry.u32(12)?, Affinity::Cpu { pxm: entry.u32(4)?, apic_id: entry.u32(8)?, width: 6 })
        }
        GENERIC => {
            entry.at_least(32)?;
            (entry.u32(24)?, Affinity::Generic { pxm: entry.u32(4)? })
        }
        MEMORY => {
            entry.at_least(40)?;
            let pxm = entry.u32(2)? & if revision <= 1 { 0xff } else { u32::MAX };
            let flags = entry.u32(28)?;
            let (base, size_bytes) = (entry.u64(8)?, entry.u64(16)?);
            (flags, Affinity::Memory { pxm, base, size_bytes, flags: MemoryFlags::from_bits_retain(flags) })
        }
        _ => return Ok(None),
    };
    Ok((enabled & 1 != 0).then_some(found))
}
