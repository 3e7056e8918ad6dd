//! `dump=`: the files of `/proc` and `/sys` on the console, and the state of memory in the log.

use core::fmt;

use mm::addr::PAGE_SHIFT;
use mm::arch::layout::{VMALLOC, VMALLOC_END};
use mm::node::{NodeState, NodeStates};
use mm::pgtable::PageSize;
use mm::slub::Slub;
use mm::stat::meminfo::Others;
use mm::stat::slabinfo::SlabInfo;
use mm::stat::{File, SlabCaches, System, Topology};

use super::{Memory, vmalloc};
use crate::console;
use crate::cpu::online;

/// The slab caches as the files want them.
struct Caches(&'static Slub<'static>);

impl SlabCaches for Caches {
    fn for_each(&self, show: &mut dyn FnMut(&SlabInfo<'_>) -> fmt::Result) -> fmt::Result {
        let mut result = Ok(());
        self.0.for_each_cache(|info| {
            if result.is_ok() {
                result = show(&info);
            }
        });
        result
    }
}

/// What a list has for the report that a failed allocation ends with, which is no file (Linux: SysRq's `m`).
const SHOW_MEM: &str = "show_mem";

/// Prints the files of a list like `zoneinfo,node0/meminfo` or `all`, and logs the state of memory for `show_mem`, in the order of
/// the list; names that do not exist are reported.
pub fn dump(memory: &'static Memory, names: &str) {
    for name in names.split(',') {
        match name {
            SHOW_MEM => memory.pages.show_mem(),
            name => dump_files(memory, name),
        }
    }
}

fn dump_files(memory: &'static Memory, name: &str) {
    let states = memory.states();
    for file in File::list(name, states.get(NodeState::Online)) {
        match file {
            Ok(File::PageOwner) if !memory.pages.has_page_owner() => {
                log::warn!("dump: there is no page_owner without page_owner=on");
            }
            Ok(file) => print(memory, &states, file),
            Err(error) => log::warn!("dump: {error}"),
        }
    }
}

fn print(memory: &'static Memory, states: &NodeStates, file: File) {
    let slabs = Caches(memory.slub);
    let areas = match file {
        File::VmallocInfo => vmalloc::Snapshot::new(memory).unwrap_or_else(|error| {
            log::warn!("dump: {}: {error}", file.path());
            vmalloc::Snapshot::empty()
        }),
        _ => vmalloc::Snapshot::empty(),
    };
    let sysctl = *memory.sysctl.lock();
    let system = System {
        pages: memory.pages,
        slabs: &slabs,
        vmalloc: &areas,
        iomem: &memory.iomem,
        topology: Topology { numa: &memory.numa, states, is_online: &online::is_online },
        sysctl: &sysctl,
        others: Others {
            // To the last byte, as Linux counts it.
            vmalloc_total_kib: (VMALLOC_END - 1 - VMALLOC) >> 10,
            vmalloc_used: vmalloc::used_bytes(memory) >> PAGE_SHIFT,
            percpu: memory.percpu.nr_pages(),
            direct_map_kib: PageSize::ALL.map(|size| memory.direct_map.kb(size)),
            ..Others::default()
        },
    };
    if file.dump(&system, &mut console::lock()).is_err() {
        log::warn!("dump: {} could not be written", file.path());
    }
}
