//! Areas that were freed a moment ago, for who wants the same size next.
//!
//! ```text
//! 4 bytes:   [ area, area ]                  8 of each size at most, the last one first
//! 64 bytes:  [ area, area, area ]            in its chunk, each is still an area
//! ```
//! Who counts something for a moment allocates and frees the same size again and again; so neither needs a look at a map. What
//! is kept holds back its page: [`Chunks::drain`](super::chunk::Chunks::drain) gives all of it to the maps before anything
//! fails for want of room, and when pages and chunks are balanced.
//!
//! # Invariants
//! - K1: what is kept is an area of its chunk, of the size of its list, that nobody uses; no area is kept twice.

use core::ptr::NonNull;

use super::chunk::Chunk;
use super::map::Wanted;

/// Sizes from one unit to 64, powers of two.
const NR_SIZES: usize = 7;
/// How many areas of a size are kept.
const DEPTH: usize = 8;

/// A chunk, and the first unit of an area in it.
type Area = (NonNull<Chunk>, usize);

#[derive(Clone, Copy, Debug)]
struct List {
    nr: usize,
    areas: [Option<Area>; DEPTH],
}

/// See the module.
#[derive(Debug)]
pub(super) struct Kept {
    lists: [List; NR_SIZES],
}

impl Kept {
    pub(super) const fn new() -> Self {
        Self { lists: [List { nr: 0, areas: [None; DEPTH] }; NR_SIZES] }
    }

    #[inline(always)]
    fn list(&mut self, units: usize) -> Option<&mut List> {
        if !units.is_power_of_two() {
            return None;
        }
        self.lists.get_mut(units.trailing_zeros() as usize)
    }

    /// The area that was kept last, if it is as wanted.
    #[inline(always)]
    pub(super) fn take(&mut self, wanted: Wanted) -> Option<Area> {
        let list = self.list(wanted.units as usize)?;
        let last = list.nr.checked_sub(1)?;
        let area = (*list.areas.get(last)?)?;
        if area.1 & (wanted.align - 1) != 0 {
            return None;
        }
        list.nr = last;
        Some(area)
    }

    /// Keeps an area of so many units, if there is room. False: it is not kept.
    ///
    /// # Panics
    /// When it is kept already: it was freed twice.
    #[inline(always)]
    pub(super) fn keep(&mut self, area: Area, units: usize) -> bool {
        let Some(list) = self.list(units) else { return false };
        let nr = list.nr.min(DEPTH);
        assert!(!list.areas[..nr].contains(&Some(area)), "BUG: percpu: unit {:#x} is freed twice", area.1);
        match list.areas.get_mut(nr) {
            Some(place) => {
                *place = Some(area);
                list.nr = nr + 1;
                true
            }
            None => false,
        }
    }

    /// Any of what is kept; from now on it is not.
    pub(super) fn pop(&mut self) -> Option<Area> {
        let list = self.lists.iter_mut().find(|list| list.nr > 0)?;
        list.nr -= 1;
        list.areas[list.nr].take()
    }

    /// All that is kept, and how many units it has.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Area, usize)> {
        let of_list = |(size, list): (usize, &List)| {
            let (areas, nr) = (list.areas, list.nr);
            (0..nr).filter_map(move |index| Some((areas[index]?, 1 << size)))
        };
        self.lists.iter().enumerate().flat_map(of_list)
    }
}
