//! The resource tree of this machine, for `/proc/iomem`.

use mm::addr::PhysRange;
use mm::memblock::{Memblock, OnNode, Region};
use mm::resource::{KernelImage, Slot, Tree};

use super::{Error, early};
use core::ops::Range;

use crate::image;

/// The tree with the firmware's map and the kernel image in it.
pub(super) fn tree(
    firmware: &early::FirmwareMap,
    memblock: &mut Memblock<'static>,
) -> Result<Tree<'static>, Error> {
    // For each entry its resource, the gap behind it and what a split adds; then the root and the image.
    let nr = firmware.map.entries().len() * 3 + 1 + 4;
    let slots = memblock.alloc_slice(nr, Slot::EMPTY, OnNode::Any)?;
    let all = PhysRange::new(0, mm::addr::PHYS_LIMIT).ok_or(Error::Layout)?;
    let mut tree = Tree::new(slots, all).ok_or(Error::Layout)?;
    let [code, rodata, data, bss] =
        [image::text(), image::rodata(), image::data(), image::bss()].map(first_run);
    let mut filled = || {
        tree.add_firmware_map(&firmware.map)?;
        tree.add_kernel(&KernelImage { code, rodata, data, bss })?;
        tree.add_firmware_map_late(&firmware.map)
    };
    if filled().is_err() {
        log::warn!("resource: /proc/iomem is not complete");
    }
    Ok(tree)
}

/// The first frames of a part of the image that follow each other: the boot loader puts a part in one place but for
/// zeroed pages.
fn first_run(part: Range<u64>) -> PhysRange {
    let first = image::frames_of(part.clone()).next().unwrap_or(Region::EMPTY.range);
    PhysRange::from_size(first.start(), first.len_bytes().min(part.end - part.start)).unwrap_or(first)
}
