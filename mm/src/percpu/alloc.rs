//! Allocating and freeing.
//!
//! ```text
//! alloc:  what was freed last ------------------------------------------------->
//!         a place with memory in some chunk ------------------------------------> zeroed for every CPU
//!         none, may sleep:  a place without -> pages for it -------------------->
//!                           no place -> a new chunk, and again
//!         none, may not:    an error, and more pages are wanted soon
//! ```
//!
//! # Invariants
//! - A1: chunks in `chunks` are in blocks of the source, alive until [`balance`](super::balance) removes them, unused, under
//!   the source's lock; the first chunk for good.
//! - A2: `offsets` lead from any address of a chunk's first unit to that of each CPU (I1).
//! - A3: an [`Allocation`] names a chunk of its allocator, and an area in it.

use core::alloc::Layout;
use core::fmt;
use core::mem;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::chunk::{Chunk, Chunks, Kind};
use super::embed::Embedding;
use super::map::{Map, Tables, UNIT_SHIFT, Wanted, page_range};
use super::source::ChunkSource;
use super::table::{Table, Zeroable};
use crate::addr::PAGE_SIZE;
use crate::gfp::Gfp;
use crate::id::CpuId;
use crate::pgtable::OutOfMemory;
use crate::sync::{Level, SpinLock};

/// So few empty pages with memory are too few: allocations that cannot wait live on them (Linux:
/// `PCPU_EMPTY_POP_PAGES_LOW`).
pub(super) const EMPTY_LOW: usize = 2;
/// So many are enough (Linux: `PCPU_EMPTY_POP_PAGES_HIGH`).
pub(super) const EMPTY_HIGH: usize = 4;
/// How many failures are reported.
const MAX_WARNINGS: u32 = 10;

/// Why nothing was allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The size is 0 or above [`MAX_BYTES`](super::MAX_BYTES), or the alignment is no power of two or more than a page.
    BadRequest,
    /// No memory; or none that is ready, for who cannot wait.
    OutOfMemory,
}

impl From<OutOfMemory> for Error {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "illegal size or alignment",
            Self::OutOfMemory => "out of memory",
        })
    }
}

impl core::error::Error for Error {}

/// Memory of each possible CPU, of the size that was asked for.
#[must_use = "the memory is lost when this is dropped: give it to `free`"]
#[derive(Debug)]
pub struct Allocation {
    /// In the first unit's group: what the CPUs' offsets are added to.
    at: NonNull<u8>,
    chunk: NonNull<Chunk>,
}

// SAFETY: names memory that its holder alone owns; the chunk is reached under its allocator's lock.
unsafe impl Send for Allocation {}
// SAFETY: as above; shared, it is only an address.
unsafe impl Sync for Allocation {}

/// The allocator.
#[derive(Debug)]
pub struct PerCpuAllocator<'a, S: ChunkSource> {
    pub(super) source: S,
    offsets: &'a [usize],
    pub(super) unit_pages: usize,
    nr_units: usize,
    pub(super) chunks: SpinLock<Chunks>,
    /// How many failures may still be reported.
    warnings: AtomicU32,
}

impl<'a, S: ChunkSource> PerCpuAllocator<'a, S> {
    /// With the first chunk only, whose first unit is at `base`: `offsets` by CPU lead from there to each CPU's (Linux:
    /// `pcpu_setup_first_chunk`). May sleep.
    ///
    /// # Errors
    /// No memory to keep the first chunk by.
    ///
    /// # Safety
    /// At each CPU's unit are [`Embedding::first_chunk_pages`] pages that live as long as the allocator, and of which all
    /// behind the static and the reserved part is nobody else's.
    pub unsafe fn new(
        source: S,
        embedding: &Embedding<'_>,
        base: NonNull<u8>,
        offsets: &'a [usize],
    ) -> Result<Self, OutOfMemory> {
        debug_assert_eq!(offsets.len(), embedding.nr_cpus());
        let this = Self {
            source,
            offsets,
            unit_pages: embedding.unit_bytes() / PAGE_SIZE,
            nr_units: embedding.nr_units(),
            chunks: SpinLock::new(Level::PerCpu, Chunks::new()),
            warnings: AtomicU32::new(MAX_WARNINGS),
        };
        let nr_pages = embedding.first_chunk_pages();
        let mut map = Map::new(this.alloc_tables(nr_pages, Gfp::KERNEL)?);
        map.populated(0..nr_pages, &(0..0));
        let sizes = embedding.sizes();
        map.keep_front((sizes.static_bytes + sizes.reserved_bytes).div_ceil(1 << UNIT_SHIFT));
        this.insert(Chunk::new(Kind::First, base, map), Gfp::KERNEL)?;
        Ok(this)
    }

