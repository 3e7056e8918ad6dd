//! Corrupt ACPI tables in real boots: the kernel says in the log what it does not believe, does without it, and boots
//! with all of its memory.
//!
//! ```text
//! case: SRAT + SLIT + MADT + SSDT, all broken --boot--> the lines that it must say; as many pages as without them
//! ```
//!
//! The machine is always the same; it has a good MADT of its own, so the broken one is a second one. Checksums are right,
//! because QEMU computes them.

use crate::boots;
use crate::facts::Facts;
use crate::tables::{self, ENABLED, HOTPLUG, Srat};
use crate::zoneinfo;
use anyhow::{Context, Result};
use libtest_mimic::Failed;
use std::path::Path;

/// The machine's name among those with facts: 1 GiB, two CPUs.
pub(crate) const MACHINE: &str = "uma-1g-smp2";

const MIB: u64 = 1 << 20;
const HALF: u64 = 512 * MIB;

/// A boot with broken tables.
pub(crate) struct Case {
    /// What is shown, as a fact.
    pub(crate) name: &'static str,
    srat: fn() -> Srat,
    slit: fn() -> Vec<u8>,
    /// Beginnings of lines that must be in the log, besides [`ALWAYS`].
    says: &'static [&'static str],
}

/// What is said in every case, of the SLIT and of the byte code.
const ALWAYS: [&str; 2] =
    ["ACPI: SLIT table looks invalid. Not used.", "ACPI: parts of the definition blocks"];
const ONE_NODE: &str = "No NUMA configuration found";

/// All cases.
pub(crate) const CASES: [Case; 8] = [
    Case {
        name: "an_entry_of_length_zero_ends_the_srat",
        srat: || Srat::new().memory(0, 0, HALF, ENABLED).raw(&[1, 0]).memory(1, HALF, HALF, ENABLED),
        slit: || tables::slit(9, &[]),
        says: &["ACPI: [SRAT:0x01] Invalid zero length", ONE_NODE],
    },
    Case {
        name: "an_entry_past_the_end_of_the_srat_is_not_read",
        srat: || two_nodes().raw(&[1, 40, 1, 0, 0, 0, 0, 0]),
        slit: || tables::slit(1, &[]),
        says: &["ACPI: [SRAT:0x01] Entry past the end of the table", ONE_NODE],
    },
    Case {
        name: "an_entry_that_swallows_others_leaves_memory_without_a_node",
        srat: || {
            let eighths = |srat, from: u64, to| {
                (from..to).fold(srat, |srat: Srat, i| srat.memory(0, i * HALF / 4, HALF / 4, ENABLED))
            };
            // As much as a length can say: six entries and a bit.
            let swallowed = eighths(Srat::new().raw(&[77, 255]), 0, 6).raw(&[0; 255 - 2 - 6 * 40]);
            eighths(swallowed, 6, 8)
        },
        slit: || tables::slit(2, &[10, 20, 20, 30]),
        says: &["NUMA: nodes only cover 255MB of your 1023MB", ONE_NODE],
    },
    Case {
        name: "overlapping_ranges_refuse_the_srat",
        srat: || two_nodes().memory(0, HALF - MIB, 2 * MIB, ENABLED),
        slit: || tables::slit(3, &[10, 20, 20, 10]),
        says: &["node 1 [mem 0x20000000-0x3ffdffff] overlaps with node 0", ONE_NODE],
    },
    Case {
        name: "entries_that_mean_nothing_are_passed_over",
        srat: || {
            let wrapping = two_nodes().memory(1, u64::MAX - MIB, HALF, ENABLED).memory(0, 0, 0, ENABLED);
            wrapping.raw(&[200, 8, 1, 2, 3, 4, 5, 6]).memory(7, 0, HALF, HOTPLUG).raw(&[77, 2])
        },
        slit: || tables::slit(2, &[10, 3, 0, 10]),
        says: &["Warning: invalid memblk node 1 [mem 0xffffffffffefffff-", "Fallback order for Node 1: 1 0"],
    },
    Case {
        name: "a_thousand_ranges_that_take_turns_are_all_used",
        // QEMU takes 64 KiB of tables.
        srat: || (0..1024).fold(Srat::new(), |srat, i| srat.memory(i as u32 % 2, i * MIB, MIB, ENABLED)),
        slit: || tables::slit(1 << 60, &[10; 4096]),
        says: &["  node   1: [mem 0x000000003ff00000-0x000000003ffdffff]"],
    },
    Case {
        name: "random_bytes_are_no_srat",
        srat: || Srat::new().raw(&random(1, 3000)),
        slit: || random(2, 3000),
        says: &["ACPI: [SRAT:0x01] ", ONE_NODE],
    },
    Case {
        name: "entries_of_random_contents_are_no_srat",
        srat: || (0..64).fold(Srat::new(), random_entry),
        slit: || tables::slit(55, &random(3, 55 * 55)),
        says: &["ACPI: SRAT: SRAT not used.", ONE_NODE],
    },
];

