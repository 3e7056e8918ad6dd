//! Blocks that were given out: who holds one owns its pages, or at least keeps them from being freed.
//!
//! Compound blocks (`__GFP_COMP`): the head has `HEAD`, each tail's word 0 is the head's address plus one, the first
//! tail's word 1 the order.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use crate::arch::Machine;
use crate::buddy::{FreeBlock, later};
use crate::order::Order;
use crate::page::{Page, PageFlags, PagePtr, PageType};
use crate::pfn::Pfn;

const TAIL_HEAD: usize = 0;
const TAIL_ORDER: usize = 1;
const TAIL_BIT: u64 = 1;

/// A block of pages that was allocated: one reference to it.
#[must_use = "the pages are lost when this is dropped: give them to `free_pages`"]
#[derive(Debug)]
pub struct PageBlock {
    page: PagePtr,
    order: Order,
}

impl PageBlock {
    /// The first page.
    #[inline(always)]
    pub fn page(&self) -> PagePtr {
        self.page
    }

    /// The size.
    #[inline(always)]
    pub fn order(&self) -> Order {
        self.order
    }

    /// The first frame.
    #[inline]
    pub fn pfn(&self, machine: Machine) -> Pfn {
        self.page.pfn(machine)
    }

    /// Where the block's memory is mapped (Linux: `page_address`).
    #[inline]
    pub fn address(&self, machine: Machine) -> NonNull<u8> {
        // SAFETY: RAM is never mapped at address zero.
        unsafe { NonNull::new_unchecked(machine.phys_to_virt(self.pfn(machine).phys())) }
    }

    /// All its pages.
    #[inline]
    pub fn pages(&self) -> &[Page] {
        // SAFETY: the block's pages are contiguous in the vmemmap and stay as long as the reference (G2).
        unsafe { core::slice::from_raw_parts(self.page.as_ptr(), self.order.nr_pages() as usize) }
    }

    /// The first page and the size, for whoever keeps the reference in another form: in a page table, in a list, in the
    /// page itself.
    #[inline(always)]
    pub fn into_raw(self) -> (PagePtr, Order) {
        (self.page, self.order)
    }

    /// The block again.
    ///
    /// # Safety
    /// The reference is the caller's (G2): from [`into_raw`](Self::into_raw), with its `order`; or from one more
    /// [`Page::get`], with the order of a compound block, 0 for any other: that reference keeps the first page alone.
    #[inline(always)]
    pub unsafe fn from_raw(page: PagePtr, order: Order) -> Self {
        Self { page, order }
    }

    /// A free block is given out, with a reference.
    #[inline(always)]
    pub(super) fn give_out(block: FreeBlock) -> Self {
        block.page().set_refcount(1);
        Self { page: block.page(), order: block.order() }
    }

    /// The free block when it is a single page with nothing to check or undo: no other users, no type, no flags.
    #[inline(always)]
    pub(super) fn into_free_if_clean(self) -> Result<FreeBlock, Self> {
        if self.order == Order::ZERO && self.is_clean() { Ok(self.into_free()) } else { Err(self) }
    }

    /// Whether the first page has no other users, no type and no flags.
    #[inline(always)]
    pub(super) fn is_clean(&self) -> bool {
        let (flags, page_type, refcount) = self.page.raw_state();
        refcount == 1 && page_type == PageType::NONE.bits() && flags & PageFlags::all().bits() == 0
    }

    /// The block becomes free: the caller has given up the last reference to its first page.
    #[inline(always)]
    pub(super) fn into_free(self) -> FreeBlock {
        // Acquire: partner of the release in `Page::put`, by which another user may have left before us.
        fence(Ordering::Acquire);
        self.page.set_refcount(0);
        // SAFETY: the last reference was ours (G2), so nobody else uses the pages.
        unsafe { FreeBlock::from_raw(self.page, self.order) }
    }

    /// The two halves of a block whose first page somebody else still uses (Linux: the loop in `__free_pages`). The upper
    /// half is ours alone.
    pub(super) fn upper_half(&mut self) -> Option<FreeBlock> {
        self.order = self.order.down()?;
        // SAFETY: the middle of our block; references are to its first page only, so nobody uses this half.
        Some(unsafe { FreeBlock::from_raw(later(self.page, self.order.nr_pages()), self.order) })
    }
}

/// Makes tails point to their head (Linux: `prep_compound_page`).
pub(super) fn make_compound(block: &FreeBlock) {
    let Some((_, tails)) = block.pages().split_first() else { return };
    let head = block.page();
    if tails.is_empty() {
        return;
    }
    head.set_flags_owned(PageFlags::HEAD);
    for tail in tails {
        // SAFETY: our own block (B1 of `buddy`), which is on no list.
        unsafe { tail.set_word(TAIL_HEAD, head.as_ptr() as u64 | TAIL_BIT) };
    }
    // SAFETY: as above.
    unsafe { tails[0].set_word(TAIL_ORDER, u64::from(block.order().get())) };
}

/// Undoes [`make_compound`]; the first tail that does not point to its head, when there is one.
pub(super) fn unmake_compound(block: &FreeBlock) -> Result<(), PagePtr> {
    let head = block.page();
    for tail in &block.pages()[1..] {
        // SAFETY: our own block, on no list.
        unsafe {
            if tail.word(TAIL_HEAD) != head.as_ptr() as u64 | TAIL_BIT {
                return Err(PagePtr::from_raw(NonNull::from_ref(tail)));
            }
            tail.set_word(TAIL_HEAD, 0);
        }
    }
    head.clear_flags_owned(PageFlags::HEAD);
    Ok(())
}

/// The first page of the compound block that `page` belongs to, or `page` itself (Linux: `compound_head`).
///
/// # Safety
/// The caller holds a reference to the block, whose owner lets tails be (I2 of `page`): word 0 of a page that is no tail
/// has bit 0 clear.
#[inline]
pub unsafe fn compound_head(page: PagePtr) -> PagePtr {
    // SAFETY: the caller's page; a word with the bit set is the head's address (see the module).
    unsafe {
        let word = page.word(TAIL_HEAD);
        match NonNull::new((word & !TAIL_BIT) as *mut Page) {
            Some(head) if word & TAIL_BIT != 0 => PagePtr::from_raw(head),
            _ => page,
        }
    }
}

/// The order of the block that `page` heads: 0 when it is not compound (Linux: `compound_order`). The caller holds a
/// reference to it.
#[inline]
pub fn compound_order(page: PagePtr) -> Order {
    if !page.flags().contains(PageFlags::HEAD) {
        return Order::ZERO;
    }
    // SAFETY: a head has tails behind it, whose words belong to the allocator while it is compound.
    let order = unsafe { later(page, 1).word(TAIL_ORDER) };
    Order::new(order as u8).unwrap_or(Order::ZERO)
}
