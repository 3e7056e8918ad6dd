//! What is known of who has a page, in eight words beside the struct pages.
//!
//! ```text
//! 0        4       5       6       8         16       24    32         40          48      64
//! | gfp    | order | state | -     | stack   | freed  | ts  | freed at | pid, tgid | name  |
//! ```
//! `struct Page` has the record's address. Records are written by who allocates or frees the page, and may be read meanwhile:
//! then a reader sees a part of each.
//!
//! # Invariants
//! - R1: the two words for stacks are 0 or handles of stacks in the allocator's depot, which outlives the records.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::gfp::Gfp;
use crate::order::Order;
use crate::stackdepot::Stack;

/// Bytes of a thread's name, the last one 0 (Linux: `TASK_COMM_LEN`).
pub(super) const NAME_BYTES: usize = 16;

/// Whether the page is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It is (Linux: `PAGE_EXT_OWNER_ALLOCATED`).
    Allocated = 1,
    /// It was.
    Freed = 2,
}

/// Who allocated, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Allocation {
    pub(super) gfp: Gfp,
    pub(super) order: Order,
    pub(super) stack: Option<Stack>,
    pub(super) ts_ns: u64,
    pub(super) pid: u32,
    pub(super) tgid: u32,
    /// Ends with 0, when it is shorter.
    pub(super) name: [u8; NAME_BYTES],
}

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub(super) state: State,
    pub(super) allocation: Allocation,
    pub(super) free_stack: Option<Stack>,
    pub(super) free_ts_ns: u64,
}

impl Known {
    /// The thread's name.
    pub(super) fn name(&self) -> &str {
        let name = &self.allocation.name;
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
        core::str::from_utf8(&name[..end]).unwrap_or("?")
    }
}

/// A page's record (Linux: `struct page_owner`).
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Record {
    what: AtomicU64,
    stack: AtomicU64,
    free_stack: AtomicU64,
    ts_ns: AtomicU64,
    free_ts_ns: AtomicU64,
    ids: AtomicU64,
    name: [AtomicU64; NAME_BYTES / 8],
}

const _: () = assert!(size_of::<Record>() == 64);

const ORDER_SHIFT: u32 = 32;
const STATE_SHIFT: u32 = 40;

fn word(allocation: &Allocation, state: State) -> u64 {
    u64::from(allocation.gfp.bits())
        | u64::from(allocation.order.get()) << ORDER_SHIFT
        | (state as u64) << STATE_SHIFT
}

fn raw(stack: Option<Stack>) -> u64 {
    stack.map_or(0, Stack::into_raw)
}

impl Record {
    /// The page is allocated. What is known of when it was freed last stays, as in Linux.
    pub(super) fn set(&self, allocation: &Allocation) {
        self.stack.store(raw(allocation.stack), Relaxed);
        self.ts_ns.store(allocation.ts_ns, Relaxed);
        self.ids.store(u64::from(allocation.pid) | u64::from(allocation.tgid) << 32, Relaxed);
        for (word, bytes) in self.name.iter().zip(allocation.name.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*bytes), Relaxed);
        }
        self.what.store(word(allocation, State::Allocated), Relaxed);
    }

    /// The page is freed; nothing happens to one that nobody is known to have.
    pub(super) fn set_freed(&self, stack: Option<Stack>, ts_ns: u64) {
        let what = self.what.load(Relaxed);
        if what >> STATE_SHIFT == State::Allocated as u64 {
            self.free_stack.store(raw(stack), Relaxed);
            self.free_ts_ns.store(ts_ns, Relaxed);
            self.what.store(what & ((1 << STATE_SHIFT) - 1) | (State::Freed as u64) << STATE_SHIFT, Relaxed);
        }
    }

    /// The page is part of a block of that order from now on.
    pub(super) fn set_order(&self, order: Order) {
        let what = self.what.load(Relaxed);
        if what != 0 {
            self.what.store(what & !(0xff << ORDER_SHIFT) | u64::from(order.get()) << ORDER_SHIFT, Relaxed);
        }
    }

    /// Nobody is known to have the page.
    pub(super) fn forget(&self) {
        self.what.store(0, Relaxed);
    }

    /// Whether the page is recorded as in use.
    pub(super) fn is_allocated(&self) -> bool {
        self.what.load(Relaxed) >> STATE_SHIFT == State::Allocated as u64
    }

    /// What the record says; `None`: nothing yet.
    pub(super) fn get(&self) -> Option<Known> {
        let (what, ids) = (self.what.load(Relaxed), self.ids.load(Relaxed));
        let state = match what >> STATE_SHIFT {
            1 => State::Allocated,
            2 => State::Freed,
            _ => return None,
        };
        let mut name = [0; NAME_BYTES];
        for (bytes, word) in name.as_chunks_mut::<8>().0.iter_mut().zip(&self.name) {
            *bytes = word.load(Relaxed).to_ne_bytes();
        }
        // SAFETY: R1.
        let (stack, free_stack) = unsafe {
            (Stack::from_raw(self.stack.load(Relaxed)), Stack::from_raw(self.free_stack.load(Relaxed)))
        };
        let allocation = Allocation {
            gfp: Gfp::from_bits_retain(what as u32),
            order: Order::new((what >> ORDER_SHIFT) as u8)?,
            stack,
            ts_ns: self.ts_ns.load(Relaxed),
            pid: ids as u32,
            tgid: (ids >> 32) as u32,
            name,
        };
        Some(Known { state, allocation, free_stack, free_ts_ns: self.free_ts_ns.load(Relaxed) })
    }
}
