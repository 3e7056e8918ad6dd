//! What is compared of a machine: each check takes Linux's facts and our report, and gives what it expected and found.
//!
//! ```text
//! lines of the log that begin alike    equal, in order
//! memblock's dumps                     memory regions equal; what is reserved is each kernel's own
//! zones                                place and size equal; managed pages at least Linux's; limits by `formulas`
//! ```
//!
//! Rules for what differs on purpose, and is none of a machine's:
//!
//! - The addresses of node data and of reserved memory: each kernel has its own. That a node has data is compared.
//! - `managed`: what a kernel keeps to itself is its own affair; it may only be less than Linux keeps.
//! - CPUs: limits are computed for those that run, which is how many pagesets a zone has.

use crate::facts::Facts;
use crate::formulas::{self, Given};
use crate::report::Report;
use crate::zoneinfo::{self, Zone};
use std::fmt;

/// The names of the checks with what does them, in the order of the boot.
const CHECKS: &[(&str, How)] = &[
    ("e820", How::Lines(&["BIOS-e820: "])),
    ("e820 by the user", How::Lines(&["user: [mem"])),
    ("e820 changes", How::Lines(&["e820: "])),
    ("last frame", How::Lines(&["last_pfn = "])),
    ("memblock from e820", How::Reports(|report| memory_regions(report, Dump::First))),
    ("memblock with nodes", How::Reports(|report| memory_regions(report, Dump::Last))),
    ("SRAT", How::Lines(&["SRAT: ", "ACPI: SRAT: ", "ACPI: SLIT table"])),
    ("NUMA", How::Lines(&["NUMA: ", "NUMA turned off", "No NUMA configuration", "Faking ", "node "])),
    ("node data", How::Reports(node_data)),
    ("zone ranges", How::Lines(&["Zone ranges:", "  DMA", "  Normal", "  Device"])),
    ("movable starts", How::Lines(&["Movable zone start", "  Node "])),
    ("node ranges", How::Lines(&["Early memory node ranges", "  node "])),
    ("node set-up", How::Lines(&["Initmem setup node", "Initializing node"])),
    ("holes", How::Lines(&["On node "])),
    ("fallback order", How::Lines(&["Fallback order for Node "])),
    ("total pages", How::Lines(&["Built "])),
    ("policy zone", How::Lines(&["Policy zone: "])),
    ("zonelists", How::Lines(&["mminit::zonelist "])),
    ("node and vm files", How::Files),
    ("zones", How::Zones(spans)),
    ("managed", How::Zones(managed)),
    ("min_free_kbytes", How::MinFree),
    ("watermarks", How::Limits(watermarks)),
    ("protection", How::Limits(protection)),
    ("pagesets", How::Limits(pagesets)),
    ("thresholds", How::Limits(thresholds)),
];

/// How a check finds what it compares.
#[derive(Clone, Copy)]
enum How {
    /// Log lines with these beginnings.
    Lines(&'static [&'static str]),
    /// The same function of both reports.
    Reports(fn(&Report) -> Vec<String>),
    /// Linux's zones and ours.
    Zones(fn(&[Zone], &[Zone]) -> Verdict),
    /// For each of our zones what the formulas give, and what is.
    Limits(fn(&Zone, &[Zone], &Given<'_>) -> [String; 2]),
    /// The files that the facts have.
    Files,
    /// `vm.min_free_kbytes` by the formulas, and as it is.
    MinFree,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All equal.
    Same,
    /// There was nothing to compare.
    NotApplicable,
    /// What was expected, and what was found.
    Differs(Vec<String>, Vec<String>),
}

impl Verdict {
    fn of(expected: Vec<String>, found: Vec<String>) -> Verdict {
        match (expected == found, expected.is_empty()) {
            (true, true) => Verdict::NotApplicable,
            (true, false) => Verdict::Same,
            (false, _) => Verdict::Differs(expected, found),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Same => "ok",
            Verdict::NotApplicable => "n.a.",
            Verdict::Differs(..) => "DIFF",
        })
    }
}

