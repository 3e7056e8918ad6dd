//! The gdb script, driven in batch mode: without a kernel, and against a boot that is stopped.

mod records;
mod session;

use std::collections::{BTreeMap, HashMap};

use records::{
    area, counters_line, counters_of_kernel, dumped, free_line, free_of_gdb, free_of_kernel,
    pagetypeinfo_line, place, record, sections, slab_line, slabinfo_line, sum, sum_of, zones_of_kernel,
};
use session::{boot_log, gdb, one_cpu_log, silent_cpu_log};

fn records<'a>(lines: &[&'a str]) -> Vec<HashMap<&'a str, &'a str>> {
    lines.iter().map(|line| record(line)).collect()
}

/// `START END FLAGS` of lines of `mm vmas`.
fn ranges(lines: &[&str]) -> Vec<String> {
    let words = |vma: HashMap<&str, &str>| ["start", "end", "flags"].map(|name| vma[name]).join(" ");
    records(lines).into_iter().map(words).collect()
}

#[test]
fn every_command_is_explained() {
    let text = gdb(&["help mm"]);
    for name in ["cpus", "nodes", "zones", "counters", "free", "page", "slabs", "vmas", "use"] {
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
        ("mm free all", "usage: mm free [blocks|pcp]"),
        ("mm vmas 1", "usage: mm vmas [all]"),
        ("mm nix", "Undefined mm command"),
    ] {
        let text = gdb(&[command]);
        assert!(text.contains(error), "{command}: {text}");
    }
}

#[test]
fn commands_before_memory_is_set_up_say_so() {
    let gdb = sections(&boot_log().0);
    let early = &gdb["early"];
    assert!(early.iter().any(|line| line.contains("the kernel has not started yet")), "{early:?}");
    let before = &gdb["before"];
    let errors = before.iter().filter(|line| line.contains("not initialised yet: let the kernel run on"));
    assert_eq!(errors.count(), 8, "{before:?}");
}

#[test]
fn vmas_are_the_areas_that_the_workload_lists() {
    let (printed, console) = boot_log();
    let gdb = sections(printed);
    let areas: Vec<String> =
        console.lines().filter_map(|line| line.split_once("workload: area ")).map(|(_, a)| area(a)).collect();
    assert!(areas.len() >= 5, "{console}");
    assert_eq!(ranges(&gdb["mapped vmas"]), areas);
    assert_eq!(gdb["vmas"], ["no address space is in use at this stop"]);
    // From the CPU that does not run it.
    assert_eq!(ranges(&gdb["other vmas"]), areas);
    assert!(records(&gdb["other vmas"]).iter().all(|vma| vma["space"] == workload(&gdb)["space"]));
    assert!(gdb["other refused"][0].starts_with("the selected CPU's thread uses no address space"));
}

/// What `mm cpus` says of the CPU that runs the workload.
fn workload<'a>(gdb: &HashMap<&str, Vec<&'a str>>) -> HashMap<&'a str, &'a str> {
    let cpus = records(&gdb["mapped cpus"]);
    cpus.into_iter().find(|cpu| cpu.get("name") == Some(&"workload")).expect("the workload runs")
}

#[test]
fn cpus_are_online_when_they_have_started_and_run_their_threads() {
    let (printed, console) = boot_log();
    let gdb = sections(printed);
    let [boot, other] = &records(&gdb["alone cpus"])[..] else { panic!("{printed}") };
    assert_eq!((boot["state"], boot["gdb"], boot["name"]), ("Online", "1", "swapper"));
    assert_eq!((other["state"], other["gdb"], other.get("name")), ("Offline", "none", None));

    assert!(console.contains("smp: Brought up 2 nodes, 2 CPUs"), "{console}");
    for name in ["mapped cpus", "cpus"] {
        let cpus = records(&gdb[name]);
        let numbers: Vec<_> = cpus.iter().map(|cpu| (cpu["cpu"], cpu["gdb"], cpu["state"])).collect();
        assert_eq!(numbers, [("0", "1", "Online"), ("1", "2", "Online")], "{name}");
    }
    // As the kernel numbers it in the reports of wrong accesses.
    let workload = workload(&gdb);
    assert!(console.contains(&format!("workload[{}]: segfault at ", workload["thread"])), "{workload:?}");
    assert_eq!(workload["thread_state"], "Running");
    assert_ne!(workload["space"], "0x0");
    assert!(records(&gdb["cpus"]).iter().all(|cpu| cpu["space"] == "0x0" && cpu["name"] != "workload"));
}

