//! The gdb script, driven in batch mode: without a kernel, and against a boot that is stopped.

mod records;
mod session;

use records::{
    area, dumped, free_line, free_of_gdb, free_of_kernel, pagetypeinfo_line, place, record, sections,
    slab_line, slabinfo_line, sum, zones_of_kernel,
};
use session::{boot_log, gdb};

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
        ("mm free all", "usage: mm free [blocks|pcp]"),
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
    let [head, inside] = gdb["block"][..] else { panic!("{:#?}", gdb["block"]) };
    assert!(head.contains(" type Buddy "), "{head}");
    let (head, inside) = (record(head), record(inside));
    assert_eq!((head["state"], head["order"]), ("free-block", block["order"]));
    assert_eq!((inside["state"], inside["block"], inside["order"]), ("free", block["pfn"], block["order"]));
}

#[test]
fn pages_on_per_cpu_lists_are_as_many_as_are_counted() {
    let (printed, console) = boot_log();
    let gdb = sections(printed);
    let blocks: Vec<_> = gdb["mapped pcp"].iter().map(|line| record(line)).collect();
    let pages: u64 = blocks.iter().map(|block| 1 << block["order"].parse::<u32>().unwrap()).sum();
    let all = format!(" free_pcp:{pages}");
    assert!(pages > 0 && console.lines().any(|line| line.trim_end().ends_with(&all)), "{all}: {console}");
    let page = record(gdb["pcp page"][0]);
    assert_eq!((page["state"], page["block"]), ("free-pcp", blocks[blocks.len() - 1]["pfn"]));
}
