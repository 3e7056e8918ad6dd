//! Which CPUs a machine can have, numbered: from the MADT's list and what the command line allows of it.
//!
//! ```text
//! CPU   0        1 .. nr_present           .. nr_possible
//!       boot     in the table's order      can be plugged in: no APIC id yet
//! ```
//!
//! # Invariants
//! - C1: the boot CPU is the first, no id is there twice, and each can be reached.
//! - C2: `1 <= nr_present <= nr_possible <= nr_cpus <= MAX_CPUS`.

use super::madt::{ApicMode, CpuState, Madt};
use crate::memblock::{Memblock, OnNode};

/// How many CPUs there can be at most (Linux: `NR_CPUS`, Debian's).
pub const MAX_CPUS: u32 = 8192;

/// The APIC id of a CPU that is not there (Linux: `BAD_APICID`).
pub const NO_APIC: u32 = u32::MAX;

/// What the command line allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuLimits {
    /// Possible CPUs at most (`nr_cpus=`): at least 1.
    pub nr_cpus: u32,
    /// How many CPUs are possible, whatever the table says of those that are not there (`possible_cpus=`).
    pub possible: Option<u32>,
    /// CPUs that boot starts, its own included (`maxcpus=`). 0 means that there is no other, also not later (`nosmp`).
    pub max_cpus: u32,
}

impl Default for CpuLimits {
    fn default() -> Self {
        Self { nr_cpus: MAX_CPUS, possible: None, max_cpus: MAX_CPUS }
    }
}

/// The possible CPUs by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PossibleCpus<'a> {
    /// Their APIC ids; [`NO_APIC`] for those that are not there.
    pub apic_ids: &'a [u32],
    /// How many are there, from the first on.
    pub nr_present: u32,
}

impl PossibleCpus<'_> {
    /// How many there are (Linux: `nr_cpu_ids`).
    pub fn nr(&self) -> u32 {
        self.apic_ids.len() as u32
    }

    /// How many could be plugged in.
    pub fn nr_absent(&self) -> u32 {
        self.nr() - self.nr_present
    }
}

impl Madt<'_> {
    /// The CPUs that could ever run, with the boot CPU whether the table has it or not (Linux: `generic_processor_info`,
    /// `prefill_possible_map`). The list is allocated from `memblock` for good.
    ///
    /// A broken entry ends the table, with a message. `None` when there is no memory.
    pub fn possible<'a>(
        &self,
        boot_apic_id: u32,
        mode: ApicMode,
        limits: CpuLimits,
        memblock: &mut Memblock<'a>,
    ) -> Option<PossibleCpus<'a>> {
        if let Some(Err(error)) = self.cpus().find(Result::is_err) {
            log::error!("ACPI: [APIC:0x00] {error}");
        }
        let limit = limits.nr_cpus.clamp(1, MAX_CPUS);
        let listed = || self.cpus().map_while(Result::ok);
        let reachable = (listed().count() + 1).min(limit as usize);
        let room = reachable.max(limits.possible.unwrap_or(0).min(limit) as usize);
        let ids = memblock.alloc_slice(room, NO_APIC, OnNode::Any).ok()?;
        ids[0] = boot_apic_id;
        let (mut present, mut absent) = (1, 0);
        for cpu in listed() {
            let id = cpu.apic_id;
            if !mode.can_address(id) {
                continue;
            }
            if cpu.state == CpuState::Absent {
                absent += 1;
            } else if ids[..present].contains(&id) {
                continue;
            } else if present < reachable {
                ids[present] = id;
                present += 1;
            } else {
                absent += 1;
                log::warn!(
                    "APIC: NR_CPUS/possible_cpus limit of {limit} reached. Processor {id:#x} ignored."
                );
            }
        }
        let possible = nr_possible(present, absent, limit, limits);
        let ids: &'a [u32] = ids;
        Some(PossibleCpus { apic_ids: &ids[..possible], nr_present: present.min(possible) as u32 })
    }
}

/// How many of those that are there and those that are not; says so when a limit decides.
fn nr_possible(present: usize, absent: usize, nr_cpus: u32, limits: CpuLimits) -> usize {
    let max_cpus = limits.max_cpus;
    let mut possible = match limits.possible {
        // At least the boot CPU is.
        Some(possible) => (possible as usize).max(1),
        None if max_cpus != 0 => present + absent,
        None => present,
    };
    if possible > nr_cpus as usize {
        log::warn!("{possible} Processors exceeds NR_CPUS limit of {nr_cpus}");
        possible = nr_cpus as usize;
    }
    if max_cpus == 0 && possible > 1 {
        log::warn!("{possible} Processors exceeds max_cpus limit of {max_cpus}");
        possible = 1;
    }
    possible
}

impl<'a> PossibleCpus<'a> {
    /// The boot CPU alone: a machine without a MADT. `None` when there is no memory.
    pub fn only(boot_apic_id: u32, memblock: &mut Memblock<'a>) -> Option<Self> {
        let ids: &'a [u32] = memblock.alloc_slice(1, boot_apic_id, OnNode::Any).ok()?;
        Some(Self { apic_ids: ids, nr_present: 1 })
    }
}
