//! The MADT: which CPUs there are.

use super::acpi::{Entry, Table, TableError};
use crate::memblock::{Memblock, OnNode};

const FIXED_BYTES: usize = 44;
const LOCAL_APIC: u8 = 0;
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

    /// The physical address of the local APICs.
    pub fn local_apic_address(&self) -> Option<u32> {
        super::acpi::u32_at(self.0.bytes(), 36)
    }

    /// The CPUs, in the table's order (Linux: `acpi_parse_lapic`, `acpi_parse_x2apic`).
    pub fn cpus(&self) -> impl Iterator<Item = Result<Cpu, TableError>> + 't {
        let revision = self.0.revision();
        self.0.entries(FIXED_BYTES).filter_map(move |entry| entry.and_then(|e| cpu(&e, revision)).transpose())
    }

    /// The APIC ids of the enabled CPUs, the boot CPU's first, else in the table's order, none twice, none that
    /// `mode` cannot reach: the index is the [`CpuId`](crate::CpuId). The list is allocated from `memblock` for good.
    ///
    /// A broken entry ends the list, with a message; the boot CPU is on it in any case. `None` when there is no memory.
    pub fn enabled<'a>(
        &self,
        boot_apic_id: u32,
        mode: ApicMode,
        memblock: &mut Memblock<'a>,
    ) -> Option<&'a [u32]> {
        let found = || {
            let enabled = self.cpus().map_while(Result::ok).filter(|c| c.state == CpuState::Enabled);
            let ids = enabled.map(|c| c.apic_id).filter(|&id| mode.can_address(id));
            core::iter::once(boot_apic_id).chain(ids)
        };
        if let Some(Err(error)) = self.cpus().find(Result::is_err) {
            log::error!("ACPI: [APIC:0x00] {error}");
        }
        let list = memblock.alloc_slice(found().count(), 0, OnNode::Any).ok()?;
        let mut nr = 0;
        for id in found() {
            if !list[..nr].contains(&id) {
                list[nr] = id;
                nr += 1;
            }
        }
        Some(&list[..nr])
    }
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
