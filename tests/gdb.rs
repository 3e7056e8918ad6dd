//! The gdb script, driven in batch mode: without a kernel, and against a boot that is stopped.

use boot::build::Package;
use boot::image::{Firmware, Kernel};
use boot::qemu::Machine;
use boot::run;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;
use wait_timeout::ChildExt;

/// Runs gdb's commands after the script's, and returns what it printed, errors included.
fn gdb(program: Option<&Path>, commands: &[&str]) -> String {
    let script = boot::workspace::root().join("kernel/gdb/strata.py");
    let mut gdb = Command::new("gdb");
    // Outside of the repository: nothing may depend on where gdb is started.
    gdb.current_dir("/").args(["-nx", "-batch"]).args(program).arg("-x").arg(script);
    if program.is_none() {
        gdb.env("CARGO_TARGET_DIR", "/nonexistent");
    }
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let Output { stdout, stderr, .. } = gdb.output().expect("gdb is installed by setup.sh");
    String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
}

#[test]
fn every_command_is_explained() {
    let text = gdb(None, &["help mm"]);
    for name in ["nodes", "zones", "free", "page", "slabs", "vmas", "use"] {
        assert!(text.contains(&format!("\nmm {name} -- ")), "mm {name}: {text}");
    }
}

#[test]
fn without_symbols_the_error_says_what_to_load() {
    let text = gdb(None, &["mm nodes"]);
    assert!(text.contains("no symbol kernel::memory::MEMORY: load the kernel with symbols"), "{text}");
    assert!(text.contains("/nonexistent/strata/strata-kernel does not exist yet"), "{text}");
}

#[test]
fn wrong_arguments_are_refused() {
    for (command, error) in [
        ("mm nodes 1", "mm nodes takes no arguments"),
        ("mm free all", "usage: mm free [blocks]"),
        ("mm nix", "Undefined mm command"),
    ] {
        let text = gdb(None, &[command]);
        assert!(text.contains(error), "{command}: {text}");
    }
}

/// What is asked of a stopped boot: at its start, and when it has printed all that it was asked for.
const STEPS: [&str; 18] = [
    "echo \\n@early\\n",
    "mm nodes",
    "thbreak kernel::exit::success",
    "continue",
    "echo \\n@nodes\\n",
    "mm nodes",
    "echo \\n@zones\\n",
    "mm zones",
    "echo \\n@free\\n",
    "mm free",
    "echo \\n@slabs\\n",
    "mm slabs",
    "echo \\n@block\\n",
    "python block = gdb.execute('mm free blocks', to_string=True).splitlines()[0]; print(block)",
    "python gdb.execute('mm page ' + block.split()[-1])",
    "echo \\n@reserved\\n",
    "mm page 0",
    "kill",
];

/// Boots a machine with two nodes, stops it at its start and its end, and returns what gdb and the kernel printed.
fn stopped_boot() -> (String, String) {
    let kernel = Kernel::build(Package::Kernel).unwrap();
    let image = kernel.image(Firmware::Bios).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("gdb");
    let socket = socket.to_str().expect("a temporary directory's name is text");
    let raw = "-m 1G -smp 2 -object memory-backend-ram,id=m0,size=512M -object memory-backend-ram,id=m1,size=512M \
               -numa node,memdev=m0,cpus=0 -numa node,memdev=m1,cpus=1 -S";
    let mut machine = Machine { cmdline: "dump=all poweroff".into(), ..Machine::default() };
    machine.raw = raw.split_whitespace().map(str::to_owned).collect();
    machine.raw.extend(["-gdb".to_owned(), format!("unix:{socket},server=on,wait=off")]);
    let mut child = machine.command(&image).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let console = thread::spawn(move || {
        let mut console = Vec::new();
        stdout.read_to_end(&mut console).map(|_| String::from_utf8_lossy(&console).into_owned())
    });
    while !Path::new(socket).exists() {
        assert!(child.try_wait().unwrap().is_none(), "QEMU has ended");
        thread::sleep(Duration::from_millis(50));
    }
    let target = format!("target remote {socket}");
    let steps: Vec<&str> = [target.as_str()].into_iter().chain(STEPS).collect();
    let printed = gdb(Some(&kernel.elf), &steps);
    if child.wait_timeout(Duration::from_secs(10)).unwrap().is_none() {
        run::end(&mut child).unwrap();
    }
    (printed, console.join().unwrap().unwrap())
}

