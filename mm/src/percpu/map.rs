//! What is taken in a chunk, and which of its pages have memory: the same in each of its units.
//!
//! ```text
//! unit     |  page 0   |  page 1   |  page 2   |  page 3   |
//! ready     1100000111   1111111111  0000000000  0011111111     free, and the page has memory
//! ends      0100000000   0000000000  0000000000  1000000000     the last units of areas
//! page      used: 4      empty       no memory   used: 2
//!             [A][  B    ...                      ...C]
//! ```
//! A unit here is what is allocated at least, 4 bytes (Linux: `PCPU_MIN_ALLOC_SIZE`); there are 1024 in a page.
//!
//! # Invariants
//! - M1: a unit is ready exactly when its page is populated and no area has it.
//! - M2: `used` of a page is how many of its units areas have; `nr_populated` and `nr_empty` count the pages that are
//!   populated, and those of them with `used` 0.
//! - M3: areas do not overlap; the last unit of each is marked in `ends`, and no other unit is; `nr_areas` counts them.
//! - M4: pages of an area are populated, but for the one that is [`reserve`](Map::reserve)d and not settled yet.
//!
//! # Not here
//! Where the memory is, and who may change what when: [`chunk`](super::chunk), [`alloc`](super::alloc).

use core::ops::Range;

use super::runs::{CAP, Node, Runs, WORD_UNITS};
use super::table::Table;
use crate::addr::{PAGE_SHIFT, PAGE_SIZE};

/// Log2 of the smallest allocation's bytes.
pub(super) const UNIT_SHIFT: u32 = 2;
/// Units of a page.
pub(super) const PAGE_UNITS: usize = PAGE_SIZE >> UNIT_SHIFT;
/// Words of a page.
const PAGE_WORDS: usize = PAGE_UNITS / WORD_UNITS;

const _: () = assert!(PAGE_SHIFT - UNIT_SHIFT == 10 && PAGE_WORDS == 16);
const _: () =
    assert!(super::MAX_BYTES + PAGE_SIZE <= (CAP as usize) << UNIT_SHIFT, "runs are told apart up to that");

/// A page of each unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PageState {
    /// Units in areas: 0 to 1024.
    used: u16,
    /// 1: it has memory.
    populated: u16,
}

/// What a wanted area is like, in units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) units: u32,
    /// A power of two.
    pub(super) align: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Map {
    ready: Runs,
    ends: Table<u64>,
    pages: Table<PageState>,
    nr_populated: usize,
    nr_empty: usize,
    nr_areas: usize,
}

/// The tables that a map is made of.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) words: Table<u64>,
    pub(super) nodes: Table<Node>,
    pub(super) ends: Table<u64>,
    pub(super) pages: Table<PageState>,
}

impl Map {
    /// How many words, nodes and words of ends it takes for so many pages.
    pub(super) const fn nr_words(nr_pages: usize) -> usize {
        Runs::nr_words(nr_pages * PAGE_UNITS)
    }

    /// Nothing has memory.
    pub(super) fn new(tables: Tables) -> Self {
        let Tables { words, nodes, ends, pages } = tables;
        debug_assert!(words.len() == ends.len() && words.len() >= Self::nr_words(pages.len()));
        Self { ready: Runs::new(words, nodes), ends, pages, nr_populated: 0, nr_empty: 0, nr_areas: 0 }
    }

    pub(super) fn into_tables(self) -> Tables {
        let (words, nodes) = self.ready.into_tables();
        Tables { words, nodes, ends: self.ends, pages: self.pages }
    }

