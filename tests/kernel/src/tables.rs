//! The kernel's page tables: what is mapped, how, and that nothing else is.

use core::arch::asm;
use core::ops::ControlFlow;

use kernel::debug::stacks;
use kernel::memory::{debug_pagealloc_enabled, freed_page};
use kernel::{ex_table, image, ktest};
use mm::addr::PhysRange;
use mm::arch::layout;
use mm::pgtable::{EntryFlags, Leaf, PageSize, PageTable, VirtRange};
use mm::{PAGE_SIZE, Pfn, VirtAddr};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};

use crate::support::{Random, memory};

ktest!(nothing_is_writable_and_executable_nor_below_the_kernels_half);
ktest!(the_cpu_uses_the_kernels_own_tables);
ktest!(the_cpu_enforces_the_rights);
ktest!(the_direct_map_has_all_ram_writable_not_executable);
ktest!(the_direct_map_has_no_devices);
ktest!(each_part_of_the_image_has_its_rights);
ktest!(between_the_parts_of_the_kernels_half_nothing_is_mapped);
ktest!(no_page_of_the_kernels_half_is_for_user_mode);
ktest!(struct_pages_are_mapped_for_sections_with_memory_only);
ktest!(writes_to_code_and_constants_fault);
ktest!(each_stack_of_the_image_has_holes_around_it);
ktest!(what_the_image_has_read_only_is_so_in_the_direct_map);

const PAGE: u64 = PAGE_SIZE as u64;

fn tables<R>(look: impl FnOnce(&PageTable) -> R) -> R {
    look(&memory().kernel_map.lock())
}

fn range(start: u64, end: u64) -> VirtRange {
    VirtRange::from_bounds(start, end).expect("whole pages in one half")
}

/// The leaf that maps `addr`, its rights taken through all levels.
pub(crate) fn leaf(addr: u64) -> Option<Leaf> {
    let start = addr & !(PAGE - 1);
    let page = VirtRange::new(VirtAddr::new(start), PAGE)?;
    match tables(|tree| tree.walk(page, ControlFlow::Break)) {
        ControlFlow::Break(leaf) => Some(leaf),
        ControlFlow::Continue(()) => None,
    }
}

#[track_caller]
fn has_rights(addr: u64, rights: EntryFlags) {
    let leaf = leaf(addr).unwrap_or_else(|| panic!("{addr:#x} is not mapped"));
    assert_eq!(leaf.rights, rights | EntryFlags::PRESENT, "rights at {addr:#x}");
}

/// Calls `look` with each leaf of a range.
fn each(range: VirtRange, mut look: impl FnMut(Leaf)) {
    let _: ControlFlow<()> = tables(|tree| {
        tree.walk(range, |leaf| {
            look(leaf);
            ControlFlow::Continue(())
        })
    });
}

fn nothing_is_writable_and_executable_nor_below_the_kernels_half() {
    tables(|tree| kernel::memory::check(tree, &[])).expect("no such page");
}

fn the_cpu_uses_the_kernels_own_tables() {
    let root = Cr3::read().0.start_address();
    assert_eq!(Pfn::containing(root), tables(PageTable::root_pfn));
}

fn the_cpu_enforces_the_rights() {
    assert!(Cr0::read().contains(Cr0Flags::WRITE_PROTECT), "read-only pages hold for the kernel");
    assert!(Efer::read().contains(EferFlags::NO_EXECUTE_ENABLE));
    let wanted = Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION | Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION;
    assert!(Cr4::read().contains(wanted), "the default CPU has both");
    assert!(
        !Cr4::read().contains(Cr4Flags::PCID),
        "each change of the root drops what was known of user space"
    );
}

fn ram() -> impl Iterator<Item = PhysRange> {
    memory().iomem.iter().filter(|item| item.name == "System RAM").map(|item| item.range)
}

/// The frames of the image's code and constants.
fn read_only_frames() -> impl Iterator<Item = PhysRange> {
    image::frames_of(image::text()).chain(image::frames_of(image::rodata()))
}

fn is_read_only(phys: u64) -> bool {
    read_only_frames().any(|frames| frames.contains(phys))
}

fn what_the_image_has_read_only_is_so_in_the_direct_map() {
    for frames in read_only_frames() {
        for phys in [frames.start(), frames.end() - 1] {
            assert!(!can_write(layout::DIRECT_MAP + phys), "{phys:#x}");
        }
    }
    let data = image::frames_of(image::writable()).next().expect("the image has variables");
    assert!(can_write(layout::DIRECT_MAP + data.start()));
}

