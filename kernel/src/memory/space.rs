//! Address spaces on this machine: what they live on, and which one a thread uses.
//!
//! ```text
//! enter: made, listed, the thread's and in CR3 -> leave: the kernel's own tables again, destroyed
//!             switch to another thread: its space's root, or the kernel's
//! ```
//!
//! # Invariants
//! - I1: CR3 names the root of the space that the running thread uses, or the kernel's own root when it uses none.
//! - I2: a space is used by one thread, from `enter` to `leave`, and is in the list of all just as long.
//! - I3: only the CPU that a space's thread runs on knows translations of it, so [`LocalTlb`] flushes all there are.
//!
//! # Why flushing one CPU is enough
//! The thread may move to another CPU and change its space there, and what the first CPU has cached must not come back:
//!
//! - When the thread leaves a CPU, the next thread there has another space or none (I2), so CR3 is written (I1). There are no
//!   PCIDs (CR4.PCIDE is clear), and nothing of the user half is global: the write drops all of it, what the CPU keeps of
//!   upper tables included. Kernel threads and idle threads do not keep the root of who ran before, as Linux's lazy TLB does.
//! - Where the thread goes on, CR3 is written too, before anything is used.
//! - It may be moved between changing a table and flushing: then the first CPU has dropped everything, and the second has
//!   seen only the changed table.
//!
//! With spaces that several threads share, with PCIDs, or with lazy kernel threads this would not hold: then a space needs
//! the set of CPUs that may know it (Linux: `mm_cpumask`), and a flush calls them.
//!
//! # Locking
//! A space's own lock sleeps; so page faults may. The list's lock is a spin lock.

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use mm::areas::NodeAlloc;
use mm::aspace::{AddressSpace, Parts};
use mm::page_alloc::PageAllocator;
use mm::pgtable::{LocalTlb, OutOfMemory};
use mm::slub::CacheParams;
use mm::vma::VmaTree;
use mm::{Gfp, Pfn};

use super::{Error, Memory, kernel_map};
use crate::thread;
use crate::thread::sync::{Mutex, MutexGuard};

/// Nodes of area trees, from their slab cache.
#[derive(Clone, Copy, Debug)]
pub struct AreaCache {
    memory: &'static Memory,
}

// SAFETY: a slab cache gives each object out once, of the size and alignment it was made for.
unsafe impl NodeAlloc for AreaCache {
    fn alloc_node(&mut self, layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
        debug_assert_eq!(layout, NODE_LAYOUT);
        self.memory.areas.alloc(Gfp::KERNEL).map_err(|_| OutOfMemory)
    }

    unsafe fn free_node(&mut self, block: NonNull<u8>, _layout: Layout) {
        // SAFETY: from this cache, and not used any more: the caller's promise.
        unsafe { self.memory.areas.free(block) };
    }
}

/// What address spaces live on here.
pub type Backing = Parts<&'static PageAllocator, AreaCache, LocalTlb>;
/// An address space here.
pub type Space = AddressSpace<Backing>;

const NODE_LAYOUT: Layout = VmaTree::<Backing>::NODE_LAYOUT;

/// The cache of areas (Linux: `vm_area_struct`).
pub(super) const AREA_CACHE: CacheParams<'static> =
    CacheParams::new("vm_area_struct", NODE_LAYOUT.size()).align(NODE_LAYOUT.align());

/// What address spaces live on.
pub fn backing(memory: &'static Memory) -> Backing {
    Parts { pages: memory.pages, nodes: AreaCache { memory }, tlb: LocalTlb }
}

/// An address space that a thread uses (Linux: `mm_struct`).
#[derive(Debug)]
pub struct UserSpace {
    /// Sleeping: who holds it may wait for memory (Linux: `mmap_lock`).
    mm: Mutex<Space>,
    root: Pfn,
    /// Neighbours in the list of all. Under its lock.
    next: AtomicPtr<UserSpace>,
    previous: AtomicPtr<UserSpace>,
}

/// The cache of address spaces (Linux: `mm_struct`).
pub(super) const SPACE_CACHE: CacheParams<'static> =
    CacheParams::new("mm_struct", size_of::<UserSpace>()).align(64);