    /// The possible CPUs.
    pub fn cpus(&self) -> impl Iterator<Item = CpuId> + use<S> {
        (0..self.offsets.len() as u32).map(CpuId)
    }

    /// Pages of all units in all chunks, those of units that nobody has too (Linux: `pcpu_nr_pages`, `Percpu:` in
    /// `/proc/meminfo`).
    pub fn nr_pages(&self) -> u64 {
        (self.chunks.lock().totals().nr_populated * self.nr_units) as u64
    }

    /// Pages of each unit that have memory and no areas (Linux: `pcpu_nr_empty_pop_pages`).
    pub fn nr_empty_pop_pages(&self) -> usize {
        self.chunks.lock().totals().nr_empty
    }

    /// How many chunks there are, the first one included.
    pub fn nr_chunks(&self) -> usize {
        self.chunks.lock().iter().count()
    }

    /// Memory of that layout for each possible CPU, zeroed (Linux: `alloc_percpu_gfp`). With all of [`Gfp::KERNEL`] it may
    /// sleep, to get pages; else it takes what has pages already, in any context. Cost: logarithmic in the size of a chunk,
    /// and the zeroing; where pages are missing, a look at the pages of a few chunks, and the pages.
    ///
    /// # Errors
    /// See [`Error`]. Nothing is allocated then.
    #[inline]
    pub fn alloc(&self, size: usize, align: usize, gfp: Gfp) -> Result<Allocation, Error> {
        let Some(wanted) = wanted(size, align) else { return Err(self.refuse(size, align)) };
        let mut chunks = self.chunks.lock();
        let found = chunks.alloc(wanted);
        let is_low = chunks.totals().nr_empty < EMPTY_LOW;
        drop(chunks);
        if is_low {
            self.source.want_balance();
        }
        let (chunk, unit) = match found {
            Some(found) => found,
            None => self.alloc_slowly(wanted, gfp)?,
        };
        // SAFETY: alive, as the new area is in it (A1); the area is in its first unit.
        let at = unsafe { Chunk::base(chunk).add(unit << UNIT_SHIFT) };
        for &offset in self.offsets {
            // SAFETY: each CPU's copy of the new area has memory (I2), which is ours.
            unsafe { at.add(offset).write_bytes(0, size) };
        }
        Ok(Allocation { at, chunk })
    }

    /// Gives memory back (Linux: `free_percpu`). Any context. Logarithmic time, and a step for each 256 bytes.
    ///
    /// # Safety
    /// It came from [`alloc`](Self::alloc) of this allocator, and nobody uses it any more.
    #[inline]
    pub unsafe fn free(&self, memory: Allocation) {
        let Allocation { at, chunk } = memory;
        let mut chunks = self.chunks.lock();
        // SAFETY: a chunk of this allocator with an area in it (A3), so in the lists (A1).
        let is_reclaimable = unsafe {
            let unit = (at.as_ptr().addr() - Chunk::base(chunk).as_ptr().addr()) >> UNIT_SHIFT;
            chunks.free(chunk, unit) && chunks.is_reclaimable(chunk.as_ref())
        };
        drop(chunks);
        if is_reclaimable {
            self.source.want_balance();
        }
    }

    /// A CPU's copy (Linux: `per_cpu_ptr`).
    ///
    /// # Panics
    /// When no such CPU is possible.
    #[inline(always)]
    pub fn copy_of(&self, memory: &Allocation, cpu: CpuId) -> NonNull<u8> {
        // SAFETY: A2: inside the CPU's unit.
        unsafe { memory.at.add(self.offsets[cpu.index()]) }
    }

    #[cold]
    fn refuse(&self, size: usize, align: usize) -> Error {
        log::warn!("percpu: illegal size ({size}) or align ({align}) for percpu allocation");
        Error::BadRequest
    }

