//! Backtraces, each kept once however often it is seen (Linux: `lib/stackdepot.c`).
//!
//! ```text
//! buckets   [ . | o | . | o ]     as many as stacks, twice as many when there are more: a block of pages
//!                 v       v
//! pages     | stack > stack | stack  ...  |   next, hash, addresses
//! ```
//!
//! # Invariants
//! - S1: a stack that is in the depot does not move, change or go as long as the depot's memory lives, but for its link.
//! - S2: each bucket starts a chain, by `next`, of the stacks whose hashes end with its number; every stack is in one.
//!
//! # Locking
//! The depot's lock guards buckets, links and what is left of the current page. Memory is asked for without it.
//!
//! # Not here
//! How a backtrace is taken: that is the machine's, see [`Tracer`].

#[cfg(test)]
mod tests;

use core::fmt;
use core::ptr::NonNull;

use spin::Once;

use crate::PAGE_SIZE;
use crate::order::Order;
use crate::sync::{Level, SpinLock};

/// Addresses of a backtrace at most: the innermost ones are kept.
pub const MAX_ENTRIES: usize = 64;

/// What the machine knows of who runs.
pub trait Tracer: Sync {
    /// Writes the addresses to which the functions that run now return, innermost first; how many (Linux:
    /// `stack_trace_save`). Any context.
    fn save(&self, entries: &mut [u64]) -> usize;

    /// Writes a return address as `function+0x1/0x2` (Linux: `%pS`).
    ///
    /// # Errors
    /// Those of `out`.
    fn write_address(&self, address: u64, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Nanoseconds since boot (Linux: `local_clock`).
    fn now_ns(&self) -> u64;
}

static TRACER: Once<&'static dyn Tracer> = Once::new();

/// Says who takes backtraces. The first call counts.
pub fn set_tracer(tracer: &'static dyn Tracer) {
    TRACER.call_once(|| tracer);
}

/// Who takes backtraces.
pub(crate) fn tracer() -> Option<&'static dyn Tracer> {
    TRACER.get().copied()
}

/// Where a depot's memory comes from. Neither function comes back to the depot.
///
/// # Safety
/// What [`alloc`](Self::alloc) returns is as it says, and nobody else's until it is given back.
pub unsafe trait DepotMemory {
    /// A zeroed block, aligned to its size, for good or until `free`; `None`: there is none now.
    fn alloc(&self, order: Order) -> Option<NonNull<u8>>;

    /// Takes a block of `order` back that nothing refers to any more.
    fn free(&self, block: NonNull<u8>, order: Order);
}

/// A stack, in front of its addresses.
#[repr(C)]
struct Head {
    next: Option<NonNull<Head>>,
    hash: u32,
    nr_entries: u32,
}

/// A backtrace in a depot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stack(NonNull<Head>);

// SAFETY: what is behind it does not change (S1), but for its link, which the depot's lock guards.
unsafe impl Send for Stack {}
// SAFETY: as above.
unsafe impl Sync for Stack {}