/// Not of gdb itself: it makes a machine of which one CPU does not start.
#[test]
fn a_cpu_that_does_not_answer_is_reported_and_left_out() {
    let (printed, console) = silent_cpu_log();
    let states = records(&sections(printed)["cpus"]).into_iter().map(|cpu| (cpu["cpu"], cpu["state"]));
    let wanted = [("0", "Online"), ("1", "Online"), ("2", "Failed"), ("3", "Online")];
    assert!(states.eq(wanted), "{printed}");
    let said = |line: &str| console.lines().filter(|l| l.contains(line)).count();
    assert_eq!(said("failed to start"), 1, "{console}");
    assert_eq!(said("smpboot: CPU2 failed to start: not responding"), 1, "{console}");
    assert_eq!(said("smp: Brought up 1 node, 3 CPUs"), 1, "{console}");
    // Only CPUs that run have lists, and the rest of boot waits for nobody else.
    for (cpu, listed) in [(0, true), (1, true), (2, false), (3, true)] {
        assert_eq!(said(&format!("    cpu: {cpu}")) > 0, listed, "CPU {cpu}: {console}");
    }
    assert_eq!(said("workload: unmapped, every frame is back"), 1, "{console}");
}

#[test]
fn any_cpu_may_be_selected() {
    let (printed, _) = boot_log();
    let gdb = sections(printed);
    assert_eq!(gdb["alone nodes"].len(), 2, "{printed}");
    assert_eq!(gdb["firmware nodes"], gdb["alone nodes"], "through a CPU in firmware");
    let [low, root, vmas] = gdb["firmware page"][..] else { panic!("{:?}", gdb["firmware page"]) };
    // Without paging, and with registers of its own.
    assert!(low.starts_with("pfn 0x7 phys 0x7000 "), "{low}");
    assert!(root.starts_with("pfn 0x0 phys 0x0 "), "{root}");
    assert_eq!(vmas, "no address space is in use at this stop");
    assert_eq!(gdb["other nodes"], gdb["mapped nodes"], "through a CPU that does something else");
    let refused = &gdb["other refused"];
    assert!(refused.iter().any(|line| line.ends_with(" is not mapped on this CPU")), "{refused:?}");
}

#[test]
fn nodes_and_slabs_add_up_while_the_workload_is_mapped() {
    let (printed, console) = boot_log();
    let gdb = sections(printed);
    let (nodes, zones) = (records(&gdb["mapped nodes"]), records(&gdb["mapped zones"]));
    assert_eq!(nodes.len(), 2, "{printed}");
    let counters = records(&gdb["mapped counters"]);
    let of_zones: Vec<_> = counters.into_iter().filter(|line| line.contains_key("zone")).collect();
    let (free, pcp, cma) = (sum(&nodes, "free"), sum(&nodes, "pcp"), sum(&of_zones, "FreeCma"));
    assert_eq!((free, true), (sum(&of_zones, "FreePages"), cma > 0));
    let sums = format!(" free:{free} free_pcp:{pcp} free_cma:{cma}");
    assert!(console.lines().any(|line| line.trim_end().ends_with(&sums)), "{sums}: {console}");
    for zone in zones {
        let start = format!("Node {} {} free:{}kB ", zone["node"], zone["zone"], 4 * sum_of(zone["free"]));
        let pcp = format!(" free_pcp:{}kB ", 4 * sum_of(zone["pcp"]));
        let said = console.lines().any(|line| line.contains(&start) && line.contains(&pcp));
        assert!(said, "{start}..{pcp}: {console}");
    }

    let caches: Vec<_> = gdb["mapped slabs"].iter().map(|line| record(line)).collect();
    let (objects, slabs) = (sum(&caches, "active_objs"), sum(&caches, "slabs"));
    let all = format!("slab: {} caches, {objects} objects in use, {slabs} slabs", caches.len());
    assert!(console.contains(&all), "{all}: {console}");
}

