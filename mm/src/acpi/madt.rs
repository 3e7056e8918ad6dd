//! The MADT: which CPUs there are, and where the interrupt controllers are.

use super::table::{Entry, Table, TableError, u32_at};

const FIXED_BYTES: usize = 44;
const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const LOCAL_APIC_ADDRESS: u8 = 5;
/// As many as Linux takes; looking for an address twice stays cheap whatever the table says.
const MAX_IO_APICS: usize = 128;
const LOCAL_X2APIC: u8 = 9;
const ENABLED: u32 = 1;
const ONLINE_CAPABLE: u32 = 2;
/// From this revision on, an absent CPU is only a slot for one when a flag says so.
const REVISION_WITH_ONLINE_CAPABLE: u8 = 5;
/// The id with which old firmware marks an unused xAPIC entry.
const NO_XAPIC_ID: u32 = 0xff;
const NO_X2APIC_ID: u32 = u32::MAX;

/// A CPU that is there or could be plugged in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// The id of its local APIC.
    pub apic_id: u32,
    /// Whether it is there.
    pub state: CpuState,
}

/// Whether a CPU is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuState {
    /// It is and can be started.
    Enabled,
    /// It can be plugged in.
    Absent,
}

/// How the CPUs' local APICs are used now; it decides which ids can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ApicMode {
    /// Ids are bytes.
    #[default]
    XApic,
    /// The firmware has switched to x2APIC: ids are words.
    X2Apic,
}

impl ApicMode {
    /// Whether a CPU with this id can be sent to (Linux: `apic_id_valid`).
    pub const fn can_address(self, apic_id: u32) -> bool {
        matches!(self, Self::X2Apic) || apic_id < NO_XAPIC_ID
    }
}

/// A controller of device interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Its number on the bus of the APICs.
    pub id: u8,
    /// Where its registers are in physical memory.
    pub address: u32,
    /// The first of the machine's interrupt numbers that are its.
    pub first_interrupt: u32,
}

/// A MADT.
#[derive(Clone, Copy, Debug)]
pub struct Madt<'t>(Table<'t>);

impl<'t> Madt<'t> {
    /// Checks the table.
    ///
    /// # Errors
    /// [`TableError`], but not of its entries.
    pub fn new(bytes: &'t [u8]) -> Result<Self, TableError> {
        Table::new(bytes, *b"APIC").map(Self)
    }

    /// The physical address of the local APICs: the table's, unless entries name another; then the last one's (Linux:
    /// `acpi_parse_lapic_addr_ovr`).
    pub fn local_apic_address(&self) -> Option<u64> {
        const ADDRESS: usize = 36;
        let named = self.entries().filter(|e| e.kind == LOCAL_APIC_ADDRESS);
        let last = named.filter_map(|e| e.exactly(12).and_then(|()| e.u64(4)).ok()).last();
        last.or_else(|| u32_at(self.0.bytes(), ADDRESS).map(u64::from))
    }

    /// The I/O APICs, in the table's order (Linux: `mp_register_ioapic`); those without an address, or with that of
    /// another before them, are left out, and so are those after the 128th.
    pub fn io_apics(&self) -> impl Iterator<Item = IoApic> + 't {
        let found = self.entries().filter_map(|e| io_apic(&e)).take(MAX_IO_APICS);
        let earlier = found.clone();
        found.enumerate().filter_map(move |(i, found)| {
            let again = earlier.clone().take(i).any(|other| other.address == found.address);
            (!again).then_some(found)
        })
    }

    /// The entries before one that is broken.
    fn entries(&self) -> impl Iterator<Item = Entry<'t>> + Clone + use<'t> {
        self.0.entries(FIXED_BYTES).map_while(Result::ok)
    }

    /// The CPUs, in the table's order (Linux: `acpi_parse_lapic`, `acpi_parse_x2apic`).
    pub fn cpus(&self) -> impl Iterator<Item = Result<Cpu, TableError>> + 't {
        let revision = self.0.revision();
        self.0.entries(FIXED_BYTES).filter_map(move |entry| entry.and_then(|e| cpu(&e, revision)).transpose())
    }
}

fn io_apic(entry: &Entry<'_>) -> Option<IoApic> {
    if entry.kind != IO_APIC || entry.at_least(12).is_err() {
        return None;
    }
    let address = entry.u32(4).ok().filter(|&address| address != 0)?;
    Some(IoApic { id: entry.u8(2).ok()?, address, first_interrupt: entry.u32(8).ok()? })
}

fn cpu(entry: &Entry<'_>, revision: u8) -> Result<Option<Cpu>, TableError> {
    let (apic_id, flags, none) = match entry.kind {
        LOCAL_APIC => {
            entry.at_least(8)?;
            (u32::from(entry.u8(3)?), entry.u32(4)?, NO_XAPIC_ID)
        }
        LOCAL_X2APIC => {
            entry.at_least(16)?;
            (entry.u32(4)?, entry.u32(8)?, NO_X2APIC_ID)
        }
        _ => return Ok(None),
    };
    let state = if flags & ENABLED != 0 {
        CpuState::Enabled
    } else if revision < REVISION_WITH_ONLINE_CAPABLE || flags & ONLINE_CAPABLE != 0 {
        CpuState::Absent
    } else {
        return Ok(None);
    };
    Ok((apic_id != none).then_some(Cpu { apic_id, state }))
}
