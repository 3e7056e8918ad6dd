//! An active area: allocation and release.

use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use super::Error;
use super::reserve::Reservation;
use super::turn::Turns;
use crate::PhysAddr;
use crate::gfp::Gfp;
use crate::id::{NodeId, ZoneIdx};
use crate::order::{Order, PAGEBLOCK_NR_PAGES};
use crate::page_alloc::{AllocError, ContigError, ContigPages, ContigType, PageAllocator};
use crate::pfn::{Pfn, PfnRange};
use crate::smp::CallCpus;
use crate::sync::{Level, SpinLock};

/// An area of contiguous memory (Linux: `struct cma`).
#[derive(Debug)]
pub struct Cma<'a> {
    name: &'static str,
    pages: PfnRange,
    zone: (NodeId, ZoneIdx),
    /// A bit a page: set while it is handed out (I1).
    bitmap: SpinLock<&'a mut [u64]>,
    turns: Turns,
    allocated: AtomicU64,
    failed: AtomicU64,
}

/// What is wanted of an area.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// So many contiguous pages.
    pub nr_pages: u64,
    /// From a multiple of so many on.
    pub align: Order,
    /// [`Gfp::ZERO`] and [`Gfp::NOWARN`] count.
    pub gfp: Gfp,
}

/// Pages of an area, handed out.
#[must_use = "give them back with `Cma::release`"]
#[derive(Debug)]
pub struct CmaPages(ContigPages);

impl CmaPages {
    /// The frames.
    pub fn pages(&self) -> PfnRange {
        self.0.pages()
    }
}

const WORD_BITS: u64 = u64::BITS as u64;

/// The first run of `nr` clear bits from `start` on, of `len` bits in all, whose place plus `offset` is a multiple of
/// `align`, a power of two (Linux: `bitmap_find_next_zero_area_off`). Looks at each word at most once an attempt.
fn find_run(words: &[u64], len: u64, start: u64, nr: u64, align: u64, offset: u64) -> Option<u64> {
    let mut at = start;
    loop {
        at = ((at + offset).checked_next_multiple_of(align)?) - offset;
        if at.checked_add(nr)? > len {
            return None;
        }
        match next_set(words, at, at + nr) {
            Some(set) => at = set + 1,
            None => return Some(at),
        }
    }
}

/// The first set bit in `from..end`.
fn next_set(words: &[u64], from: u64, end: u64) -> Option<u64> {
    let mut at = from;
    while at < end {
        let rest = words[(at / WORD_BITS) as usize] >> (at % WORD_BITS);
        if rest != 0 {
            let bit = at + u64::from(rest.trailing_zeros());
            return (bit < end).then_some(bit);
        }
        at = (at / WORD_BITS + 1) * WORD_BITS;
    }
    None
}

/// Flips the bits `from..from + nr`, which are all alike.
fn flip(words: &mut [u64], from: u64, nr: u64) {
    let end = from + nr;
    let mut at = from;
    while at < end {
        let (shift, room) = (at % WORD_BITS, WORD_BITS - at % WORD_BITS);
        let count = room.min(end - at);
        let mask = (u64::MAX >> (WORD_BITS - count)) << shift;
        let word = &mut words[(at / WORD_BITS) as usize];
        debug_assert!(*word & mask == 0 || *word & mask == mask, "bits {from}+{nr} are not alike");
        *word ^= mask;
        at += count;
    }
}