#[test]
fn nodes_and_zones_are_those_of_zoneinfo() {
    check_zones(boot_log(), "0,1", 2);
    check_zones(one_cpu_log(), "0", 1);
}

fn check_zones((printed, console): &(String, String), cpus: &str, nr_nodes: usize) {
    let gdb = sections(printed);
    let kernel = zones_of_kernel(&dumped(console, "/proc/zoneinfo"));
    let zones: Vec<_> = gdb["zones"].iter().map(|line| record(line)).collect();
    assert_eq!(zones.len(), kernel.len(), "{printed}");
    for zone in &zones {
        let wanted = &kernel[&place(zone)];
        assert_eq!(zone["cpus"], cpus, "{zone:?}");
        for name in ["free", "boost", "min", "low", "high", "spanned", "present", "managed", "start_pfn"] {
            assert_eq!(zone[name], wanted[name], "{name} of {zone:?}");
        }
        assert_eq!(zone["cma"], wanted["cma"], "{zone:?}");
        for (name, of_cpus) in [("cpus", "pcp_cpu"), ("pcp", "pcp_count"), ("pcp_high", "pcp_high")] {
            assert_eq!(zone[name], wanted[of_cpus], "{name} of {zone:?}");
        }
        assert!(wanted["pcp_batch"].split(',').all(|batch| batch == zone["pcp_batch"]), "{zone:?}");
        assert_eq!(format!("({})", zone["protection"].replace(',', ", ")), wanted["protection"], "{zone:?}");
    }
    let nodes: Vec<_> = gdb["nodes"].iter().map(|line| record(line)).collect();
    assert_eq!(nodes.len(), nr_nodes, "{printed}");
    for node in nodes {
        for name in ["present", "managed", "free"] {
            let zones = kernel.iter().filter(|(place, _)| place.0 == node["node"]);
            let of_zones: u64 = zones.map(|(_, zone)| zone[name].parse::<u64>().unwrap()).sum();
            assert_eq!(node[name], of_zones.to_string(), "{name} of {node:?}");
        }
    }
}

#[test]
fn counters_are_those_of_zoneinfo() {
    // A line for each node and zone.
    check_counters(boot_log(), 2 + 3);
    check_counters(one_cpu_log(), 1 + 4);
}

fn check_counters((printed, console): &(String, String), nr_lines: usize) {
    let of_gdb: Vec<String> = sections(printed)["counters"].iter().map(|line| counters_line(line)).collect();
    assert_eq!(of_gdb.len(), nr_lines, "{of_gdb:#?}");
    assert_eq!(of_gdb, counters_of_kernel(&dumped(console, "/proc/zoneinfo")));
}

#[test]
fn free_blocks_are_those_of_buddyinfo_and_pagetypeinfo() {
    assert!(check_free_blocks(boot_log(), 3) > 0, "the machine has contiguous memory");
    // The kernel does not show that type where there is none.
    assert_eq!(check_free_blocks(one_cpu_log(), 4), 0);
}