/// The names of all checks.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(name, _)| *name)
}

/// Compares everything; one verdict a check, in the order of [`names`].
pub(crate) fn run(facts: &Facts, report: &Report) -> Vec<Verdict> {
    let nothing = Vec::new();
    let zones = match zoneinfo::parse(report.files.get("/proc/zoneinfo").unwrap_or(&nothing)) {
        Ok(zones) => zones,
        // Each check of zones then shows that there is none.
        Err(error) => {
            eprintln!("{}: /proc/zoneinfo: {error:#}", facts.name);
            Vec::new()
        }
    };
    let verdict = |(_, how): &(_, How)| match *how {
        How::Lines(prefixes) => Verdict::of(facts.report.lines(prefixes), report.lines(prefixes)),
        How::Reports(of) => Verdict::of(of(&facts.report), of(report)),
        How::Zones(compare) => compare(&facts.zones, &zones),
        How::Limits(of) => limits(facts, report, &zones, of),
        How::Files => files(facts, report),
        How::MinFree => min_free_kbytes(facts, report, &zones),
    };
    CHECKS.iter().map(verdict).collect()
}

/// Which of memblock's dumps: the first is of the firmware's map, the last knows nodes.
#[derive(Clone, Copy)]
enum Dump {
    First,
    Last,
}

/// The total and the regions of memory.
fn memory_regions(report: &Report, which: Dump) -> Vec<String> {
    let is_start = |line: &&String| *line == "MEMBLOCK configuration:";
    let dumps: Vec<&[String]> = report.log.split(|line| is_start(&line)).skip(1).collect();
    let dump = match which {
        Dump::First => dumps.first(),
        Dump::Last => dumps.last(),
    };
    let total = |line: &String| line.split(" reserved size").next().map(str::to_owned);
    let lines = dump.copied().unwrap_or_default().iter();
    lines
        .take_while(|line| line.starts_with(' '))
        .filter(|line| line.starts_with(" memory size") || line.starts_with(" memory["))
        .filter_map(total)
        .collect()
}

/// Who has node data, and where it is if not at home.
fn node_data(report: &Report) -> Vec<String> {
    let lines = report.log.iter().map(|line| line.trim_start()).filter(|line| line.starts_with("NODE_DATA("));
    lines.map(|line| line.split(" [mem").next().unwrap_or(line).to_owned()).collect()
}

/// The files below /sys/devices/system/node that do not depend on CPUs, and settings.
fn files(facts: &Facts, report: &Report) -> Verdict {
    let of = |from: &Report| -> Vec<String> {
        let line = |path: &String| format!("{path}: {}", from.text(path).unwrap_or_default());
        facts.report.files.keys().map(line).collect()
    };
    Verdict::of(of(&facts.report), of(report))
}

fn spans(linux: &[Zone], ours: &[Zone]) -> Verdict {
    let of = |zones: &[Zone]| -> Vec<String> {
        let line = |zone: &Zone| {
            let Zone { start_pfn, spanned, present, .. } = zone;
            format!("{}: start_pfn {start_pfn} spanned {spanned} present {present}", zone.title())
        };
        zones.iter().filter(|zone| zone.present > 0).map(line).collect()
    };
    Verdict::of(of(linux), of(ours))
}

fn managed(linux: &[Zone], ours: &[Zone]) -> Verdict {
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    for zone in linux {
        let same = |other: &&Zone| other.title() == zone.title();
        let has = ours.iter().find(same).map_or(0, |other| other.managed);
        if has < zone.managed {
            expected.push(format!("{}: at least {}", zone.title(), zone.managed));
            found.push(format!("{}: {has}", zone.title()));
        }
    }
    match expected.is_empty() {
        true => Verdict::Same,
        false => Verdict::Differs(expected, found),
    }
}

