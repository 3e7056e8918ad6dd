//! The memory subsystem on this machine: boot's pipeline, from the firmware's map to page faults that are served.
//!
//! ```text
//! options      what the command line says about memory
//! early        firmware's map -> e820 -> memblock
//! probe        whether there is memory where the command line says so
//! tlb          translations leave all CPUs
//! topology     CPUs and nodes, from ACPI's tables
//! kernel_map   page tables of our own; the boot loader's memory given back
//! debug_pagealloc   free pages leave the direct map
//! vmemmap      memory behind the struct pages
//! heap         slab caches and the global allocator
//! percpu       per-CPU memory: the first chunk, and further ones
//! vmalloc      the vmalloc space: memory from single pages, pages mapped again
//! stack        stacks of kernel threads
//! fixmap, early_ioremap, firmware_memory    what boot maps before there is an allocator
//! ioremap      devices, mapped with a cache mode
//! chipset      the devices that boot maps
//! mmio         access to a mapped device's registers
//! space        address spaces on this machine, and which one a thread uses
//! fault        the MMU's page faults -> the thread's address space
//! workload     what boot ends with
//! dump         the files that the command line asks for
//! context      who allocates, for the page allocator
//! iomem        the resource tree behind /proc/iomem
//! vmstat       what CPUs have counted, carried over
//! sysctl       settings that change at run time
//! ```
//!
//! # Invariants
//! - I1: [`MEMORY`] is set once, when everything up to the slab caches works, and never changes.

pub mod chipset;
mod context;
mod debug_pagealloc;
mod dump;
mod early;
pub mod early_ioremap;
pub mod fault;
pub mod firmware_memory;
pub mod fixmap;
mod heap;
mod iomem;
pub mod ioremap;
mod kernel_map;
pub mod mmio;
mod options;
pub mod percpu;
mod probe;
pub mod space;
pub mod stack;
pub mod sysctl;
pub mod tlb;
mod topology;
pub mod vmalloc;
mod vmemmap;
pub mod vmstat;
pub mod workload;

pub use debug_pagealloc::{debug_pagealloc_enabled, dump_freed, freed_page};
pub use dump::dump;
pub use kernel_map::check;

use core::cell::UnsafeCell;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use mm::acpi::PossibleCpus;
use mm::arch::Machine;
use mm::aspace::ZeroPage;
use mm::cma::{self, Cma, Reservation};
use mm::cmdline::Cmdline;
use mm::memblock::{self, Direction, Memblock, OnNode, Request};
use mm::node::{Cpus, HugePages, KernelSizes, NodeStates};
use mm::numa::Numa;
use mm::page_alloc::{AllocError, DebugOptions, PageAllocator, PageOwner};
use mm::pgtable::{MapError, OutOfMemory, PageCounts, PageSize, PageTable, StrayMapping, WxViolation};
use mm::slub::{CacheHandle, Slub};
use mm::sync::{Level, SpinLock};
use mm::zone::{MovableRequest, Sysctl};
use mm::{CpuId, NodeId, PAGE_SIZE, PhysAddr};
use spin::Once;

use crate::cpu::{features::Features, online, paging};
use crate::debug::{symbols, tracer};
use crate::firmware::{acpi, boot::Boot};
use crate::image;
use crate::thread::sync::Mutex;
use options::Zonelists;

/// Why memory could not be set up.
#[derive(Debug)]
pub enum Error {
    /// The memory map has no usable memory.
    NoUsableMemory,
    /// The firmware's map could not be taken.
    FirmwareMap(mm::e820::Error),
    /// The early allocator.
    Memblock(memblock::Error),
    /// Page tables.
    PageTables(MapError),
    /// A part of the kernel image is not mapped by the boot loader.
    ImageNotMapped,
    /// Constants of the address space contradict each other.
    Layout,
    /// Nodes, sections, zones.
    Init(mm::init::Error),
    /// The page allocator has nothing left.
    OutOfMemory,
    /// The slab caches.
    Slub(mm::slub::Error),
    /// The vmalloc space.
    Vmalloc(mm::vmalloc::Error),
    /// A page is writable and executable.
    WritableAndExecutable(WxViolation),
    /// Something is mapped below the kernel's half.
    Stray(StrayMapping),
    /// Memory is being set up a second time.
    Twice,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUsableMemory => f.write_str("the memory map has no usable memory"),
            Self::Memblock(memblock::Error::NoMemory) | Self::OutOfMemory => f.write_str("too little memory"),
            Self::Init(error) => fmt::Display::fmt(error, f),
            other => write!(f, "{other:?}"),
        }
    }
}

