//! The code that a CPU starts with, from real mode to the kernel, in a page below 1 MiB.
//!
//! ```text
//! start-up interrupt: CS = page >> 4, IP = 0, real mode
//!   -> 32 bits, no paging -> the temporary root: this page where it is, and the kernel's half -> long mode
//!   -> `entry` with `argument`, on `stack`, in the kernel's half
//! ```
//!
//! The root is below 4 GiB, because CR3 is loaded with 32 bits. It maps the page executable at an address of the user half,
//! so it is used for nothing else, and given back when the CPUs are up.
//!
//! # Invariants
//! - B1: `PAGE` is a page of RAM below 1 MiB that nobody else uses.
//! - B2: what is written there for a CPU stays until the CPU has arrived or was reset: one CPU starts at a time.

use core::arch::global_asm;
use core::mem::offset_of;

use mm::arch::Machine;
use mm::page_alloc::PageBlock;
use mm::pgtable::{Level, LocalTlb, OutOfMemory, PageSize, PageTable, Prot, TableSource, VirtRange};
use mm::{Gfp, Order, PAGE_SIZE, Pfn, PhysRange, VirtAddr};
use spin::Once;
use x86_64::registers::control::{Cr0, Cr4, Cr4Flags, Efer, EferFlags};

use crate::memory::Memory;

global_asm!(
    r#"
    .pushsection .rodata.trampoline, "a"
    .balign 16
    .global trampoline_start
    .code16
    trampoline_start:
        cli
        cld
        movw %cs, %ax
        movw %ax, %ds
        movzwl %ax, %ebx
        shll $4, %ebx
        lgdtl (trampoline_gdt_pointer - trampoline_start)
        movl %cr0, %eax
        orl $1, %eax
        movl %eax, %cr0
        ljmpl *(trampoline_far_32 - trampoline_start)

    .code32
    trampoline_32:
        movl $0x10, %eax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl (trampoline_parameters - trampoline_start + {cr4})(%ebx), %eax
        movl %eax, %cr4
        movl (trampoline_parameters - trampoline_start + {cr3})(%ebx), %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx
        movl (trampoline_parameters - trampoline_start + {efer})(%ebx), %eax
        xorl %edx, %edx
        wrmsr
        movl (trampoline_parameters - trampoline_start + {cr0})(%ebx), %eax
        movl %eax, %cr0
        ljmpl *(trampoline_far_64 - trampoline_start)(%ebx)

    .code64
    trampoline_64:
        movl %ebx, %ebx
        movq (trampoline_parameters - trampoline_start + {stack})(%rbx), %rsp
        movq (trampoline_parameters - trampoline_start + {argument})(%rbx), %rdi
        movq (trampoline_parameters - trampoline_start + {entry})(%rbx), %rax
        # Frame pointers end here.
        xorl %ebp, %ebp
        callq *%rax
        ud2

    .balign 16
    trampoline_gdt:
        .quad 0
        .quad 0x00cf9b000000ffff
        .quad 0x00cf93000000ffff
        .quad 0x00af9b000000ffff
    .global trampoline_gdt_pointer
    trampoline_gdt_pointer:
        .word 31
        .long trampoline_gdt - trampoline_start
    .global trampoline_far_32
    trampoline_far_32:
        .long trampoline_32 - trampoline_start
        .word 0x08
    .global trampoline_far_64
    trampoline_far_64:
        .long trampoline_64 - trampoline_start
        .word 0x18
    .balign 8
    .global trampoline_parameters
    trampoline_parameters:
        .fill {size}, 1, 0
    .global trampoline_end
    trampoline_end:
    .popsection
    "#,
    cr0 = const offset_of!(Parameters, cr0),
    cr3 = const offset_of!(Parameters, cr3),
    cr4 = const offset_of!(Parameters, cr4),
    efer = const offset_of!(Parameters, efer),
    stack = const offset_of!(Parameters, stack),
    argument = const offset_of!(Parameters, argument),
    entry = const offset_of!(Parameters, entry),
    size = const size_of::<Parameters>(),
    options(att_syntax)
);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_gdt_pointer: u8;
    static trampoline_far_32: u8;
    static trampoline_far_64: u8;
    static trampoline_parameters: u8;
    static trampoline_end: u8;
}

/// What the code loads.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    cr0: u32,
    cr3: u32,
    cr4: u32,
    efer: u32,
    stack: u64,
    argument: u64,
    entry: u64,
}

const _: () = assert!(size_of::<Parameters>() == 40);

static PAGE: Once<Pfn> = Once::new();

/// Takes a page for the code out of memory below 1 MiB, which boot reserves: the highest page of `usable` that is not `taken`
/// (Linux: `reserve_real_mode`).
pub fn choose_page(usable: impl Iterator<Item = PhysRange>, taken: impl Fn(PhysRange) -> bool) {
    /// Real mode's last page of RAM ends here.
    const END: u64 = 0xa0000;
    let page_at = |start: u64| PhysRange::from_size(start, PAGE_SIZE as u64);
    let pages = usable.flat_map(|range| {
        let first = range.start().max(PAGE_SIZE as u64).next_multiple_of(PAGE_SIZE as u64);
        (first..END).step_by(PAGE_SIZE).take_while(move |start| start + PAGE_SIZE as u64 <= range.end())
    });
    match pages.filter(|&start| page_at(start).is_some_and(|page| !taken(page))).max() {
        Some(start) => {
            PAGE.call_once(|| Pfn::down(start));
        }
        None => log::info!("No sub-1M memory is available for the trampoline"),
    }
}