/// Of each zone that has pages.
fn limits(
    facts: &Facts,
    report: &Report,
    zones: &[Zone],
    of: fn(&Zone, &[Zone], &Given<'_>) -> [String; 2],
) -> Verdict {
    with_given(facts, report, zones, |given| {
        let lines =
            zones.iter().map(|zone| of(zone, zones, given).map(|text| format!("{}: {text}", zone.title())));
        let (expected, found) = lines.map(|[expected, found]| (expected, found)).unzip();
        Verdict::of(expected, found)
    })
}

fn watermarks(zone: &Zone, zones: &[Zone], given: &Given<'_>) -> [String; 2] {
    [formulas::watermarks(zone, zones, given), zone.watermarks].map(|marks| format!("{marks:?}"))
}

fn protection(zone: &Zone, zones: &[Zone], given: &Given<'_>) -> [String; 2] {
    [&formulas::protection(zone, zones, given), &zone.protection].map(|pages| format!("{pages:?}"))
}

fn pagesets(zone: &Zone, zones: &[Zone], given: &Given<'_>) -> [String; 2] {
    let wanted = format!("high {} batch {}", formulas::high(zone, zones, given), formulas::batch(zone));
    let found = zone.pagesets.iter().map(|set| format!("high {} batch {}", set.high, set.batch));
    [vec![wanted; nr_pagesets(zone, given)].join(", "), found.collect::<Vec<_>>().join(", ")]
}

fn thresholds(zone: &Zone, _: &[Zone], given: &Given<'_>) -> [String; 2] {
    let wanted = vec![formulas::stat_threshold(zone, given); nr_pagesets(zone, given)];
    let found: Vec<u64> = zone.pagesets.iter().map(|set| set.stat_threshold).collect();
    [wanted, found].map(|thresholds| format!("{thresholds:?}"))
}

/// A zone without pages has none.
fn nr_pagesets(zone: &Zone, given: &Given<'_>) -> usize {
    if zone.present == 0 { 0 } else { given.online as usize }
}

fn min_free_kbytes(facts: &Facts, report: &Report, zones: &[Zone]) -> Verdict {
    let found = report.text("/proc/sys/vm/min_free_kbytes").unwrap_or_default();
    with_given(facts, report, zones, |given| {
        Verdict::of(vec![formulas::min_free_kbytes(zones, given).to_string()], vec![found])
    })
}

/// Passes on what decides besides the zones: the CPUs that run, and the machine's options.
fn with_given<R>(facts: &Facts, report: &Report, zones: &[Zone], then: impl FnOnce(&Given<'_>) -> R) -> R {
    let online = zones.iter().map(|zone| zone.pagesets.len()).max().unwrap_or(0).max(1) as u64;
    let local = |node: u32| {
        let list = report.text(&format!("/sys/devices/system/node/node{node}/cpulist"));
        count(&list.unwrap_or_default())
    };
    let number = |name: &str| facts.sysctl(name).and_then(|text| text.parse().ok());
    let ratio = facts.sysctl("lowmem_reserve_ratio").unwrap_or_else(|| "256 256 32 0 0".to_owned());
    let mut ratios = ratio.split_whitespace().map(|number| number.parse().unwrap_or(0));
    then(&Given {
        online,
        local: &local,
        huge_pages: facts.option("transparent_hugepage").as_deref() != Some("never"),
        min_free_kbytes: number("min_free_kbytes"),
        scale: number("watermark_scale_factor").unwrap_or(10),
        fraction: number("percpu_pagelist_high_fraction").unwrap_or(0),
        ratio: std::array::from_fn(|_| ratios.next().unwrap_or(0)),
    })
}

/// How many numbers a list like `0-3,8` has.
fn count(list: &str) -> u64 {
    let length = |part: &str| -> Option<u64> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.trim().parse::<u64>().ok()? - first.trim().parse::<u64>().ok()? + 1)
    };
    list.split(',').filter_map(length).sum()
}
