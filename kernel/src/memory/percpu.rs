//! Per-CPU memory on this machine: the first chunk, in the direct map, and further ones, in the vmalloc space.
//!
//! ```text
//! direct map:     node 0: | CPU 0 | CPU 2 |  ...  node 1: | CPU 1 | CPU 3 |     static part: PerCpuArea, GS base
//! vmalloc space:          | CPU 0 | CPU 2 |  ...          | CPU 1 | CPU 3 |     the same distances; pages of the CPUs' nodes
//! ```
//!
//! # Invariants
//! - I1: an area of the vmalloc space of [`Purpose::PerCpu`](mm::vmalloc::Purpose::PerCpu) is a group of a chunk; its mapped
//!   pages are the chunk's own.
//!
//! # Locking
//! `serial` of [`Source`], then those of [`super::vmalloc`], each for itself. All sleep.
//!
//! # Not here
//! What is allocated where: `mm::percpu`. What the static part holds: [`crate::cpu::percpu`].

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use mm::arch::Machine;
use mm::memblock::{self, Memblock, OnNode, Request};
use mm::numa::Numa;
use mm::page_alloc::{PageAllocator, PageBlock};
use mm::percpu::{ChunkSource, DYNAMIC_BYTES, Embedding, PerCpuAllocator, Sizes};
use mm::pgtable::{Entry, Level, OutOfMemory, PageSize, Prot, Prune, Removed, TableList, Tlb, VirtRange};
use mm::slub::Slub;
use mm::vmalloc::Part;
use mm::{CpuId, Gfp, Order, PAGE_SIZE, PagePtr, Pfn, PhysAddr, PhysRange, VirtAddr};

use super::tlb::AllTlbs;
use super::{Error, Memory, vmalloc};
use crate::cpu::percpu::{self, PerCpuArea};
use crate::thread;
use crate::thread::sync::{Mutex, MutexGuard};
use crate::thread::wait::WaitQueue;

/// The kernel's allocator.
pub type Allocator = PerCpuAllocator<'static, Source>;
/// A value of each possible CPU.
pub type PerCpuBox<T> = mm::percpu::PerCpuBox<'static, T, Source>;

/// First chunks lie above what devices with few address bits need (Linux: `MAX_DMA_ADDRESS`).
const ABOVE: u64 = 16 << 20;
/// No unit yet.
const NOWHERE: usize = usize::MAX;

/// Where the first chunk is.
#[derive(Clone, Copy, Debug)]
pub struct FirstChunk {
    embedding: Embedding<'static>,
    /// Of the group that lies lowest.
    base: NonNull<u8>,
    /// From there to each CPU's unit.
    offsets: &'static [usize],
}

// SAFETY: addresses.
unsafe impl Send for FirstChunk {}
// SAFETY: as above.
unsafe impl Sync for FirstChunk {}

impl FirstChunk {
    /// Memory for all possible CPUs, on their nodes, and the boot CPU's area in it (Linux: `setup_per_cpu_areas`). Units in
    /// large pages, if there is room.
    pub(super) fn allocate(numa: &Numa<'static>, memblock: &mut Memblock<'static>) -> Result<Self, Error> {
        let offsets = memblock.alloc_slice(numa.cpu_nodes().len(), NOWHERE, OnNode::Any)?;
        let large = PageSize::Size2M.bytes() as usize;
        let embedding = match Self::with_atom(large, numa, memblock, offsets) {
            Err(Error::Memblock(memblock::Error::NoMemory)) => {
                log::warn!("percpu: embed allocator failed, falling back to page size");
                Self::with_atom(PAGE_SIZE, numa, memblock, offsets)?
            }
            result => result?,
        };
        let base = offsets.iter().copied().min().ok_or(Error::Layout)?;
        offsets.iter_mut().for_each(|offset| *offset -= base);
        let base = NonNull::new(Machine.phys_to_virt(PhysAddr::new(base as u64))).ok_or(Error::Layout)?;
        let first = Self { embedding, base, offsets };
        first.embedding.log();
        for cpu in (0..first.offsets.len() as u32).map(CpuId) {
            // SAFETY: the static part of the CPU's unit, for this.
            unsafe { first.at(cpu).write(PerCpuArea::new()) };
        }
        // SAFETY: interrupts are off, and only the boot CPU runs.
        unsafe { percpu::move_boot_cpu(first.at(CpuId::BOOT)) };
        Ok(first)
    }

