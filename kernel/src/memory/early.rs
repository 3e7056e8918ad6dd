//! From the firmware's map to memblock: what is memory, and what of it is taken already.
//!
//! ```text
//! firmware's entries -> e820::Map -> Memblock { memory, reserved }
//!       mem=, memmap= ----^                         | first MiB, kernel image, symbols: for good
//!                                                   | what the boot loader uses: until we have left its page tables
//! ```
//!
//! # Invariants
//! - I1: before our own page tables are in use, the boot loader's map all physical memory at the direct map's place.
//! - I2: the first storage of the map is memory that the firmware calls usable and that the boot loader does not use.
//!   The command line may have taken it out of the map: [`FirmwareMap::into_memory`] moves to memory of memblock, which
//!   stays mapped.
//! - I3: the storage in use is reserved in memblock.

use core::slice;

use mm::addr::{PhysAddr, PhysRange};
use mm::arch::Machine;
use mm::cmdline::Cmdline;
use mm::e820::{self, Entry, Kind, Map};
use mm::memblock::{self, Memblock, OnNode, Region};

use super::{Error, probe};
use crate::firmware::{acpi, boot::Boot};
use crate::image;

/// Slots of memblock's arrays before they grow (Linux: `INIT_MEMBLOCK_REGIONS`).
const INIT_REGIONS: usize = 128;
/// The first MiB stays out of the page allocator: firmware's data, and start-up code of other CPUs (Linux:
/// `reserve_real_mode`).
const LOW_MEMORY: PhysRange = match PhysRange::new(0, 1 << 20) {
    Some(range) => range,
    None => unreachable!(),
};

/// The firmware's map, sanitised, in memory taken from the machine itself so that any number of entries fits.
#[derive(Debug)]
pub(super) struct FirmwareMap {
    pub(super) map: Map<'static>,
    /// Where its storage is.
    pub(super) storage: PhysRange,
}

/// Reads and prints the firmware's map, and makes of it what the command line wants.
pub(super) fn firmware_map(boot: &Boot, cmdline: &Cmdline<'_>) -> Result<FirmwareMap, Error> {
    let slots = 3 * e820::capacity_for(boot.firmware_map().count(), cmdline, image::frames().count());
    let storage = place_for(boot, (slots * size_of::<Entry>()) as u64).ok_or(Error::NoUsableMemory)?;
    let first = Machine.phys_to_virt(PhysAddr::new(storage.start())).cast::<Entry>();
    // SAFETY: I2: usable, used by nobody, mapped (I1); page-aligned and large enough.
    let entries = unsafe {
        for slot in 0..slots {
            first.add(slot).write(Entry::EMPTY);
        }
        slice::from_raw_parts_mut(first, slots)
    };
    let mut map = Map::new(entries);
    for raw in boot.firmware_map() {
        map.add(raw.start, raw.size, Kind::from_raw(raw.kind))?;
    }
    map.sanitise()?;
    map.print_bios_map();
    map.apply_cmdline(cmdline)?;
    map.add_kernel(image::frames())?;
    probe::remove_missing(&mut map, boot)?;
    map.trim_bios_range()?;
    map.log_ends();
    Ok(FirmwareMap { map, storage })
}

impl FirmwareMap {
    /// Moves into memory that memblock gives, and frees where it was.
    pub(super) fn into_memory(self, memblock: &mut Memblock<'static>) -> Result<Self, Error> {
        let slots = memblock.alloc_slice(self.map.copy_slots(), Entry::EMPTY, OnNode::Any)?;
        let storage = memblock.range_of(slots).ok_or(Error::Layout)?;
        let map = self.map.copied_to(slots)?;
        memblock.free(self.storage)?;
        Ok(Self { map, storage })
    }
}