impl core::error::Error for Error {}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from!(
    memblock::Error => Memblock,
    MapError => PageTables,
    mm::init::Error => Init,
    mm::slub::Error => Slub,
    mm::vmalloc::Error => Vmalloc,
);

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        Self::OutOfMemory
    }
}

/// The machine's memory. The debugger looks for it by this name.
pub static MEMORY: Once<Memory> = Once::new();

/// All layers, from the page allocator up.
#[derive(Debug)]
pub struct Memory {
    /// The page allocator, and through it nodes and zones.
    pub pages: &'static PageAllocator,
    /// The slab caches.
    pub slub: &'static Slub<'static>,
    /// Where each possible CPU's area is.
    pub first_chunk: percpu::FirstChunk,
    /// Memory that each CPU has of its own.
    pub percpu: percpu::Allocator,
    /// The cache of areas of address spaces (Linux: `vm_area_struct`).
    pub areas: CacheHandle<'static>,
    /// Which memory and possible CPUs are on which node.
    pub numa: Numa<'static>,
    /// The possible CPUs; [`online`] knows which of them run.
    pub cpus: PossibleCpus<'static>,
    /// How many CPUs the command line lets boot start.
    pub max_cpus: u32,
    /// What the vmalloc space's addresses are used for.
    pub vmalloc: Mutex<vmalloc::Space>,
    /// The cache of areas of the vmalloc space.
    pub vmap_areas: CacheHandle<'static>,
    /// How devices' memory is cached where it is mapped.
    pub memtypes: Mutex<ioremap::Types>,
    /// The largest page that the CPU has.
    pub largest_page: PageSize,
    /// Width of the CPU's physical addresses, in bits.
    pub phys_bits: u8,
    /// The kernel's page tables.
    pub kernel_map: Mutex<PageTable>,
    /// The page that reads of untouched anonymous memory see.
    pub zero_page: ZeroPage,
    /// Who uses which physical addresses.
    pub iomem: mm::resource::Tree<'static>,
    /// How the direct map is made up.
    pub direct_map: PageCounts,
    /// The contiguous-memory area that `cma=` asks for.
    pub cma: Option<Cma<'static>>,
    /// The settings that limits are computed from.
    pub sysctl: SpinLock<Sysctl>,
    /// `vm.stat_interval`.
    pub stat_interval: vmstat::Interval,
    /// The root of the kernel's page tables.
    pub kernel_root: mm::Pfn,
    /// The address spaces that threads use.
    pub spaces: SpinLock<space::Spaces>,
    /// The cache of address spaces (Linux: `mm_struct`).
    pub spaces_cache: CacheHandle<'static>,
}

impl Memory {
    /// The nodes by state, as they are now. Cost: a step for each possible node and CPU.
    pub fn states(&self) -> NodeStates {
        NodeStates::new(&self.numa, self.pages.nodes(), online::is_online)
    }

    /// The node of a possible CPU (Linux: `cpu_to_node`). It need not have memory: what is allocated there then comes from the
    /// nearest that has.
    pub fn node_of_cpu(&self, cpu: CpuId) -> NodeId {
        self.numa.node_of_cpu(cpu)
    }
}

static PAGES: Once<PageAllocator> = Once::new();

/// The machine's memory, once it is set up.
pub fn memory() -> Option<&'static Memory> {
    MEMORY.get()
}

