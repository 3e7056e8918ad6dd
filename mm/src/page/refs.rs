//! How many use a page, and how many page-table entries map it: the two counts that decide when it is freed.
//!
//! ```text
//!   give out          get, try_get            put, not the last
//!  0 ------> 1 ----------------------> n -----------------------> n - 1      ...      1 ------> 0: free it
//!            | freeze(n): nobody else can get it        ^ unfreeze(n)                   put: last
//!            +---------------------> 0 (frozen) --------+
//! ```
//!
//! [`RefCount`] (Linux: `_refcount`), read as a signed number:
//!
//! | value | state |
//! |---|---|
//! | 0 | free; or a tail page, whose head counts for it; or frozen: one owner, whom nobody can join |
//! | 1 ..= `i32::MAX` | that many users |
//! | -127 ..= -1 | given back more often than taken: a bug |
//! | below | taken too often: two thousand million users; nobody else gets it |
//!
//! [`MapCount`] (Linux: `_mapcount`, `page_type`), read as a signed number:
//!
//! | value | state |
//! |---|---|
//! | -1 | mapped nowhere, no type |
//! | 0 ..= `i32::MAX` | mapped by that many entries and one |
//! | -128 ..= -2 | unmapped more often than mapped: a bug |
//! | -2^28 ..= -129 | a type of page that is never mapped (`PageType`) |
//! | below | mapped too often: a bug, which the reference count notices first |
//!
//! Of a compound page, the head's `RefCount` counts for all its pages. Each page has a `MapCount` of its own for entries
//! that map it alone; the first tail keeps one more for entries that map the whole.
//!
//! # Invariants
//! - R1: who calls `get`, `put`, `add` or `sub` has a reference, which is one of those counted. Each mapping has one.
//! - R2: who brings the count to 0 owns the page alone, and sees all that former users did to it.
//! - R3: who calls `try_get` keeps the page from being given out again meanwhile, by the lock of what it found the page in
//!   or a read-side section that its owner waits for: the page may be freed, but is not somebody else's yet. That is why
//!   a sole owner may end the count without a read-modify-write ([`RefCount::end_sole`]): nobody can find the page.
//!
//! # Locking
//! None. Any context, one atomic operation each.

use core::fmt;

use super::atomic::{AtomicU32, Ordering, fence};

/// How many use a page. See the module for its values.
#[repr(transparent)]
pub struct RefCount(AtomicU32);

/// What a [`RefCount`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefState {
    /// 0: free, a tail, or frozen.
    Unused,
    /// So many users.
    Users(u32),
    /// Given back more often than taken.
    Underflow,
    /// Taken too often.
    Overflow,
}

/// Counts so little below zero come from too many `put`s rather than from too many `get`s (Linux:
/// `page_ref_zero_or_close_to_overflow`).
const CLOSE_TO_ZERO: i32 = -127;

impl RefState {
    /// Of a count's value.
    #[inline]
    pub const fn of(count: u32) -> Self {
        match count as i32 {
            0 => Self::Unused,
            1.. => Self::Users(count),
            CLOSE_TO_ZERO..=-1 => Self::Underflow,
            _ => Self::Overflow,
        }
    }
}

/// A count that no sequence of right calls can have: a reference more, or one less, would be lost or made up.
#[cold]
#[inline(never)]
fn broken(what: &str, count: u32) -> ! {
    panic!("{what} of a page whose count is {count:#x}: {:?}", RefState::of(count));
}

impl RefCount {
    /// A count for a page that nobody else can reach yet.
    #[inline]
    pub fn new(count: u32) -> Self {
        Self(AtomicU32::new(count))
    }

