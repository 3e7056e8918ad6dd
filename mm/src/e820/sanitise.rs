//! Makes a sorted map without overlaps out of any set of entries.
//!
//! The sweep goes over all bounds in ascending order. The entries that cover the current position sit in a heap, the
//! highest kind on top; one that has ended leaves it when it comes to the top. The heap lives in the slots of entries
//! that the sweep has taken up already, so it needs no room of its own.
//!
//! # Invariants
//! - I1: `heap <= taken`: slots below `heap` are the heap, slots from `taken` on are still to come, sorted by start.

use super::{Entry, Error, Kind, Map};
use crate::addr::PhysRange;

impl Map<'_> {
    /// Sorts the entries, resolves overlaps (the higher type number wins) and merges neighbours of a kind; kinds whose
    /// bounds mean something are cut at every bound instead (Linux: `e820__update_table`). O(n log n).
    ///
    /// # Errors
    /// [`Error::Full`] when the result does not fit; the entries are then as they were, in another order.
    pub fn sanitise(&mut self) -> Result<(), Error> {
        let nr = self.nr;
        self.ends[..nr].copy_from_slice(&self.entries[..nr]);
        let result = self.sweep();
        match result {
            Ok(new_nr) => {
                core::mem::swap(&mut self.entries, &mut self.next);
                self.nr = new_nr;
                Ok(())
            }
            Err(e) => {
                self.entries[..nr].copy_from_slice(&self.ends[..nr]);
                log::error!("e820: sanitised map needs more than {} entries", self.capacity());
                Err(e)
            }
        }
    }

    /// Writes the sanitised map to `next`; returns its number of entries.
    fn sweep(&mut self) -> Result<usize, Error> {
        let nr = self.nr;
        let entries = &mut self.entries[..nr];
        let ends = &mut self.ends[..nr];
        entries.sort_unstable_by_key(|e| e.range.start());
        ends.sort_unstable_by_key(|e| e.range.end());
        let mut out = Output { to: self.next, nr: 0, open: None };
        let (mut taken, mut heap, mut ended) = (0, 0, 0);
        while ended < nr {
            let start = entries.get(taken).map_or(u64::MAX, |e| e.range.start());
            let at = start.min(ends[ended].range.end());
            while taken < nr && entries[taken].range.start() == at {
                entries.swap(heap, taken);
                sift_up(&mut entries[..=heap]);
                taken += 1;
                heap += 1;
            }
            while ended < nr && ends[ended].range.end() == at {
                ended += 1;
            }
            while heap > 0 && entries[0].range.end() <= at {
                heap -= 1;
                entries.swap(0, heap);
                sift_down(&mut entries[..heap]);
            }
            out.change(at, (heap > 0).then(|| entries[0].kind))?;
        }
        Ok(out.nr)
    }
}

/// The sanitised map as it grows.
struct Output<'a> {
    to: &'a mut [Entry],
    nr: usize,
    open: Option<(u64, Kind)>,
}

impl Output<'_> {
    /// From `at` on, memory is of kind `now`.
    fn change(&mut self, at: u64, now: Option<Kind>) -> Result<(), Error> {
        if let Some((start, kind)) = self.open {
            if now == Some(kind) && !kind.keeps_bounds() {
                return Ok(());
            }
            if let Some(range) = PhysRange::new(start, at).filter(|r| !r.is_empty()) {
                *self.to.get_mut(self.nr).ok_or(Error::Full)? = Entry { range, kind };
                self.nr += 1;
            }
        }
        self.open = now.map(|kind| (at, kind));
        Ok(())
    }
}

/// Moves the last entry of a heap up to its place.
fn sift_up(heap: &mut [Entry]) {
    let mut child = heap.len() - 1;
    while child > 0 {
        let parent = (child - 1) / 2;
        if heap[parent].kind >= heap[child].kind {
            break;
        }
        heap.swap(parent, child);
        child = parent;
    }
}

/// Moves the first entry of a heap down to its place.
fn sift_down(heap: &mut [Entry]) {
    let mut parent = 0;
    loop {
        let left = 2 * parent + 1;
        let Some(first) = heap.get(left) else { break };
        let larger = match heap.get(left + 1) {
            Some(second) if second.kind > first.kind => left + 1,
            _ => left,
        };
        if heap[parent].kind >= heap[larger].kind {
            break;
        }
        heap.swap(parent, larger);
        parent = larger;
    }
}
