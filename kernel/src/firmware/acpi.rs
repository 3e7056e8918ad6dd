//! ACPI's tables, found by signature and checked: root pointer, then XSDT or RSDT, then the tables they list.
//!
//! What the tables say is read elsewhere (`mm::acpi`, `mm::numa`).
//!
//! The tables are in the firmware's memory, which is mapped in another way at each stage of boot: whoever wants a table
//! hands in a [`Mapper`]. Under the boot loader's page tables all is mapped ([`Tables::find`]).
//!
//! # Invariants
//! - I1: the boot loader maps every byte below the end of its physical map; the [`Loader`] hands out nothing else, and
//!   nothing once its tables have been left.
//! - I2: a table that is handed out has a whole header, its full length mapped, and a checksum of 0.

use core::fmt;
use core::ops::Deref;

use mm::PhysAddr;
use mm::acpi::Fadt;
use mm::addr::PhysRange;
use mm::arch::layout::DIRECT_MAP;

use spin::Once;

use super::boot::{self, Boot};

const HEADER: usize = 36;
/// No real table is larger (Linux's early mapping is much smaller): a longer one is a broken length.
const MAX_TABLE: u32 = 64 << 20;

/// Whoever makes the firmware's memory readable.
pub trait Mapper {
    /// Mapped bytes, as long as they are kept.
    type Bytes: Deref<Target = [u8]>;

    /// `length` bytes from `at` on, not 0; `None` when they cannot be mapped.
    fn map(&self, at: PhysAddr, length: usize) -> Option<Self::Bytes>;
}

/// The boot loader's page tables: they map all physical memory.
#[derive(Clone, Copy, Debug)]
struct Loader {
    mapped_end: u64,
}

impl Mapper for Loader {
    type Bytes = &'static [u8];

    fn map(&self, at: PhysAddr, length: usize) -> Option<&'static [u8]> {
        let end = at.as_u64().checked_add(length as u64)?;
        if end > self.mapped_end || boot::is_loader_left() {
            return None;
        }
        // SAFETY: I1; firmware tables are not written to any more.
        Some(unsafe { core::slice::from_raw_parts((DIRECT_MAP + at.as_u64()) as *const u8, length) })
    }
}

/// The ACPI tables of this machine: where their list is.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    root: PhysAddr,
    /// Bytes an entry of the root table: 8 in the XSDT, 4 in the RSDT.
    entry_size: usize,
    loader: Loader,
}

static TABLES: Once<Option<Tables>> = Once::new();

