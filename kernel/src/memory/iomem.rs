//! The resource tree of this machine, for `/proc/iomem`.

use core::ops::Range;

use mm::addr::PhysRange;
use mm::memblock::{Memblock, OnNode};
use mm::resource::{Slot, Tree};

use super::{Error, early};
use crate::image;

/// The tree with the firmware's map and the kernel image in it.
pub(super) fn tree(
    firmware: &early::FirmwareMap,
    memblock: &mut Memblock<'static>,
) -> Result<Tree<'static>, Error> {
    // For each entry its resource, the gap behind it and what a split adds; then the root and the image.
    let nr = firmware.map.entries().len() * 3 + 1 + kernel_parts().count();
    let slots = memblock.alloc_slice(nr, Slot::EMPTY, OnNode::Any)?;
    let all = PhysRange::new(0, mm::addr::PHYS_LIMIT).ok_or(Error::Layout)?;
    let mut tree = Tree::new(slots, all).ok_or(Error::Layout)?;
    let mut filled = || {
        tree.add_firmware_map(&firmware.map)?;
        tree.add_kernel(kernel_parts())?;
        tree.add_firmware_map_late(&firmware.map)
    };
    if filled().is_err() {
        log::warn!("resource: /proc/iomem is not complete");
    }
    Ok(tree)
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
