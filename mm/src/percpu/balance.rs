//! Pages and chunks, got before they are missing and given back when they are too many.
//!
//! ```text
//! chunks without areas          more than one  -> all but one given back
//! empty pages of a chunk        a quarter of it, and enough elsewhere -> given back, the last ones first
//! empty pages of all chunks     fewer than 4   -> filled up, for who cannot wait
//! ```
//! Allocating and freeing see when there is something to do, and tell the source, which calls [`PerCpuAllocator::balance`]
//! where it may sleep (Linux: `pcpu_balance_workfn`).

use core::ptr::NonNull;

use super::alloc::{EMPTY_HIGH, PerCpuAllocator};
use super::chunk::{Chunk, Chunks, Kind};
use super::map::Map;
use super::source::ChunkSource;
use crate::gfp::Gfp;

/// Pages are wanted, but nobody waits for them.
const REFILL: Gfp = Gfp::KERNEL.union(Gfp::NORETRY).union(Gfp::NOWARN);

impl Chunks {
    /// Whether pages of the chunk, or all of it, should be given back.
    #[inline(always)]
    pub(super) fn is_reclaimable(&self, chunk: &Chunk) -> bool {
        chunk.map.is_unused() && chunk.kind() == Kind::Dynamic && self.totals().nr_unused > 1
            || self.has_many_empty(chunk)
    }

    /// Whether its empty pages should be given back (Linux: `pcpu_should_reclaim_chunk`).
    #[inline(always)]
    fn has_many_empty(&self, chunk: &Chunk) -> bool {
        let nr_empty = chunk.map.nr_empty();
        nr_empty > 0
            && nr_empty >= chunk.map.nr_pages() / 4
            && self.totals().nr_empty > EMPTY_HIGH + nr_empty
            && chunk.kind() == Kind::Dynamic
    }

    fn find(&self, wanted: impl Fn(&Chunk) -> bool) -> Option<NonNull<Chunk>> {
        self.iter().find(|(_, chunk)| wanted(chunk)).map(|(at, _)| at)
    }
}

impl<S: ChunkSource> PerCpuAllocator<'_, S> {
    /// Gives back chunks and pages that are too many, and gets those that are too few. Sleeps.
    pub fn balance(&self) {
        let _serial = self.source.serialise();
        self.chunks.lock().drain();
        self.free_unused_chunks();
        self.reclaim_pages();
        self.refill();
    }

    /// All chunks without areas but one (Linux: `pcpu_balance_free`).
    fn free_unused_chunks(&self) {
        loop {
            let mut chunks = self.chunks.lock();
            if chunks.totals().nr_unused < 2 {
                return;
            }
            let Some(chunk) = chunks.find(|chunk| chunk.kind() == Kind::Dynamic && chunk.map.is_unused())
            else {
                return;
            };
            // SAFETY: in the lists; without areas, so no allocation names it.
            unsafe { chunks.remove(chunk) };
            drop(chunks);
            // SAFETY: it was in the lists, and nobody knows it any more.
            unsafe {
                self.depopulate_all(chunk);
                self.destroy(chunk);
            }
        }
    }

    /// Gives back all pages of a chunk without areas.
    ///
    /// # Safety
    /// The chunk was removed from the lists, and nobody else knows it.
    pub(super) unsafe fn depopulate_all(&self, mut chunk: NonNull<Chunk>) {
        // SAFETY: the caller's alone.
        let chunk = unsafe { chunk.as_mut() };
        if chunk.kind() == Kind::First {
            return;
        }
        while let Some(pages) = chunk.map.give_back_last_empty() {
            // SAFETY: they had memory, and nobody uses them.
            unsafe { self.source.depopulate(chunk.base, pages) };
        }
    }

    /// All empty pages of chunks with many (Linux: `pcpu_reclaim_populated`).
    fn reclaim_pages(&self) {
        loop {
            let chunks = self.chunks.lock();
            let Some(chunk) = chunks.find(|chunk| chunks.has_many_empty(chunk)) else { return };
            drop(chunks);
            loop {
                // SAFETY: in the lists as long as we have the source's lock.
                let pages = unsafe { self.chunks.lock().change(chunk, Map::give_back_last_empty) };
                let Some(pages) = pages else { break };
                // SAFETY: as above; the pages had memory, and from now on nobody is given any of it.
                unsafe { self.source.depopulate(Chunk::base(chunk), pages) };
            }
        }
    }

    /// Empty pages up to [`EMPTY_HIGH`] (Linux: `pcpu_balance_populated`).
    fn refill(&self) {
        loop {
            let chunks = self.chunks.lock();
            let missing = EMPTY_HIGH.saturating_sub(chunks.totals().nr_empty);
            if missing == 0 {
                return;
            }
            let chunk = chunks.find(|chunk| chunk.map.has_unpopulated());
            // SAFETY: just found in the lists.
            let lacking =
                chunk.and_then(|at| Some((at, unsafe { chunks.lacking(at, 0..usize::MAX, missing) }?)));
            drop(chunks);
            let done = match lacking {
                // SAFETY: in the lists as long as we have the source's lock; which pages it has changes by nobody else.
                Some((chunk, pages)) => unsafe { self.populate(chunk, pages, &(0..0), REFILL) },
                None => self.create_chunk(REFILL),
            };
            if done.is_err() {
                return;
            }
        }
    }
}