/// The code in its page, with its temporary page tables.
#[derive(Debug)]
pub(super) struct Trampoline {
    page: Pfn,
    tree: PageTable,
}

/// Tables below 4 GiB.
struct LowTables(&'static Memory);

// SAFETY: the page allocator gives each page out once, zeroed, in the direct map.
unsafe impl TableSource for LowTables {
    fn alloc_table(&mut self, _level: Level) -> Result<Pfn, OutOfMemory> {
        let block =
            self.0.pages.alloc_zeroed(Gfp::KERNEL | Gfp::DMA32, Order::ZERO).map_err(|_| OutOfMemory)?;
        let pfn = block.pfn(Machine);
        let _ = block.into_raw();
        Ok(pfn)
    }

    unsafe fn free_table(&mut self, pfn: Pfn) {
        // SAFETY: from `alloc_table`, and not used any more: the caller's promise.
        let block = unsafe { PageBlock::from_raw(mm::PagePtr::new(Machine, pfn), Order::ZERO) };
        self.0.pages.free_pages(block);
    }
}

/// Why there is no trampoline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Error {
    /// No page below 1 MiB.
    NoPage,
    /// No memory for page tables.
    OutOfMemory,
}

impl Trampoline {
    /// Puts the code into its page. One at a time (B2).
    pub(super) fn new(memory: &'static Memory) -> Result<Self, Error> {
        let page = *PAGE.get().ok_or(Error::NoPage)?;
        let mut tables = LowTables(memory);
        let tree = PageTable::with_kernel_half_of(&memory.kernel_map.lock(), &mut tables);
        let mut tree = tree.map_err(|_| Error::OutOfMemory)?;
        let mapped =
            tree.map_range(identity(page), page.phys(), Prot::KERNEL_RX, PageSize::Size4K, &mut tables);
        let this = Self { page, tree };
        if mapped.is_err() {
            this.free(memory);
            return Err(Error::OutOfMemory);
        }
        this.copy_code();
        Ok(this)
    }

    fn at(&self, offset: usize) -> *mut u8 {
        Machine.phys_to_virt(self.page.phys()).wrapping_add(offset)
    }

    fn copy_code(&self) {
        let start = &raw const trampoline_start;
        let size = offset_of_symbol(&raw const trampoline_end);
        assert!(size <= PAGE_SIZE);
        // SAFETY: B1: the page is ours, and the direct map has it; the code is a part of the image.
        unsafe { self.at(0).copy_from_nonoverlapping(start, size) };
        // The code does not know where it is: three addresses do not hold for each place.
        for (field, skip) in [
            (&raw const trampoline_gdt_pointer, 2),
            (&raw const trampoline_far_32, 0),
            (&raw const trampoline_far_64, 0),
        ] {
            let field = self.at(offset_of_symbol(field) + skip).cast::<u32>();
            // SAFETY: inside the copy.
            unsafe { field.write_unaligned(field.read_unaligned() + self.page.byte() as u32) };
        }
    }

    /// Lets the next CPU that starts here continue with `entry(argument)` on `stack`, its control registers set as this CPU's.
    ///
    /// # Safety
    /// `entry` does not return, and takes what `argument` is. The stack, up to its end, is the new CPU's.
    pub(super) unsafe fn prepare(&self, entry: u64, argument: u64, stack_end: u64) {
        let efer = Efer::read() - EferFlags::LONG_MODE_ACTIVE;
        let parameters = Parameters {
            cr0: Cr0::read_raw() as u32,
            // `LowTables` saw to it.
            cr3: u32::try_from(self.tree.root_pfn().byte()).expect("the root is below 4 GiB"),
            // What else this CPU has is switched on when the features are.
            cr4: (Cr4::read() & Cr4Flags::PHYSICAL_ADDRESS_EXTENSION).bits() as u32,
            efer: efer.bits() as u32,
            stack: stack_end,
            argument,
            entry,
        };
        let at = self.at(offset_of_symbol(&raw const trampoline_parameters)).cast::<Parameters>();
        // SAFETY: inside our page (B1, B2).
        unsafe { at.write_volatile(parameters) };
    }

    /// The page by its number, as the start-up interrupt names it.
    pub(super) fn page(&self) -> u8 {
        // Below 1 MiB.
        self.page.get() as u8
    }

    /// Gives the page tables back. No CPU is on its way through them.
    pub(super) fn free(mut self, memory: &'static Memory) {
        let mut tables = LowTables(memory);
        if let Ok(unmapped) = self.tree.unmap_range(identity(self.page), &mut tables) {
            // SAFETY: the tables are from there, and no CPU uses the tree.
            unsafe { unmapped.finish(&mut LocalTlb, &mut tables) };
        }
        // SAFETY: as above.
        unsafe { self.tree.free_root(&mut tables) };
    }
}

/// Where the page itself is, as an address.
fn identity(page: Pfn) -> VirtRange {
    let at = VirtAddr::new_truncate(page.byte());
    VirtRange::new(at, PAGE_SIZE as u64).expect("a page below 1 MiB is a range of user space")
}

/// A symbol's distance from the start of the code.
fn offset_of_symbol(symbol: *const u8) -> usize {
    symbol as usize - (&raw const trampoline_start) as usize
}