    /// With pages that are got for it.
    #[cold]
    #[inline(never)]
    fn alloc_slowly(&self, wanted: Wanted, gfp: Gfp) -> Result<(NonNull<Chunk>, usize), Error> {
        if !gfp.contains(Gfp::KERNEL) {
            self.source.want_balance();
            self.warn(wanted, gfp, "alloc from populated areas failed");
            return Err(Error::OutOfMemory);
        }
        let _serial = self.source.serialise();
        loop {
            let mut chunks = self.chunks.lock();
            if let Some(found) = chunks.alloc(wanted) {
                return Ok(found);
            }
            let reserved = chunks.reserve(wanted);
            drop(chunks);
            let got = match reserved {
                Some((chunk, range)) => return self.complete(chunk, range, wanted, gfp),
                None => self.create_chunk(gfp),
            };
            if got.is_err() {
                self.warn(wanted, gfp, "failed to allocate new chunk");
                return Err(Error::OutOfMemory);
            }
        }
    }

    /// Gets the pages that a reserved place lacks. The caller has the source's lock.
    fn complete(
        &self,
        chunk: NonNull<Chunk>,
        range: Range<usize>,
        wanted: Wanted,
        gfp: Gfp,
    ) -> Result<(NonNull<Chunk>, usize), Error> {
        let pages = page_range(&range);
        loop {
            // SAFETY: in the lists for as long as we have the source's lock (A1).
            let lacking = unsafe { self.chunks.lock().lacking(chunk, pages.clone(), usize::MAX) };
            let Some(lacking) = lacking else { break };
            // SAFETY: as above; which pages it has changes by nobody else.
            if unsafe { self.populate(chunk, lacking, &range, gfp) }.is_err() {
                // SAFETY: as above; reserved by the caller.
                unsafe { self.chunks.lock().change(chunk, |map| map.unreserve(&range)) };
                self.warn(wanted, gfp, "failed to populate");
                return Err(Error::OutOfMemory);
            }
        }
        // SAFETY: as above.
        unsafe { self.chunks.lock().change(chunk, |map| map.settle(&range)) };
        Ok((chunk, range.start))
    }

    /// Gets pages for a chunk. `reserved` is the place in it that is reserved, if one is.
    ///
    /// # Safety
    /// The caller has the source's lock; the chunk is in the lists, and lacks those pages.
    pub(super) unsafe fn populate(
        &self,
        chunk: NonNull<Chunk>,
        pages: Range<usize>,
        reserved: &Range<usize>,
        gfp: Gfp,
    ) -> Result<(), OutOfMemory> {
        // SAFETY: addresses of the source (A1: the first chunk lacks no pages), and these lack pages.
        unsafe {
            self.source.populate(Chunk::base(chunk), pages.clone(), gfp)?;
            self.chunks.lock().change(chunk, |map| map.populated(pages, reserved));
        }
        Ok(())
    }

    /// A new chunk without pages (Linux: `pcpu_create_chunk`). The caller has the source's lock.
    pub(super) fn create_chunk(&self, gfp: Gfp) -> Result<(), OutOfMemory> {
        let map = Map::new(self.alloc_tables(self.unit_pages, gfp)?);
        let base = match self.source.reserve() {
            Ok(base) => base,
            Err(error) => {
                self.free_tables(map.into_tables());
                return Err(error);
            }
        };
        self.insert(Chunk::new(Kind::Dynamic, base, map), gfp)
    }

    /// Gives a chunk a block and puts it in; takes it apart when there is no memory for that.
    fn insert(&self, chunk: Chunk, gfp: Gfp) -> Result<(), OutOfMemory> {
        match self.source.alloc_block(Layout::new::<Chunk>(), gfp) {
            Ok(block) => {
                let at = block.cast::<Chunk>();
                // SAFETY: a new block of that layout, known to nobody.
                unsafe {
                    at.write(chunk);
                    self.chunks.lock().insert(at);
                }
                Ok(())
            }
            Err(error) => {
                // SAFETY: known to nobody, and without pages of the source's.
                unsafe { self.take_apart(chunk) };
                Err(error)
            }
        }
    }

    /// Gives back a chunk that was removed from the lists.
    ///
    /// # Safety
    /// It was in them, and nobody knows it any more; it has no pages.
    pub(super) unsafe fn destroy(&self, chunk: NonNull<Chunk>) {
        // SAFETY: ours alone by now, in a block of the source (A1).
        unsafe {
            let value = chunk.read();
            self.source.free_block(chunk.cast(), Layout::new::<Chunk>());
            self.take_apart(value);
        }
    }