    pub(super) fn nr_pages(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn nr_populated(&self) -> usize {
        self.nr_populated
    }

    pub(super) fn nr_empty(&self) -> usize {
        self.nr_empty
    }

    pub(super) fn has_unpopulated(&self) -> bool {
        self.nr_populated < self.pages.len()
    }

    pub(super) fn is_unused(&self) -> bool {
        self.nr_areas == 0
    }

    /// The longest ready run, in units, at most CAP.
    #[inline(always)]
    pub(super) fn best(&self) -> u32 {
        self.ready.best()
    }

    /// Takes the first place that fits, with memory. Logarithmic time.
    #[inline]
    pub(super) fn alloc(&mut self, wanted: Wanted) -> Option<usize> {
        let start = self.ready.find(wanted.units, wanted.align)?;
        let len = wanted.units as usize;
        self.ready.take(start, len);
        self.note_used(start, len);
        self.note_area(start, len);
        Some(start)
    }

    /// Gives back the area that starts at `start`; its length in units. Logarithmic time, and a step for each 256 bytes.
    ///
    /// # Panics
    /// When there is no area: that is a bug of the caller's, and going on would hand out memory twice.
    #[inline]
    pub(super) fn free(&mut self, start: usize) -> usize {
        let len = self.len_of(start);
        let end = start + len - 1;
        self.ends[end / WORD_UNITS] &= !(1 << (end % WORD_UNITS));
        self.nr_areas -= 1;
        self.note_unused(start, len);
        self.ready.give(start, len);
        len
    }

    /// The length of the area that starts at `start`, in units. A step for each 256 bytes.
    ///
    /// # Panics
    /// As [`free`](Self::free).
    #[inline(always)]
    pub(super) fn len_of(&self, start: usize) -> usize {
        match self.end_of(start) {
            Some(end) => end + 1 - start,
            None => panic!("BUG: percpu: no area at unit {start:#x}"),
        }
    }

    /// The last unit of the area that starts at `start`.
    #[inline]
    fn end_of(&self, start: usize) -> Option<usize> {
        if self.ready.is_free(start) {
            return None;
        }
        let (first, bit) = (start / WORD_UNITS, start % WORD_UNITS);
        let mut word = self.ends[first] & (u64::MAX << bit);
        let mut index = first;
        while word == 0 {
            index += 1;
            word = *self.ends.get(index)?;
        }
        Some(index * WORD_UNITS + word.trailing_zeros() as usize)
    }

    #[inline(always)]
    fn note_area(&mut self, start: usize, len: usize) {
        let end = start + len - 1;
        self.ends[end / WORD_UNITS] |= 1 << (end % WORD_UNITS);
        self.nr_areas += 1;
    }

    #[inline]
    fn note_used(&mut self, start: usize, len: usize) {
        for (page, part) in pages_of(start, len) {
            let state = &mut self.pages[page];
            self.nr_empty -= usize::from(state.used == 0) & usize::from(state.populated);
            state.used += part;
        }
    }

    #[inline]
    fn note_unused(&mut self, start: usize, len: usize) {
        for (page, part) in pages_of(start, len) {
            let state = &mut self.pages[page];
            state.used -= part;
            self.nr_empty += usize::from(state.used == 0) & usize::from(state.populated);
        }
    }

    /// Reserves the first place that fits where not all pages have memory: its ready units are taken, and it becomes an area
    /// when the others have memory ([`settle`](Self::settle)), or is given back ([`unreserve`](Self::unreserve)). Time: a
    /// step for each page and for each 256 bytes of pages in use.
    pub(super) fn reserve(&mut self, wanted: Wanted) -> Option<Range<usize>> {
        let start = self.find_with_unpopulated(wanted)?;
        let range = start..start + wanted.units as usize;
        self.each_populated_part(&range, |runs, start, len| runs.take(start, len));
        self.note_used(start, range.len());
        Some(range)
    }

    /// What was reserved has memory by now, and is an area.
    pub(super) fn settle(&mut self, range: &Range<usize>) {
        self.note_area(range.start, range.len());
    }

    /// What was reserved is not wanted any more.
    pub(super) fn unreserve(&mut self, range: &Range<usize>) {
        self.note_unused(range.start, range.len());
        self.each_populated_part(range, |runs, start, len| runs.give(start, len));
    }

    fn each_populated_part(&mut self, range: &Range<usize>, mut f: impl FnMut(&mut Runs, usize, usize)) {
        let mut at = range.start;
        for (page, part) in pages_of(range.start, range.len()) {
            if self.pages[page].populated != 0 {
                f(&mut self.ready, at, part.into());
            }
            at += usize::from(part);
        }
    }

    /// The first place that fits, pages without memory counted as free.
    fn find_with_unpopulated(&self, wanted: Wanted) -> Option<usize> {
        let need = wanted.units as usize;
        // Where the run begins that goes on until here.
        let mut run = 0;
        let fits = |run: usize, end: usize| {
            let start = run.next_multiple_of(wanted.align);
            (start + need <= end).then_some(start)
        };
        for (page, state) in self.pages.iter().enumerate() {
            let base = page * PAGE_UNITS;
            let taken =
                if state.populated == 0 { state.used != 0 } else { usize::from(state.used) == PAGE_UNITS };
            if taken {
                run = base + PAGE_UNITS;
            } else if state.populated != 0 && state.used != 0 {
                for (index, &word) in self.ready.words()[page * PAGE_WORDS..][..PAGE_WORDS].iter().enumerate()
                {
                    let mut taken = !word;
                    while taken != 0 {
                        let unit = base + index * WORD_UNITS + taken.trailing_zeros() as usize;
                        if let Some(start) = fits(run, unit) {
                            return Some(start);
                        }
                        run = unit + 1;
                        taken &= taken - 1;
                    }
                }
            }
            if let Some(start) = fits(run, base + PAGE_UNITS) {
                return Some(start);
            }
        }
        None
    }

    /// The first page from `from` on without memory, and those after it, `limit` at most, up to page `end`.
    pub(super) fn unpopulated(&self, from: usize, end: usize, limit: usize) -> Option<Range<usize>> {
        let lacks = |page: &usize| self.pages[*page].populated == 0;
        let first = (from..end).find(lacks)?;
        let nr = (first..end.min(first.saturating_add(limit))).take_while(lacks).count();
        Some(first..first + nr)
    }

    /// The last run of pages with memory and without areas.
    fn last_empty(&self) -> Option<Range<usize>> {
        let empty = |page: &usize| self.pages[*page] == PageState { used: 0, populated: 1 };
        let last = (0..self.pages.len()).rev().find(empty)?;
        let nr = (0..=last).rev().take_while(empty).count();
        Some(last + 1 - nr..last + 1)
    }

    /// The pages have memory now. `reserved` is what is reserved, if anything is.
    pub(super) fn populated(&mut self, pages: Range<usize>, reserved: &Range<usize>) {
        for page in pages {
            let state = &mut self.pages[page];
            debug_assert_eq!(state.populated, 0);
            state.populated = 1;
            self.nr_populated += 1;
            self.nr_empty += usize::from(state.used == 0);
            let (start, end) = (page * PAGE_UNITS, (page + 1) * PAGE_UNITS);
            let before = reserved.start.clamp(start, end);
            let after = reserved.end.clamp(before, end);
            for part in [start..before, after..end] {
                if !part.is_empty() {
                    self.ready.give(part.start, part.len());
                }
            }
        }
    }

    /// The last run of pages with memory and without areas has no memory from now on, and is to be given back. Time: a step
    /// a page.
    pub(super) fn give_back_last_empty(&mut self) -> Option<Range<usize>> {
        let pages = self.last_empty()?;
        for page in pages.clone() {
            self.pages[page].populated = 0;
        }
        self.nr_populated -= pages.len();
        self.nr_empty -= pages.len();
        self.ready.take(pages.start * PAGE_UNITS, pages.len() * PAGE_UNITS);
        Some(pages)
    }

    /// Units `0..units` are an area for good: what the first chunk has in front of what it gives out.
    pub(super) fn keep_front(&mut self, units: usize) {
        if units > 0 {
            self.ready.take(0, units);
            self.note_used(0, units);
            self.note_area(0, units);
        }
    }

    /// The areas, by their first unit and their length. A look at each unit.
    pub(super) fn areas(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let has_area =
            |unit: usize| self.pages[unit / PAGE_UNITS].populated != 0 && !self.ready.is_free(unit);
        let mut unit = 0;
        core::iter::from_fn(move || {
            let start = (unit..self.nr_pages() * PAGE_UNITS).find(|&unit| has_area(unit))?;
            let end = self.end_of(start).expect("an area has an end");
            unit = end + 1;
            Some(start..unit)
        })
    }

    /// Recounts M1 to M4, nothing being reserved.
    pub(super) fn validate(&self) {
        self.ready.validate();
        let (mut nr_areas, mut ends) = (0, 0);
        let mut next = 0;
        let mut used = 0;
        for area in self.areas() {
            assert!(area.start >= next, "areas overlap at unit {:#x}", area.start);
            assert!((area.clone()).all(|unit| !self.ready.is_free(unit)), "units of {area:?} are ready");
            (next, nr_areas, used) = (area.end, nr_areas + 1, used + area.len());
        }
        self.ends.iter().for_each(|word| ends += word.count_ones() as usize);
        assert_eq!((self.nr_areas, ends), (nr_areas, nr_areas), "areas");
        let pages_used: usize = self.pages.iter().map(|page| usize::from(page.used)).sum();
        assert_eq!(pages_used, used, "units in areas");
        let (mut populated, mut empty) = (0, 0);
        for (page, state) in self.pages.iter().enumerate() {
            let words = &self.ready.words()[page * PAGE_WORDS..][..PAGE_WORDS];
            let ready: usize = words.iter().map(|word| word.count_ones() as usize).sum();
            let expected = usize::from(state.populated) * (PAGE_UNITS - usize::from(state.used));
            assert_eq!(ready, expected, "ready units of page {page}: {state:?}");
            populated += usize::from(state.populated);
            empty += usize::from(*state == PageState { used: 0, populated: 1 });
        }
        assert_eq!((self.nr_populated, self.nr_empty), (populated, empty), "pages");
        let beyond = &self.ready.words()[self.nr_pages() * PAGE_WORDS..];
        assert!(beyond.iter().all(|&word| word == 0), "there is nothing beyond the last page");
    }
}

/// The pages that units `start..start + len` are in, and how many of them are in each.
#[inline(always)]
fn pages_of(start: usize, len: usize) -> impl Iterator<Item = (usize, u16)> {
    let end = start + len;
    (start / PAGE_UNITS..end.div_ceil(PAGE_UNITS)).map(move |page| {
        let from = start.max(page * PAGE_UNITS);
        let to = end.min((page + 1) * PAGE_UNITS);
        (page, (to - from) as u16)
    })
}

/// The pages that those units are in.
pub(super) fn page_range(units: &Range<usize>) -> Range<usize> {
    units.start / PAGE_UNITS..units.end.div_ceil(PAGE_UNITS)
}
