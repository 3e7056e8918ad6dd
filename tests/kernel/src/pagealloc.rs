//! `debug_pagealloc=on` and guard pages, on the machine that has both: what is free is not mapped, what is in use is.

use kernel::ktest;
use kernel::memory::{Memory, freed_page};
use mm::arch::{Machine, layout};
use mm::page::PageType;
use mm::page_alloc::PageBlock;
use mm::pgtable::PageSize;
use mm::{Gfp, Order, PagePtr, Pfn, PfnRange};

use crate::support::{Hoard, bytes, leaks_nothing, memory};
use crate::tables::leaf;

ktest!(a_block_is_mapped_just_while_it_is_in_use, on "bios-128m-pagealloc");
ktest!(just_the_free_pages_of_the_machine_are_not_mapped, on "bios-128m-pagealloc");
ktest!(the_page_beside_a_single_one_is_nobodys_until_that_is_free, on "bios-128m-pagealloc");
ktest!(the_direct_map_has_small_pages_and_so_have_slabs, on "bios-128m-pagealloc");

fn is_mapped(pfn: Pfn) -> bool {
    let addr = layout::DIRECT_MAP + pfn.byte();
    assert!(freed_page(addr).is_none_or(|freed| freed == pfn));
    assert_eq!(freed_page(addr + 4095), freed_page(addr));
    let is_mapped = leaf(addr).is_some();
    assert!(!is_mapped || freed_page(addr).is_none());
    is_mapped
}

fn a_block_is_mapped_just_while_it_is_in_use() {
    leaks_nothing(|memory| {
        for n in Order::all() {
            let mut block = memory.pages.alloc_pages(Gfp::KERNEL, n).expect("plenty is free");
            bytes(&mut block).fill(0x5a);
            let first = block.pfn(Machine);
            let pages = PfnRange::new(first, first + n.nr_pages());
            assert!(pages.iter().all(is_mapped), "order {}", n.get());
            memory.pages.free_pages(block);
            assert!(!pages.iter().any(is_mapped), "order {}", n.get());
            assert!(pages.iter().all(|pfn| freed_page(layout::DIRECT_MAP + pfn.byte()) == Some(pfn)));
        }
    });
}

/// Frames of RAM that are not mapped, each of them without users.
fn unmapped(memory: &Memory) -> u64 {
    let ram = memory.iomem.iter().filter(|item| item.name == "System RAM");
    let frames = ram.flat_map(|item| PfnRange::inside(item.range).iter()).filter(|&pfn| !is_mapped(pfn));
    let pages = frames.map(|pfn| memory.pages.nodes().sparse().page(pfn).expect("RAM has struct pages"));
    pages.inspect(|page| assert_eq!(page.refcount(), 0, "{page:?}")).count() as u64
}

fn just_the_free_pages_of_the_machine_are_not_mapped() {
    let memory = memory();
    let free = || {
        let zones = memory.pages.nodes().populated_zones();
        zones.map(|zone| zone.nr_free() + memory.pages.pcp_pages(zone)).sum::<u64>()
            + memory.pages.guard_pages()
    };
    // The other CPU may free something meanwhile.
    let found = [(); 3].map(|()| (unmapped(memory), free()));
    assert!(found.iter().any(|(unmapped, free)| unmapped == free), "{found:?}");
}

/// The page that has one block of two with a block's first.
fn other_half(block: &PageBlock) -> PagePtr {
    let other = Pfn::new(block.pfn(Machine).get() ^ 1);
    memory().pages.nodes().sparse().page(other).expect("in the same pageblock")
}

fn the_page_beside_a_single_one_is_nobodys_until_that_is_free() {
    leaks_nothing(|memory| {
        let mut hoard = Hoard::new();
        // Some may be single since boot.
        let block = loop {
            let block = memory.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).expect("plenty is free");
            if other_half(&block).page_type() == PageType::GUARD {
                break block;
            }
            hoard.push(block);
        };
        let guard = other_half(&block);
        assert_eq!((guard.refcount(), is_mapped(guard.pfn(Machine))), (0, false));
        assert!(memory.pages.guard_pages() > 0);
        memory.pages.validate_running();
        memory.pages.free_pages(block);
        hoard.free();
        memory.pages.drain_local();
        assert_ne!(guard.page_type(), PageType::GUARD);
    });
}

fn the_direct_map_has_small_pages_and_so_have_slabs() {
    let direct = &memory().direct_map;
    assert_eq!((direct.kb(PageSize::Size2M), direct.kb(PageSize::Size1G)), (0, 0));
    memory().slub.for_each_cache(|cache| {
        assert_eq!(Some(cache.order), Order::for_size(cache.obj_size as usize), "{}", cache.name);
    });
}
