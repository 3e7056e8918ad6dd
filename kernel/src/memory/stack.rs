//! Stacks of kernel threads: mapped in a part of the vmalloc space, each with a hole below, so that an overflow is a fault
//! and not a corruption.
//!
//! ```text
//! AREA + n * 32 KiB    | hole 16 KiB | stack n 16 KiB |       numbers are reused
//! ```
//!
//! # Invariants
//! - I1: a number is in `free`, or a [`Stack`] has it, or it is `next` or above.
//! - I2: `free` has room for every number below `next`: giving one back allocates nothing.

use core::ops::Range;

use alloc::vec::Vec;
use mm::arch::Machine;
use mm::arch::layout::VMALLOC_END;
use mm::page_alloc::PageBlock;
use mm::pgtable::{LocalTlb, OutOfMemory, PageSize, Prot, VirtRange};
use mm::sync::{Level, SpinLock};
use mm::{Gfp, Order, VirtAddr};

use super::{Error, Memory};

/// Where stacks are: the end of the vmalloc space.
const AREA: u64 = VMALLOC_END - (1 << 40);
/// 16 KiB (Linux: `THREAD_SIZE_ORDER`).
const ORDER: Order = match Order::new(2) {
    Some(order) => order,
    None => unreachable!(),
};
/// Size of a stack.
pub const STACK_BYTES: u64 = ORDER.size_bytes() as u64;
const SLOT_BYTES: u64 = 2 * STACK_BYTES;
const MAX_STACKS: u64 = (VMALLOC_END - AREA) / SLOT_BYTES;

#[derive(Debug)]
struct Numbers {
    free: Vec<u64>,
    next: u64,
}

static NUMBERS: SpinLock<Numbers> = SpinLock::new(Level::Threads, Numbers { free: Vec::new(), next: 0 });

/// A mapped stack (Linux: `alloc_thread_stack_node`).
#[must_use = "give it back with `free`"]
#[derive(Debug)]
pub struct Stack {
    number: u64,
    range: VirtRange,
    block: PageBlock,
}

impl Stack {
    /// A new stack, zeroed.
    ///
    /// # Errors
    /// No memory.
    pub fn new(memory: &'static Memory) -> Result<Self, Error> {
        let number = take_number()?;
        Self::map(memory, number).inspect_err(|_| NUMBERS.lock().free.push(number))
    }

    fn map(memory: &'static Memory, number: u64) -> Result<Self, Error> {
        let mut pages = memory.pages;
        let at = VirtAddr::new(AREA + number * SLOT_BYTES + STACK_BYTES);
        let range = VirtRange::new(at, STACK_BYTES).ok_or(Error::Layout)?;
        let block = pages.alloc_zeroed(Gfp::KERNEL, ORDER)?;
        let phys = block.pfn(Machine).phys();
        let mapped =
            memory.kernel_map.lock().map_range(range, phys, Prot::KERNEL_RW, PageSize::Size4K, &mut pages);
        match mapped {
            Ok(_) => Ok(Self { number, range, block }),
            Err(error) => {
                pages.free_pages(block);
                Err(error.into())
            }
        }
    }

    /// Its addresses.
    pub fn addresses(&self) -> Range<u64> {
        let start = self.range.start().as_u64();
        start..start + STACK_BYTES
    }

    /// Unmaps it and gives its pages back.
    ///
    /// # Safety
    /// Nobody uses it any more.
    pub unsafe fn free(self, memory: &'static Memory) {
        let mut pages = memory.pages;
        match memory.kernel_map.lock().unmap_range(self.range, &mut pages) {
            // SAFETY: tables of the vmalloc space come from the page allocator, and only this CPU runs.
            Ok(unmapped) => unsafe { unmapped.finish(&mut LocalTlb, &mut pages) },
            Err(OutOfMemory) => unreachable!("single pages are never split"),
        }
        pages.free_pages(self.block);
        NUMBERS.lock().free.push(self.number);
    }
}

fn take_number() -> Result<u64, Error> {
    let mut numbers = NUMBERS.lock();
    if let Some(number) = numbers.free.pop() {
        return Ok(number);
    }
    let number = numbers.next;
    // I2. No number is free now, so the list is empty.
    numbers.free.try_reserve(number as usize + 1).map_err(|_| Error::OutOfMemory)?;
    if number == MAX_STACKS {
        return Err(Error::OutOfMemory);
    }
    numbers.next += 1;
    Ok(number)
}
