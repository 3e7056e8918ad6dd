//! What boot made of the firmware's map: zones, struct pages, what is kept back.

use kernel::debug::stacks;
use kernel::{image, ktest};
use mm::arch::Machine;
use mm::page::{PageFlags, PageType};
use mm::sparse::section_pages;
use mm::zone::{Watermark, Zone};
use mm::{PAGE_SIZE, PagePtr, Pfn, PfnRange, ZoneIdx};

use crate::support::memory;

ktest!(zones_hold_all_usable_ram_and_nothing_else);
ktest!(every_page_of_ram_names_the_zone_that_spans_it);
ktest!(managed_pages_are_those_that_are_not_reserved);
ktest!(all_struct_pages_of_all_sections_are_initialised);
ktest!(the_first_mib_and_the_kernel_image_are_reserved);
ktest!(boot_keeps_little_back);
ktest!(iomem_shows_the_whole_kernel_image);
ktest!(zones_end_where_devices_reach);
ktest!(watermarks_are_set_and_rise);

/// All of it but the holes below stacks, which have no frames.
fn iomem_shows_the_whole_kernel_image() {
    for (name, part) in [
        ("Kernel code", image::text()),
        ("Kernel rodata", image::rodata()),
        ("Kernel data", image::data()),
        ("Kernel bss", image::bss()),
    ] {
        let shown = memory().iomem.iter().filter(|item| item.name == name);
        let shown: u64 = shown.map(|item| item.range.len_bytes()).sum();
        let pages = part.clone().step_by(PAGE_SIZE);
        let holes = pages.filter(|&page| stacks::is_guard_page(page)).count() * PAGE_SIZE;
        assert_eq!(shown, part.end - part.start - holes as u64, "{name}");
    }
}

/// The page of a frame in a section.
fn page(pfn: Pfn) -> PagePtr {
    assert!(memory().pages.nodes().sparse().pfn_valid(pfn), "{pfn:?} has no section");
    // SAFETY: the frame's section is populated.
    unsafe { PagePtr::new(Machine, pfn) }
}

/// What the firmware gave us, in whole pages.
fn ram() -> impl Iterator<Item = PfnRange> {
    let ram = memory().iomem.iter().filter(|item| item.name == "System RAM");
    ram.map(|item| PfnRange::inside(item.range))
}

/// The pages of the sections that a zone reaches into, inside its span.
fn pages_of(zone: &Zone) -> impl Iterator<Item = PagePtr> + '_ {
    zone.sparse().valid_in(zone.span()).flat_map(PfnRange::iter).map(page)
}

fn zones_hold_all_usable_ram_and_nothing_else() {
    let memory = memory();
    let usable: u64 = ram().map(PfnRange::nr_pages).sum();
    let present: u64 = memory.pages.nodes().populated_zones().map(Zone::present).sum();
    assert_eq!(present, usable, "present pages of all zones, and pages of System RAM");
    memory.pages.nodes().validate();
    memory.iomem.validate();
}

/// Holes between two zones' memory may be marked as either's, as Linux does; RAM may not.
fn every_page_of_ram_names_the_zone_that_spans_it() {
    let nodes = memory().pages.nodes();
    let mut present = [[0; ZoneIdx::COUNT]; 2];
    for pages in ram() {
        for pfn in pages.iter() {
            let page = page(pfn);
            let zone = nodes.zone_of(&page);
            assert!(zone.span().contains(pfn), "{page:?} is not in {zone:?}");
            present[page.node().index()][page.zone().index()] += 1;
        }
    }
    for zone in nodes.populated_zones() {
        assert_eq!(present[zone.node().index()][zone.idx().index()], zone.present(), "{zone:?}");
    }
}

fn managed_pages_are_those_that_are_not_reserved() {
    for zone in memory().pages.nodes().populated_zones() {
        let managed = pages_of(zone).filter(|page| !page.flags().contains(PageFlags::RESERVED)).count();
        assert_eq!(managed as u64, zone.managed(), "{zone:?}");
        zone.validate();
    }
}

fn all_struct_pages_of_all_sections_are_initialised() {
    let nodes = memory().pages.nodes();
    for (section, node) in nodes.sparse().sections() {
        assert!(nodes.get(node).is_some(), "{section:?} is on a node that is not online");
        for page in section_pages(section).iter().map(page) {
            // Zeroes would read as a page that is mapped once and used by nobody.
            assert!(page.page_type() != PageType::MAPPED || page.refcount() > 0, "{page:?}");
            let reserved = page.flags().contains(PageFlags::RESERVED);
            assert!(!reserved || (page.refcount(), page.page_type()) == (1, PageType::NONE), "{page:?}");
        }
    }
}

fn the_first_mib_and_the_kernel_image_are_reserved() {
    let low = (0..(1 << 20) / PAGE_SIZE as u64).map(Pfn::new);
    let image = image::frames().flat_map(|range| PfnRange::inside(range).iter());
    for page in low.chain(image).map(page) {
        assert!(page.flags().contains(PageFlags::RESERVED), "{page:?}");
    }
}

fn boot_keeps_little_back() {
    let nodes = memory().pages.nodes();
    let sum = |count: fn(&Zone) -> u64| nodes.populated_zones().map(count).sum::<u64>();
    let kept = (sum(Zone::present) - sum(Zone::managed)) * PAGE_SIZE as u64;
    let struct_pages = nodes.sparse().sections().count() as u64 * (2 << 20);
    let image = image::all();
    // The image, the first MiB, symbols, page tables, nodes, what is known of sections.
    let bound = struct_pages + (image.end - image.start) + (8 << 20);
    log::info!("{} KiB of struct pages, {} KiB kept in all", struct_pages >> 10, kept >> 10);
    assert!(kept <= bound, "{kept} bytes are kept, {bound} expected at most");
}

fn zones_end_where_devices_reach() {
    let end = |idx| memory().pages.nodes().populated_zones().filter(move |z| z.idx() == idx);
    assert!(end(ZoneIdx::Dma).all(|zone| zone.span().end.byte() <= 16 << 20));
    assert!(end(ZoneIdx::Dma32).all(|zone| zone.span().end.byte() <= 4 << 30));
    assert!(end(ZoneIdx::Normal).all(|zone| zone.span().start.byte() >= 4 << 30));
    assert_eq!(end(ZoneIdx::Dma).count(), 1, "one zone has the lowest 16 MiB");
}

fn watermarks_are_set_and_rise() {
    for zone in memory().pages.nodes().populated_zones() {
        let [min, low, high] =
            [Watermark::Min, Watermark::Low, Watermark::High].map(|which| zone.watermark(which));
        assert!(0 < min && min < low && low < high, "{zone:?}");
        assert!(zone.nr_free() > high, "plenty is free after boot: {zone:?}");
        assert!(zone.pcp_batch() >= 1 && zone.pcp_high() >= zone.pcp_batch(), "per-CPU limits of {zone:?}");
    }
}