    fn with_atom(
        atom_bytes: usize,
        numa: &Numa<'static>,
        memblock: &mut Memblock<'static>,
        offsets: &mut [usize],
    ) -> Result<Embedding<'static>, Error> {
        let static_bytes = size_of::<PerCpuArea>();
        let sizes = Sizes { static_bytes, reserved_bytes: 0, dynamic_bytes: DYNAMIC_BYTES, atom_bytes };
        let embedding = Embedding::new(sizes, numa.cpu_nodes()).ok_or(Error::Layout)?;
        let unit = embedding.unit_bytes();
        offsets.fill(NOWHERE);
        for group in embedding.groups() {
            let request = Request::new((group.nr_units * unit) as u64).align(atom_bytes as u64);
            let range = match memblock.alloc(request.from(ABOVE).on(OnNode::Prefer(group.node))) {
                Ok(range) => range,
                Err(error) => {
                    for &start in offsets.iter().filter(|&&start| start != NOWHERE) {
                        free(memblock, start, start + unit)?;
                    }
                    return Err(error.into());
                }
            };
            let start = range.start() as usize;
            for (index, cpu) in embedding.cpus_of(group).enumerate() {
                offsets[cpu.index()] = start + index * unit;
            }
            free(memblock, start + group.nr_cpus * unit, range.end() as usize)?;
        }
        let used = embedding.first_chunk_pages() * PAGE_SIZE;
        offsets.iter().try_for_each(|&start| free(memblock, start + used, start + unit))?;
        Ok(embedding)
    }

    fn at(&self, cpu: CpuId) -> NonNull<PerCpuArea> {
        // SAFETY: in the CPU's unit.
        unsafe { self.base.add(self.offsets[cpu.index()]).cast() }
    }

    /// A CPU's static part.
    pub fn area(&self, cpu: CpuId) -> &'static PerCpuArea {
        // SAFETY: written when it was allocated, for good; all its fields are atomics.
        unsafe { self.at(cpu).as_ref() }
    }

    /// The allocator, with this as its first chunk.
    pub(super) fn allocator(
        self,
        pages: &'static PageAllocator,
        slub: &'static Slub<'static>,
    ) -> Result<Allocator, Error> {
        let source = Source { pages, slub, first: self, serial: Mutex::new(()) };
        // SAFETY: the units are there, for good, and only their static parts are used.
        Ok(unsafe { PerCpuAllocator::new(source, &self.embedding, self.base, self.offsets) }?)
    }

    /// The groups' places in a chunk.
    fn parts(&self) -> impl Iterator<Item = Part> + Clone + '_ {
        let unit = self.embedding.unit_bytes();
        self.embedding.groups().map(move |group| Part {
            offset: self.offsets[group.first.index()] as u64,
            size_bytes: (group.nr_units * unit) as u64,
        })
    }

    /// Pages of a CPU's unit in the chunk at `base`.
    fn range(
        &self,
        base: NonNull<u8>,
        offset: usize,
        pages: &Range<usize>,
    ) -> Result<VirtRange, OutOfMemory> {
        let start = base.as_ptr().addr() + offset + pages.start * PAGE_SIZE;
        VirtRange::new(VirtAddr::new_truncate(start as u64), (pages.len() * PAGE_SIZE) as u64)
            .ok_or(OutOfMemory)
    }
}

/// Gives back what there is from `start` to `end`.
fn free(memblock: &mut Memblock<'static>, start: usize, end: usize) -> Result<(), Error> {
    let range = PhysRange::new(start as u64, end as u64).filter(|range| !range.is_empty());
    range.map_or(Ok(()), |range| Ok(memblock.free(range)?))
}

/// Where chunks come from.
#[derive(Debug)]
pub struct Source {
    pages: &'static PageAllocator,
    slub: &'static Slub<'static>,
    first: FirstChunk,
    serial: Mutex<()>,
}

/// Pages that are mapped no more but may be in TLBs, linked through their first words.
#[derive(Default)]
struct Unmapped {
    first: Option<Pfn>,
    tables: TableList,
}

impl Unmapped {
    /// Where a page keeps the next one's number, one more than it.
    fn link(pfn: Pfn) -> *mut u64 {
        Machine.phys_to_virt(pfn.phys()).cast()
    }

    /// Gives pages and tables back.
    ///
    /// # Safety
    /// They came from `pages`, and all TLBs are flushed.
    unsafe fn free(mut self, mut pages: &'static PageAllocator) {
        // SAFETY: the caller's promise.
        unsafe { self.tables.free(Machine, &mut pages) };
        while let Some(pfn) = self.first {
            // SAFETY: ours (I1), in no TLB by now; `leaf` has left the next one there.
            let block = unsafe {
                self.first = Self::link(pfn).read().checked_sub(1).map(Pfn::new);
                PageBlock::from_raw(PagePtr::new(Machine, pfn), Order::ZERO)
            };
            pages.free_pages(block);
        }
    }
}

impl Removed for Unmapped {
    fn leaf(&mut self, _addr: VirtAddr, entry: Entry, _level: Level) {
        let next = self.first.replace(entry.pfn()).map_or(0, |next| next.get() + 1);
        // SAFETY: a page of ours (I1), the contents of which nobody wants any more.
        unsafe { Self::link(entry.pfn()).write(next) };
    }

    fn tables(&mut self) -> &mut TableList {
        &mut self.tables
    }
}