#[test]
fn gdb_reads_what_the_kernel_prints() {
    let (printed, console) = stopped_boot();
    let gdb = sections(&printed);
    assert!(
        gdb["early"]
            .iter()
            .any(|line| line.contains("not initialised yet") || line.contains("not started yet")),
        "{printed}"
    );

    let kernel = free_of_kernel(&dumped(&console, "/proc/buddyinfo"));
    assert!(kernel.len() >= 2, "{console}");
    assert_eq!(free_of_gdb(&gdb["free"]), kernel, "free blocks: {printed}");

    let kernel = zones_of_kernel(&dumped(&console, "/proc/zoneinfo"));
    let zones: Vec<_> = gdb["zones"].iter().map(|line| record(line)).collect();
    assert_eq!(zones.len(), kernel.len(), "{printed}");
    for zone in zones {
        for name in ["free", "boost", "min", "low", "high", "spanned", "present", "managed", "start_pfn"] {
            let wanted = kernel[&place(&zone)][name].split(',').next().unwrap();
            assert_eq!(zone[name], wanted, "{name} of {zone:?}");
        }
        assert_eq!(zone["pcp"], kernel[&place(&zone)]["count"], "{zone:?}");
    }
    let slabinfo = dumped(&console, "/proc/slabinfo");
    let slabs: Vec<String> = gdb["slabs"].iter().map(|line| slab_line(&record(line))).collect();
    let of_kernel: Vec<String> = slabinfo[2..].iter().map(|line| slabinfo_line(line)).collect();
    assert_eq!(slabs, of_kernel);
    assert!(gdb["block"][1].contains("state free-block"), "{printed}");
    assert!(gdb["reserved"][0].contains("state reserved"), "{printed}");
}

/// Name, objects in use, objects, size and slabs.
fn slab_line(cache: &HashMap<&str, &str>) -> String {
    ["cache", "active_objs", "num_objs", "size", "slabs"].map(|name| cache[name]).join(" ")
}

fn slabinfo_line(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    [words[0], words[1], words[2], words[3], words[words.len() - 2]].join(" ")
}

/// What gdb printed after each `@name` of [`STEPS`].
fn sections(text: &str) -> HashMap<&str, Vec<&str>> {
    let mut sections: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut name = "";
    for line in text.lines() {
        match line.strip_prefix('@') {
            Some(new) => name = new,
            None => sections.entry(name).or_default().push(line),
        }
    }
    sections
}

/// The words of a record: names and values in turn.
fn record(line: &str) -> HashMap<&str, &str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// The lines that the kernel printed between the marks of a file.
fn dumped<'a>(console: &'a str, path: &str) -> Vec<&'a str> {
    let lines = console.lines().map(str::trim_end);
    let begin = format!("--- begin {path} ---");
    let end = format!("--- end {path} ---");
    lines.skip_while(|line| *line != begin).skip(1).take_while(|line| *line != end).collect()
}

/// `(node, zone)` of a line that starts a zone in /proc/buddyinfo or /proc/zoneinfo, and the words after it.
fn zone_line(line: &str) -> Option<((String, String), Vec<&str>)> {
    let (node, rest) = line.strip_prefix("Node ")?.split_once(", zone")?;
    let mut words = rest.split_whitespace();
    Some(((node.into(), words.next()?.into()), words.collect()))
}

fn place(record: &HashMap<&str, &str>) -> (String, String) {
    (record["node"].into(), record["zone"].into())
}

/// Free blocks by zone and order, from `mm free`, added up over the types.
fn free_of_gdb(lines: &[&str]) -> BTreeMap<(String, String), Vec<u64>> {
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
fn free_of_kernel(lines: &[&str]) -> BTreeMap<(String, String), Vec<u64>> {
    let zones = lines.iter().filter_map(|line| zone_line(line));
    zones.map(|(place, words)| (place, words.iter().map(|nr| nr.parse().unwrap()).collect())).collect()
}

/// Zones with RAM in /proc/zoneinfo: values by name, those of the CPUs' lists with commas between.
fn zones_of_kernel(lines: &[&str]) -> BTreeMap<(String, String), HashMap<String, String>> {
    let mut zones: BTreeMap<_, HashMap<String, String>> = BTreeMap::new();
    let mut at = None;
    for line in lines {
        if let Some((place, _)) = zone_line(line) {
            at = Some(place);
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, value) = match words[..] {
            ["pages", "free", value] => ("free", value),
            [name, value] => (name.trim_end_matches(':'), value),
            _ => continue,
        };
        let zone = zones.entry(at.clone().expect("a zone before its values")).or_default();
        let all = zone.entry(name.to_owned()).or_default();
        *all = if all.is_empty() { value.to_owned() } else { format!("{all},{value}") };
    }
    zones.retain(|_, zone| zone["present"] != "0");
    zones
}
