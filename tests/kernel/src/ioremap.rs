//! Devices mapped in the vmalloc space: their registers answer, RAM is refused, nothing stays behind.

use kernel::firmware::acpi;
use kernel::ktest;
use kernel::memory::Memory;
use kernel::memory::chipset::{self, HpetCapabilities};
use kernel::memory::early_ioremap::{self, early_ioremap, early_iounmap};
use kernel::memory::firmware_memory::FirmwareMemory;
use kernel::memory::fixmap::{EARLY_SLOTS, Slot};
use kernel::memory::ioremap::{
    Error, IoMapping, ioremap, ioremap_cache, ioremap_uc, ioremap_wc, ioremap_wt, iounmap,
};
use mm::arch::Machine;
use mm::arch::layout::{VMALLOC, VMALLOC_END};
use mm::pgtable::{CacheMode, Level, PageSize, Prot, VirtRange};
use mm::{Gfp, Order, PAGE_SIZE, PhysAddr, VirtAddr};

use crate::support::{Hoard, Random, leaks_nothing, memory};
use crate::tables::{can_write, leaf};

ktest!(the_hpet_answers_through_ioremap, on "all");
ktest!(the_io_apic_says_the_same_through_ioremap_as_through_the_fixmap, on "all");
ktest!(each_variant_maps_with_its_cache_mode);
ktest!(overlapping_mappings_have_one_cache_mode);
ktest!(low_memorys_devices_are_mapped_as_the_direct_map_has_them);
ktest!(ram_and_addresses_that_do_not_exist_are_refused, on "all");
ktest!(large_ranges_are_mapped_by_large_pages);
ktest!(an_unmapped_range_faults_and_a_hole_follows_each_area);
ktest!(no_translation_of_a_large_range_outlives_it);
ktest!(any_sequence_of_mappings_leaves_nothing_behind);
ktest!(without_memory_nothing_is_mapped_and_nothing_is_lost);
ktest!(firmware_tables_are_readable_after_boot, on "all");
ktest!(a_fixmap_slot_maps_what_it_is_set_to);
ktest!(boot_has_given_its_early_mappings_back, on "all");
ktest!(early_mappings_fill_their_slots_and_no_more);
ktest!(early_mappings_are_refused_beyond_what_a_slot_holds);

const PAGE: u64 = PAGE_SIZE as u64;
/// Between RAM below 4 GiB and the chipset's devices on every machine of the tests: nothing is read there.
const HOLE: u64 = 0xd000_0000;

fn phys(addr: u64) -> PhysAddr {
    PhysAddr::new(addr)
}

#[track_caller]
fn hpet() -> PhysAddr {
    chipset::hpet().expect("QEMU's machines have an HPET")
}

fn address(mapping: &IoMapping) -> u64 {
    mapping.address().as_ptr() as u64
}

