//! The gdb script, driven in batch mode: without a kernel, and against a boot that is stopped.

use boot::build::Package;
use boot::image::{Firmware, Kernel};
use boot::qemu::Machine;
use boot::run;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;
use wait_timeout::ChildExt;

/// A boot under gdb takes seconds; a machine that is busy with other things gets more.
const TIMEOUT: Duration = Duration::from_secs(300);

/// What gdb prints for these commands, without a kernel. Started outside of the repository: nothing may depend on where.
fn gdb(commands: &[&str]) -> String {
    let mut gdb = Command::new("gdb");
    gdb.current_dir("/").env("CARGO_TARGET_DIR", "/nonexistent");
    gdb.args(["-nx", "-batch", "-x"]).arg(boot::workspace::root().join("kernel/gdb/strata.py"));
    finish(gdb, commands)
}

/// Runs the commands after what `gdb` does anyway, and returns what it printed, errors among the rest.
fn finish(mut gdb: Command, commands: &[&str]) -> String {
    for command in commands {
        gdb.args(["-ex", command]);
    }
    // One file for both: errors stay where they belong.
    let mut output = tempfile::tempfile().unwrap();
    gdb.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
    let mut child = gdb.spawn().expect("gdb is installed by setup.sh");
    let ended = child.wait_timeout(TIMEOUT).unwrap().is_some();
    if !ended {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut bytes = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(ended, "gdb has not ended within {TIMEOUT:?}: {text}");
    text
}

#[test]
fn every_command_is_explained() {
    let text = gdb(&["help mm"]);
    for name in ["nodes", "zones", "free", "page", "slabs", "vmas", "use"] {
        assert!(text.contains(&format!("\nmm {name} -- ")), "mm {name}: {text}");
    }
}

#[test]
fn without_symbols_the_error_says_what_to_load() {
    let text = gdb(&["mm nodes"]);
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
        let text = gdb(&[command]);
        assert!(text.contains(error), "{command}: {text}");
    }
}

/// What is asked of a stopped boot: at its start, before memory is set up, when the workload's pages are all mapped, and
/// when everything has been printed. What follows an `echo` is the section of that name.
const STEPS: &[&str] = &[
    "echo \\n@early\\n",
    "mm nodes",
    "echo \\n@\\n",
    "thbreak kernel::memory::init",
    "continue",
    "echo \\n@before\\n",
    "mm nodes",
    "mm zones",
    "mm free",
    "mm slabs",
    "mm vmas",
    "mm page 0",
    "echo \\n@\\n",
    "thbreak kernel::memory::workload::done",
    "continue",
    "echo \\n@mapped vmas\\n",
    "mm vmas",
    "echo \\n@mapped nodes\\n",
    "mm nodes",
    "echo \\n@mapped slabs\\n",
    "mm slabs",
    "echo \\n@mapped pages\\n",
    "python vmas = gdb.execute('mm vmas', to_string=True).splitlines()",
    "python gdb.execute('mm page ' + [vma for vma in vmas if 'rw-p' in vma][-1].split()[1])",
    "mm page phys $cr3",
    "mm page phys 0x7ffffff000000",
    "mm page 0x10",
    "mm page virt 0x10",
    "echo \\n@\\n",
    "thbreak kernel::exit::success",
    "continue",
    "echo \\n@vmas\\n",
    "mm vmas",
    "echo \\n@nodes\\n",
    "mm nodes",
    "echo \\n@zones\\n",
    "mm zones",
    "echo \\n@free\\n",
    "mm free",
    "echo \\n@blocks\\n",
    "mm free blocks",
    "echo \\n@slabs\\n",
    "mm slabs",
    "echo \\n@slab page\\n",
    "python cache = gdb.execute('mm slabs', to_string=True).splitlines()[-1].split()[-1]",
    "python gdb.execute('mm page ' + cache)",
    "echo \\n@block\\n",
    "python blocks = gdb.execute('mm free blocks', to_string=True).splitlines()",
    "python gdb.execute('mm page ' + blocks[-1].split()[-1])",
    "python gdb.execute(f'mm page {int(blocks[-1].split()[-1], 16) + 1}')",
    "echo \\n@reserved\\n",
    "mm page 0",
    "mm page phys 0xfff",
    "mm page 0xffff888000000000",
    "mm page 0xffffea0000000000",
    "mm page &kernel::memory::MEMORY",
    "echo \\n@\\n",
    "kill",
];

