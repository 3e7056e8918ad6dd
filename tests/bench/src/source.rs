//! What is measured: something that gives out blocks of pages.

use mm::arch::SimMachine;
use mm::sync::{Level, SpinLock};
use mm::{Order, PhysAddr};

/// Gives out blocks of pages to several threads.
pub trait Source: Sync {
    /// What it is called in reports.
    const NAME: &'static str;
    /// A block that was given out.
    type Block;

    /// One over `size_bytes` of simulated memory, all free.
    fn new(size_bytes: u64) -> Self;

    /// 2^`order` consecutive pages.
    fn alloc(&self, order: Order) -> Option<Self::Block>;

    /// Takes them back.
    fn free(&self, block: Self::Block);
}

/// Free memory for an allocator: zeroed, writable, nobody else's, as long as the allocator lives.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    start: *mut u8,
    size_bytes: usize,
}

impl Memory {
    /// Its first byte, at the start of a page.
    pub fn start(self) -> *mut u8 {
        self.start
    }

    /// How much there is, in whole pages.
    pub fn size_bytes(self) -> usize {
        self.size_bytes
    }
}

/// An allocator that knows nothing of threads.
pub trait Heap: Send {
    /// What it is called in reports.
    const NAME: &'static str;

    /// One that has that memory.
    fn new(memory: Memory) -> Self;

    /// The address, or the frame, of 2^`order` consecutive pages.
    fn alloc(&mut self, order: Order) -> Option<usize>;

    /// Takes back what [`alloc`](Self::alloc) gave out as `order`, once.
    fn free(&mut self, at: usize, order: Order);
}

/// A [`Heap`] behind the lock that a zone of Strata has.
#[derive(Debug)]
pub struct Locked<H> {
    heap: SpinLock<H>,
    // What the heap lives in goes last.
    _sim: SimMachine,
}

/// A block of a [`Locked`] heap.
#[derive(Debug)]
pub struct Block {
    at: usize,
    order: Order,
}

impl<H: Heap> Source for Locked<H> {
    const NAME: &'static str = H::NAME;
    type Block = Block;

    fn new(size_bytes: u64) -> Self {
        let sim = SimMachine::new(size_bytes);
        let start = sim.machine().phys_to_virt(PhysAddr::new(0));
        let memory = Memory { start, size_bytes: size_bytes as usize };
        Self { heap: SpinLock::new(Level::Leaf, H::new(memory)), _sim: sim }
    }

    #[inline]
    fn alloc(&self, order: Order) -> Option<Block> {
        let at = self.heap.lock().alloc(order)?;
        Some(Block { at, order })
    }

    #[inline]
    fn free(&self, block: Block) {
        self.heap.lock().free(block.at, block.order);
    }
}
