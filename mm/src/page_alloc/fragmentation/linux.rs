//! Where Linux 6.1 places blocks: a simulator of its rules, written from them alone, that knows pages by their numbers only.
//!
//! ```text
//! alloc: CPU's list of order and type (0-3; 9: one for all types) -> empty: a batch from the free lists
//!        free lists: smallest block of the type, halves back in front;  none: of another type, largest first (`fallback`)
//! free:  type is its pageblock's -> CPU's list, in front -> too full: the oldest, list by list -> merged
//! ```
//! One zone of whole pageblocks, one CPU, never short of memory: no watermarks, no reserves.

use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

const MAX_ORDER: u8 = 10;
const PAGEBLOCK: u8 = 9;
const UNMOVABLE: usize = 0;
const MOVABLE: usize = 1;
const RECLAIMABLE: usize = 2;

/// Types to take from, in turn.
const FALLBACKS: [[usize; 2]; 3] = [[RECLAIMABLE, MOVABLE], [RECLAIMABLE, UNMOVABLE], [UNMOVABLE, MOVABLE]];

/// The zone. Pages are numbered from its first one.
#[derive(Debug)]
pub(super) struct Linux {
    /// Of the free block that starts there: order and type of its list.
    heads: Vec<Option<(u8, usize)>>,
    /// Blocks of each order and type, the first one first.
    pub(super) lists: Vec<[VecDeque<usize>; 3]>,
    /// Of each pageblock.
    pub(super) types: Vec<usize>,
    /// The CPU's lists: three types of four orders, one for order 9; with the type that a block had when it was freed.
    cpu: [VecDeque<(usize, usize)>; 13],
    count: u32,
    high: u32,
    batch: u32,
    free_factor: u32,
}

fn cpu_list(order: u8, of: usize) -> Option<usize> {
    match order {
        0..=3 => Some(usize::from(order) * 3 + of),
        PAGEBLOCK => Some(12),
        _ => None,
    }
}

fn order_of_list(list: usize) -> u8 {
    if list == 12 { PAGEBLOCK } else { (list / 3) as u8 }
}

impl Linux {
    pub(super) fn new(types: Vec<usize>, high: u32, batch: u32) -> Self {
        Self {
            heads: vec![None; types.len() << PAGEBLOCK],
            lists: (0..=MAX_ORDER).map(|_| Default::default()).collect(),
            types,
            cpu: Default::default(),
            count: 0,
            high,
            batch,
            free_factor: 0,
        }
    }

    /// A block that is free at the start, behind the others of its list.
    pub(super) fn add(&mut self, at: usize, order: u8, of: usize) {
        self.heads[at] = Some((order, of));
        self.lists[usize::from(order)][of].push_back(at);
    }

    fn unlist(&mut self, at: usize) -> (u8, usize) {
        let (order, of) = self.heads[at].take().expect("a free block");
        let list = &mut self.lists[usize::from(order)][of];
        let place = list.iter().position(|&other| other == at).expect("it is on its list");
        list.remove(place);
        (order, of)
    }

    fn first(&mut self, at: usize, order: u8, of: usize) {
        self.heads[at] = Some((order, of));
        self.lists[usize::from(order)][of].push_front(at);
    }

    /// `alloc_pages`.
    pub(super) fn alloc(&mut self, order: u8, wanted: usize) -> Option<usize> {
        let Some(list) = cpu_list(order, wanted) else { return self.rmqueue(order, wanted) };
        self.free_factor >>= 1;
        if self.cpu[list].is_empty() {
            let nr = if self.batch > 1 { (self.batch >> order).max(2) } else { self.batch };
            for _ in 0..nr {
                let Some(at) = self.rmqueue(order, wanted) else { break };
                // The type is that of the list that it came from: the wanted one.
                self.cpu[list].push_back((at, wanted));
                self.count += 1 << order;
            }
        }
        let (at, _) = self.cpu[list].pop_front()?;
        self.count -= 1 << order;
        Some(at)
    }

    fn rmqueue(&mut self, order: u8, wanted: usize) -> Option<usize> {
        loop {
            if let Some(at) = self.smallest(order, wanted) {
                return Some(at);
            }
            if !self.fallback(order, wanted) {
                return None;
            }
        }
    }

    fn smallest(&mut self, order: u8, of: usize) -> Option<usize> {
        let (mut from, at) =
            (order..=MAX_ORDER).find_map(|o| Some((o, *self.lists[usize::from(o)][of].front()?)))?;
        self.unlist(at);
        while from > order {
            from -= 1;
            self.first(at + (1 << from), from, of);
        }
        Some(at)
    }