/// Boots a machine with two nodes, stops it at the places of [`STEPS`], and returns what gdb and the kernel printed.
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
    // The command line that `cargo run -- --gdb` prints, but for the machine that it finds.
    let mut gdb = Command::new("gdb");
    gdb.current_dir(boot::workspace::root()).env("STRATA_GDB", socket);
    gdb.args(["-nx", "-batch", "-x", "kernel/gdb/init.gdb"]).arg(&kernel.elf);
    let printed = finish(gdb, STEPS);
    if child.wait_timeout(Duration::from_secs(10)).unwrap().is_none() {
        run::end(&mut child).unwrap();
    }
    (printed, console.join().unwrap().unwrap())
}

/// What gdb and the kernel printed: one boot for all tests.
fn boot_log() -> &'static (String, String) {
    static BOOT: LazyLock<(String, String)> = LazyLock::new(stopped_boot);
    &BOOT
}

#[test]
fn commands_before_memory_is_set_up_say_so() {
    let gdb = sections(&boot_log().0);
    let early = &gdb["early"];
    assert!(early.iter().any(|line| line.contains("the kernel has not started yet")), "{early:?}");
    let before = &gdb["before"];
    let errors = before.iter().filter(|line| line.contains("not initialised yet: let the kernel run on"));
    assert_eq!(errors.count(), 6, "{before:?}");
}

#[test]
fn vmas_are_the_areas_that_the_workload_lists() {
    let (printed, console) = boot_log();
    let gdb = sections(printed);
    let areas: Vec<String> =
        console.lines().filter_map(|line| line.split_once("workload: area ")).map(|(_, a)| area(a)).collect();
    assert!(areas.len() >= 5, "{console}");
    let vmas: Vec<String> = gdb["mapped vmas"]
        .iter()
        .map(|line| record(line))
        .map(|vma| ["start", "end", "flags"].map(|name| vma[name]).join(" "))
        .collect();
    assert_eq!(vmas, areas);
    assert_eq!(gdb["vmas"], ["no address space is in use at this stop"]);
}

/// `START-END VmFlags(READ | ...)` of the log, as `mm vmas` words it.
fn area(line: &str) -> String {
    let (range, flags) = line.trim_end().split_once(" VmFlags(").expect("flags");
    let (start, end) = range.split_once('-').expect("a range");
    let flags: Vec<&str> = flags.trim_end_matches(')').split(" | ").collect();
    let letter = |name, letter| if flags.contains(&name) { letter } else { '-' };
    let access: String = [letter("READ", 'r'), letter("WRITE", 'w'), letter("EXEC", 'x')].iter().collect();
    format!("0x{start} 0x{end} {access}{}", if flags.contains(&"SHARED") { 's' } else { 'p' })
}

#[test]
fn nodes_and_slabs_add_up_while_the_workload_is_mapped() {
    let (printed, console) = boot_log();
    let gdb = sections(printed);
    let nodes: Vec<_> = gdb["mapped nodes"].iter().map(|line| record(line)).collect();
    assert_eq!(nodes.len(), 2, "{printed}");
    let free = format!(" free:{} free_pcp:{}", sum(&nodes, "free"), sum(&nodes, "pcp"));
    assert!(console.contains(&free), "{free}: {console}");

    let caches: Vec<_> = gdb["mapped slabs"].iter().map(|line| record(line)).collect();
    let (objects, slabs) = (sum(&caches, "active_objs"), sum(&caches, "slabs"));
    let all = format!("slab: {} caches, {objects} objects in use, {slabs} slabs", caches.len());
    assert!(console.contains(&all), "{all}: {console}");
}

fn sum(records: &[HashMap<&str, &str>], name: &str) -> u64 {
    records.iter().map(|record| record[name].parse::<u64>().unwrap()).sum()
}

#[test]
fn nodes_and_zones_are_those_of_zoneinfo() {
    let (printed, console) = boot_log();
    let gdb = sections(printed);
    let kernel = zones_of_kernel(&dumped(console, "/proc/zoneinfo"));
    let zones: Vec<_> = gdb["zones"].iter().map(|line| record(line)).collect();
    assert_eq!(zones.len(), kernel.len(), "{printed}");
    for zone in &zones {
        let wanted = &kernel[&place(zone)];
        for name in ["free", "boost", "min", "low", "high", "spanned", "present", "managed", "start_pfn"] {
            assert_eq!(zone[name], wanted[name].split(',').next().unwrap(), "{name} of {zone:?}");
        }
        assert_eq!(zone["pcp"], wanted["count"], "{zone:?}");
        assert_eq!(zone["pcp_batch"], wanted["batch"], "{zone:?}");
        assert_eq!(format!("({})", zone["protection"].replace(',', ", ")), wanted["protection"], "{zone:?}");
    }
    let nodes: Vec<_> = gdb["nodes"].iter().map(|line| record(line)).collect();
    assert_eq!(nodes.len(), 2, "{printed}");
    for node in nodes {
        for name in ["present", "managed", "free"] {
            let zones = kernel.iter().filter(|(place, _)| place.0 == node["node"]);
            let of_zones: u64 = zones.map(|(_, zone)| zone[name].parse::<u64>().unwrap()).sum();
            assert_eq!(node[name], of_zones.to_string(), "{name} of {node:?}");
        }
    }
}

