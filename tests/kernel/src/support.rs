//! What the suites share: the machine's memory, a check that nothing is lost, hoards of pages, random numbers.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::time::Duration;

use kernel::memory::{Memory, workload};
use kernel::thread;
use mm::arch::Machine;
use mm::page_alloc::{AllocError, PageBlock};
use mm::{Gfp, NodeId, Order, PAGE_SIZE, PagePtr};

/// The machine's memory.
pub(crate) fn memory() -> &'static Memory {
    kernel::memory::memory().expect("tests run when memory is set up")
}

/// Runs `test`, and checks that it gave back all that it took and that every counter is right.
#[track_caller]
pub(crate) fn leaks_nothing(test: impl FnOnce(&'static Memory)) {
    let memory = memory();
    let before = free_frames(memory);
    test(memory);
    let after = free_frames(memory);
    memory.pages.validate();
    memory.slub.validate();
    assert_eq!(before, after, "free pages before and after");
}

/// Free frames, when threads that have ended are gone too.
pub(crate) fn free_frames(memory: &'static Memory) -> u64 {
    while thread::reaper_is_busy() {
        thread::sleep(Duration::from_millis(1));
    }
    workload::free_frames(memory)
}

/// The order with that number.
#[track_caller]
pub(crate) fn order(n: u8) -> Order {
    Order::new(n).expect("an order")
}

/// A block's memory.
pub(crate) fn bytes(block: &mut PageBlock) -> &mut [u8] {
    let length = PAGE_SIZE << block.order().get();
    // SAFETY: the block's memory is ours as long as the block, and mapped.
    unsafe { core::slice::from_raw_parts_mut(block.address(Machine).as_ptr(), length) }
}

/// Blocks linked through their own memory, so that keeping them takes no other: a stack that fills the machine.
///
/// # Invariants
/// - H1: `top` and each `below` is a block that was allocated, whose first bytes are a [`Link`].
#[derive(Debug)]
pub(crate) struct Hoard {
    top: Option<(NonNull<Link>, PagePtr)>,
    pub(crate) nr_pages: u64,
    _here: PhantomData<*mut ()>,
}

#[derive(Debug)]
struct Link {
    below: Option<(NonNull<Link>, PagePtr)>,
    order: Order,
}

impl Hoard {
    pub(crate) const fn new() -> Self {
        Self { top: None, nr_pages: 0, _here: PhantomData }
    }

    pub(crate) fn push(&mut self, block: PageBlock) {
        let at = block.address(Machine).cast::<Link>();
        let (page, order) = block.into_raw();
        // SAFETY: the block's memory is ours, mapped and page-aligned.
        unsafe { at.write(Link { below: self.top, order }) };
        self.nr_pages += order.nr_pages();
        self.top = Some((at, page));
    }

    pub(crate) fn pop(&mut self) -> Option<PageBlock> {
        let (at, page) = self.top?;
        // SAFETY: H1.
        let Link { below, order } = unsafe { at.read() };
        self.top = below;
        self.nr_pages -= order.nr_pages();
        // SAFETY: H1: the reference of the block pushed.
        Some(unsafe { PageBlock::from_raw(page, order) })
    }

    /// Takes blocks of `order` until there are none; returns how many.
    pub(crate) fn take_all(&mut self, gfp: Gfp, order: Order, node: Option<NodeId>) -> u64 {
        let pages = memory().pages;
        let alloc = || match node {
            Some(node) => pages.alloc_pages_node(node, gfp | Gfp::NOWARN, order),
            None => pages.alloc_pages(gfp | Gfp::NOWARN, order),
        };
        let mut taken = 0;
        loop {
            match alloc() {
                Ok(block) => self.push(block),
                Err(AllocError) => return taken,
            }
            taken += 1;
        }
    }

    /// Takes blocks of every order until nothing is left for `gfp`, nor for movable pages: large ones first, so that it is
    /// quick.
    pub(crate) fn exhaust(&mut self, gfp: Gfp) {
        self.exhaust_type(gfp);
        self.exhaust_type(gfp | Gfp::MOVABLE);
    }

    /// The same for just the type that `gfp` says.
    pub(crate) fn exhaust_type(&mut self, gfp: Gfp) {
        Order::all().rev().for_each(|order| {
            self.take_all(gfp, order, None);
        });
    }

    /// Gives everything back.
    pub(crate) fn free(&mut self) {
        while let Some(block) = self.pop() {
            memory().pages.free_pages(block);
        }
    }
}

/// Random numbers, the same in each run (xorshift64*).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The low bits are the weak ones.
        (self.next() >> 16) % end
    }
}