impl Source {
    fn memory(&self) -> Result<&'static Memory, OutOfMemory> {
        super::memory().ok_or(OutOfMemory)
    }

    /// A page near a CPU.
    fn alloc_page(&self, cpu: CpuId, gfp: Gfp) -> Result<PageBlock, OutOfMemory> {
        let node = self.first.embedding.node_of(cpu);
        let block = match self.pages.nodes().get(node) {
            Some(_) => self.pages.alloc_pages_node(node, gfp, Order::ZERO),
            None => self.pages.alloc_pages(gfp, Order::ZERO),
        };
        block.map_err(|_| OutOfMemory)
    }

    /// Maps a new page for each of `range`, which is in `cpu`'s unit.
    fn map(&self, memory: &Memory, cpu: CpuId, range: VirtRange, gfp: Gfp) -> Result<(), OutOfMemory> {
        let mut pages = self.pages;
        for start in (range.first()..=range.last()).step_by(PAGE_SIZE) {
            let block = self.alloc_page(cpu, gfp)?;
            let phys = block.pfn(Machine).phys();
            let page = VirtRange::new(VirtAddr::new_truncate(start), PAGE_SIZE as u64).ok_or(OutOfMemory)?;
            let mapped =
                memory.kernel_map.lock().map_range(page, phys, Prot::KERNEL_RW, PageSize::Size4K, &mut pages);
            if mapped.is_err() {
                self.pages.free_pages(block);
                return Err(OutOfMemory);
            }
            // The page table has it (I1).
            let _ = block.into_raw();
        }
        Ok(())
    }
}

// SAFETY: areas, pages and blocks each have one owner; areas are those of all groups, at the distances of the first chunk.
unsafe impl ChunkSource for Source {
    type Serial<'a> = MutexGuard<'a, ()>;

    fn serialise(&self) -> MutexGuard<'_, ()> {
        self.serial.lock()
    }

    fn alloc_block(&self, layout: Layout, gfp: Gfp) -> Result<NonNull<u8>, OutOfMemory> {
        debug_assert!(layout.align() <= 8, "kmalloc aligns to so much");
        self.slub.kmalloc(layout.size(), gfp).map_err(|_| OutOfMemory)
    }

    unsafe fn free_block(&self, block: NonNull<u8>, _layout: Layout) {
        // SAFETY: from `alloc_block`, and not used any more.
        unsafe { self.slub.kfree(block) };
    }

    fn reserve(&self) -> Result<NonNull<u8>, OutOfMemory> {
        let align = self.first.embedding.sizes().atom_bytes as u64;
        let base = vmalloc::reserve_congruent(self.memory()?, self.first.parts(), align)?;
        NonNull::new(base.as_mut_ptr()).ok_or(OutOfMemory)
    }

    unsafe fn release(&self, base: NonNull<u8>) {
        if let Ok(memory) = self.memory() {
            vmalloc::release_congruent(memory, VirtAddr::from_ptr(base.as_ptr()), self.first.parts());
        }
    }

    unsafe fn populate(&self, base: NonNull<u8>, pages: Range<usize>, gfp: Gfp) -> Result<(), OutOfMemory> {
        let memory = self.memory()?;
        let mut units = (0..).map(CpuId).zip(self.first.offsets);
        let mapped = units.try_for_each(|(cpu, &offset)| {
            self.map(memory, cpu, self.first.range(base, offset, &pages)?, gfp)
        });
        if mapped.is_err() {
            // SAFETY: what was mapped is ours, and nobody has used it.
            unsafe { self.depopulate(base, pages) };
        }
        mapped
    }

    unsafe fn depopulate(&self, base: NonNull<u8>, pages: Range<usize>) {
        let Ok(memory) = self.memory() else { return };
        let mut unmapped = Unmapped::default();
        let mut tables = memory.kernel_map.lock();
        let mut all: Option<(u64, u64)> = None;
        for &offset in self.first.offsets {
            let Ok(range) = self.first.range(base, offset, &pages) else { continue };
            tables.clear_range(range, Prune::WhenEmpty, &mut unmapped);
            let (first, end) = all.unwrap_or((range.first(), range.last() + 1));
            all = Some((first.min(range.first()), end.max(range.last() + 1)));
        }
        // One flush for all units, as Linux does it.
        if let Some(all) = all.and_then(|(first, end)| VirtRange::from_bounds(first, end)) {
            AllTlbs.flush(all);
        }
        // SAFETY: pages and tables of the vmalloc space come from the page allocator; all TLBs are flushed.
        unsafe { unmapped.free(self.pages) };
        drop(tables);
    }

    fn want_balance(&self) {
        // Relaxed: the queue's lock orders it for who wakes up; who does not, looks after it has run.
        if !DUE.load(Ordering::Relaxed) && !DUE.swap(true, Ordering::Relaxed) {
            BALANCER.wake_one();
        }
    }
}

static DUE: AtomicBool = AtomicBool::new(false);
static BALANCER: WaitQueue = WaitQueue::new();

/// Starts the thread that gets pages before they are missing, and gives back what is too much (Linux: `pcpu_balance_work`).
///
/// # Errors
/// No memory for it; then who cannot wait gets what is there.
pub(crate) fn start_balancing(memory: &'static Memory) -> Result<(), thread::Error> {
    let balance = move || -> () {
        loop {
            BALANCER.wait_until(|| DUE.swap(false, Ordering::Relaxed));
            memory.percpu.balance();
        }
    };
    thread::spawn("kpercpu", balance).map(drop)
}