    /// The value, as of just now.
    #[inline(always)]
    pub fn value(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// What the value means.
    #[inline]
    pub fn state(&self) -> RefState {
        RefState::of(self.value())
    }

    /// Sets the count of a page that nobody else can reach (Linux: `set_page_count`).
    #[inline(always)]
    pub fn set(&self, count: u32) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// One user more, by one who is a user (R1; Linux: `get_page`).
    ///
    /// # Panics
    /// When there are no users, or too many: the kernel has a bug, or leaks references.
    #[inline]
    pub fn get(&self) {
        // Relaxed: who has a reference has already seen what he may see.
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        if before as i32 <= 0 {
            broken("get", before);
        }
    }

    /// `nr` users more, by one who is a user (R1; Linux: `page_ref_add`).
    ///
    /// # Panics
    /// As [`get`](Self::get).
    #[inline]
    pub fn add(&self, nr: u32) {
        let before = self.0.fetch_add(nr, Ordering::Relaxed);
        if before as i32 <= 0 || nr > i32::MAX as u32 {
            broken("get", before);
        }
    }

    /// One user more, unless there are none or too many (R3; Linux: `get_page_unless_zero`, `try_get_page`).
    #[inline]
    #[must_use = "the reference must be given back"]
    pub fn try_get(&self) -> bool {
        let mut count = self.value();
        while count as i32 > 0 {
            // Acquire: partner of the release in `unfreeze`, before which the owner changed the page. What was looked up
            // to find it is looked at again after this.
            match self.0.compare_exchange_weak(count, count + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// One user less; whether it was the last (R1, R2; Linux: `put_page_testzero`).
    ///
    /// # Panics
    /// When there are no users.
    #[inline]
    #[must_use = "the last user frees the page"]
    pub fn put(&self) -> bool {
        self.sub(1)
    }

    /// `nr` users less; whether those were the last (R1, R2; Linux: `page_ref_sub_and_test`).
    ///
    /// # Panics
    /// When there are fewer.
    #[inline]
    #[must_use = "the last user frees the page"]
    pub fn sub(&self, nr: u32) -> bool {
        // Release: what this user did to the page happens before its freeing; the fence is its partner.
        let before = self.0.fetch_sub(nr, Ordering::Release);
        if before == nr {
            fence(Ordering::Acquire);
            return true;
        }
        if (before as i32) < nr as i32 || nr > i32::MAX as u32 {
            broken("put", before);
        }
        false
    }

    /// Whether the caller is the only user.
    #[inline(always)]
    pub fn is_sole(&self) -> bool {
        self.value() == 1
    }

    /// The only user ends the count, as [`put`](Self::put) would, for less: nobody can find the page any more (R3), and
    /// [`is_sole`](Self::is_sole) has said that nobody else uses it.
    #[inline(always)]
    pub fn end_sole(&self) {
        // Acquire: partner of the release in `put`, by which another user may have left before us.
        fence(Ordering::Acquire);
        self.set(0);
    }

    /// Makes a page that has exactly `users` users its owner's alone: all of them are the owner's, and until
    /// [`unfreeze`](Self::unfreeze) nobody can become another. Whether that went well (R2; Linux: `page_ref_freeze`).
    #[inline]
    #[must_use = "when it is false, others use the page"]
    pub fn freeze(&self, users: u32) -> bool {
        debug_assert!(users as i32 > 0);
        // Acquire: partner of the release in `put`, by which others have left.
        self.0.compare_exchange(users, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Ends [`freeze`](Self::freeze), with `users` users (Linux: `page_ref_unfreeze`).
    #[inline]
    pub fn unfreeze(&self, users: u32) {
        debug_assert!(self.value() == 0 && users as i32 > 0);
        // Release: partner of the acquire in `try_get`: who gets it sees what was done while it was frozen.
        self.0.store(users, Ordering::Release);
    }
}

impl fmt::Debug for RefCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value() as i32)
    }
}

/// How many page-table entries map a page, less one; or what type of page it is. See the module for its values.
#[repr(transparent)]
pub struct MapCount(AtomicU32);

/// What a [`MapCount`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapState {
    /// Mapped nowhere, no type.
    Unmapped,
    /// Mapped by so many entries.
    Mapped(u32),
    /// A type of page that is never mapped: the word itself.
    Typed(u32),
    /// Unmapped more often than mapped.
    Underflow,
    /// Mapped too often.
    Overflow,
}

/// Words from here up are types (Linux: `PAGE_TYPE_BASE`), up to [`LAST_TYPE`].
const FIRST_TYPE: u32 = 0xf000_0000;
/// Numbers above this are counts that went below zero (Linux: `PAGE_MAPCOUNT_RESERVE`).
const LAST_TYPE: u32 = -129i32 as u32;

impl MapState {
    /// Of a word.
    #[inline]
    pub const fn of(word: u32) -> Self {
        match word {
            MapCount::UNMAPPED => Self::Unmapped,
            0..=0x7fff_ffff => Self::Mapped(word + 1),
            FIRST_TYPE..=LAST_TYPE => Self::Typed(word),
            0x8000_0000..FIRST_TYPE => Self::Overflow,
            _ => Self::Underflow,
        }
    }
}

impl MapCount {
    /// The word of a page that is mapped nowhere and has no type.
    pub const UNMAPPED: u32 = u32::MAX;

    /// Of a page that is mapped nowhere.
    #[inline]
    pub fn new() -> Self {
        Self(AtomicU32::new(Self::UNMAPPED))
    }

    /// The word, as of just now.
    #[inline(always)]
    pub fn word(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the word, of a page that nobody else maps or types.
    #[inline(always)]
    pub fn set_word(&self, word: u32) {
        self.0.store(word, Ordering::Relaxed);
    }

    /// What the word means.
    #[inline]
    pub fn state(&self) -> MapState {
        MapState::of(self.word())
    }

    /// How many entries map the page; 0 for one with a type.
    #[inline]
    pub fn count(&self) -> u32 {
        match self.state() {
            MapState::Mapped(nr) => nr,
            _ => 0,
        }
    }

    /// One entry more, which has a reference of its own (R1).
    ///
    /// # Panics
    /// When the page has a type: such pages are never mapped.
    #[inline]
    pub fn add(&self) {
        // Relaxed: the reference keeps the page, and the page table's lock orders the entry.
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        if (before as i32) < -1 {
            not_mapped("mapping", before);
        }
    }

    /// One entry less; whether it was the last. Its reference is given back after this.
    ///
    /// # Panics
    /// When no entry maps the page.
    #[inline]
    pub fn remove(&self) -> bool {
        // Relaxed: the release of the `put` that follows orders it before the page is freed.
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        if (before as i32) < 0 {
            not_mapped("unmapping", before);
        }
        before == 0
    }
}

#[cold]
#[inline(never)]
fn not_mapped(what: &str, word: u32) -> ! {
    panic!("{what} a page whose mapcount is {word:#x}: {:?}", MapState::of(word));
}

impl Default for MapCount {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MapCount {
    /// As Linux prints it: the word, plus one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", (self.word() as i32).wrapping_add(1))
    }
}
