//! The GDT, the TSS with its interrupt stacks, and the IDT.
//!
//! ```text
//! selector  0x08 kernel code   0x10 kernel data   0x1b user data   0x23 user code   0x28 TSS
//!
//! IST 1  double fault     its cause may be a full stack
//!     2  NMI              may come anywhere, also between SYSCALL and the load of RSP
//!     3  machine check    likewise
//!     4  debug            likewise
//! ```
//!
//! Page faults run on the current stack: the memory code behind them may nest and sleep.
//!
//! # Invariants
//! - I1: a CPU's tables are never moved or freed: the CPU reads them by address.
//! - I2: the stacks of the TSS are used by the CPU alone.

use core::cell::UnsafeCell;
use core::ops::Range;

use x86_64::instructions::segmentation::{CS, DS, ES, FS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::percpu;
use crate::debug::stacks::Guarded;

/// The kernel's code segment.
pub const KERNEL_CS: u16 = 0x08;
/// The kernel's data segment.
pub const KERNEL_DS: u16 = 0x10;
/// User space's data segment, privilege level 3 included. Before the code segment: SYSRET wants it so.
pub const USER_DS: u16 = 0x18 | 3;
/// User space's code segment, privilege level 3 included.
pub const USER_CS: u16 = 0x20 | 3;

/// The interrupt stacks, IST 1 first, by Linux's names for them.
pub const IST_NAMES: [&str; NR_IST] = ["#DF", "NMI", "#MC", "#DB"];
/// How many there are.
pub const NR_IST: usize = 4;
/// Size of an interrupt stack: a report with a backtrace takes about 4 KiB in a debug build.
pub const IST_STACK_SIZE: usize = 16 * 1024;

/// The tables of a CPU.
#[derive(Debug)]
pub(super) struct CpuTables {
    gdt: GlobalDescriptorTable<8>,
    tss: TaskStateSegment,
}

impl CpuTables {
    /// Empty ones.
    pub(super) const fn new() -> Self {
        Self { gdt: GlobalDescriptorTable::empty(), tss: TaskStateSegment::new() }
    }
}

struct BootCell<T>(UnsafeCell<T>);

// SAFETY: written by `init_boot_cpu` before any other CPU or handler runs, and then only read by the CPU.
unsafe impl<T> Sync for BootCell<T> {}

static BOOT_TABLES: BootCell<CpuTables> = BootCell(UnsafeCell::new(CpuTables::new()));
static BOOT_STACKS: BootCell<[Guarded<IST_STACK_SIZE>; NR_IST]> =
    BootCell(UnsafeCell::new([const { Guarded::new() }; NR_IST]));
static IDT: BootCell<[Gate; 256]> = BootCell(UnsafeCell::new([Gate::MISSING; 256]));

/// A gate of the IDT.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    _reserved: u32,
}

const _: () = assert!(size_of::<Gate>() == 16);

impl Gate {
    const MISSING: Self =
        Self { offset_low: 0, selector: 0, ist: 0, kind: 0, offset_middle: 0, offset_high: 0, _reserved: 0 };

    /// An interrupt gate (interrupts off on entry) to `handler`, on interrupt stack `ist` unless 0, callable from
    /// `privilege` on.
    fn new(handler: u64, ist: u8, privilege: PrivilegeLevel) -> Self {
        const PRESENT_INTERRUPT_GATE: u8 = 0x8e;
        Self {
            offset_low: handler as u16,
            selector: KERNEL_CS,
            ist,
            kind: PRESENT_INTERRUPT_GATE | (privilege as u8) << 5,
            offset_middle: (handler >> 16) as u16,
            offset_high: (handler >> 32) as u32,
            _reserved: 0,
        }
    }
}

/// Replaces the boot loader's GDT, and gives the CPU a TSS.
///
/// # Safety
/// Once, on the boot CPU, before there is another CPU.
pub unsafe fn init_boot_cpu() {
    // SAFETY: called once, nobody else refers to the tables (I1).
    let tables = unsafe { &mut *BOOT_TABLES.0.get() };
    let stacks = boot_ist_stacks();
    // SAFETY: parts of the image; this is the boot CPU, with tables of its own.
    unsafe {
        percpu::set_stacks(percpu::this_cpu(), crate::debug::stacks::boot_stack(), stacks.clone());
        init_this_cpu(tables, stacks.map(|stack| stack.end));
    }
}

/// Fills a CPU's tables and uses them, on the CPU that runs this. `ist`: the ends of its interrupt stacks, IST 1 first.
///
/// # Safety
/// Tables and stacks are this CPU's alone, for good (I1, I2).
pub(super) unsafe fn init_this_cpu(tables: &mut CpuTables, ist: [u64; NR_IST]) {
    for (i, end) in ist.into_iter().enumerate() {
        tables.tss.interrupt_stack_table[i] = VirtAddr::new(end);
    }
    let kernel_code = tables.gdt.append(Descriptor::kernel_code_segment());
    let kernel_data = tables.gdt.append(Descriptor::kernel_data_segment());
    let user_data = tables.gdt.append(Descriptor::user_data_segment());
    let user_code = tables.gdt.append(Descriptor::user_code_segment());
    // SAFETY: the TSS stays (I1).
    let tss = tables.gdt.append(unsafe { Descriptor::tss_segment_unchecked(&raw const tables.tss) });
    debug_assert_eq!(
        [kernel_code.0, kernel_data.0, user_data.0, user_code.0],
        [KERNEL_CS, KERNEL_DS, USER_DS, USER_CS]
    );
    // SAFETY: the tables stay (I1) and the selectors were just made; FS and GS are not used as segments, and
    // GS is left alone because loading it would clear its base.
    unsafe {
        tables.gdt.load_unsafe();
        CS::set_reg(kernel_code);
        SS::set_reg(kernel_data);
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        FS::set_reg(SegmentSelector::NULL);
        load_tss(tss);
    }
}

/// Fills the IDT, which all CPUs share, and loads it.
///
/// # Safety
/// Once, after [`init_boot_cpu`], before there is another CPU.
pub unsafe fn init_idt() {
    // SAFETY: called once, and no CPU has loaded it yet.
    let idt = unsafe { &mut *IDT.0.get() };
    for (vector, gate) in idt.iter_mut().enumerate() {
        let ist = match vector {
            8 => 1,
            2 => 2,
            18 => 3,
            1 => 4,
            _ => 0,
        };
        // INT3 and INTO are there for programs to use.
        let privilege =
            if vector == 3 || vector == 4 { PrivilegeLevel::Ring3 } else { PrivilegeLevel::Ring0 };
        *gate = Gate::new(crate::trap::entry::stub(vector as u8), ist, privilege);
    }
    load_idt();
}

/// Loads the IDT on the CPU that runs this.
pub fn load_idt() {
    let pointer = DescriptorTablePointer {
        limit: (256 * size_of::<Gate>() - 1) as u16,
        base: VirtAddr::from_ptr(IDT.0.get()),
    };
    // SAFETY: a static table (I1), whose gates lead to the stubs of `trap::entry`.
    unsafe { x86_64::instructions::tables::lidt(&pointer) };
}

/// The boot CPU's interrupt stacks, IST 1 first.
pub fn boot_ist_stacks() -> [Range<u64>; NR_IST] {
    let first = BOOT_STACKS.0.get().cast::<Guarded<IST_STACK_SIZE>>();
    core::array::from_fn(|i| {
        let (start, size) = Guarded::range(first.wrapping_add(i));
        start as u64..start as u64 + size as u64
    })
}
