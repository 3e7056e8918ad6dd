//! Memory that runs out: of each zone, of each node, of all; for each kind of allocation.

use kernel::ktest;
use kernel::memory::Memory;
use mm::page_alloc::AllocError;
use mm::zone::Zone;
use mm::{Gfp, NodeId, Order};

use crate::support::{Hoard, leaks_nothing};

ktest!(each_zone_runs_out_with_errors, on "all");
ktest!(each_node_runs_out_with_errors, on "all");
ktest!(each_kind_of_allocation_runs_out_and_leaves_what_it_must);
ktest!(atomic_pages_are_left_when_the_kernels_are_used_up);

fn free(memory: &Memory) -> u64 {
    let zones = memory.pages.nodes().populated_zones();
    zones.map(|zone: &Zone| zone.nr_free() + memory.pages.pcp_pages(zone)).sum()
}

#[track_caller]
fn fails(memory: &Memory, gfp: Gfp, node: Option<NodeId>) {
    let gfp = gfp | Gfp::NOWARN;
    for order in Order::all() {
        let result = match node {
            Some(node) => memory.pages.alloc_pages_node(node, gfp, order),
            None => memory.pages.alloc_pages(gfp, order),
        };
        assert_eq!(result.err(), Some(AllocError), "{gfp:?} of order {}", order.get());
    }
}

fn each_zone_runs_out_with_errors() {
    leaks_nothing(|memory| {
        for zone in [Gfp::DMA, Gfp::DMA32, Gfp::empty(), Gfp::HIGHMEM | Gfp::MOVABLE] {
            for gfp in [Gfp::KERNEL | zone, Gfp::ATOMIC_CONTEXT | zone, Gfp::KERNEL | Gfp::MEMALLOC | zone] {
                let mut hoard = Hoard::new();
                hoard.exhaust(gfp);
                fails(memory, gfp, None);
                memory.pages.validate();
                hoard.free();
            }
        }
    });
}

fn each_node_runs_out_with_errors() {
    leaks_nothing(|memory| {
        for node in memory.pages.nodes().iter().filter(|node| node.has_memory()) {
            let gfp = Gfp::KERNEL | Gfp::THISNODE | Gfp::MEMALLOC;
            let mut hoard = Hoard::new();
            for gfp in [gfp, gfp | Gfp::MOVABLE] {
                for order in Order::all().rev() {
                    hoard.take_all(gfp, order, Some(node.id()));
                }
                fails(memory, gfp, Some(node.id()));
            }
            assert_eq!(node.populated_zones().map(Zone::nr_free).sum::<u64>(), 0, "node {}", node.id());
            hoard.free();
        }
    });
}

fn each_kind_of_allocation_runs_out_and_leaves_what_it_must() {
    const ALL: u64 = 0;
    leaks_nothing(|memory| {
        for (gfp, left) in [
            (Gfp::KERNEL, 1),
            (Gfp::NOWAIT, 1),
            (Gfp::ATOMIC_CONTEXT, 1),
            (Gfp::KERNEL | Gfp::HIGH, 1),
            (Gfp::HIGHUSER_MOVABLE, 1),
            (Gfp::TRANSHUGE, 1),
            (Gfp::NOFS, 1),
            (Gfp::KERNEL | Gfp::NORETRY, 1),
            (Gfp::KERNEL | Gfp::RETRY_MAYFAIL, 1),
            (Gfp::KERNEL | Gfp::MEMALLOC | Gfp::NOMEMALLOC, 1),
            (Gfp::KERNEL | Gfp::MEMALLOC, ALL),
        ] {
            let mut hoard = Hoard::new();
            hoard.exhaust(gfp);
            fails(memory, gfp, None);
            assert_eq!(free(memory) > 0, left > ALL, "{gfp:?} leaves {} pages", free(memory));
            let rest = hoard.take_all(Gfp::KERNEL | Gfp::MEMALLOC, Order::ZERO, None);
            assert_eq!((rest > 0, free(memory)), (left > ALL, 0), "{gfp:?}");
            memory.pages.validate();
            hoard.free();
        }
    });
}

fn atomic_pages_are_left_when_the_kernels_are_used_up() {
    leaks_nothing(|memory| {
        let mut hoard = Hoard::new();
        hoard.exhaust(Gfp::KERNEL);
        fails(memory, Gfp::KERNEL, None);
        for gfp in [Gfp::KERNEL | Gfp::HIGH, Gfp::ATOMIC_CONTEXT, Gfp::KERNEL | Gfp::MEMALLOC] {
            assert!(hoard.take_all(gfp, Order::ZERO, None) > 0, "{gfp:?} may take more");
        }
        assert_eq!(free(memory), 0);
        hoard.free();
    });
}