impl<'a> Cma<'a> {
    /// Gives the reserved pages to the page allocator as ones of type `Cma`, and counts them as managed (Linux:
    /// `cma_activate_area`). Takes time by the pages. Boot only.
    ///
    /// # Errors
    /// [`Error::NotOneZone`]: the memory stays reserved for good.
    ///
    /// # Safety
    /// The memblock that the reservation is from was handed over to this allocator, whose memory outlives the result.
    #[allow(unsafe_code, reason = "takes memory over from boot")]
    pub unsafe fn activate(reservation: Reservation, allocator: &PageAllocator) -> Result<Self, Error> {
        let Reservation { name, pages, bitmap } = reservation;
        // SAFETY: a reservation's memory is nobody else's, in whole pageblocks, and reserved in the caller's memblock.
        let Some(zone) = (unsafe { allocator.init_cma(pages) }) else {
            log::error!("cma: area {name} could not be activated");
            return Err(Error::NotOneZone);
        };
        let words = allocator.machine().phys_to_virt(PhysAddr::new(bitmap.start())).cast::<u64>();
        // SAFETY: reserved for this in memblock, zeroed, a multiple of words, aligned to more than one, mapped as all memory.
        let bitmap = unsafe { slice::from_raw_parts_mut(words, bitmap.len_bytes() as usize / 8) };
        Ok(Self {
            name,
            pages,
            zone: (zone.node(), zone.idx()),
            bitmap: SpinLock::new(Level::Leaf, bitmap),
            turns: Turns::new(),
            allocated: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Its frames.
    pub fn pages(&self) -> PfnRange {
        self.pages
    }

    /// Its name in the log.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The zone that it is in.
    pub fn zone(&self) -> (NodeId, ZoneIdx) {
        self.zone
    }

    /// Pages that are handed out.
    pub fn used_pages(&self) -> u64 {
        self.bitmap.lock().iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many allocations succeeded and how many failed (Linux: `cma_alloc_success`, `cma_alloc_fail`).
    pub fn counts(&self) -> (u64, u64) {
        (self.allocated.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Contiguous pages, each with one reference (Linux: `cma_alloc`). Tries every place of the area; `cpus` are asked for
    /// what they hold. Sleeps while others allocate from the area; where nobody may sleep, it fails then.
    ///
    /// # Errors
    /// No run of pages that are free.
    pub fn alloc(
        &self,
        allocator: &PageAllocator,
        wanted: Wanted,
        cpus: &dyn CallCpus,
    ) -> Result<CmaPages, AllocError> {
        let result = self.find(allocator, &wanted, cpus);
        let count = if result.is_ok() { &self.allocated } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
        if result.is_err() && !wanted.gfp.contains(Gfp::NOWARN) {
            log::error!("cma: alloc: {}: alloc failed, req-size: {} pages", self.name, wanted.nr_pages);
        }
        result
    }

    fn find(
        &self,
        allocator: &PageAllocator,
        wanted: &Wanted,
        cpus: &dyn CallCpus,
    ) -> Result<CmaPages, AllocError> {
        if wanted.nr_pages == 0 {
            return Err(AllocError);
        }
        let _turn = self.turns.wait(allocator).ok_or(AllocError)?;
        let mut start = 0;
        loop {
            let at = self.take_bits(start, wanted).ok_or(AllocError)?;
            let first = self.pages.start + at;
            let pages = PfnRange::new(first, first + wanted.nr_pages);
            match allocator.alloc_contig_range(pages, ContigType::Cma, wanted.gfp, cpus) {
                Ok(pages) => return Ok(CmaPages(pages)),
                Err(error) => {
                    self.give_bits(pages);
                    start = at + self.skipped(error, first);
                }
            }
        }
    }

    /// How far behind `first`, which did not do, to look next: behind the page or the pageblock that was in the way.
    fn skipped(&self, error: ContigError, first: Pfn) -> u64 {
        match error {
            ContigError::Contended(pfn) => (pfn + 1).align_up(PAGEBLOCK_NR_PAGES) - first,
            ContigError::InUse(pfn) => pfn + 1 - first,
            ContigError::NotOneZone => PAGEBLOCK_NR_PAGES,
        }
    }

    fn take_bits(&self, start: u64, wanted: &Wanted) -> Option<u64> {
        let (nr, align) = (wanted.nr_pages, wanted.align.nr_pages());
        let mut bits = self.bitmap.lock();
        // What is to be a multiple of the alignment is the frame's number.
        let offset = self.pages.start.get() & (align - 1);
        let at = find_run(&bits, self.pages.nr_pages(), start, nr, align, offset)?;
        flip(&mut bits, at, nr);
        Some(at)
    }

    fn give_bits(&self, pages: PfnRange) {
        flip(&mut self.bitmap.lock(), pages.start - self.pages.start, pages.nr_pages());
    }

    /// Takes pages back (Linux: `cma_release`). Any context. Pages that somebody else still uses come free when he has done.
    ///
    /// # Errors
    /// They are not of this area: here they are again.
    pub fn release(&self, allocator: &PageAllocator, pages: CmaPages) -> Result<(), CmaPages> {
        let range = pages.pages();
        if range.start < self.pages.start || range.end > self.pages.end {
            return Err(pages);
        }
        allocator.free_contig_range(pages.0);
        self.give_bits(range);
        Ok(())
    }

    /// Checks that the bitmap has no bit behind the area's end.
    ///
    /// # Panics
    /// When it has.
    pub fn validate(&self) {
        let bits = self.bitmap.lock();
        let (len, all) = (self.pages.nr_pages(), bits.len() as u64 * WORD_BITS);
        assert_eq!(next_set(&bits, len, all), None, "bits behind the end of {}", self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn runs_are_those_that_a_scan_of_each_bit_finds(
            set in prop::collection::vec(any::<bool>(), 1..300),
            start in 0u64..300, nr in 1u64..80, align in 0u32..6, offset in 0u64..64,
        ) {
            let (len, align) = (set.len() as u64, 1u64 << align);
            let mut words = vec![0u64; set.len().div_ceil(64)];
            for (n, _) in set.iter().enumerate().filter(|(_, s)| **s) {
                flip(&mut words, n as u64, 1);
            }
            let fits = |at: u64| {
                (at + offset).is_multiple_of(align) && at + nr <= len && (at..at + nr).all(|n| !set[n as usize])
            };
            let expected = (start..len).find(|&at| fits(at));
            prop_assert_eq!(find_run(&words, len, start, nr, align, offset), expected);
            if let Some(at) = expected {
                flip(&mut words, at, nr);
                let now: Vec<bool> = (0..len).map(|n| words[(n / 64) as usize] >> (n % 64) & 1 != 0).collect();
                for n in 0..len {
                    prop_assert_eq!(now[n as usize], set[n as usize] || (at..at + nr).contains(&n));
                }
            }
        }
    }
}
