use std::vec::Vec;

use super::testing::{Spec, allocator};
use super::*;
use crate::arch::SimMachine;
use crate::gfp::MigrateType;
use crate::id::{NodeId, ZoneIdx};
use crate::memblock::{Flags, Region};
use crate::node::{OneNode, ZonelistKind};
use crate::page::{PageFlags, PageType};
use crate::pfn::Pfn;
use crate::sparse::AlreadyPopulated;
use crate::{Gfp, Order, PhysRange};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn all_that_boot_does_not_keep_is_free_once() {
    let machine = Spec::pc(256 * MIB).reserved(16 * MIB..20 * MIB).cpus(0, 2).boot();
    let nodes = machine.nodes();
    nodes.validate();
    let (managed, free): (u64, u64) = (nodes.managed(), nodes.populated_zones().map(|z| z.nr_free()).sum());
    assert_eq!((managed, free), (machine.given(), machine.given()));
    let present: u64 = nodes.populated_zones().map(|z| z.present()).sum();
    assert_eq!(present, (256 * MIB - 0x61000 - 0x1000) / 4096);
    // 4 MiB reserved by us, and less than 200 KiB of tables.
    let kept = present - managed;
    assert!((1024..1024 + 50).contains(&kept), "{kept} pages kept");
}

#[test]
fn reserved_pages_and_holes_are_reserved_and_the_rest_free() {
    let machine = Spec::pc(256 * MIB).reserved(16 * MIB..20 * MIB + 1).boot();
    let sparse = *machine.nodes().sparse();
    for (pfn, zone) in
        [(0, ZoneIdx::Dma), (0xa0, ZoneIdx::Dma), (0x1000, ZoneIdx::Dma32), (0x1400, ZoneIdx::Dma32)]
    {
        let page = sparse.page(Pfn::new(pfn)).unwrap();
        assert_eq!(
            (page.flags(), page.refcount(), page.zone()),
            (PageFlags::RESERVED, 1, zone),
            "pfn {pfn:#x}"
        );
    }
    let free = sparse.page(Pfn::new(0x1401)).unwrap();
    assert_eq!((free.flags(), free.refcount(), free.mapcount()), (PageFlags::empty(), 0, 0));
    assert_eq!(sparse.page(Pfn::new(256 * MIB / 4096)), None);
}

#[test]
fn blocks_handed_over_are_as_large_as_alignment_allows() {
    let machine = Spec::pc(256 * MIB).boot();
    let zone = machine.nodes().get(NodeId(0)).unwrap().zone(ZoneIdx::Dma32);
    let free = zone.free().lock();
    assert!(free.area(Order::MAX).nr_free() >= 59);
    for order in Order::all().filter(|o| *o < Order::MAX) {
        assert!(free.area(order).nr_free() <= 2, "order {order:?}");
    }
}

#[test]
fn pageblocks_that_start_in_ram_are_movable() {
    let machine = Spec::pc(256 * MIB).boot();
    let sparse = machine.nodes().sparse();
    assert_eq!(sparse.migrate_type(Pfn::new(0)), MigrateType::Unmovable);
    for block in 1..128 {
        assert_eq!(sparse.migrate_type(Pfn::new(block * 512)), MigrateType::Movable);
    }
}

#[test]
fn nodes_that_take_turns_have_zones_that_overlap() {
    let machine = Spec::new()
        .ram(0, 0x1000..0x9f000)
        .ram(0, MIB..GIB)
        .ram(1, GIB..2 * GIB)
        .ram(0, 2 * GIB..3 * GIB - 128 * 1024)
        .ram(1, 4 * GIB..5 * GIB)
        .cpus(0, 1)
        .cpus(1, 1)
        .boot();
    let nodes = machine.nodes();
    nodes.validate();
    let span = |node: u16, zone| {
        let zone = nodes.get(NodeId(node)).unwrap().zone(zone);
        (zone.start_pfn().get(), zone.spanned(), zone.present())
    };
    assert_eq!(span(0, ZoneIdx::Dma32), (4096, 0xbffe0 - 4096, 262144 - 4096 + 262144 - 32));
    assert_eq!(span(1, ZoneIdx::Dma32), (0x40000, (1 << 20) - 0x40000, 262144));
    assert_eq!(span(1, ZoneIdx::Normal), (1 << 20, 262144, 262144));
    let page = nodes.sparse().page(Pfn::new(0x5_0000)).unwrap();
    assert_eq!((page.node(), page.zone()), (NodeId(1), ZoneIdx::Dma32));
    // The hole before 4 GiB is in the section of the RAM before it, filed under the zone after it.
    let hole = nodes.sparse().page(Pfn::new(0xbfff0)).unwrap();
    assert_eq!((hole.node(), hole.zone()), (NodeId(1), ZoneIdx::Normal));
}

#[test]
fn a_node_without_memory_allocates_from_its_neighbour() {
    let machine = Spec::pc(128 * MIB).cpus(0, 1).cpus(1, 1).boot();
    let node = machine.nodes().get(NodeId(1)).unwrap();
    assert!(!node.has_memory() && node.nr_zones() == 0);
    assert!(node.zonelist(ZonelistKind::ThisNode).entries().is_empty());
    let zones: Vec<_> =
        node.zonelist(ZonelistKind::Fallback).zones(ZoneIdx::Normal).map(|z| z.idx()).collect();
    assert_eq!(zones, [ZoneIdx::Dma32, ZoneIdx::Dma]);
    let page = machine.allocator().alloc_pages_node(NodeId(1), Gfp::KERNEL, Order::ZERO).unwrap();
    machine.allocator().free_pages(page);
}