impl Stack {
    /// A number that stands for it; 0 is none (Linux: `depot_stack_handle_t`).
    pub fn into_raw(self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// The stack again.
    ///
    /// # Safety
    /// From [`into_raw`](Self::into_raw), or 0, and its depot's memory is still there as long as the result is used.
    pub unsafe fn from_raw(handle: u64) -> Option<Self> {
        NonNull::new(handle as *mut Head).map(Self)
    }

    fn nr_entries(&self) -> usize {
        // SAFETY: a stack of a depot (S1); only constant fields are read.
        unsafe { (&raw const (*self.0.as_ptr()).nr_entries).read() as usize }
    }

    fn hash(&self) -> u32 {
        // SAFETY: as in `nr_entries`.
        unsafe { (&raw const (*self.0.as_ptr()).hash).read() }
    }

    /// Its return addresses, innermost first.
    pub fn entries(&self) -> &[u64] {
        // SAFETY: the addresses stand behind the head and do not change (S1).
        unsafe { core::slice::from_raw_parts(self.0.as_ptr().add(1).cast(), self.nr_entries()) }
    }

    /// Calls `line` with each address in words, after a space (Linux: `stack_trace_print`).
    pub fn each_line(&self, mut line: impl FnMut(fmt::Arguments<'_>)) {
        self.entries().iter().for_each(|&address| line(format_args!(" {}", Symbol(address))));
    }
}

/// A return address in words.
struct Symbol(u64);

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match tracer() {
            Some(tracer) => tracer.write_address(self.0, f),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}

/// FNV-1a over the addresses' bytes, folded.
fn hash(entries: &[u64]) -> u32 {
    let hash = entries
        .iter()
        .flat_map(|entry| entry.to_ne_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    (hash >> 32) as u32 ^ hash as u32
}

const fn size_of_stack(nr_entries: usize) -> usize {
    size_of::<Head>() + nr_entries * size_of::<u64>()
}

const _: () = assert!(size_of_stack(MAX_ENTRIES) <= PAGE_SIZE && align_of::<Head>() == align_of::<u64>());

/// What a stack needs before it can be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    /// A page for stacks.
    Page,
    /// A table of that order.
    Buckets(Order),
}

impl Need {
    fn order(self) -> Order {
        match self {
            Self::Page => Order::ZERO,
            Self::Buckets(order) => order,
        }
    }
}

/// A chain's start.
type Bucket = Option<NonNull<Head>>;

struct Inner {
    buckets: NonNull<Bucket>,
    /// 0 as long as there is no table.
    nr_buckets: usize,
    order: Order,
    nr_stacks: usize,
    /// A larger table is tried when there are so many stacks.
    grow_at: usize,
    /// Where the next stack goes, and how much room is left there.
    room: NonNull<u8>,
    left: usize,
    nr_pages: u64,
}

// SAFETY: the memory that it points to is its own.
unsafe impl Send for Inner {}

/// Backtraces, each kept once.
pub struct StackDepot {
    inner: SpinLock<Inner>,
}

impl fmt::Debug for StackDepot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackDepot").field("nr_stacks", &self.nr_stacks()).finish_non_exhaustive()
    }
}

impl Default for StackDepot {
    fn default() -> Self {
        Self::new()
    }
}

impl StackDepot {
    /// An empty one, without memory.
    pub const fn new() -> Self {
        let inner = Inner {
            buckets: NonNull::dangling(),
            nr_buckets: 0,
            order: Order::ZERO,
            nr_stacks: 0,
            grow_at: 0,
            room: NonNull::dangling(),
            left: 0,
            nr_pages: 0,
        };
        Self { inner: SpinLock::new(Level::Leaf, inner) }
    }

    /// How many different stacks there are.
    pub fn nr_stacks(&self) -> usize {
        self.inner.lock().nr_stacks
    }

    /// How many pages they and the table take.
    pub fn nr_pages(&self) -> u64 {
        self.inner.lock().nr_pages
    }

    /// The stack with these addresses, the first [`MAX_ENTRIES`] of them: the one that is there, or a new one. `None` without
    /// an address, or without memory (Linux: `stack_depot_save`). Any context in which `memory` can be asked; takes a few
    /// steps, but when the table grows time by the stacks.
    pub fn save(&self, entries: &[u64], memory: &dyn DepotMemory) -> Option<Stack> {
        let entries = &entries[..entries.len().min(MAX_ENTRIES)];
        if entries.is_empty() {
            return None;
        }
        let hash = hash(entries);
        loop {
            let need = {
                let mut inner = self.inner.lock();
                match inner.find_or_insert(hash, entries) {
                    Ok(stack) => return Some(stack),
                    Err(need) => need,
                }
            };
            let block = memory.alloc(need.order());
            let unused = self.inner.lock().take(need, block)?;
            if let Some((block, order)) = unused {
                memory.free(block, order);
            }
        }
    }

    /// Recounts the chains (S2).
    ///
    /// # Panics
    /// When something is not in order.
    pub fn validate(&self) {
        let inner = self.inner.lock();
        let mut nr_stacks = 0;
        for nr in 0..inner.nr_buckets {
            let mut next = inner.first(nr);
            while let Some(head) = next {
                let stack = Stack(head);
                assert_eq!(
                    (stack.hash(), stack.hash() as usize % inner.nr_buckets),
                    (hash(stack.entries()), nr)
                );
                nr_stacks += 1;
                next = link(head);
            }
        }
        assert_eq!(nr_stacks, inner.nr_stacks, "stacks in all chains");
    }
}