fn the_direct_map_has_all_ram_writable_not_executable() {
    let mut random = Random(3);
    for range in ram() {
        let samples = (0..200).map(|_| range.start() + random.below(range.len_bytes()));
        for phys in samples.chain([range.start(), range.end() - 1]) {
            let addr = layout::DIRECT_MAP + phys;
            if freed_page(addr).is_some() {
                continue;
            }
            let writable = if is_read_only(phys) { EntryFlags::empty() } else { EntryFlags::WRITABLE };
            has_rights(addr, writable | EntryFlags::NO_EXECUTE);
            let to = tables(|tree| tree.translate(VirtAddr::new(addr))).expect("mapped");
            assert_eq!(to.phys.as_u64(), phys);
        }
    }
    let mapped = tables(|tree| tree.count_pages(range(layout::DIRECT_MAP, layout::DIRECT_MAP_END)));
    let made = &memory().direct_map;
    for size in PageSize::ALL {
        // Free pages of 4 KiB may be missing.
        let may_miss = size == PageSize::Size4K && debug_pagealloc_enabled();
        let (mapped, made) = (mapped.kb(size), made.kb(size));
        assert!(mapped == made || may_miss && mapped < made, "{size:?}: {mapped} of {made} kB");
    }
}

fn the_direct_map_has_no_devices() {
    // I/O APIC, local APIC, the top of 4 GiB's flash; past the last RAM.
    let end = ram().map(|range| range.end()).max().expect("some RAM").next_multiple_of(1 << 30);
    for phys in [0xfec0_0000, 0xfee0_0000, 0xffff_f000, end] {
        assert!(leaf(layout::DIRECT_MAP + phys).is_none(), "{phys:#x}");
    }
}

fn each_part_of_the_image_has_its_rights() {
    let pages =
        |part: core::ops::Range<u64>| part.step_by(PAGE_SIZE).filter(|&page| !stacks::is_guard_page(page));
    pages(image::text()).for_each(|page| has_rights(page, EntryFlags::empty()));
    pages(image::rodata()).for_each(|page| has_rights(page, EntryFlags::NO_EXECUTE));
    pages(image::writable()).for_each(|page| has_rights(page, EntryFlags::WRITABLE | EntryFlags::NO_EXECUTE));
    assert!(leaf(image::all().end).is_none(), "nothing behind the image");
}

fn between_the_parts_of_the_kernels_half_nothing_is_mapped() {
    // The boot loader had its stack, its information and the symbols in the last of these.
    for (start, end) in [
        (VirtRange::KERNEL.first(), layout::DIRECT_MAP),
        (layout::DIRECT_MAP_END, layout::VMALLOC),
        (layout::VMALLOC_END, layout::VMEMMAP),
        (layout::VMEMMAP_END, layout::KERNEL_IMAGE),
    ] {
        each(range(start, end), |leaf| panic!("a stray page: {leaf:?}"));
    }
}

fn no_page_of_the_kernels_half_is_for_user_mode() {
    each(VirtRange::KERNEL, |leaf| assert!(!leaf.rights.contains(EntryFlags::USER), "{leaf:?}"));
}

fn struct_pages_are_mapped_for_sections_with_memory_only() {
    let mapped = tables(|tree| tree.count_pages(range(layout::VMEMMAP, layout::VMEMMAP_END)));
    let kb: u64 = PageSize::ALL.iter().map(|&size| mapped.kb(size)).sum();
    let sections = memory().pages.nodes().sparse().sections().count() as u64;
    assert_eq!(kb, sections * 2048, "KiB of struct pages");
}

/// Writes the byte at `addr` as it is; whether that was allowed.
pub(crate) fn can_write(addr: u64) -> bool {
    let refused: u32;
    // SAFETY: the byte stays what it is; a fault is fixed up.
    unsafe {
        asm!(
            "2: lock or byte ptr [{addr}], 0",
            "jmp 4f",
            "3: mov {refused:e}, 1",
            "4:",
            ex_table!("2b", "3b"),
            addr = in(reg) addr,
            refused = inout(reg) 0u32 => refused,
            options(nostack),
        );
    }
    refused == 0
}

fn writes_to_code_and_constants_fault() {
    static CONSTANT: [u8; 4] = *b"rock";
    static VARIABLE: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
    let at = |part: core::ops::Range<u64>| [part.start, part.start + PAGE + 5, part.end - 1];
    for addr in at(image::text()).into_iter().chain(at(image::rodata())) {
        assert!(!can_write(addr), "{addr:#x}");
    }
    assert!(!can_write(core::hint::black_box(&CONSTANT).as_ptr() as u64));
    assert!(!can_write(writes_to_code_and_constants_fault as *const () as u64));
    assert!(!can_write(0) && !can_write(layout::VMALLOC_END - 1), "nothing is there");
    assert!(can_write(VARIABLE.as_ptr() as u64), "variables are writable");
}

fn each_stack_of_the_image_has_holes_around_it() {
    let mut nr_stacks = 0;
    for stack in stacks::of_image() {
        let range = stack.range;
        assert!(leaf(range.start - 1).is_none() && leaf(range.end).is_none(), "{}", stack.name);
        assert!(!can_write(range.start - 1) && !can_write(range.end), "{}", stack.name);
        assert!(can_write(range.start) && can_write(range.end - 1), "{} is mapped", stack.name);
        nr_stacks += 1;
    }
    assert_eq!(nr_stacks, 5, "of the boot thread, and of four exceptions");
}
