//! A page and its memory, of which the model checker knows who touches it: an access that does not happen after the one
//! before it fails the test.

use std::fmt;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};

use crate::page::refs::{MapCount, RefCount};

/// A page that was given out.
pub struct Frame {
    /// Its users.
    pub refs: RefCount,
    /// Its mappings.
    pub maps: MapCount,
    /// What is in it.
    memory: UnsafeCell<u32>,
    nr_freed: AtomicU32,
}

impl Frame {
    /// With so many users, mapped nowhere, 0 in its memory.
    pub fn new(users: u32) -> Self {
        Self {
            refs: RefCount::new(users),
            maps: MapCount::new(),
            memory: UnsafeCell::new(0),
            nr_freed: AtomicU32::new(0),
        }
    }

    /// Reads the memory, as one of several users may.
    pub fn read(&self) -> u32 {
        // SAFETY: a write that does not happen before this, or after it, fails the model.
        self.memory.with(|at| unsafe { *at })
    }

    /// Changes the memory, as its only user may.
    pub fn write(&self, value: u32) {
        // SAFETY: as in `read`.
        self.memory.with_mut(|at| unsafe { *at = value });
    }

    /// One user less; the last frees the page.
    pub fn put(&self) {
        if self.refs.put() {
            self.free();
        }
    }

    /// As the page allocator frees: without a read-modify-write when nobody else uses the page.
    pub fn put_sole(&self) {
        if self.refs.is_sole() {
            self.refs.end_sole();
            self.free();
        } else {
            self.put();
        }
    }

    /// The page goes back: its checks, and the next user's first write.
    fn free(&self) {
        assert_eq!(self.maps.word(), MapCount::UNMAPPED, "freed while mapped");
        assert_eq!(self.refs.value(), 0, "freed while used");
        self.write(0xdead);
        assert_eq!(self.nr_freed.fetch_add(1, Ordering::Relaxed), 0, "freed twice");
    }

    /// Whether the page was freed.
    pub fn is_freed(&self) -> bool {
        self.nr_freed.load(Ordering::Relaxed) == 1
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refcount:{:?} mapcount:{:?}", self.refs, self.maps)
    }
}