/// The next of a chain.
fn link(head: NonNull<Head>) -> Bucket {
    // SAFETY: a stack of the depot, whose lock the caller holds (S1, S2).
    unsafe { (*head.as_ptr()).next }
}

impl Inner {
    fn first(&self, nr: usize) -> Bucket {
        debug_assert!(nr < self.nr_buckets);
        // SAFETY: one of the table's buckets.
        unsafe { self.buckets.add(nr).read() }
    }

    /// Puts a stack in front of its chain.
    fn push(&mut self, head: NonNull<Head>) {
        let nr = Stack(head).hash() as usize % self.nr_buckets;
        // SAFETY: our own stack and a bucket of the table; the lock is held.
        unsafe {
            (*head.as_ptr()).next = self.first(nr);
            self.buckets.add(nr).write(Some(head));
        }
    }

    fn find(&self, hash: u32, entries: &[u64]) -> Option<Stack> {
        let mut next = if self.nr_buckets == 0 { None } else { self.first(hash as usize % self.nr_buckets) };
        while let Some(head) = next {
            let stack = Stack(head);
            if stack.hash() == hash && stack.entries() == entries {
                return Some(stack);
            }
            next = link(head);
        }
        None
    }

    fn find_or_insert(&mut self, hash: u32, entries: &[u64]) -> Result<Stack, Need> {
        if let Some(stack) = self.find(hash, entries) {
            return Ok(stack);
        }
        if self.nr_stacks >= self.grow_at {
            let next = if self.nr_buckets == 0 { Some(Order::ZERO) } else { self.order.up() };
            match next {
                Some(order) => return Err(Need::Buckets(order)),
                // The largest block there is: chains grow from now on.
                None => self.grow_at = usize::MAX,
            }
        }
        let size = size_of_stack(entries.len());
        if self.left < size {
            return Err(Need::Page);
        }
        let head = self.room.cast::<Head>();
        // SAFETY: `left` bytes from `room` on are ours and nobody's; sizes are multiples of the alignment.
        unsafe {
            head.write(Head { next: None, hash, nr_entries: entries.len() as u32 });
            head.add(1)
                .cast::<u64>()
                .copy_from_nonoverlapping(NonNull::from_ref(entries).cast(), entries.len());
            self.room = self.room.add(size);
        }
        self.left -= size;
        self.nr_stacks += 1;
        self.push(head);
        Ok(Stack(head))
    }

    /// Makes use of a block that was asked for, or of none. What is to be given back; `None` when it cannot go on without.
    fn take(&mut self, need: Need, block: Option<NonNull<u8>>) -> Option<Option<(NonNull<u8>, Order)>> {
        match (need, block) {
            (Need::Page, Some(page)) => {
                // Another CPU may have brought one too: then the rest of that is lost, once.
                (self.room, self.left) = (page, PAGE_SIZE);
                self.nr_pages += 1;
                Some(None)
            }
            (Need::Buckets(order), Some(table)) => Some(self.take_table(table, order)),
            // Chains get longer: not before there are as many stacks again a larger table is tried.
            (Need::Buckets(_), None) if self.nr_buckets > 0 => {
                self.grow_at = self.nr_stacks * 2;
                Some(None)
            }
            _ => None,
        }
    }

    /// Moves all stacks to a larger table; which one is not needed any more.
    fn take_table(&mut self, table: NonNull<u8>, order: Order) -> Option<(NonNull<u8>, Order)> {
        if self.nr_buckets > 0 && order <= self.order {
            // Another CPU was faster.
            return Some((table, order));
        }
        let old = (self.buckets, self.nr_buckets, self.order);
        self.buckets = table.cast();
        self.nr_buckets = order.size_bytes() / size_of::<Bucket>();
        self.order = order;
        self.grow_at = self.nr_buckets;
        self.nr_pages += order.nr_pages();
        for nr in 0..old.1 {
            // SAFETY: a bucket of the old table.
            let mut next = unsafe { old.0.add(nr).read() };
            while let Some(head) = next {
                next = link(head);
                self.push(head);
            }
        }
        if old.1 == 0 {
            return None;
        }
        self.nr_pages -= old.2.nr_pages();
        Some((old.0.cast(), old.2))
    }
}
