//! Stacks of kernel threads: areas of the vmalloc space, each with holes around it, so that an overflow is a fault and not
//! a corruption.
//!
//! ```text
//! | hole | stack 16 KiB | hole ...        at multiples of the stack's size
//! ```

use core::ops::Range;

use mm::arch::Machine;
use mm::counters::NodeStat;
use mm::page_alloc::PageBlock;
use mm::pgtable::{PageSize, Prot};
use mm::vmalloc::{Caller, Purpose, Request, VmapArea};
use mm::{Gfp, NodeId, Order};

use super::{Error, Memory, vmalloc};
use crate::debug::backtrace::return_address;

/// 16 KiB (Linux: `THREAD_SIZE_ORDER`).
const ORDER: Order = match Order::new(2) {
    Some(order) => order,
    None => unreachable!(),
};
/// Size of a stack.
pub const STACK_BYTES: u64 = ORDER.size_bytes() as u64;
/// Aligned as Linux aligns it (`THREAD_ALIGN`).
const REQUEST: Request = Request::new(STACK_BYTES, Purpose::Stack).align(STACK_BYTES);

/// How its pages are allocated.
const GFP: Gfp = Gfp::KERNEL.union(Gfp::ZERO);

/// A mapped stack (Linux: `alloc_thread_stack_node`).
#[must_use = "give it back with `free`"]
#[derive(Debug)]
pub struct Stack {
    area: VmapArea,
    block: PageBlock,
}

impl Stack {
    /// A new stack, zeroed.
    ///
    /// # Errors
    /// No memory.
    #[inline(never)]
    pub fn new(memory: &'static Memory) -> Result<Self, Error> {
        Self::map(memory, memory.pages.alloc_pages(GFP, ORDER)?, Caller(return_address()))
    }

    /// A new stack, zeroed, with pages of that node or one near it.
    ///
    /// # Errors
    /// No memory.
    #[inline(never)]
    pub fn new_near(memory: &'static Memory, node: NodeId) -> Result<Self, Error> {
        Self::map(memory, memory.pages.alloc_pages_node(node, GFP, ORDER)?, Caller(return_address()))
    }

    fn map(memory: &'static Memory, block: PageBlock, caller: Caller) -> Result<Self, Error> {
        let phys = block.pfn(Machine).phys();
        match vmalloc::map(memory, REQUEST.by(caller), phys, Prot::KERNEL_RW, PageSize::Size4K) {
            Ok(area) => {
                count(memory, &block, STACK_BYTES as i64 >> 10);
                Ok(Self { area, block })
            }
            Err(error) => {
                memory.pages.free_pages(block);
                Err(error)
            }
        }
    }

    /// Its addresses.
    pub fn addresses(&self) -> Range<u64> {
        let start = self.area.range().first();
        start..start + STACK_BYTES
    }

    /// Keeps it for good; its addresses.
    pub fn keep(self) -> Range<u64> {
        self.addresses()
    }

    /// Unmaps it and gives its pages back.
    ///
    /// # Safety
    /// Nobody uses it any more.
    pub unsafe fn free(self, memory: &'static Memory) {
        // SAFETY: the area came from there, and nobody uses it.
        unsafe { vmalloc::unmap(memory, self.area) };
        count(memory, &self.block, -(STACK_BYTES as i64 >> 10));
        memory.pages.free_pages(self.block);
    }
}

/// Counts so many KiB of stacks on the pages' node (Linux: `account_kernel_stack`).
fn count(memory: &Memory, block: &PageBlock, kib: i64) {
    if let Some(node) = memory.pages.nodes().get(block.page().node()) {
        node.counters().add(NodeStat::KernelStackKb, kib);
    }
}
