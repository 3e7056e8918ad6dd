//! Chunks in reservations of the host, whose pages fault unless they are populated.

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use super::super::ChunkSource;
use crate::addr::PAGE_SIZE;
use crate::gfp::Gfp;
use crate::pgtable::OutOfMemory;

/// Addresses of the host.
#[derive(Debug)]
pub(super) struct Region {
    at: *mut u8,
    bytes: usize,
}

// SAFETY: an address.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// `bytes` bytes that nobody may touch yet.
    pub(super) fn new(bytes: usize) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the host's choice.
        let at = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Self { at: at.cast(), bytes }
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        NonNull::new(self.at).unwrap()
    }

    /// From now on there is memory, with rubbish in it.
    pub(super) fn open(&self, offset: usize, bytes: usize) {
        assert!(offset + bytes <= self.bytes);
        // SAFETY: inside our mapping.
        unsafe {
            let at = self.at.add(offset);
            assert_eq!(libc::mprotect(at.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE), 0);
            at.write_bytes(0xa5, bytes);
        }
    }

    fn close(&self, offset: usize, bytes: usize) {
        // SAFETY: inside our mapping.
        unsafe { assert_eq!(libc::mprotect(self.at.add(offset).cast(), bytes, libc::PROT_NONE), 0) };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: our own mapping.
        unsafe { libc::munmap(self.at.cast(), self.bytes) };
    }
}

/// When the source has no memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Never,
    /// After so many more requests.
    After(usize),
}

#[derive(Debug, Default)]
struct State {
    /// By base address, and which pages they have.
    chunks: BTreeMap<usize, (Region, BTreeSet<usize>)>,
    nr_blocks: usize,
}

#[derive(Debug)]
pub(super) struct HostSource {
    span: usize,
    offsets: &'static [usize],
    serial: Mutex<()>,
    state: Mutex<State>,
    /// Requests until it fails; `usize::MAX`: never.
    left: AtomicUsize,
    pub(super) wants_balance: AtomicBool,
}

impl HostSource {
    pub(super) fn new(span: usize, offsets: &'static [usize], fault: Fault) -> Self {
        let this = Self {
            span,
            offsets,
            serial: Mutex::default(),
            state: Mutex::default(),
            left: AtomicUsize::new(0),
            wants_balance: AtomicBool::new(false),
        };
        this.set_fault(fault);
        this
    }

    pub(super) fn set_fault(&self, fault: Fault) {
        self.left.store(if let Fault::After(n) = fault { n } else { usize::MAX }, Relaxed);
    }

    fn request(&self) -> Result<(), OutOfMemory> {
        match self.left.load(Relaxed) {
            usize::MAX => Ok(()),
            0 => Err(OutOfMemory),
            left => {
                self.left.store(left - 1, Relaxed);
                Ok(())
            }
        }
    }

    /// Base addresses of the chunks, and the pages they have.
    pub(super) fn chunks(&self) -> std::vec::Vec<(usize, BTreeSet<usize>)> {
        self.state.lock().unwrap().chunks.iter().map(|(&base, (_, pages))| (base, pages.clone())).collect()
    }

    pub(super) fn nr_blocks(&self) -> usize {
        self.state.lock().unwrap().nr_blocks
    }
}

impl Drop for HostSource {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let state = self.state.get_mut().unwrap();
        assert_eq!((state.chunks.len(), state.nr_blocks), (0, 0), "chunks and blocks are lost");
    }
}

// SAFETY: mappings and blocks of the host, each given out once; pages are opened in all units.
unsafe impl ChunkSource for HostSource {
    type Serial<'a> = MutexGuard<'a, ()>;

    fn serialise(&self) -> MutexGuard<'_, ()> {
        assert!(crate::arch::irqs_enabled(), "nobody sleeps with a spin lock");
        self.serial.lock().unwrap()
    }

    fn alloc_block(&self, layout: Layout, _gfp: Gfp) -> Result<NonNull<u8>, OutOfMemory> {
        self.request()?;
        self.state.lock().unwrap().nr_blocks += 1;
        // SAFETY: no layout is empty.
        NonNull::new(unsafe { std::alloc::alloc(layout) }).ok_or(OutOfMemory)
    }

    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
        self.state.lock().unwrap().nr_blocks -= 1;
        // SAFETY: from `alloc_block`.
        unsafe { std::alloc::dealloc(block.as_ptr(), layout) };
    }

    fn reserve(&self) -> Result<NonNull<u8>, OutOfMemory> {
        self.request()?;
        let region = Region::new(self.span);
        let base = region.base();
        self.state.lock().unwrap().chunks.insert(base.as_ptr().addr(), (region, BTreeSet::new()));
        Ok(base)
    }

    unsafe fn release(&self, base: NonNull<u8>) {
        let (_region, pages) = self.state.lock().unwrap().chunks.remove(&base.as_ptr().addr()).unwrap();
        assert!(pages.is_empty() || std::thread::panicking(), "{pages:?} are lost");
    }

    unsafe fn populate(&self, base: NonNull<u8>, pages: Range<usize>, _gfp: Gfp) -> Result<(), OutOfMemory> {
        assert!(!pages.is_empty());
        self.request()?;
        let mut state = self.state.lock().unwrap();
        let (region, populated) = state.chunks.get_mut(&base.as_ptr().addr()).unwrap();
        for &offset in self.offsets {
            region.open(offset + pages.start * PAGE_SIZE, pages.len() * PAGE_SIZE);
        }
        assert!(pages.into_iter().all(|page| populated.insert(page)), "populated twice");
        Ok(())
    }

    unsafe fn depopulate(&self, base: NonNull<u8>, pages: Range<usize>) {
        let mut state = self.state.lock().unwrap();
        let (region, populated) = state.chunks.get_mut(&base.as_ptr().addr()).unwrap();
        for &offset in self.offsets {
            region.close(offset + pages.start * PAGE_SIZE, pages.len() * PAGE_SIZE);
        }
        assert!(pages.into_iter().all(|page| populated.remove(&page)), "depopulated twice");
    }

    fn want_balance(&self) {
        self.wants_balance.store(true, Relaxed);
    }
}