/// Returns how many pages of contiguous memory are free.
fn check_free_blocks((printed, console): &(String, String), nr_zones: usize) -> u64 {
    let gdb = sections(printed);
    let kernel = free_of_kernel(&dumped(console, "/proc/buddyinfo"));
    assert_eq!(kernel.len(), nr_zones, "{console}");
    assert_eq!(free_of_gdb(&gdb["free"]), kernel);

    let pagetypeinfo = dumped(console, "/proc/pagetypeinfo");
    let of_kernel: Vec<String> = pagetypeinfo.iter().filter_map(|line| pagetypeinfo_line(line)).collect();
    let shows_cma = of_kernel.iter().any(|line| line.contains(" CMA "));
    let lists = records(&gdb["free"]).into_iter().filter(|list| list["type"] != "CMA" || shows_cma);
    assert_eq!(lists.map(|list| free_line(&list)).collect::<Vec<_>>(), of_kernel);
    // Following the lists finds as many blocks as they count.
    let mut found: BTreeMap<_, u64> = BTreeMap::new();
    for block in records(&gdb["blocks"]) {
        *found.entry(["node", "zone", "type", "order"].map(|name| block[name].to_owned())).or_default() += 1;
    }
    let (mut counted, mut cma) = (BTreeMap::new(), 0);
    for list in records(&gdb["free"]) {
        let mut pages = 0;
        for (order, nr) in list["nr"].split(',').map(|nr| nr.parse::<u64>().unwrap()).enumerate() {
            let at = [list["node"], list["zone"], list["type"], &order.to_string()].map(str::to_owned);
            counted.extend((nr > 0).then_some((at, nr)));
            pages += nr << order;
        }
        assert_eq!(list["pages"], pages.to_string(), "{list:?}");
        cma += if list["type"] == "CMA" { pages } else { 0 };
    }
    assert_eq!(found, counted);
    cma
}

#[test]
fn slabs_are_those_of_slabinfo() {
    check_slabs(boot_log());
    check_slabs(one_cpu_log());
}

fn check_slabs((printed, console): &(String, String)) {
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
    let slab = gdb["slab page"][0];
    assert!(slab.contains(" state slab cache kmem_cache order 0 "), "{slab}");
}

#[test]
fn a_later_page_of_a_compound_page_names_the_first() {
    let (printed, _) = boot_log();
    let [first, later, of_first_tail] = sections(printed)["compound"][..] else { panic!("{printed}") };
    let (slab, tail) = (record(first), record(later));
    assert!(slab["state"] == "slab" && slab["flags"].contains("HEAD"), "{first}");
    assert_eq!((tail["state"], tail["head"], tail["refcount"]), ("slab-tail", slab["pfn"], "0"));
    assert_ne!(slab["order"], "0");
    let wanted = format!("{{'order': {}, 'destructor': 'Compound', 'entire_mapcount': 0}}", slab["order"]);
    assert_eq!(of_first_tail, wanted);
}

#[test]
fn the_pages_of_a_free_block_name_it() {
    let (printed, _) = boot_log();
    let gdb = sections(printed);
    let block = record(gdb["blocks"].last().expect("a free block"));
    let [head, inside] = gdb["block"][..] else { panic!("{:#?}", gdb["block"]) };
    assert!(head.contains(" type Buddy "), "{head}");
    let (head, inside) = (record(head), record(inside));
    assert_eq!((head["state"], head["order"], head["list"]), ("free-block", block["order"], block["type"]));
    assert_eq!((inside["state"], inside["block"], inside["order"]), ("free", block["pfn"], block["order"]));
}

#[test]
fn pages_on_per_cpu_lists_are_as_many_as_are_counted() {
    let (printed, console) = boot_log();
    let gdb = sections(printed);
    let blocks = records(&gdb["mapped pcp"]);
    let nr_pages = |block: &HashMap<&str, &str>| 1 << block["order"].parse::<u32>().unwrap();
    let pages: u64 = blocks.iter().map(nr_pages).sum();
    let all = format!(" free_pcp:{pages} ");
    assert!(pages > 0 && console.contains(&all), "{all}: {console}");
    for zone in records(&gdb["mapped zones"]) {
        for (cpu, count) in zone["cpus"].split(',').zip(zone["pcp"].split(',')) {
            let here = blocks.iter().filter(|block| block["cpu"] == cpu && place(block) == place(&zone));
            assert_eq!(here.map(nr_pages).sum::<u64>().to_string(), count, "CPU {cpu} of {zone:?}");
        }
    }
    let page = record(gdb["pcp page"][0]);
    let last = &blocks[blocks.len() - 1];
    assert_eq!((page["state"], page["block"], page["cpu"]), ("free-pcp", last["pfn"], last["cpu"]));
}