/// The ACPI tables of this machine, if it has some.
pub fn tables() -> Option<&'static Tables> {
    TABLES.get()?.as_ref()
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
    /// Finds the root table and logs every table, as Linux does. None without usable ACPI. Under the boot loader's page
    /// tables.
    pub fn init(boot: &Boot) -> Option<Self> {
        let loader = Loader { mapped_end: boot.mapped_end().as_u64() };
        let tables = boot.rsdp().and_then(|rsdp| Self::from_rsdp(rsdp, loader));
        match &tables {
            Some(tables) => tables.log(),
            None => log::warn!("ACPI BIOS Error (bug): A valid RSDP was not found"),
        }
        *TABLES.call_once(|| tables)
    }

    fn from_rsdp(rsdp: PhysAddr, loader: Loader) -> Option<Self> {
        const V1: usize = 20;
        const V2: usize = 36;
        let first = loader.map(rsdp, V1)?;
        if !first.starts_with(b"RSD PTR ") || sum(first) != 0 {
            return None;
        }
        let oem = Text(&first[9..15]);
        let revision = first[15];
        let extended = loader.map(rsdp, V2).filter(|all| revision >= 2 && sum(all) == 0);
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
        let tables = Self { root: PhysAddr::try_new(root).ok()?, entry_size, loader };
        table(tables.root, &loader).map(|_| tables)
    }

    /// The first whole table with `signature`, such as `b"SRAT"`: all its bytes, header included
    /// (Linux: `acpi_get_table`). Broken ones are reported and skipped.
    ///
    /// `None` once the boot loader's page tables have been left: use [`get`](Self::get), and do not keep what was found.
    pub fn find(&self, signature: &[u8; 4]) -> Option<&'static [u8]> {
        self.get(signature, &self.loader)
    }

    /// The AML of the DSDT, then of the SSDTs, under the boot loader's page tables.
    pub fn definition_blocks(&self) -> impl Iterator<Item = &'static [u8]> {
        let dsdt = self.fadt().and_then(|fadt| self.fixed(fadt.dsdt)).and_then(|at| table(at, &self.loader));
        let listed = self.listed().filter(|&at| self.has_signature(at, b"SSDT"));
        let ssdts = listed.filter_map(|at| table(at, &self.loader));
        dsdt.into_iter().chain(ssdts).map(|table| &table[HEADER..])
    }

    /// What the loader maps of the listed tables.
    fn listed(&self) -> impl Iterator<Item = PhysAddr> + use<> {
        let root = table(self.root, &self.loader).unwrap_or(&[0; HEADER]);
        self.addresses(root)
    }

    fn has_signature(&self, at: PhysAddr, signature: &[u8; 4]) -> bool {
        self.loader.map(at, HEADER).is_some_and(|header| header.starts_with(signature))
    }

    fn fadt(&self) -> Option<Fadt> {
        match Fadt::new(self.find(b"FACP")?) {
            Ok(fadt) => Some(fadt),
            Err(error) => {
                log::warn!("ACPI: FADT: {error}");
                None
            }
        }
    }

    fn fixed(&self, address: u64) -> Option<PhysAddr> {
        PhysAddr::try_new(address).ok().filter(|at| !at.is_null())
    }

    /// Where the tables are, the root table and those that the FADT names included; broken ones are left out. Under the
    /// boot loader's page tables.
    pub fn ranges(&self) -> impl Iterator<Item = PhysRange> {
        let fixed = self.fadt().into_iter().flat_map(|fadt| [fadt.dsdt, fadt.facs]);
        let fixed = fixed.filter_map(|address| self.fixed(address));
        core::iter::once(self.root).chain(self.listed()).chain(fixed).filter_map(|at| {
            let length = Header(self.loader.map(at, HEADER)?).length();
            let table = self.loader.map(at, length.min(MAX_TABLE) as usize)?;
            // The FACS has no checksum.
            let whole = table.starts_with(b"FACS") || sum(table) == 0;
            PhysRange::from_size(at.as_u64(), table.len() as u64).filter(|_| whole)
        })
    }

    /// As [`find`](Self::find), but at any time, mapped by `mapper`.
    pub fn get<M: Mapper>(&self, signature: &[u8; 4], mapper: &M) -> Option<M::Bytes> {
        let root = table(self.root, mapper)?;
        self.addresses(&root)
            .filter(|&at| mapper.map(at, HEADER).is_some_and(|header| header.starts_with(signature)))
            .find_map(|at| table(at, mapper))
    }

    /// Physical addresses of the tables that the root table lists.
    fn addresses<'r>(&self, root: &'r [u8]) -> impl Iterator<Item = PhysAddr> + use<'r> {
        root[HEADER..].chunks_exact(self.entry_size).filter_map(|entry| {
            let mut address = [0; 8];
            address[..entry.len()].copy_from_slice(entry);
            PhysAddr::try_new(u64::from_le_bytes(address)).ok().filter(|address| !address.is_null())
        })
    }

    fn log(&self) {
        for at in core::iter::once(self.root).chain(self.listed()) {
            self.log_table(at);
            // The tables that are found through this one follow it.
            if self.has_signature(at, b"FACP") {
                let fadt = self.fadt();
                fadt.into_iter()
                    .flat_map(|fadt| [fadt.dsdt, fadt.facs])
                    .filter_map(|address| self.fixed(address))
                    .for_each(|at| self.log_table(at));
            }
        }
    }

    fn log_table(&self, at: PhysAddr) {
        let Some(header) = self.loader.map(at, HEADER).map(Header) else { return };
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
    }
}

/// The table at `at`, checked (I2).
fn table<M: Mapper>(at: PhysAddr, mapper: &M) -> Option<M::Bytes> {
    let Some(header) = mapper.map(at, HEADER) else {
        log::warn!("ACPI BIOS Warning (bug): Table at {:#018x} is outside of memory", at.as_u64());
        return None;
    };
    let header = Header(&header);
    let name = header.text(0..4);
    let length = header.length();
    let table = match length as usize {
        ..HEADER => None,
        _ if length > MAX_TABLE => None,
        length => mapper.map(at, length),
    };
    let Some(table) = table else {
        log::warn!(
            "ACPI BIOS Error (bug): Table [{name}] at {:#018x} has invalid length: {length:#x}",
            at.as_u64()
        );
        return None;
    };
    let sum = sum(&table);
    if sum != 0 {
        let (stored, right) = (table[9], table[9].wrapping_sub(sum));
        log::warn!(
            "ACPI BIOS Warning (bug): Incorrect checksum in table [{name}] - {stored:#04X}, should be {right:#04X}"
        );
        return None;
    }
    Some(table)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}