fn two_nodes() -> Srat {
    let memory = Srat::new().memory(0, 0, HALF, ENABLED).memory(1, HALF, HALF, ENABLED);
    memory.processor(0, 0).processor(1, 1)
}

/// An entry of the right length whose contents mean nothing.
fn random_entry(srat: Srat, seed: u64) -> Srat {
    const LENGTHS: [u8; 6] = [16, 40, 24, 18, 12, 32];
    let kind = seed as usize % LENGTHS.len();
    let length = LENGTHS[kind];
    let rest = random(100 + seed, usize::from(length) - 2);
    srat.raw(&[&[kind as u8, length][..], &rest].concat())
}

/// Bytes that are the same in every run.
fn random(seed: u64, nr_bytes: usize) -> Vec<u8> {
    // Marsaglia's xorshift, started anywhere but at 0.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(nr_bytes).collect()
}

/// Boots with the case's tables; `plain` is the machine without them.
pub(crate) fn run(case: &Case, plain: &Facts) -> Result<(), Failed> {
    let check = || -> Result<Vec<String>> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut flags = plain.qemu.clone();
        flags.extend(broken_tables(case, directory.path())?);
        let report =
            boots::boot(&format!("corrupt-{}", case.name), flags, "loglevel=8 dump=zoneinfo poweroff")?;
        let zones = zoneinfo::parse(report.files.get("/proc/zoneinfo").context("no zoneinfo")?)?;
        let present = |zones: &[zoneinfo::Zone]| zones.iter().map(|zone| zone.present).sum::<u64>();
        let (wanted, found) = (present(&plain.zones), present(&zones));
        let mut wrong = Vec::new();
        if wanted != found {
            wrong.push(format!("{found} pages are present, not {wanted}"));
        }
        let unsaid = ALWAYS.iter().chain(case.says).filter(|says| report.lines(&[says]).is_empty());
        wrong.extend(unsaid.map(|says| format!("the log has no line `{says}`")));
        Ok(wrong)
    };
    match check() {
        Ok(wrong) if wrong.is_empty() => Ok(()),
        Ok(wrong) => Err(wrong.join("\n").into()),
        Err(error) => Err(format!("{error:#}").into()),
    }
}

/// QEMU's flags for the case's tables, and for a MADT and byte code that are broken in every case.
fn broken_tables(case: &Case, directory: &Path) -> Result<Vec<String>> {
    let seed = case.name.len() as u64;
    let bodies = [
        ("SRAT", (case.srat)().bytes()),
        ("SLIT", (case.slit)()),
        ("APIC", random(1000 + seed, 200)),
        ("SSDT", random(2000 + seed, 4000)),
    ];
    let mut flags = Vec::new();
    for (signature, body) in bodies {
        let path = tables::file(directory, signature, &body)?;
        flags.push("-acpitable".to_owned());
        flags.push(format!("sig={signature},rev=3,data={path}"));
    }
    Ok(flags)
}