/// Sets memory up, from the firmware's map to the slab caches. Each step logs what it did.
///
/// # Errors
/// See [`Error`]; the machine is of no use then.
pub fn init(
    boot: &Boot,
    cmdline: &Cmdline<'static>,
    features: &Features,
    tables: Option<&acpi::Tables>,
) -> Result<&'static Memory, Error> {
    let options = options::Options::new(cmdline);
    paging::init_pat();
    let firmware = early::firmware_map(boot, cmdline)?;
    let mut memblock = early::memblock(&firmware, boot, tables, options.memblock)?;
    if options.movable == MovableRequest::Hotplug {
        // What is taken until the nodes are known cannot be unplugged: it should be near the kernel.
        memblock.avoid_hotplug();
        memblock.set_direction(Direction::BottomUp);
    }
    let firmware = firmware.into_memory(&mut memblock)?;
    topology::trampoline(&firmware, boot);
    let cpus = topology::cpus(tables, options.cpus, &mut memblock)?;
    let numa = topology::numa(tables, cpus, options.numa, &mut memblock, &firmware)?;
    let largest = if features.gib_pages { PageSize::Size1G } else { PageSize::Size2M };
    let direct_page = debug_pagealloc::direct_map_page(largest, options.debugging);
    let mut kernel_map = kernel_map::build(&mut memblock, direct_page)?;
    let claims = iomem::claims(tables, &firmware, &mut memblock)?;
    leave_loader(boot, &mut memblock, &kernel_map)?;
    if let Some(tables) = tables {
        chipset::init(tables, &memblock);
    }
    let iomem = iomem::tree(&firmware, claims, features.phys_bits, &mut memblock)?;
    memblock.free(firmware.storage)?;
    let first_chunk = percpu::FirstChunk::allocate(&numa, &mut memblock)?;
    let reserved = reserve_cma(&mut memblock, &options);
    let pages = page_allocator(memblock, &numa, cpus, &mut kernel_map, &options, reserved.as_ref())?;
    // SAFETY: that memblock was just handed over, and the allocator's memory is there for good.
    let cma = reserved.and_then(|area| unsafe { Cma::activate(area, pages) }.ok());
    let sysctl = limits(pages, &numa, options.huge_pages);
    kernel_map::share_vmalloc_space(&mut kernel_map.tree, pages)?;
    let slub = heap::init(pages, &numa, cpus, options.guards)?;
    online::init(cpus).map_err(|online::OutOfMemory| Error::OutOfMemory)?;
    let kernel_root = kernel_map.tree.root_pfn();
    let memory = Memory {
        pages,
        slub,
        first_chunk,
        percpu: first_chunk.allocator(pages, slub)?,
        areas: slub.create(space::AREA_CACHE)?,
        vmalloc: Mutex::new(vmalloc::space()?),
        vmap_areas: slub.create(vmalloc::AREA_CACHE)?,
        memtypes: Mutex::new(ioremap::Types::new()),
        largest_page: largest,
        phys_bits: features.phys_bits,
        numa,
        cpus,
        max_cpus: options.cpus.max_cpus,
        kernel_map: Mutex::new(kernel_map.tree),
        zero_page: ZeroPage::new(Machine, &mut { pages })?,
        iomem,
        direct_map: kernel_map.direct,
        cma,
        sysctl: SpinLock::new(Level::Settings, sysctl),
        stat_interval: vmstat::Interval::new(),
        kernel_root,
        spaces: SpinLock::new(Level::Spaces, space::Spaces::new()),
        spaces_cache: slub.create(space::SPACE_CACHE)?,
    };
    let memory = MEMORY.call_once(|| memory);
    early_ioremap::report_leaks();
    chipset::log_hpet(memory);
    check(&memory.kernel_map.lock(), &[])?;
    Ok(memory)
}

/// Leaves the boot loader's page tables and memory, but for what the kernel keeps.
fn leave_loader(
    boot: &Boot,
    memblock: &mut Memblock<'static>,
    kernel_map: &kernel_map::KernelMap,
) -> Result<(), Error> {
    let loader = kernel_map::copy_of_loader_ranges(memblock, boot)?;
    let symbols = early::symbols(boot, memblock);
    // SAFETY: boot runs on a stack of the image; of what the boot loader handed over, only copies are used from now on,
    // and the symbols, which are found at their new place before they are used again.
    unsafe {
        kernel_map::activate(&kernel_map.tree);
        match symbols {
            Some(symbols) => symbols::relocate(Machine.phys_to_virt(PhysAddr::new(symbols.start()))),
            None => symbols::forget(),
        }
    }
    early::lift_limit(memblock);
    let given = kernel_map::give_back_loader_memory(memblock, loader, symbols)?;
    log::info!("Freeing boot loader memory: {}K", given >> 10);
    memblock.dump_all();
    Ok(())
}

/// Sets memory aside for the area that `cma=` asks for; none when there is no room (Linux: `dma_contiguous_reserve`).
fn reserve_cma(memblock: &mut Memblock<'static>, options: &options::Options) -> Option<Reservation> {
    let request = options.cma?;
    match cma::reserve(memblock, request, "reserved") {
        Ok(reserved) => reserved,
        Err(error) => {
            log::error!("cma: Failed to reserve {} MiB: {error}", request.size_bytes >> 20);
            None
        }
    }
}