    fn suitable(&self, order: u8, wanted: usize) -> Option<usize> {
        FALLBACKS[wanted].into_iter().find_map(|of| self.lists[usize::from(order)][of].front().copied())
    }

    fn fallback(&mut self, order: u8, wanted: usize) -> bool {
        let Some((mut from, mut at)) =
            (order..=MAX_ORDER).rev().find_map(|o| Some((o, self.suitable(o, wanted)?)))
        else {
            return false;
        };
        let whole = |from: u8| from >= PAGEBLOCK / 2 || wanted != MOVABLE;
        if !whole(from) && from > order {
            (from, at) =
                (order..=MAX_ORDER).find_map(|o| Some((o, self.suitable(o, wanted)?))).expect("as before");
        }
        self.steal(at, from, wanted, whole(from));
        true
    }

    fn steal(&mut self, at: usize, order: u8, wanted: usize, whole: bool) {
        if order >= PAGEBLOCK {
            for pageblock in 0..1 << (order - PAGEBLOCK) {
                self.types[(at >> PAGEBLOCK) + pageblock] = wanted;
            }
            return self.move_to(at, wanted);
        }
        if !whole {
            return self.move_to(at, wanted);
        }
        let (start, old) = (at >> PAGEBLOCK << PAGEBLOCK, self.types[at >> PAGEBLOCK]);
        let mut free = 0;
        let mut page = start;
        while page < start + (1 << PAGEBLOCK) {
            page += match self.heads[page] {
                Some((order, _)) => {
                    self.move_to(page, wanted);
                    free += 1 << order;
                    1 << order
                }
                None => 1,
            };
        }
        // No page is on an LRU list: none is known to be movable.
        let alike = if wanted != MOVABLE && old == MOVABLE { (1 << PAGEBLOCK) - free } else { 0 };
        if free + alike >= 1 << (PAGEBLOCK - 1) {
            self.types[at >> PAGEBLOCK] = wanted;
        }
    }

    fn move_to(&mut self, at: usize, of: usize) {
        let (order, _) = self.unlist(at);
        self.add(at, order, of);
    }

    /// `__free_pages`.
    pub(super) fn free(&mut self, at: usize, order: u8) {
        let of = self.types[at >> PAGEBLOCK];
        let Some(list) = cpu_list(order, of) else { return self.free_one(at, order, of) };
        self.cpu[list].push_front((at, of));
        self.count += 1 << order;
        let all = self.free_factor > 0 && (1..=3).contains(&order);
        if all {
            self.free_bulk(self.count, list);
        } else if self.count >= self.high {
            let nr = self.nr_to_free();
            self.free_bulk(nr, list);
        }
    }

    fn nr_to_free(&mut self) -> u32 {
        if self.high < self.batch {
            return 1;
        }
        let most = self.high - self.batch;
        let wanted = self.batch << self.free_factor;
        if wanted < most {
            self.free_factor += 1;
        }
        wanted.clamp(self.batch, most.max(self.batch))
    }

    fn free_bulk(&mut self, nr: u32, mut list: usize) {
        let mut left = nr.min(self.count) as i64;
        while left > 0 {
            while self.cpu[list].is_empty() {
                list = (list + 1) % self.cpu.len();
            }
            let order = order_of_list(list);
            while left > 0
                && let Some((at, of)) = self.cpu[list].pop_back()
            {
                left -= 1 << order;
                self.count -= 1 << order;
                self.free_one(at, order, of);
            }
            list = (list + 1) % self.cpu.len();
        }
    }

    /// `drain_pages`.
    pub(super) fn drain(&mut self) {
        self.free_bulk(self.count, 0);
    }

    fn is_free(&self, at: usize, order: u8) -> bool {
        self.heads.get(at).copied().flatten().is_some_and(|(other, _)| other == order)
    }

    fn free_one(&mut self, mut at: usize, mut order: u8, of: usize) {
        while order < MAX_ORDER && self.is_free(at ^ (1 << order), order) {
            self.unlist(at ^ (1 << order));
            at &= !(1 << order);
            order += 1;
        }
        // Likely to merge soon: the buddy of what it would be merged to is free.
        let parent = at & !(1 << order);
        if order + 2 <= MAX_ORDER && self.is_free(parent ^ (2 << order), order + 1) {
            self.add(at, order, of);
        } else {
            self.first(at, order, of);
        }
    }
}