impl UserSpace {
    /// Waits for the right to look at it and change it. Sleeps.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, Space> {
        self.mm.lock()
    }

    /// The root's frame, for CR3.
    pub fn root(&self) -> Pfn {
        self.root
    }
}

/// All address spaces (Linux: `init_mm.mmlist`). The debugger finds them here.
#[derive(Debug)]
pub struct Spaces(*const UserSpace);

// SAFETY: the list is changed under its lock only, and what is in it is alive (I2).
unsafe impl Send for Spaces {}

impl Spaces {
    pub(super) const fn new() -> Self {
        Self(core::ptr::null())
    }

    fn insert(&mut self, space: &UserSpace) {
        let at = core::ptr::from_ref(space).cast_mut();
        space.next.store(self.0.cast_mut(), Relaxed);
        // SAFETY: I2.
        if let Some(first) = unsafe { self.0.as_ref() } {
            first.previous.store(at, Relaxed);
        }
        self.0 = at;
    }

    fn remove(&mut self, space: &UserSpace) {
        let (next, previous) = (space.next.load(Relaxed), space.previous.load(Relaxed));
        // SAFETY: I2.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.store(next, Relaxed),
                None => self.0 = next,
            }
            if let Some(next) = next.as_ref() {
                next.previous.store(previous, Relaxed);
            }
        }
    }
}

/// Makes an empty address space, which this thread uses from now on; it must have left the one before. Sleeps.
///
/// # Errors
/// No memory.
pub fn enter(memory: &'static Memory) -> Result<(), Error> {
    assert!(thread::space().is_none(), "an address space is entered while another is in use");
    let at = memory.spaces_cache.alloc(Gfp::KERNEL)?.cast::<UserSpace>();
    let made = Space::new(&memory.kernel_map.lock(), &memory.zero_page, &mut backing(memory));
    let space = match made {
        Ok(space) => space,
        Err(error) => {
            // SAFETY: just taken from there.
            unsafe { memory.spaces_cache.free(at.cast()) };
            return Err(error.into());
        }
    };
    let root = space.root_pfn();
    let null = || AtomicPtr::new(core::ptr::null_mut());
    // SAFETY: an object of the cache, ours; given back by `leave`, when nobody refers to it any more.
    let space: &'static UserSpace = unsafe {
        at.write(UserSpace { mm: Mutex::new(space), root, next: null(), previous: null() });
        at.as_ref()
    };
    memory.spaces.lock().insert(space);
    // SAFETY: its kernel half is the kernel's, and it is alive until `leave`.
    unsafe { thread::use_space(memory, Some(space)) };
    Ok(())
}

/// Runs `f` on the address space that this thread uses.
///
/// # Panics
/// When there is none.
pub fn with<R>(_memory: &'static Memory, f: impl FnOnce(&UserSpace) -> R) -> R {
    f(thread::space().expect("an address space is in use"))
}

/// Goes back to the kernel's own page tables and destroys the address space that this thread used, if it did.
pub fn leave(memory: &'static Memory) {
    let Some(space) = thread::space() else { return };
    // SAFETY: the kernel's own tables; nothing of the user half is used by the kernel.
    unsafe { thread::use_space(memory, None) };
    memory.spaces.lock().remove(space);
    let at = NonNull::from(space).cast::<UserSpace>();
    // SAFETY: I2: only this thread has used it, so no CPU does (I1), none knows it (I3), and nobody refers to it.
    unsafe {
        at.read().mm.into_inner().destroy(&mut backing(memory));
        memory.spaces_cache.free(at.cast());
    }
}

/// Checks that nothing is mapped below the kernel's half but pages of the areas of the address space in use, and that no
/// page is both writable and executable.
///
/// # Errors
/// What was found.
pub fn check(memory: &'static Memory) -> Result<(), Error> {
    with(memory, |space| {
        let mm = space.lock();
        let mut ranges = alloc::vec::Vec::new();
        ranges.try_reserve_exact(mm.areas().nr_areas()).map_err(|_| Error::OutOfMemory)?;
        ranges.extend(mm.areas().iter().map(|area| area.range()));
        kernel_map::check(mm.tables(), &ranges)
    })
}
