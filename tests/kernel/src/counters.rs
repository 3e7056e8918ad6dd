//! What zones and nodes count, compared with what is there.

use core::time::Duration;

use kernel::console::clock::uptime_us;
use kernel::cpu::online;
use kernel::memory::{Memory, vmstat};
use kernel::{ktest, thread};
use mm::counters::{Item, NodeStat, ZoneStat};
use mm::node::Node;
use mm::page::PageType;
use mm::{Gfp, Pfn};

use crate::support::{Random, leaks_nothing, memory, order};

ktest!(counters_equal_a_recount_after_load);
ktest!(what_this_cpu_counts_is_carried_over_at_the_latest_when_it_is_asked_to);
ktest!(a_busy_cpu_carries_over_each_second_and_an_idle_one_at_once);

/// Blocks, objects and page tables, taken and given back in random order.
fn load(memory: &'static Memory) {
    let mut random = Random(0x5eed);
    let mut blocks = [const { None }; 64];
    for _ in 0..20_000 {
        let (slot, n) = (random.below(64) as usize, random.below(4) as u8);
        blocks[slot] = match blocks[slot].take() {
            Some(block) => {
                memory.pages.free_pages(block);
                None
            }
            None => memory.pages.alloc_pages(Gfp::KERNEL, order(n)).ok(),
        };
    }
    blocks.into_iter().flatten().for_each(|block| memory.pages.free_pages(block));
    for size in [8, 200, 1000, 6000, 20_000] {
        let objects = [(); 100].map(|()| memory.slub.kmalloc(size, Gfp::KERNEL));
        // SAFETY: each was just allocated.
        objects.into_iter().flatten().for_each(|object| unsafe { memory.slub.kfree(object) });
    }
}

/// Pages of a node that are page tables.
fn tables(node: &Node) -> u64 {
    let pages = node.populated_zones().flat_map(|zone| {
        let span = zone.span();
        let pfns = (span.start.get()..span.end.get()).map(Pfn::new);
        pfns.filter_map(|pfn| zone.sparse().page(pfn))
            .filter(|page| page.node() == zone.node() && page.zone() == zone.idx())
    });
    pages.filter(|page| page.page_type() == PageType::TABLE).count() as u64
}

fn counters_equal_a_recount_after_load() {
    leaks_nothing(|memory| {
        load(memory);
        for node in memory.pages.nodes().iter() {
            assert_eq!(node.counters().exact(NodeStat::PageTable), tables(node), "{node:?}");
            for zone in node.populated_zones() {
                let free = mm::stat::collect::free_lists(zone).nr_pages();
                assert_eq!(zone.stat(ZoneStat::FreePages), free, "{zone:?}");
            }
        }
    });
}

fn what_this_cpu_counts_is_carried_over_at_the_latest_when_it_is_asked_to() {
    leaks_nothing(|memory| {
        load(memory);
        let nodes = memory.pages.nodes();
        vmstat::refresh(memory);
        for node in nodes.iter() {
            for &item in NodeStat::ALL {
                assert_eq!(node.counters().get(item), node.counters().exact(item), "{item:?}");
            }
        }
        // No tick comes in between.
        let _irq = mm::arch::IrqGuard::new();
        let cpu = mm::arch::cpu_id();
        for node in nodes.iter() {
            let counters = node.counters();
            assert!(counters.threshold() > 1, "{node:?}");
            let before = counters.get(NodeStat::Dirtied);
            counters.inc(NodeStat::Dirtied);
            assert!(nodes.need_update(cpu));
            nodes.quiet_vmstat();
            assert!(!nodes.need_update(cpu));
            assert_eq!(counters.get(NodeStat::Dirtied), before + 1);
            counters.dec(NodeStat::Dirtied);
        }
        nodes.quiet_vmstat();
    });
}

fn a_busy_cpu_carries_over_each_second_and_an_idle_one_at_once() {
    let nodes = memory().pages.nodes();
    let counters = || nodes.iter().next().expect("a node").counters();
    for cpu in online::all() {
        let busy = move || {
            let before = counters().get(NodeStat::Dirtied);
            counters().inc(NodeStat::Dirtied);
            let end = uptime_us() + 20_000_000;
            while counters().get(NodeStat::Dirtied) == before {
                assert!(uptime_us() < end, "CPU {cpu} keeps what it counts");
                core::hint::spin_loop();
            }
        };
        thread::spawn_on(cpu, "ktest", busy).expect("memory for a thread").join();
        let short = move || counters().dec(NodeStat::Dirtied);
        thread::spawn_on(cpu, "ktest", short).expect("memory for a thread").join();
        // It has nothing to do now, and no tick.
        let end = uptime_us() + 20_000_000;
        while nodes.need_update(cpu) {
            assert!(uptime_us() < end, "CPU {cpu} is idle with parts of its own");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
