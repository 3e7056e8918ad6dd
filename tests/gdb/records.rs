//! The records of the `mm` commands, and what the kernel prints, brought into the same words.

use std::collections::{BTreeMap, HashMap};

/// The values of that name, added up.
pub(crate) fn sum(records: &[HashMap<&str, &str>], name: &str) -> u64 {
    records.iter().map(|record| record[name].parse::<u64>().unwrap()).sum()
}

/// `START-END VmFlags(READ | ...)` of the log, as `mm vmas` words it.
pub(crate) fn area(line: &str) -> String {
    let (range, flags) = line.trim_end().split_once(" VmFlags(").expect("flags");
    let (start, end) = range.split_once('-').expect("a range");
    let flags: Vec<&str> = flags.trim_end_matches(')').split(" | ").collect();
    let letter = |name, letter| if flags.contains(&name) { letter } else { '-' };
    let access: String = [letter("READ", 'r'), letter("WRITE", 'w'), letter("EXEC", 'x')].iter().collect();
    format!("0x{start} 0x{end} {access}{}", if flags.contains(&"SHARED") { 's' } else { 'p' })
}

/// Name, objects in use, objects, size and slabs.
pub(crate) fn slab_line(cache: &HashMap<&str, &str>) -> String {
    ["cache", "active_objs", "num_objs", "size", "slabs"].map(|name| cache[name]).join(" ")
}

pub(crate) fn slabinfo_line(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    [words[0], words[1], words[2], words[3], words[words.len() - 2]].join(" ")
}

/// Node, zone, type and counts.
pub(crate) fn free_line(free: &HashMap<&str, &str>) -> String {
    let nr: Vec<&str> = free["nr"].split(',').collect();
    [free["node"], free["zone"], free["type"], &nr.join(" ")].join(" ")
}

pub(crate) fn pagetypeinfo_line(line: &str) -> Option<String> {
    let (place, rest) = line.split_once(", type")?;
    let (node, zone) = place.strip_prefix("Node")?.split_once(", zone")?;
    let words: Vec<&str> = [node.trim(), zone.trim()].into_iter().chain(rest.split_whitespace()).collect();
    Some(words.join(" "))
}

/// What gdb printed after each `@name` of [`STEPS`], without empty lines.
pub(crate) fn sections(text: &str) -> HashMap<&str, Vec<&str>> {
    let mut sections: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut name = "";
    for line in text.lines() {
        match line.strip_prefix('@') {
            Some(new) => name = new,
            None if line.is_empty() => {}
            None => sections.entry(name).or_default().push(line),
        }
    }
    sections
}

/// The words of a record: names and values in turn.
pub(crate) fn record(line: &str) -> HashMap<&str, &str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// The lines that the kernel printed between the marks of a file.
pub(crate) fn dumped<'a>(console: &'a str, path: &str) -> Vec<&'a str> {
    let lines = console.lines().map(str::trim_end);
    let begin = format!("--- begin {path} ---");
    let end = format!("--- end {path} ---");
    lines.skip_while(|line| *line != begin).skip(1).take_while(|line| *line != end).collect()
}

/// `(node, zone)` of a line that starts a zone in /proc/buddyinfo or /proc/zoneinfo, and the words after it.
pub(crate) fn zone_line(line: &str) -> Option<((String, String), Vec<&str>)> {
    let (node, rest) = line.strip_prefix("Node ")?.split_once(", zone")?;
    let mut words = rest.split_whitespace();
    Some(((node.into(), words.next()?.into()), words.collect()))
}

pub(crate) fn place(record: &HashMap<&str, &str>) -> (String, String) {
    (record["node"].into(), record["zone"].into())
}

/// Free blocks by zone and order, from `mm free`, added up over the types.
pub(crate) fn free_of_gdb(lines: &[&str]) -> BTreeMap<(String, String), Vec<u64>> {
    let mut zones = BTreeMap::new();
    for record in lines.iter().map(|line| record(line)) {
        let sums = zones.entry(place(&record)).or_insert_with(|| vec![0; 11]);
        for (sum, nr) in sums.iter_mut().zip(record["nr"].split(',')) {
            *sum += nr.parse::<u64>().unwrap();
        }
    }
    zones
}

/// The same from /proc/buddyinfo.
pub(crate) fn free_of_kernel(lines: &[&str]) -> BTreeMap<(String, String), Vec<u64>> {
    let zones = lines.iter().filter_map(|line| zone_line(line));
    zones.map(|(place, words)| (place, words.iter().map(|nr| nr.parse().unwrap()).collect())).collect()
}

/// Zones with RAM in /proc/zoneinfo: values by name, those of the CPUs' lists as `pcp_NAME` with commas between.
pub(crate) fn zones_of_kernel(lines: &[&str]) -> BTreeMap<(String, String), HashMap<String, String>> {
    let mut zones: BTreeMap<_, HashMap<String, String>> = BTreeMap::new();
    let (mut at, mut prefix) = (None, "");
    for line in lines {
        if let Some((place, _)) = zone_line(line) {
            (at, prefix) = (Some(place), "");
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, value) = match words[..] {
            ["pagesets"] => {
                prefix = "pcp_";
                continue;
            }
            ["pages", "free", value] => ("free", value),
            ["protection:", ..] => ("protection", line.trim_start().trim_start_matches("protection: ")),
            [name, value] => (name.trim_end_matches(':'), value),
            _ => continue,
        };
        if name == "node_unreclaimable" {
            prefix = "";
        }
        let zone = zones.entry(at.clone().expect("a zone before its values")).or_default();
        let all = zone.entry(format!("{prefix}{name}")).or_default();
        *all = if all.is_empty() { value.to_owned() } else { format!("{all},{value}") };
    }
    zones.retain(|_, zone| zone["present"] != "0");
    zones
}

/// The counters in /proc/zoneinfo as `mm counters` lists them: `NODE: VALUES` of each node, `NODE ZONE: VALUES` of each zone
/// that has RAM.
pub(crate) fn counters_of_kernel(lines: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut at = (String::new(), String::new());
    let mut listed = false;
    for line in lines {
        if let Some((place, _)) = zone_line(line) {
            (at, listed) = (place, false);
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["per-node", "stats"] => {
                listed = true;
                all.push(format!("{}:", at.0));
            }
            ["protection:", ..] => {
                listed = true;
                all.push(format!("{} {}:", at.0, at.1));
            }
            ["numa_hit", _] | ["pages", "free", _] => listed = false,
            [_, value] if listed => {
                let last = all.last_mut().expect("a list has begun");
                *last += " ";
                *last += value;
            }
            _ => {}
        }
    }
    all.retain(|line| !line.ends_with(':'));
    all
}

/// A line of `mm counters` in the same words.
pub(crate) fn counters_line(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (place, names) =
        if words[2] == "zone" { (format!("{} {}", words[1], words[3]), 4) } else { (words[1].into(), 2) };
    let values: Vec<&str> = words[names..].chunks_exact(2).map(|pair| pair[1]).collect();
    format!("{place}: {}", values.join(" "))
}

/// Numbers with commas between, added up.
pub(crate) fn sum_of(list: &str) -> u64 {
    list.split(',').map(|n| n.parse::<u64>().unwrap()).sum()
}
