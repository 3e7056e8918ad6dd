//! The boot loader's [`BootInfo`] in the firmware's own terms.
//!
//! The loader (bootloader 0.11.15) reports the firmware's map entry by entry: sorted by start, types kept, but RAM that
//! it uses itself is cut out of `Usable` as `Bootloader`. Under UEFI the loader's and the boot services' memory is
//! already `Usable`, and neighbours are not merged. So the firmware's map comes back by calling both kinds RAM and
//! joining neighbours of one type, which is also what Linux's EFI stub does before it passes an e820 map on. Nothing
//! is lost on QEMU: SeaBIOS's extended BIOS data area and the ROMs have reserved entries of their own. Only frame 0
//! is reported usable although the real-mode vectors are there, and so it is under Linux, which reserves it itself.
//!
//! # Invariants
//! - I1: until the kernel's own page tables are used, everything here is mapped by the boot loader. The memory map
//!   itself, the symbols and the page tables lie in `Bootloader` memory: copy what is needed later.

use core::sync::atomic::{AtomicBool, Ordering};

use bootloader_api::info::{BootInfo, MemoryRegion, MemoryRegionKind};
use mm::PhysAddr;
use mm::addr::PhysRange;
use mm::e820::Kind;
use x86_64::VirtAddr;

use super::translate;

/// An entry of the firmware's memory map (Linux: `struct boot_e820_entry`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwareEntry {
    /// Physical start address.
    pub start: u64,
    /// Size in bytes, not 0.
    pub size: u64,
    /// E820 type: 1 RAM, 2 reserved, 3 ACPI, 4 NVS, 5 unusable, 7 persistent.
    pub kind: u32,
}

static LOADER_LEFT: AtomicBool = AtomicBool::new(false);

/// Whether the boot loader's page tables are in use no more (I1).
pub fn is_loader_left() -> bool {
    LOADER_LEFT.load(Ordering::Relaxed)
}

/// Says that they are in use no more.
pub fn set_loader_left() {
    LOADER_LEFT.store(true, Ordering::Relaxed);
}

/// What the boot loader handed over.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    info: &'static BootInfo,
}

impl Boot {
    /// Wraps what the boot loader passed to the entry point.
    pub fn new(info: &'static BootInfo) -> Self {
        Self { info }
    }

    /// The firmware's memory map as the firmware gave it, raw: entries may overlap.
    pub fn firmware_map(&self) -> impl Iterator<Item = FirmwareEntry> + Clone + use<> {
        let mut entries = self.info.memory_regions.iter().map(entry).peekable();
        core::iter::from_fn(move || {
            let mut merged = entries.next()?;
            while let Some(next) =
                entries.next_if(|next| next.kind == merged.kind && next.start == merged.start + merged.size)
            {
                merged.size += next.size;
            }
            Some(merged)
        })
    }

    /// RAM that the boot loader uses: its page tables, the kernel's ELF file and segments, the ramdisk, this
    /// structure. The kernel may have it once it runs on its own page tables, less [`image::frames`](crate::image::frames).
    pub fn loader_ranges(&self) -> impl Iterator<Item = PhysRange> + Clone + use<> {
        self.ranges_of(MemoryRegionKind::Bootloader)
    }

    /// Usable memory that the boot loader does not use.
    pub fn unused_ranges(&self) -> impl Iterator<Item = PhysRange> + Clone + use<> {
        self.ranges_of(MemoryRegionKind::Usable)
    }

    fn ranges_of(&self, kind: MemoryRegionKind) -> impl Iterator<Item = PhysRange> + Clone + use<> {
        let regions = self.info.memory_regions.iter().filter(move |region| region.kind == kind);
        regions.filter_map(|region| PhysRange::new(region.start, region.end))
    }

    /// The ramdisk, mapped by the boot loader: the kernel's symbols.
    pub fn ramdisk(&self) -> Option<&'static [u8]> {
        let address = self.info.ramdisk_addr.into_option()?;
        // SAFETY: the loader mapped so many bytes there (I1), and nobody writes to them.
        Some(unsafe { core::slice::from_raw_parts(address as *const u8, self.info.ramdisk_len as usize) })
    }

    /// Where the ramdisk is in physical memory; contiguous.
    pub fn ramdisk_phys(&self) -> Option<PhysRange> {
        let ramdisk = self.ramdisk()?;
        let start = translate::virt_to_phys(VirtAddr::from_ptr(ramdisk.as_ptr()))?;
        PhysRange::from_size(start.as_u64(), ramdisk.len() as u64)
    }

    /// Where ACPI's root pointer is, if the firmware has ACPI.
    pub fn rsdp(&self) -> Option<PhysAddr> {
        self.info.rsdp_addr.into_option().and_then(|address| PhysAddr::try_new(address).ok())
    }

    /// One past the highest physical address that the boot loader has mapped: at least the first 4 GiB.
    pub fn mapped_end(&self) -> PhysAddr {
        const FOUR_GIB: u64 = 1 << 32;
        let end = self.info.memory_regions.iter().map(|region| region.end).max().unwrap_or(0);
        PhysAddr::new(end.max(FOUR_GIB))
    }
}

/// A region as it is; one that ends before it starts is empty. Whoever takes the map reports those.
fn entry(region: &MemoryRegion) -> FirmwareEntry {
    let kind = match region.kind {
        MemoryRegionKind::Usable | MemoryRegionKind::Bootloader => Kind::RAM.raw(),
        MemoryRegionKind::UnknownBios(kind) => kind,
        MemoryRegionKind::UnknownUefi(kind) => Kind::from_efi(kind).raw(),
        _ => Kind::RESERVED.raw(),
    };
    FirmwareEntry { start: region.start, size: region.end.saturating_sub(region.start), kind }
}
