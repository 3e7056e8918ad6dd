//! Nodes on the machine that has two: 1 GiB and the CPU's, and 3 GiB.

use kernel::cpu::online;
use kernel::{ktest, thread};
use mm::node::{NodeState, ZonelistKind};
use mm::page_alloc::AllocError;
use mm::{Gfp, NodeId, Order, ZoneIdx};

use crate::support::{Hoard, leaks_nothing, memory};

ktest!(two_nodes_share_the_memory, on "bios-4g-numa2");
ktest!(a_node_tries_its_own_zones_first, on "bios-4g-numa2");
ktest!(a_node_gives_what_it_is_asked_for, on "bios-4g-numa2");
ktest!(this_node_only_means_it, on "bios-4g-numa2");
ktest!(a_full_node_falls_back_to_the_other, on "bios-4g-numa2");
ktest!(kmalloc_takes_objects_from_the_node_named, on "bios-4g-numa2");
ktest!(a_node_that_does_not_exist_gives_an_error);
ktest!(the_states_of_nodes_agree);
ktest!(zonelists_go_down_from_the_highest_zone);

const FAR: NodeId = NodeId(1);

fn two_nodes_share_the_memory() {
    let nodes = memory().pages.nodes();
    let present = |id| nodes.get(NodeId(id)).expect("the node is online").present() * 4;
    assert_eq!(nodes.iter().count(), 2);
    // The firmware keeps some of the memory below 4 GiB for itself.
    assert!((1000 << 10..=1 << 20).contains(&present(0)), "{} KiB", present(0));
    assert!((3000 << 10..=3 << 20).contains(&present(1)), "{} KiB", present(1));
    nodes.validate();
}

fn the_states_of_nodes_agree() {
    let memory = memory();
    let states = memory.states();
    states.validate();
    let with_memory = memory.pages.nodes().iter().filter(|node| node.has_memory()).map(|node| node.id());
    assert!(states.get(NodeState::HasMemory).iter().eq(with_memory));
    let with_cpus = |node: &NodeId| online::all().any(|cpu| memory.numa.node_of_cpu(cpu) == *node);
    assert!(states.get(NodeState::HasCpu).iter().eq(states.get(NodeState::Online).iter().filter(with_cpus)));
}

fn a_node_tries_its_own_zones_first() {
    for node in memory().pages.nodes().iter() {
        let fallback = node.zonelist(ZonelistKind::Fallback);
        let own = node.populated_zones().count();
        assert!(fallback.entries()[..own].iter().all(|entry| entry.node() == node.id()));
        assert!(fallback.entries()[own..].iter().all(|entry| entry.node() != node.id()));
        assert_eq!(node.zonelist(ZonelistKind::ThisNode).entries().len(), own);
    }
}

fn a_node_gives_what_it_is_asked_for() {
    leaks_nothing(|memory| {
        for node in [NodeId(0), FAR] {
            for order in Order::all() {
                let gfp = Gfp::KERNEL | Gfp::THISNODE;
                let block = memory.pages.alloc_pages_node(node, gfp, order).expect("a block");
                assert_eq!(block.page().node(), node);
                memory.pages.free_pages(block);
            }
        }
        for cpu in online::all() {
            let near = move || {
                let block = memory.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).expect("a page");
                assert_eq!(block.page().node(), memory.numa.node_of_cpu(cpu), "the node of CPU {cpu}");
                memory.pages.free_pages(block);
            };
            thread::spawn_on(cpu, "ktest", near).expect("memory for a thread").join();
        }
    });
}

fn this_node_only_means_it() {
    leaks_nothing(|memory| {
        let gfp = Gfp::KERNEL | Gfp::THISNODE | Gfp::NOWARN;
        let other_free = |memory: &kernel::memory::Memory| {
            let node = memory.pages.nodes().get(NodeId(0)).expect("online");
            node.populated_zones().map(|zone| zone.nr_free() + memory.pages.pcp_pages(zone)).sum::<u64>()
        };
        let before = other_free(memory);
        let mut hoard = Hoard::new();
        for order in Order::all().rev() {
            hoard.take_all(gfp, order, Some(FAR));
        }
        assert!(hoard.nr_pages > (2 << 30) / 4096, "most of the node: {} pages", hoard.nr_pages);
        assert!(matches!(memory.pages.alloc_pages_node(FAR, gfp, Order::ZERO), Err(AllocError)));
        assert_eq!(other_free(memory), before, "nothing came from the other node");
        hoard.free();
    });
}

fn a_full_node_falls_back_to_the_other() {
    leaks_nothing(|memory| {
        let mut hoard = Hoard::new();
        for order in Order::all().rev() {
            hoard.take_all(Gfp::KERNEL | Gfp::THISNODE, order, Some(FAR));
        }
        let block = memory.pages.alloc_pages_node(FAR, Gfp::KERNEL, Order::ZERO).expect("the other node's");
        assert_eq!(block.page().node(), NodeId(0));
        memory.pages.free_pages(block);
        hoard.free();
    });
}

fn kmalloc_takes_objects_from_the_node_named() {
    leaks_nothing(|memory| {
        for node in [NodeId(0), FAR] {
            for size in [8, 192, 4096, 1 << 20] {
                let object = memory.slub.kmalloc_node(size, Gfp::KERNEL, node).expect("memory");
                let phys = mm::arch::Machine.virt_to_phys(object.as_ptr());
                // SAFETY: memory of the page allocator has a struct page.
                let page = unsafe { mm::PagePtr::new(mm::arch::Machine, mm::Pfn::containing(phys)) };
                assert_eq!(page.node(), node, "{size} bytes");
                // SAFETY: just allocated, not used.
                unsafe { memory.slub.kfree(object) };
            }
        }
    });
}

fn a_node_that_does_not_exist_gives_an_error() {
    leaks_nothing(|memory| {
        for node in [NodeId(7), NodeId(1023), NodeId(u16::MAX)] {
            let gfp = Gfp::KERNEL | Gfp::NOWARN;
            assert!(matches!(memory.pages.alloc_pages_node(node, gfp, Order::ZERO), Err(AllocError)));
            assert_eq!(memory.slub.kmalloc_node(8, gfp, node), Err(mm::slub::Error::Invalid));
        }
    });
}

fn zonelists_go_down_from_the_highest_zone() {
    for node in memory().pages.nodes().iter() {
        let list = node.zonelist(ZonelistKind::Fallback);
        for highest in ZoneIdx::ALL {
            let first = list.zones(highest).next();
            assert!(list.zones(highest).all(|zone| zone.idx() <= highest));
            assert_eq!(
                first.map(|z| (z.node(), z.idx())),
                list.preferred(highest).map(|z| (z.node(), z.idx()))
            );
        }
    }
    memory().pages.nodes().validate();
}