#[test]
fn what_was_freed_can_be_allocated_to_the_last_watermark() {
    let machine = Spec::pc(128 * MIB).boot();
    let blocks: Vec<_> =
        core::iter::from_fn(|| machine.allocator().alloc_pages(Gfp::KERNEL | Gfp::NOWARN, Order::ZERO).ok())
            .collect();
    assert!(blocks.len() as u64 > machine.given() * 9 / 10);
    assert!(blocks.iter().all(|b| b.page().page_type() == PageType::NONE));
    blocks.into_iter().for_each(|b| machine.allocator().free_pages(b));
    machine.nodes().validate();
}

fn build_of(ram: &[(u16, u64, u64)], size: u64) -> Result<Nodes, Error> {
    let sim = SimMachine::new(size);
    let (mut memory, mut reserved) = ([Region::EMPTY; 32], [Region::EMPTY; 32]);
    let mut memblock = Memblock::new(&mut memory, &mut reserved);
    for (node, start, end) in ram {
        memblock.add_node(PhysRange::new(*start, *end).unwrap(), NodeId(*node), Flags::empty()).unwrap();
    }
    // SAFETY: the simulated RAM is nobody else's; the result is looked at no more when the machine is gone.
    unsafe {
        memblock.allow_resize(sim.machine());
        build(&mut memblock, sim.machine(), &OneNode, 1, MovableRequest::NONE, &mut AlreadyPopulated)
    }
}

#[test]
fn what_cannot_be_set_up_is_an_error() {
    assert!(build_of(&[], MIB).is_err());
    let stray = build_of(&[(0, MIB, 64 * MIB), (3, 64 * MIB, 65 * MIB)], 128 * MIB).unwrap_err();
    assert_eq!(stray, Error::Node(node::Error::BadNode(NodeId(3))));
    let far = build_of(&[(0, MIB, 64 * MIB), (0, 1 << 46, (1 << 46) + MIB)], 128 * MIB);
    let end = Pfn::new((1 << 34) + 256);
    assert_eq!(far.unwrap_err(), Error::Sparse(sparse::Error::BeyondLimit(end)));
    let small = build_of(&[(0, MIB, MIB + 0x2000)], 128 * MIB).unwrap_err();
    assert!(matches!(
        small,
        Error::Node(node::Error::Memblock(_)) | Error::Sparse(sparse::Error::Memblock(_))
    ));
}

#[test]
fn memblocks_own_arrays_are_free_after_it_and_unmapped_memory_is_reserved() {
    let sim = SimMachine::new(128 * MIB);
    let (mut memory, mut reserved) = ([Region::EMPTY; 4], [Region::EMPTY; 4]);
    let mut memblock = Memblock::new(&mut memory, &mut reserved);
    let range = |start, end| PhysRange::new(start, end).unwrap();
    memblock.add_node(range(MIB, 128 * MIB), NodeId(0), Flags::empty()).unwrap();
    // SAFETY: the simulated RAM is nobody else's, and lives as long as what is made from it.
    unsafe { memblock.allow_resize(sim.machine()) };
    memblock.mark(range(32 * MIB, 33 * MIB), Flags::NOMAP).unwrap();
    memblock.mark(range(34 * MIB, 35 * MIB), Flags::DRIVER_MANAGED).unwrap();
    for i in 0..500 {
        memblock.reserve(range(16 * MIB + i * 0x2000, 16 * MIB + i * 0x2000 + 0x1000)).unwrap();
    }
    let arrays: Vec<_> = memblock.own_arrays().collect();
    assert_eq!(arrays.len(), 2);
    // SAFETY: as above.
    let nodes = unsafe {
        build(&mut memblock, sim.machine(), &OneNode, 1, MovableRequest::NONE, &mut AlreadyPopulated)
    }
    .unwrap();
    let allocator = allocator(&mut memblock, sim.machine(), nodes, &[NodeId(0)]);
    // SAFETY: these nodes were built from this memblock, and its free memory is nobody's.
    let given = unsafe { hand_over(memblock, &allocator) };
    nodes.validate();
    let flags = |at: u64| nodes.sparse().page(Pfn::down(at)).unwrap().flags();
    for array in arrays {
        assert!((array.start()..array.end()).step_by(4096).all(|at| flags(at).is_empty()), "{array} is kept");
    }
    for at in [16 * MIB, 32 * MIB, 33 * MIB - 4096, 34 * MIB] {
        assert_eq!(flags(at), PageFlags::RESERVED, "at {at:#x}");
    }
    // What was reserved can follow later: whole pages of it.
    // SAFETY: reserved at the hand-over, and used by nobody.
    let late = unsafe { free_late(range(16 * MIB, 16 * MIB + 0x1000), &allocator) };
    assert_eq!((late, nodes.managed()), (1, given + 1));
    assert_eq!(flags(16 * MIB), PageFlags::empty());
    // SAFETY: holds no whole page.
    assert_eq!(unsafe { free_late(range(16 * MIB + 0x2001, 16 * MIB + 0x3000), &allocator) }, 0);
    assert_eq!(nodes.populated_zones().map(|z| z.nr_free()).sum::<u64>(), given + 1);
    nodes.validate();
}
