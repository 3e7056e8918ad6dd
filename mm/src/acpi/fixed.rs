//! Tables of fixed fields that lead to devices: FADT, HPET, MCFG.

use super::table::{Table, TableError, u16_at, u32_at, u64_at};
use crate::addr::PhysRange;

/// Where the FADT says that the other fixed tables are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fadt {
    /// Physical address of the DSDT.
    pub dsdt: u64,
    /// Physical address of the FACS, 0 without one.
    pub facs: u64,
}

impl Fadt {
    /// Reads the table. A 64-bit field counts when it is there and not 0.
    ///
    /// # Errors
    /// [`TableError`]; `Truncated` when there is no such field at all.
    pub fn new(bytes: &[u8]) -> Result<Self, TableError> {
        const FACS: (usize, usize) = (36, 132);
        const DSDT: (usize, usize) = (40, 140);
        let bytes = Table::new(bytes, *b"FACP")?.bytes();
        let address = |(short, long)| {
            let long = u64_at(bytes, long).filter(|&address| address != 0);
            long.or_else(|| u32_at(bytes, short).map(u64::from)).ok_or(TableError::Truncated)
        };
        Ok(Self { dsdt: address(DSDT)?, facs: address(FACS)? })
    }
}

/// A high-precision event timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hpet {
    /// What it is: revision, comparators, vendor.
    pub id: u32,
    /// Its number among the machine's.
    pub sequence: u8,
    /// Its registers.
    pub range: PhysRange,
}

impl Hpet {
    /// Reads the table (Linux: `acpi_parse_hpet`). `None` for a timer without an address.
    ///
    /// # Errors
    /// [`TableError`]; `Value` for one that is not in memory, or where no memory can be.
    pub fn new(bytes: &[u8]) -> Result<Option<Self>, TableError> {
        const ID: usize = 36;
        const SPACE: usize = 40;
        const ADDRESS: usize = 44;
        const SEQUENCE: usize = 52;
        const IN_MEMORY: u8 = 0;
        const SIZE_BYTES: u64 = 1 << 10;
        let bytes = Table::new(bytes, *b"HPET")?.bytes();
        let &sequence = bytes.get(SEQUENCE).ok_or(TableError::Truncated)?;
        let id = u32_at(bytes, ID).ok_or(TableError::Truncated)?;
        let address = u64_at(bytes, ADDRESS).ok_or(TableError::Truncated)?;
        if bytes[SPACE] != IN_MEMORY {
            return Err(TableError::Value);
        }
        if address == 0 {
            return Ok(None);
        }
        let range = PhysRange::from_size(address, SIZE_BYTES).ok_or(TableError::Value)?;
        Ok(Some(Self { id, sequence, range }))
    }
}

/// Configuration space of some PCI buses, mapped to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct McfgRegion {
    /// The PCI segment.
    pub segment: u16,
    /// Its first bus that is mapped.
    pub first_bus: u8,
    /// Its last bus that is mapped.
    pub last_bus: u8,
    /// Where these buses are mapped.
    pub range: PhysRange,
}

/// An MCFG.
#[derive(Clone, Copy, Debug)]
pub struct Mcfg<'t>(&'t [u8]);

impl<'t> Mcfg<'t> {
    /// Checks the table.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn new(bytes: &'t [u8]) -> Result<Self, TableError> {
        const FIXED_BYTES: usize = 44;
        let bytes = Table::new(bytes, *b"MCFG")?.bytes();
        bytes.get(FIXED_BYTES..).map(Self).ok_or(TableError::Truncated)
    }

    /// The regions, in the table's order (Linux: `pci_parse_mcfg`). `Value` for one that makes no sense.
    pub fn regions(&self) -> impl Iterator<Item = Result<McfgRegion, TableError>> + 't {
        const ENTRY_BYTES: usize = 16;
        self.0.chunks_exact(ENTRY_BYTES).map(|entry| region(entry).ok_or(TableError::Value))
    }
}

fn region(entry: &[u8]) -> Option<McfgRegion> {
    const BUS_BYTES: u64 = 1 << 20;
    let (base, segment) = (u64_at(entry, 0)?, u16_at(entry, 8)?);
    let (&first_bus, &last_bus) = (entry.get(10)?, entry.get(11)?);
    let nr_buses = u64::from(last_bus.checked_sub(first_bus)?) + 1;
    // The base is that of bus 0, mapped or not.
    let start = base.checked_add(u64::from(first_bus) * BUS_BYTES).filter(|_| base != 0)?;
    let range = PhysRange::from_size(start, nr_buses * BUS_BYTES)?;
    Some(McfgRegion { segment, first_bus, last_bus, range })
}