/// Whole pages of `size_bytes` that are usable and not used by the boot loader, as high as possible below 4 GiB, where the
/// boot loader's page tables map everything.
fn place_for(boot: &Boot, size_bytes: u64) -> Option<PhysRange> {
    let size = size_bytes.next_multiple_of(mm::PAGE_SIZE as u64);
    let fits = |range: PhysRange| {
        let end = mm::addr::align_down(range.end().min(1 << 32), mm::PAGE_SIZE as u64);
        let start = end.checked_sub(size)?;
        (start >= range.start().max(LOW_MEMORY.end())).then(|| PhysRange::new(start, end))?
    };
    boot.unused_ranges().filter_map(fits).max_by_key(|range| range.start())
}

/// The early allocator over the map's usable memory, with all that is taken reserved.
pub(super) fn memblock(
    firmware: &FirmwareMap,
    boot: &Boot,
    tables: Option<&acpi::Tables>,
    debug: memblock::Debug,
) -> Result<Memblock<'static>, Error> {
    let storage = super::take_static(&REGIONS)?;
    let (memory, reserved) = storage.split_at_mut(INIT_REGIONS);
    let mut memblock = Memblock::new(memory, reserved);
    memblock.set_debug(debug);
    // Before memory is added: nothing of this can be handed out by mistake.
    for range in kept_ranges(boot.ramdisk_phys()).chain(boot.loader_ranges()) {
        memblock.reserve(range)?;
    }
    memblock.reserve(firmware.storage)?;
    // Not memory on any sane machine, but the command line can make it so.
    for range in tables.into_iter().flat_map(acpi::Tables::ranges) {
        memblock.reserve(range)?;
    }
    memblock.set_current_limit(boot.mapped_end().as_u64().min(DIRECT_MAP_BYTES));
    // SAFETY: I1: memory below the limit is mapped by the boot loader's tables, later by ours; what is in use is reserved.
    unsafe { memblock.allow_resize(Machine) };
    memblock.add_usable(&firmware.map)?;
    remove_unreachable(&mut memblock)?;
    Ok(memblock)
}

/// Takes away the memory that the direct map has no room for.
fn remove_unreachable(memblock: &mut Memblock<'static>) -> Result<(), Error> {
    let beyond = PhysRange::new(DIRECT_MAP_BYTES, mm::addr::PHYS_LIMIT).ok_or(Error::Layout)?;
    let lost: u64 = memblock.memory_in(beyond).map(|region| region.range.len_bytes()).sum();
    if lost != 0 {
        log::warn!("{} MiB of memory at {beyond} are out of reach and not used", lost >> 20);
        memblock.remove(beyond)?;
    }
    Ok(())
}

/// Our own tables are in use: all memory that they map can be taken.
pub(super) fn lift_limit(memblock: &mut Memblock<'static>) {
    memblock.set_current_limit(DIRECT_MAP_BYTES);
}

/// Where the symbols stay: where the boot loader put them, or in memory of memblock if that place is not memory to us and
/// so will not be mapped. None without symbols.
pub(super) fn symbols(boot: &Boot, memblock: &mut Memblock<'static>) -> Option<PhysRange> {
    let (symbols, at) = (boot.ramdisk()?, boot.ramdisk_phys()?);
    if memblock.is_region_memory(at) {
        return Some(at);
    }
    match memblock.alloc_slice(symbols.len(), 0, OnNode::Any) {
        Ok(copy) => {
            copy.copy_from_slice(symbols);
            memblock.range_of(copy)
        }
        Err(_) => {
            log::warn!("No room for the symbol table: backtraces show addresses only");
            None
        }
    }
}

/// What stays reserved for good, whether the boot loader took it or not: the first MiB, the frames of the image, the
/// symbols.
pub(super) fn kept_ranges(symbols: Option<PhysRange>) -> impl Iterator<Item = PhysRange> {
    image::frames().chain(symbols).chain([LOW_MEMORY])
}

const DIRECT_MAP_BYTES: u64 = mm::arch::layout::DIRECT_MAP_END - mm::arch::layout::DIRECT_MAP;

static REGIONS: super::TakeOnce<[Region; 2 * INIT_REGIONS]> =
    super::TakeOnce::new([Region::EMPTY; 2 * INIT_REGIONS]);

impl From<e820::Error> for Error {
    fn from(error: e820::Error) -> Self {
        Self::FirmwareMap(error)
    }
}