#[test]
fn free_blocks_are_those_of_buddyinfo_and_pagetypeinfo() {
    let (printed, console) = boot_log();
    let gdb = sections(printed);
    let kernel = free_of_kernel(&dumped(console, "/proc/buddyinfo"));
    assert!(kernel.len() >= 3, "{console}");
    assert_eq!(free_of_gdb(&gdb["free"]), kernel);

    let by_type: Vec<String> = gdb["free"].iter().map(|line| free_line(&record(line))).collect();
    let pagetypeinfo = dumped(console, "/proc/pagetypeinfo");
    let of_kernel: Vec<String> = pagetypeinfo.iter().filter_map(|line| pagetypeinfo_line(line)).collect();
    assert_eq!(by_type, of_kernel);
    // Following the lists finds as many blocks as they count.
    let blocks: u64 = kernel.values().flatten().sum();
    assert_eq!(gdb["blocks"].len() as u64, blocks);
}

#[test]
fn slabs_are_those_of_slabinfo() {
    let (printed, console) = boot_log();
    let slabinfo = dumped(console, "/proc/slabinfo");
    let slabs: Vec<String> = sections(printed)["slabs"].iter().map(|line| slab_line(&record(line))).collect();
    let of_kernel: Vec<String> = slabinfo[2..].iter().map(|line| slabinfo_line(line)).collect();
    assert_eq!(slabs, of_kernel);
}

#[test]
fn pages_are_found_by_every_kind_of_address() {
    let (printed, _) = boot_log();
    let gdb = sections(printed);
    let [user, root, absent, frame, unmapped] = gdb["mapped pages"][..] else { panic!("{printed}") };
    assert!(user.contains(" state allocated ") && user.contains(" refcount 1 "), "{user}");
    assert!(root.contains(" state page-table "), "{root}");
    assert!(absent.contains("has no struct Page"), "{absent}");
    assert!(frame.starts_with("pfn 0x10 phys 0x10000 "), "{frame}");
    assert_eq!(unmapped, "0x10 is not mapped on this CPU");

    let reserved = &gdb["reserved"];
    assert!(
        reserved[0].contains("pfn 0x0 phys 0x0 page 0xffffea0000000000 node 0 zone DMA"),
        "{reserved:#?}"
    );
    assert!(reserved[..4].iter().all(|line| *line == reserved[0]), "{reserved:?}");
    assert!(
        reserved.len() == 5 && reserved.iter().all(|line| line.contains(" state reserved ")),
        "{reserved:?}"
    );
    assert!(gdb["slab page"][0].contains(" state slab "), "{}", gdb["slab page"][0]);
}

#[test]
fn the_pages_of_a_free_block_name_it() {
    let (printed, _) = boot_log();
    let gdb = sections(printed);
    let block = record(gdb["blocks"].last().expect("a free block"));
    let [head, order, inside, within] = gdb["block"][..] else { panic!("{printed}") };
    assert!(head.contains(" state free-block ") && head.contains(" type Buddy "), "{head}");
    assert_eq!(record(order)["buddy_order"], block["order"]);
    assert!(inside.contains(" state free "), "{inside}");
    assert_eq!(record(within)["free_block"], block["pfn"], "{within}");
}

/// Name, objects in use, objects, size and slabs.
fn slab_line(cache: &HashMap<&str, &str>) -> String {
    ["cache", "active_objs", "num_objs", "size", "slabs"].map(|name| cache[name]).join(" ")
}

fn slabinfo_line(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    [words[0], words[1], words[2], words[3], words[words.len() - 2]].join(" ")
}

/// Node, zone, type and counts.
fn free_line(free: &HashMap<&str, &str>) -> String {
    let nr: Vec<&str> = free["nr"].split(',').collect();
    [free["node"], free["zone"], free["type"], &nr.join(" ")].join(" ")
}

fn pagetypeinfo_line(line: &str) -> Option<String> {
    let (place, rest) = line.split_once(", type")?;
    let (node, zone) = place.strip_prefix("Node")?.split_once(", zone")?;
    let words: Vec<&str> = [node.trim(), zone.trim()].into_iter().chain(rest.split_whitespace()).collect();
    Some(words.join(" "))
}

/// What gdb printed after each `@name` of [`STEPS`], without empty lines.
fn sections(text: &str) -> HashMap<&str, Vec<&str>> {
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
            ["protection:", ..] => ("protection", line.trim_start().trim_start_matches("protection: ")),
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
