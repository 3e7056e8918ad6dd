//! Setting the memory of an area aside while memblock still has it.

use super::params::{CmaRequest, Place};
use super::{Error, MIN_ALIGN_BYTES};
use crate::addr::PhysRange;
use crate::memblock::{Direction, Memblock, Request};
use crate::pfn::PfnRange;

/// Where 32-bit devices cannot reach.
const FOUR_GIB: u64 = 1 << 32;

/// Memory set aside for an area, and its bitmap.
#[must_use = "its memory is of no use until the area is activated"]
#[derive(Debug)]
pub struct Reservation {
    pub(super) name: &'static str,
    pub(super) pages: PfnRange,
    /// Zeroed words, a bit a page.
    pub(super) bitmap: PhysRange,
}

impl Reservation {
    /// Its frames.
    pub fn pages(&self) -> PfnRange {
        self.pages
    }
}

/// Sets memory aside for an area as the request says, in whole pageblocks; `None` when the size is 0 (Linux:
/// `cma_declare_contiguous`). Without a place, above 4 GiB where there is room, as low as possible there, so that what
/// devices of 32 bits can reach is left; else as high as possible.
///
/// # Errors
/// See [`Error`]; nothing is taken then.
pub fn reserve(
    memblock: &mut Memblock<'_>,
    request: CmaRequest,
    name: &'static str,
) -> Result<Option<Reservation>, Error> {
    if request.size_bytes == 0 {
        return Ok(None);
    }
    let size = request.size_bytes.checked_next_multiple_of(MIN_ALIGN_BYTES).ok_or(Error::BadSize)?;
    if size > memblock.memory_bytes() {
        return Err(Error::BadSize);
    }
    let range = match request.place {
        Place::Fixed(start) => fixed(memblock, start, size),
        Place::Anywhere => between(memblock, size, 0, memblock.end_of_dram()),
        Place::Between(start, end) => between(memblock, size, start, end.min(memblock.end_of_dram())),
    }?;
    let pages = PfnRange::inside(range);
    let words = pages.nr_pages().div_ceil(u64::from(u64::BITS));
    match memblock.alloc_zeroed(Request::new(words * 8)) {
        Ok(bitmap) => {
            log::info!("cma: Reserved {} MiB at {:#018x}", size >> 20, range.start());
            Ok(Some(Reservation { name, pages, bitmap }))
        }
        Err(error) => {
            memblock.free(range).map_err(Error::Memblock)?;
            Err(Error::Memblock(error))
        }
    }
}

fn fixed(memblock: &mut Memblock<'_>, start: u64, size: u64) -> Result<PhysRange, Error> {
    if !start.is_multiple_of(MIN_ALIGN_BYTES) {
        return Err(Error::Misaligned);
    }
    let range = PhysRange::from_size(start, size).ok_or(Error::BadSize)?;
    if !memblock.is_region_memory(range) || memblock.is_region_reserved(range) {
        return Err(Error::Taken);
    }
    memblock.reserve(range).map_err(Error::Memblock)?;
    Ok(range)
}

fn between(memblock: &mut Memblock<'_>, size: u64, start: u64, end: u64) -> Result<PhysRange, Error> {
    let request = Request::new(size).align(MIN_ALIGN_BYTES).below(end);
    let was = memblock.direction();
    if was == Direction::TopDown && end >= FOUR_GIB + size {
        memblock.set_direction(Direction::BottomUp);
        let high = memblock.alloc_in_range(request.from(FOUR_GIB.max(start)));
        memblock.set_direction(was);
        if let Ok(range) = high {
            return Ok(range);
        }
    }
    memblock.alloc_in_range(request.from(start)).map_err(Error::Memblock)
}

#[cfg(test)]
#[allow(unsafe_code, reason = "lends simulated memory to memblock")]
mod tests {
    use super::*;
    use crate::arch::SimMachine;
    use crate::memblock::{self, Region};

    const M: u64 = 1 << 20;
    const G: u64 = 1 << 30;

    /// Where `request` lands in memory of `ends`, the first 16 MiB reserved.
    fn place(ram: &[(u64, u64)], request: &str) -> Result<Option<(u64, u64)>, Error> {
        let sim = SimMachine::new(ram.iter().map(|r| r.1).max().unwrap());
        let (mut memory, mut reserved) = ([Region::EMPTY; 16], [Region::EMPTY; 16]);
        let mut memblock = Memblock::new(&mut memory, &mut reserved);
        for &(start, end) in ram {
            memblock.add(PhysRange::new(start, end).unwrap()).unwrap();
        }
        memblock.reserve(PhysRange::new(0, 16 * M).unwrap()).unwrap();
        // SAFETY: simulated RAM, nobody else's.
        unsafe { memblock.allow_resize(sim.machine()) };
        let before = memblock.reserved_bytes();
        let request = CmaRequest::parse(request).unwrap();
        let found = reserve(&mut memblock, request, "reserved");
        if found.is_err() {
            assert_eq!(memblock.reserved_bytes(), before, "an area that fails takes nothing");
        }
        let found = found?.map(|r| (r.pages().start.byte(), r.pages().end.byte()));
        memblock.validate();
        Ok(found)
    }

    #[test]
    fn an_area_is_where_the_request_says() {
        let low = [(0, G)];
        assert_eq!(place(&low, "0"), Ok(None));
        assert_eq!(place(&low, "64M"), Ok(Some((G - 64 * M, G))));
        assert_eq!(place(&low, "1M"), Ok(Some((G - 2 * M, G))), "whole pageblocks");
        assert_eq!(place(&low, "64M@256M"), Ok(Some((256 * M, 320 * M))));
        assert_eq!(place(&low, "64M@100M-300M"), Ok(Some((236 * M, 300 * M))));
    }

    #[test]
    fn memory_that_devices_of_32_bits_reach_is_spared() {
        let split = [(0, 3 * G), (4 * G, 6 * G)];
        assert_eq!(place(&split, "64M"), Ok(Some((4 * G, 4 * G + 64 * M))));
        assert_eq!(place(&split, "64M@0-3G"), Ok(Some((3 * G - 64 * M, 3 * G))));
        assert_eq!(place(&split, "1G@5G-8G"), Ok(Some((5 * G, 6 * G))));
    }

    #[test]
    fn what_cannot_be_takes_nothing() {
        let low = [(0, G)];
        assert_eq!(place(&low, "2G"), Err(Error::BadSize));
        assert_eq!(place(&low, "64M@1M"), Err(Error::Misaligned));
        assert_eq!(place(&low, "64M@0"), Err(Error::Taken));
        assert_eq!(place(&low, "64M@2G"), Err(Error::Taken));
        assert_eq!(place(&low, "64M@100M-120M"), Err(Error::Memblock(memblock::Error::NoMemory)));
        assert_eq!(place(&low, "0xffffffffffffffff"), Err(Error::BadSize));
    }
}
