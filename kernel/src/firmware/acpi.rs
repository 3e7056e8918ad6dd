//! ACPI's tables, found by signature and checked: root pointer, then XSDT or RSDT, then the tables they list.
//!
//! What the tables say is read elsewhere (`mm::numa` for SRAT, SLIT and MADT).
//!
//! # Invariants
//! - I1: every byte read lies below the end of the physical map, checked before; the boot loader maps all below it.
//! - I2: a table that is handed out has a whole header, its full length mapped, and a checksum of 0.

use core::fmt;

use mm::PhysAddr;
use mm::arch::layout::DIRECT_MAP;

use super::boot::Boot;

const HEADER: usize = 36;
/// No real table is larger (Linux's early mapping is much smaller): a longer one is a broken length.
const MAX_TABLE: u32 = 64 << 20;

/// The ACPI tables of this machine.
///
/// Valid while the physical memory that holds them is mapped: always under the boot loader's tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    root: PhysAddr,
    /// Bytes an entry of the root table: 8 in the XSDT, 4 in the RSDT.
    entry_size: usize,
    mapped_end: u64,
}

/// A table's header fields.
struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn length(&self) -> u32 {
        u32::from_le_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    fn text(&self, range: core::ops::Range<usize>) -> Text<'_> {
        Text(&self.0[range])
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

/// Bytes of a fixed-width text; what is not printable becomes `?` as in Linux.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| {
            let shown = match byte {
                0 => ' ',
                b' '..=b'~' => char::from(byte),
                _ => '?',
            };
            fmt::Write::write_char(f, shown)
        })
    }
}

impl Tables {
    /// Finds the root table and logs every table, as Linux does. None without usable ACPI.
    pub fn init(boot: &Boot) -> Option<Self> {
        let Some(rsdp) = boot.rsdp() else {
            log::warn!("ACPI BIOS Error (bug): A valid RSDP was not found");
            return None;
        };
        let tables = Self::from_rsdp(rsdp, boot.mapped_end().as_u64());
        match tables {
            Some(tables) => tables.log(),
            None => log::warn!("ACPI BIOS Error (bug): A valid RSDP was not found"),
        }
        tables
    }

    fn from_rsdp(rsdp: PhysAddr, mapped_end: u64) -> Option<Self> {
        const V1: usize = 20;
        const V2: usize = 36;
        let first = bytes(rsdp, V1, mapped_end)?;
        if !first.starts_with(b"RSD PTR ") || sum(first) != 0 {
            return None;
        }
        let oem = Text(&first[9..15]);
        let revision = first[15];
        let extended = bytes(rsdp, V2, mapped_end).filter(|all| revision >= 2 && sum(all) == 0);
        let shown = if revision >= 2 { V2 } else { V1 };
        log::info!("ACPI: RSDP {:#018x} {shown:06x} (v{revision:02} {oem})", rsdp.as_u64());
        let xsdt = extended
            .and_then(|all| all[24..].first_chunk::<8>().copied())
            .map(u64::from_le_bytes)
            .filter(|&xsdt| xsdt != 0);
        let (root, entry_size) = match xsdt {
            Some(xsdt) => (xsdt, 8),
            None => (u64::from(u32::from_le_bytes([first[16], first[17], first[18], first[19]])), 4),
        };
        let tables = Self { root: PhysAddr::try_new(root).ok()?, entry_size, mapped_end };
        tables.table(tables.root).map(|_| tables)
    }

    /// The first whole table with `signature`, such as `b"SRAT"`: all its bytes, header included
    /// (Linux: `acpi_get_table`). Broken ones are reported and skipped.
    pub fn find(&self, signature: &[u8; 4]) -> Option<&'static [u8]> {
        self.addresses()
            .filter(|&at| self.signature(at).as_ref() == Some(signature))
            .find_map(|at| self.table(at))
    }

    /// Physical addresses of the listed tables.
    fn addresses(&self) -> impl Iterator<Item = PhysAddr> + use<> {
        let entries = self.table(self.root).map_or(&[][..], |root| &root[HEADER..]);
        entries.chunks_exact(self.entry_size).filter_map(|entry| {
            let mut address = [0; 8];
            address[..entry.len()].copy_from_slice(entry);
            PhysAddr::try_new(u64::from_le_bytes(address)).ok().filter(|address| !address.is_null())
        })
    }

    fn signature(&self, at: PhysAddr) -> Option<[u8; 4]> {
        bytes(at, HEADER, self.mapped_end)?.first_chunk().copied()
    }

    /// The table at `at`, checked (I2).
    fn table(&self, at: PhysAddr) -> Option<&'static [u8]> {
        let Some(header) = bytes(at, HEADER, self.mapped_end).map(Header) else {
            log::warn!("ACPI BIOS Warning (bug): Table at {:#018x} is outside of memory", at.as_u64());
            return None;
        };
        let name = header.text(0..4);
        let length = header.length();
        let table = match length as usize {
            ..HEADER => None,
            _ if length > MAX_TABLE => None,
            length => bytes(at, length, self.mapped_end),
        };
        let Some(table) = table else {
            log::warn!(
                "ACPI BIOS Error (bug): Table [{name}] at {:#018x} has invalid length: {length:#x}",
                at.as_u64()
            );
            return None;
        };
        let sum = sum(table);
        if sum != 0 {
            let (stored, right) = (table[9], table[9].wrapping_sub(sum));
            log::warn!(
                "ACPI BIOS Warning (bug): Incorrect checksum in table [{name}] - {stored:#04X}, should be {right:#04X}"
            );
            return None;
        }
        Some(table)
    }

    fn log(&self) {
        core::iter::once(self.root).chain(self.addresses()).for_each(|at| {
            let Some(header) = bytes(at, HEADER, self.mapped_end).map(Header) else { return };
            let (name, length) = (header.text(0..4), header.length());
            // The FACS has a signature and a length only.
            if header.0.starts_with(b"FACS") {
                log::info!("ACPI: {name} {:#018x} {length:06x}", at.as_u64());
                return;
            }
            log::info!(
                "ACPI: {name} {:#018x} {length:06x} (v{:02} {} {} {:08X} {} {:08X})",
                at.as_u64(),
                header.0[8],
                header.text(10..16),
                header.text(16..24),
                header.number(24),
                header.text(28..32),
                header.number(32)
            );
        });
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// `length` bytes of physical memory, if they are mapped.
fn bytes(at: PhysAddr, length: usize, mapped_end: u64) -> Option<&'static [u8]> {
    let end = at.as_u64().checked_add(length as u64)?;
    if end > mapped_end {
        return None;
    }
    // SAFETY: I1; firmware tables are not written to any more.
    Some(unsafe { core::slice::from_raw_parts((DIRECT_MAP + at.as_u64()) as *const u8, length) })
}