/// As [`leaks_nothing`], areas and cache modes included. The first mapping leaves nodes in the CPU's slab caches and keeps
/// no more than that, so one comes before.
#[track_caller]
fn leaves_nothing(test: impl FnOnce(&'static Memory)) {
    drop(ioremap(memory(), phys(HOLE), 1).expect("memory for a mapping"));
    let before = memory().vmalloc.lock().nr_areas();
    leaks_nothing(test);
    memory().memtypes.lock().validate();
    let areas = memory().vmalloc.lock();
    areas.validate();
    assert_eq!(areas.nr_areas(), before, "areas before and after");
}

fn the_hpet_answers_through_ioremap() {
    leaves_nothing(|memory| {
        let whole = ioremap(memory, hpet(), chipset::HPET_BYTES).expect("a device");
        let capabilities = HpetCapabilities::read(whole.registers()).expect("an HPET");
        assert_eq!(capabilities.period_fs(), 10_000_000, "QEMU's ticks every 10 ns");
        assert_eq!((capabilities.nr_comparators(), capabilities.counter_bits()), (3, 64));
        // The upper half of the same register, at an address that is not aligned to a page.
        let period = ioremap(memory, hpet() + 4u64, 4).expect("a device");
        assert_eq!(address(&period) % PAGE, 4);
        assert_eq!(period.registers().register::<u32>(0).map(|r| r.read()), Some(10_000_000));
        assert!(period.registers().register::<u32>(1).is_none(), "not inside");
        assert!(period.registers().register::<u64>(0).is_none(), "not inside");
        assert!(whole.registers().register::<u32>(2).is_none(), "not aligned");
        iounmap(period);
    });
}

fn the_io_apic_says_the_same_through_ioremap_as_through_the_fixmap() {
    leaves_nothing(|memory| {
        let fixed = chipset::io_apic(0).expect("QEMU's machines have an I/O APIC");
        let mapping = ioremap(memory, phys(0xfec0_0000), PAGE).expect("a device");
        let version = chipset::io_apic_version(mapping.registers());
        assert_eq!(version, chipset::io_apic_version(fixed));
        // Version 0x20 or above with 24 entries.
        assert_eq!(version.map(|v| v & 0xff_00ff), Some(0x17_0020), "{version:x?}");
        assert!(chipset::io_apic(1).is_none());
    });
}

fn each_variant_maps_with_its_cache_mode() {
    type Map = fn(&'static Memory, PhysAddr, u64) -> Result<IoMapping, Error>;
    let variants: [(Map, CacheMode); 5] = [
        (ioremap, CacheMode::UncachedMinus),
        (ioremap_uc, CacheMode::Uncached),
        (ioremap_wc, CacheMode::WriteCombining),
        (ioremap_wt, CacheMode::WriteThrough),
        (ioremap_cache, CacheMode::WriteBack),
    ];
    leaves_nothing(|memory| {
        for (map, mode) in variants {
            // Small and large leaves have the mode's third bit at different places.
            let mapping = map(memory, phys(HOLE), (2 << 20) + 1).expect("a hole");
            assert_eq!(mapping.cache_mode(), mode);
            for (offset, level) in [(0, Level::Pmd), (2 << 20, Level::Pte)] {
                let leaf = leaf(address(&mapping) + offset).expect("mapped");
                assert_eq!((leaf.level, CacheMode::of(leaf.flags, leaf.level)), (level, mode));
                assert_eq!(leaf.phys.as_u64(), HOLE + offset);
                assert!(!leaf.is_writable_and_executable());
            }
        }
    });
}

fn overlapping_mappings_have_one_cache_mode() {
    leaves_nothing(|memory| {
        let frames = ioremap_wc(memory, phys(HOLE), 4 * PAGE).expect("a hole");
        let part = ioremap(memory, phys(HOLE + 2 * PAGE), 4 * PAGE).expect("that will do");
        assert_eq!(part.cache_mode(), CacheMode::WriteCombining);
        let next = ioremap_cache(memory, phys(HOLE + 6 * PAGE), PAGE).expect("they only touch");
        assert_eq!(next.cache_mode(), CacheMode::WriteBack);
        let both = ioremap(memory, phys(HOLE + 5 * PAGE), 2 * PAGE);
        assert!(matches!(both, Err(Error::CacheMode)), "two modes: {both:?}");
        let cached = ioremap(memory, phys(HOLE + 6 * PAGE), 1);
        assert!(matches!(cached, Err(Error::CacheMode)), "registers are not cached: {cached:?}");
        drop(next);
        let alone = ioremap(memory, phys(HOLE + 6 * PAGE), 1).expect("nobody has it mapped any more");
        assert_eq!(alone.cache_mode(), CacheMode::UncachedMinus);
        drop((frames, part, alone));
        assert_eq!(memory.memtypes.lock().mode_at(HOLE), None);
    });
}

fn low_memorys_devices_are_mapped_as_the_direct_map_has_them() {
    leaves_nothing(|memory| {
        let text = ioremap(memory, phys(0xb_8000), 0x8000).expect("a device");
        assert_eq!(text.cache_mode(), CacheMode::WriteBack);
        assert_eq!(
            memory.memtypes.lock().mode_at(0xb_8000),
            None,
            "the direct map has it, whatever is entered"
        );
    });
}

fn ram_and_addresses_that_do_not_exist_are_refused() {
    leaves_nothing(|memory| {
        let refused = |addr, len| ioremap(memory, phys(addr), len).expect_err("it must be refused");
        for ram in memory.iomem.iter().filter(|item| item.name == "System RAM") {
            let (start, last) = (ram.range.start(), ram.range.end() - 1);
            let cases = [
                (start, 1),
                (last, 1),
                (start.saturating_sub(PAGE), 3 * PAGE),
                (last & !(PAGE - 1), 1 << 21),
            ];
            for (addr, len) in cases {
                assert!(matches!(refused(addr, len), Error::Ram), "{addr:#x} {len:#x}");
            }
        }
        assert!(matches!(refused(HOLE, 0), Error::Empty));
        let end = 1u64 << memory.phys_bits;
        for (addr, len) in
            [(end - 1, 2), (HOLE, u64::MAX), (HOLE, u64::MAX - HOLE + 1), (HOLE, end), (end - PAGE, 2 * PAGE)]
        {
            assert!(matches!(refused(addr, len), Error::BadAddress), "{addr:#x} {len:#x}");
        }
        if memory.phys_bits < 52 {
            assert!(matches!(refused(end, 1), Error::BadAddress));
        }
        drop(ioremap(memory, phys(end - 1), 1).expect("the last byte that there is"));
    });
}

/// How many pages of each size map the range of a mapping.
fn pages(mapping: &IoMapping, len: u64) -> [u64; 3] {
    let start = VirtAddr::new(address(mapping) & !(PAGE - 1));
    let range = VirtRange::new(start, len).expect("whole pages");
    let counts = memory().kernel_map.lock().count_pages(range);
    PageSize::ALL.map(|size| counts.nr_pages(size))
}

fn large_ranges_are_mapped_by_large_pages() {
    leaves_nothing(|memory| {
        let map = |addr, len| ioremap(memory, phys(addr), len).expect("a hole");
        assert_eq!(pages(&map(HOLE, 4 << 20), 4 << 20), [0, 2, 0]);
        assert_eq!(pages(&map(HOLE, (4 << 20) + 1), (4 << 20) + PAGE), [1, 2, 0]);
        assert_eq!(pages(&map(HOLE + PAGE, 4 << 20), 4 << 20), [1024, 0, 0], "its start is not aligned");
        assert_eq!(memory.largest_page, PageSize::Size1G, "the default CPU has them");
        let far = 1u64 << (memory.phys_bits - 1);
        let huge = map(far, 2 << 30);
        assert_eq!(pages(&huge, 2 << 30), [0, 0, 2]);
        drop(huge);
    });
}

fn an_unmapped_range_faults_and_a_hole_follows_each_area() {
    leaves_nothing(|memory| {
        let mappings =
            [0, 1, 2].map(|n| ioremap(memory, phys(HOLE + n * 16 * PAGE), 3 * PAGE).expect("a hole"));
        let places = mappings.each_ref().map(address);
        for at in places {
            assert!((VMALLOC..VMALLOC_END).contains(&at));
            assert!(leaf(at + 3 * PAGE - 1).is_some() && leaf(at + 3 * PAGE).is_none(), "{at:#x}");
            let area = memory.vmalloc.lock().find(VirtAddr::new(at + PAGE)).expect("an area");
            assert_eq!(area.range().first(), at);
        }
        drop(mappings);
        for at in places {
            assert!(!can_write(at) && memory.vmalloc.lock().find(VirtAddr::new(at)).is_none(), "{at:#x}");
        }
    });
}

fn no_translation_of_a_large_range_outlives_it() {
    leaves_nothing(|memory| {
        let mapping = ioremap(memory, hpet(), 1 << 20).expect("a device");
        let at = address(&mapping);
        // Now the TLB knows the first page; the register cannot be changed.
        assert!(HpetCapabilities::read(mapping.registers()).is_some() && can_write(at));
        drop(mapping);
        assert!(!can_write(at));
    });
}

fn any_sequence_of_mappings_leaves_nothing_behind() {
    leaves_nothing(|memory| {
        let mut random = Random(11);
        let mut mappings = [const { None }; 24];
        for _ in 0..400 {
            let slot = random.below(mappings.len() as u64) as usize;
            // Unmapped first: its place may be used again.
            mappings[slot] = None;
            let order = 4 + random.below(20);
            let (at, len) = (HOLE + random.below(16 << 20), 1 + random.below(1 << order));
            let mapping = ioremap(memory, phys(at), len).expect("a hole");
            let found = leaf(address(&mapping) + len - 1).expect("mapped to its last byte");
            let last = found.phys.as_u64() + (address(&mapping) + len - 1 - found.addr.as_u64());
            assert_eq!(last, at + len - 1);
            mappings[slot] = Some(mapping);
            memory.vmalloc.lock().validate();
            memory.memtypes.lock().validate();
        }
    });
}

fn without_memory_nothing_is_mapped_and_nothing_is_lost() {
    leaves_nothing(|memory| {
        let mut hoard = Hoard::new();
        hoard.exhaust(Gfp::KERNEL);
        let mut refused = 0;
        // A page more each time: it fails at each of the tables that are not there yet.
        let mapping = loop {
            match ioremap(memory, phys(HOLE + PAGE), 4 << 20) {
                Ok(mapping) => break mapping,
                Err(Error::Memory(_)) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
            memory.vmalloc.lock().validate();
            assert_eq!(memory.memtypes.lock().mode_at(HOLE + PAGE), None);
            memory.pages.free_pages(hoard.pop().expect("more memory than a mapping needs"));
        };
        drop(mapping);
        hoard.free();
        assert!(refused > 0, "it needs tables, and there was no memory");
    });
}

fn firmware_tables_are_readable_after_boot() {
    let tables = acpi::tables().expect("QEMU's machines have ACPI");
    leaves_nothing(|_| {
        for signature in [b"APIC", b"HPET", b"FACP"] {
            let table = tables.get(signature, &FirmwareMemory).expect("QEMU's machines have it");
            assert!(table.starts_with(signature) && table.len() >= 36);
            assert_eq!(table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        }
        assert!(tables.get(b"NONE", &FirmwareMemory).is_none());
        assert!(tables.find(b"APIC").is_none(), "where the boot loader had it, nothing is mapped any more");
    });
}

fn a_fixmap_slot_maps_what_it_is_set_to() {
    let slot = Slot::Early { slot: 7, page: 63 };
    let at = slot.address().as_u64();
    assert!(leaf(at).is_none() && !can_write(at));
    leaks_nothing(|memory| {
        let blocks = [1u8, 2].map(|n| {
            let mut block = memory.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).expect("a page");
            crate::support::bytes(&mut block).fill(n);
            block
        });
        for (block, n) in blocks.iter().zip([1, 2]) {
            // SAFETY: nobody uses the slot: boot is over; the page is ours.
            unsafe { slot.set(block.pfn(Machine).phys(), Prot::KERNEL_RO) };
            // SAFETY: mapped to a page that is not written meanwhile.
            assert_eq!(unsafe { slot.as_ptr().read_volatile() }, n, "the old translation is gone");
            assert!(!can_write(at));
        }
        // SAFETY: as above.
        unsafe { slot.clear() };
        assert!(leaf(at).is_none() && !can_write(at));
        blocks.into_iter().for_each(|block| memory.pages.free_pages(block));
    });
}

fn boot_has_given_its_early_mappings_back() {
    assert_eq!(early_ioremap::report_leaks(), 0);
    for slot in 0..EARLY_SLOTS as u8 {
        assert!(leaf(Slot::Early { slot, page: 0 }.address().as_u64()).is_none(), "slot {slot}");
    }
}

fn early_mappings_fill_their_slots_and_no_more() {
    let map = || early_ioremap(hpet() + 4u64, 4);
    let mappings = [(); EARLY_SLOTS].map(|()| map().expect("a slot is free"));
    assert_eq!(map().err(), Some(early_ioremap::Error::NoSlot));
    assert_eq!(early_ioremap::report_leaks(), EARLY_SLOTS);
    for (mapping, slot) in mappings.iter().zip(0..) {
        assert_eq!(mapping.registers().register::<u32>(0).map(|r| r.read()), Some(10_000_000));
        let leaf = leaf(Slot::Early { slot, page: 0 }.address().as_u64()).expect("mapped");
        assert_eq!(CacheMode::of(leaf.flags, leaf.level), CacheMode::Uncached);
    }
    mappings.into_iter().for_each(early_iounmap);
    boot_has_given_its_early_mappings_back();
    drop(map().expect("all slots are free again"));
}

fn early_mappings_are_refused_beyond_what_a_slot_holds() {
    use kernel::memory::early_ioremap::Error;
    const SLOT: u64 = 64 * PAGE;
    drop(early_ioremap(phys(HOLE), SLOT).expect("as large as a slot"));
    drop(early_ioremap(phys(HOLE + 1), SLOT - 1).expect("as large as a slot"));
    for (addr, len, why) in [
        (HOLE, SLOT + 1, Error::TooLarge),
        (HOLE + 1, SLOT, Error::TooLarge),
        (HOLE, 0, Error::Empty),
        (HOLE, u64::MAX, Error::BadAddress),
        ((1 << 52) - 1, 2, Error::BadAddress),
    ] {
        assert_eq!(early_ioremap(phys(addr), len).err(), Some(why), "{addr:#x} {len:#x}");
    }
    boot_has_given_its_early_mappings_back();
}
