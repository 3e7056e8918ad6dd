//! The resource tree of this machine, for `/proc/iomem`.
//!
//! ```text
//! ACPI's tables -> claims      while the boot loader maps them
//! firmware's map, image, ROMs, claims, PCI devices -> tree      on our own page tables
//! ```

use core::ops::Range;
use core::slice;

use mm::acpi::namespace::{Namespace, Object};
use mm::acpi::resources::Prefetch;
use mm::acpi::{Hpet, Madt, Mcfg, TableError, aml};
use mm::addr::{PhysAddr, PhysRange};
use mm::arch::Machine;
use mm::memblock::{Memblock, OnNode};
use mm::pci::{self, Function};
use mm::resource::{self, Claim, Claims, Id, PciBus, ROMS, Rom, Slot, Tree, Window, Windows};

use super::{Error, early};
use crate::cpu::apic;
use crate::firmware::acpi;
use crate::firmware::pci::Ports;
use crate::image;

/// The resources that ACPI names, copied from its tables, which are not mapped later.
pub(super) fn claims(
    tables: Option<&acpi::Tables>,
    firmware: &early::FirmwareMap,
    memblock: &mut Memblock<'static>,
) -> Result<&'static mut [Claim], Error> {
    let blocks = || tables.into_iter().flat_map(acpi::Tables::definition_blocks);
    let objects = memblock.alloc_slice(Namespace::slots(blocks()), Object::EMPTY, OnNode::Any)?;
    let namespace = Namespace::new(objects, blocks());
    if namespace.outcome() == aml::Outcome::Partial {
        log::info!("ACPI: parts of the definition blocks are only known by running them; they are skipped");
    }
    let claims = Claims {
        namespace,
        madt: read(tables, b"APIC", Madt::new),
        hpet: read(tables, b"HPET", Hpet::new).flatten(),
        mcfg: read(tables, b"MCFG", Mcfg::new),
        local_apic: apic::local_apic_address(),
    };
    claims.report(&firmware.map);
    let mut nr = 0;
    claims.each(&firmware.map, &mut |_| nr += 1);
    let copies = memblock.alloc_slice(nr, Claim::EMPTY, OnNode::Any)?;
    let mut free = copies.iter_mut();
    claims.each(&firmware.map, &mut |claim| free.by_ref().take(1).for_each(|copy| *copy = claim));
    if let Some(range) = memblock.range_of(objects) {
        memblock.free(range)?;
    }
    Ok(copies)
}

/// A table, read; broken ones are reported.
fn read<T>(
    tables: Option<&acpi::Tables>,
    signature: &[u8; 4],
    new: impl FnOnce(&'static [u8]) -> Result<T, TableError>,
) -> Option<T> {
    match new(tables?.find(signature)?) {
        Ok(table) => Some(table),
        Err(error) => {
            log::warn!("ACPI: {}: {error}", signature.escape_ascii());
            None
        }
    }
}

/// The tree of all that is known at boot. `phys_bits`: how wide the CPU's physical addresses are.
pub(super) fn tree(
    firmware: &early::FirmwareMap,
    claims: &'static mut [Claim],
    phys_bits: u8,
    memblock: &mut Memblock<'static>,
) -> Result<Tree<'static>, Error> {
    let functions = functions(claims, memblock)?;
    // For each entry its resource, the gap behind it and what a split adds; then the root and the image.
    let of_map = firmware.map.entries().len() * 3 + 1 + kernel_parts().count();
    let of_devices = Tree::MAX_ROMS + claims.len() + functions.len() * Function::MAX_RESOURCES;
    let slots = memblock.alloc_slice(of_map + of_devices, Slot::EMPTY, OnNode::Any)?;
    let all = 1u64.checked_shl(phys_bits.into()).and_then(|end| PhysRange::new(0, end));
    let mut tree = Tree::new(slots, all.ok_or(Error::Layout)?).ok_or(Error::Layout)?;
    // A window of each root, or one for bus 0 in their place, and two of each bridge.
    let nr_windows = claims.len().max(1) + 2 * functions.len();
    let windows = memblock.alloc_slice(nr_windows, Window::EMPTY, OnNode::Any)?;
    if fill(&mut tree, &mut Windows::new(windows), claims, functions, firmware).is_err() {
        log::warn!("resource: /proc/iomem is not complete");
    }
    let used = [memblock.range_of(claims), memblock.range_of(functions), memblock.range_of(windows)];
    for used in used.into_iter().flatten() {
        memblock.free(used)?;
    }
    Ok(tree)
}

/// The PCI functions of segment 0, behind ACPI's roots or on bus 0.
fn functions(claims: &[Claim], memblock: &mut Memblock<'static>) -> Result<&'static [Function], Error> {
    let Some(ports) = Ports::probe() else { return Ok(&[]) };
    let named = || claims.iter().filter_map(Claim::root_bus).filter(|bus| bus.segment == 0);
    let otherwise = named().next().is_none().then_some(0);
    let roots = || named().map(|bus| bus.bus).chain(otherwise);
    let slots = memblock.alloc_slice(pci::count(&ports, roots()), Function::EMPTY, OnNode::Any)?;
    let is_ram = |range| memblock.memory_in(range).next().is_some();
    Ok(pci::scan(&ports, roots(), is_ram, slots))
}

/// In Linux's order: who comes first is inside, or keeps others out.
fn fill(
    tree: &mut Tree<'_>,
    windows: &mut Windows<'_>,
    claims: &mut [Claim],
    functions: &[Function],
    firmware: &early::FirmwareMap,
) -> Result<(), resource::Error> {
    tree.add_roms(Rom::new(roms()))?;
    tree.add_kernel(kernel_parts())?;
    tree.add_firmware_map(&firmware.map)?;
    tree.add_windows(claims, windows)?;
    if !claims.iter().any(|claim| claim.root_bus().is_some()) {
        // Without a word from ACPI, the first bus may decode anything.
        let bus = PciBus { segment: 0, bus: 0 };
        windows.add(Window { bus, id: Id::ROOT, prefetch: Prefetch::Forbidden })?;
    }
    tree.add_devices(claims)?;
    pci::claim(tree, windows, functions)?;
    tree.add_firmware_map_late(&firmware.map)?;
    pci::claim_roms(tree, windows, functions)?;
    tree.add_controllers(claims)
}

fn roms() -> &'static [u8] {
    let first = Machine.phys_to_virt(PhysAddr::new(ROMS.start()));
    // SAFETY: the direct map has all of the first MiB; nobody writes to ROMs' memory.
    unsafe { slice::from_raw_parts(first, ROMS.len_bytes() as usize) }
}

/// The image's parts by Linux's names, in pieces: the boot loader does not put it in one place, and there are no frames
/// behind guard pages.
fn kernel_parts() -> impl Iterator<Item = (PhysRange, &'static str)> {
    let parts = [
        (image::text(), "Kernel code"),
        (image::rodata(), "Kernel rodata"),
        (image::data(), "Kernel data"),
        (image::bss(), "Kernel bss"),
    ];
    parts.into_iter().flat_map(|(part, name)| pieces(part).map(move |piece| (piece, name)))
}

/// The frames of a part of the image, the last one cut off where the part ends.
fn pieces(part: Range<u64>) -> impl Iterator<Item = PhysRange> {
    let mut left = part.end - part.start;
    image::frames_of(part).filter_map(move |run| {
        let len = run.len_bytes().min(left);
        left -= len;
        PhysRange::from_size(run.start(), len)
    })
}