/// Nodes, sections and zones, and the page allocator with all free memory in it.
fn page_allocator(
    mut memblock: Memblock<'static>,
    numa: &Numa<'static>,
    cpus: PossibleCpus<'static>,
    kernel_map: &mut kernel_map::KernelMap,
    options: &options::Options,
    cma: Option<&Reservation>,
) -> Result<&'static PageAllocator, Error> {
    let nr_cpus = cpus.nr();
    let mut vmemmap = vmemmap::Populate { tree: &mut kernel_map.tree };
    // SAFETY: memblock's memory is mapped by the direct map, boot has the machine to itself, and `Populate` maps.
    let nodes =
        unsafe { mm::init::build(&mut memblock, Machine, numa, nr_cpus, options.movable, &mut vmemmap) }?;
    if options.zonelists == Zonelists::Logged {
        nodes.log_zonelists();
    }
    let layout = PageAllocator::layout(nr_cpus).ok_or(Error::Layout)?;
    let request = Request::new(layout.size() as u64).align(layout.align() as u64).on(OnNode::Any);
    let range = memblock.alloc(request)?;
    let at = NonNull::new(Machine.phys_to_virt(PhysAddr::new(range.start()))).ok_or(Error::Layout)?;
    // SAFETY: just allocated with that layout, for good; the only allocator; the lists have as many CPUs.
    let mut pages = unsafe { PageAllocator::new(nodes, at, nr_cpus, |cpu| numa.node_of_cpu(cpu)) };
    mm::stackdepot::set_tracer(&tracer::ThisCpu);
    let debugging = options.debugging.settle();
    // SAFETY: the nodes were built from this memblock, of which nothing was handed over yet.
    let owner = debugging
        .contains(DebugOptions::OWNER)
        .then(|| unsafe { PageOwner::allocate(&mut memblock, &nodes) });
    pages.set_debugging(debugging, owner.flatten());
    if debugging.contains(DebugOptions::PAGEALLOC) {
        // SAFETY: mapped with 4 KiB pages, since the option was on; I4 of `kernel_map`.
        let mapper = unsafe { debug_pagealloc::mapper(&kernel_map.tree) };
        pages.set_debug_pagealloc(mapper, options.guards);
    }
    if let Some(faults) = options.fail_page_alloc {
        pages.inject_faults(faults, crate::console::clock::tsc_khz());
    }
    let pages = PAGES.call_once(|| pages);
    pages.set_tick_khz(crate::console::clock::tsc_khz());
    pages.set_context(&context::CurrentThread);
    // SAFETY: the nodes were built from this memblock; its free memory is nobody's.
    unsafe { mm::init::hand_over(memblock, pages) };
    let cma = cma.map_or(0, |area| area.pages().nr_pages() * PAGE_SIZE as u64);
    let [code, rodata, rwdata, bss] =
        [image::text(), image::rodata(), image::data(), image::bss()].map(|part| part.end - part.start);
    mm::node::log_memory(&nodes, KernelSizes { code, rwdata, rodata, init: 0, bss, cma });
    Ok(pages)
}

/// Watermarks, reserves and per-CPU limits, as Linux sets them at boot, but for CPUs that come later.
fn limits(pages: &PageAllocator, numa: &Numa<'static>, huge_pages: HugePages) -> Sysctl {
    let mut sysctl = Sysctl::default();
    with_cpus(numa, |cpus| {
        pages.nodes().init_watermarks(&mut sysctl, cpus);
        pages.nodes().raise_min_free(&mut sysctl, huge_pages, cpus);
    });
    sysctl
}

/// The CPUs that run are others than before: computes again what depends on them (Linux: `init_per_zone_wmark_min` and
/// `refresh_zone_stat_thresholds`, which find all CPUs up). Takes the settings' lock.
pub fn cpus_changed(memory: &Memory) {
    let sysctl = memory.sysctl.lock();
    with_cpus(&memory.numa, |cpus| {
        memory.pages.nodes().set_pcp_limits(&sysctl, cpus);
        memory.pages.nodes().set_stat_thresholds(cpus);
    });
}

/// Calls `f` with the CPUs that run.
fn with_cpus<R>(numa: &Numa<'static>, f: impl FnOnce(Cpus<'_>) -> R) -> R {
    let of_node = |node: NodeId| online::all().filter(|&cpu| numa.is_cpu_on(cpu, node)).count() as u32;
    f(Cpus { online: online::nr_online(), of_node: &of_node })
}

/// Storage in the image that one user takes for good.
#[derive(Debug)]
pub(crate) struct TakeOnce<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `take` hands the value out once.
unsafe impl<T: Send> Sync for TakeOnce<T> {}

impl<T> TakeOnce<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The value, the first time.
    #[expect(clippy::mut_from_ref, reason = "it is handed out once")]
    pub(crate) fn take(&'static self) -> Option<&'static mut T> {
        let first = !self.taken.swap(true, Ordering::Relaxed);
        // SAFETY: only the first caller gets here, once.
        first.then(|| unsafe { &mut *self.value.get() })
    }
}

fn take_static<T>(storage: &'static TakeOnce<T>) -> Result<&'static mut T, Error> {
    storage.take().ok_or(Error::Twice)
}