    /// # Safety
    /// Nobody knows the chunk; if it is a dynamic one, it has no pages.
    unsafe fn take_apart(&self, chunk: Chunk) {
        if chunk.kind() == Kind::Dynamic {
            // SAFETY: its addresses came from there.
            unsafe { self.source.release(chunk.base) };
        }
        self.free_tables(chunk.map.into_tables());
    }

    fn alloc_tables(&self, nr_pages: usize, gfp: Gfp) -> Result<Tables, OutOfMemory> {
        let nr_words = Map::nr_words(nr_pages);
        let words = self.alloc_table(nr_words, gfp)?;
        let nodes = self.alloc_table(nr_words, gfp);
        let ends = self.alloc_table(nr_words, gfp);
        let pages = self.alloc_table(nr_pages, gfp);
        match (nodes, ends, pages) {
            (Ok(nodes), Ok(ends), Ok(pages)) => Ok(Tables { words, nodes, ends, pages }),
            (nodes, ends, pages) => {
                self.free_table(words);
                _ = nodes.map(|table| self.free_table(table));
                _ = ends.map(|table| self.free_table(table));
                _ = pages.map(|table| self.free_table(table));
                Err(OutOfMemory)
            }
        }
    }

    fn free_tables(&self, tables: Tables) {
        let Tables { words, nodes, ends, pages } = tables;
        self.free_table(words);
        self.free_table(nodes);
        self.free_table(ends);
        self.free_table(pages);
    }

    fn alloc_table<T: Zeroable>(&self, len: usize, gfp: Gfp) -> Result<Table<T>, OutOfMemory> {
        let block = self.source.alloc_block(Table::<T>::layout(len).ok_or(OutOfMemory)?, gfp)?;
        // SAFETY: a new block of that layout.
        Ok(unsafe { Table::new(block, len) })
    }

    fn free_table<T: Zeroable>(&self, table: Table<T>) {
        let (block, layout) = table.into_block();
        // SAFETY: from `alloc_table`.
        unsafe { self.source.free_block(block, layout) };
    }

    /// Reports a failure, unless there were many.
    fn warn(&self, wanted: Wanted, gfp: Gfp, why: &str) {
        let one_less = |left: u32| left.checked_sub(1);
        if gfp.contains(Gfp::NOWARN) {
            return;
        }
        if let Ok(left) = self.warnings.fetch_update(Relaxed, Relaxed, one_less) {
            let (size, align) = ((wanted.units as usize) << UNIT_SHIFT, wanted.align << UNIT_SHIFT);
            let atomic = u32::from(!gfp.contains(Gfp::KERNEL));
            log::warn!("percpu: allocation failed, size={size} align={align} atomic={atomic}, {why}");
            if left == 1 {
                log::info!("percpu: limit reached, disable warning");
            }
        }
    }

    /// Recounts everything, nothing being allocated or freed meanwhile.
    ///
    /// # Panics
    /// When something does not add up.
    pub fn validate(&self) {
        let _serial = self.source.serialise();
        self.chunks.lock().validate();
    }
}

impl<S: ChunkSource> Drop for PerCpuAllocator<'_, S> {
    /// Gives everything back. What is allocated is in use no more: handles borrow the allocator.
    fn drop(&mut self) {
        let mut chunks = mem::replace(self.chunks.get_mut(), Chunks::new());
        chunks.drain();
        loop {
            let Some(chunk) = chunks.iter().next().map(|(at, _)| at) else { break };
            // SAFETY: in the lists, and reached through `chunks` only.
            unsafe {
                chunks.remove(chunk);
                self.depopulate_all(chunk);
                self.destroy(chunk);
            }
        }
    }
}

/// What is wanted in units, if it may be.
#[inline(always)]
fn wanted(size: usize, align: usize) -> Option<Wanted> {
    if size == 0 || size > super::MAX_BYTES || !align.is_power_of_two() || align > PAGE_SIZE {
        return None;
    }
    let units = size.div_ceil(1 << UNIT_SHIFT) as u32;
    Some(Wanted { units, align: (align >> UNIT_SHIFT).max(1) })
}
