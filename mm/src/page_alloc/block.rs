//! Blocks that were given out: who holds one owns its pages, or at least keeps them from being freed.
//!
//! ```text
//!                alloc_pages            split (not compound)
//! FreeBlock -----------------> PageBlock --------------------> 2^order PageBlocks of a page
//!           <-----------------   |   ^    share (compound, or one page)
//!                free_pages      |   +--- into_block --- PageRef, when it is the only one
//!                                +-----------------------> PageRef
//! ```

use core::iter::FusedIterator;
use core::ptr::NonNull;

use crate::arch::{self, Machine};
use crate::buddy::{FreeBlock, later};
use crate::order::Order;
use crate::page::{Folio, Page, PagePtr, PageRef};
use crate::pfn::Pfn;

use super::debug::note_part;

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
    /// The reference is the caller's (G2): from [`into_raw`](Self::into_raw), with its `order`; or from a
    /// [`PageRef`], with the order of a compound block, 0 for any other: that reference keeps the first page alone.
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
        self.page.type_and_refcount() == Page::USED_ONCE && self.page.flags().is_empty()
    }

    /// The block becomes free: the caller has given up the last reference to its first page.
    #[inline(always)]
    pub(super) fn into_free(self) -> FreeBlock {
        self.page.refs().end_sole();
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

    /// The folio that it is: the whole block when it is compound, else its first page.
    #[inline]
    pub fn folio(&self) -> Folio<'_> {
        // SAFETY: our reference (G2); a block starts with no tail.
        unsafe { Folio::of_head(self.page) }
    }

    /// The block as a reference that others can share (Linux: what a caller of `get_page` starts from).
    ///
    /// # Errors
    /// The block as it was, when it has several pages and is not compound: references are to one page or to a compound
    /// page. [`split`](Self::split) it.
    #[inline]
    pub fn share(self) -> Result<PageRef, Self> {
        if self.folio().order() != self.order {
            return Err(self);
        }
        // SAFETY: the block's reference (G2), to all of its pages.
        Ok(unsafe { PageRef::from_raw(self.page) })
    }

    /// The block of a reference, to be used by its owner alone (Linux: `folio_ref_freeze`, `folio_ref_unfreeze`).
    ///
    /// # Errors
    /// The reference as it was, when there are others.
    #[inline]
    pub fn try_from_ref(page: PageRef) -> Result<Self, PageRef> {
        let page = page.freeze()?.unfreeze();
        let order = page.folio().order();
        Ok(Self { page: page.into_raw(), order })
    }

    /// Its pages one by one, each with a reference of its own, so that each is freed by itself (Linux: `split_page`).
    /// Takes time by the pages, as they are taken.
    ///
    /// # Errors
    /// The block as it was, when it is compound.
    pub fn split(self) -> Result<SplitPages, Self> {
        if self.folio().is_compound() {
            return Err(self);
        }
        let (first, order) = self.into_raw();
        note_part(&first, Order::ZERO);
        for nr in 1..order.nr_pages() {
            // SAFETY: within our block, whose later pages nobody else uses or can find.
            let page = unsafe { later(first, nr) };
            page.set_refcount(1);
            note_part(&page, Order::ZERO);
        }
        Ok(SplitPages { next: first, left: order.nr_pages() })
    }

    /// Splits the block, keeps its first `nr_pages` pages, and hands the rest on in blocks as large as they come.
    ///
    /// # Panics
    /// When the block has fewer pages, or is compound.
    pub(super) fn split_front(mut self, nr_pages: u64, mut rest: impl FnMut(Self)) -> SplitPages {
        assert!(nr_pages <= self.order.nr_pages() && !self.folio().is_compound());
        let (first, mut wanted) = (self.page, nr_pages);
        while wanted < self.order.nr_pages()
            && let Some(half) = self.order.down()
        {
            self.order = half;
            // SAFETY: the middle of our block.
            let upper = unsafe { later(self.page, half.nr_pages()) };
            if wanted > half.nr_pages() {
                wanted -= half.nr_pages();
                self.page = upper;
            } else {
                upper.set_refcount(1);
                let part = Self { page: upper, order: half };
                part.pages().iter().for_each(|page| note_part(page, half));
                rest(part);
            }
        }
        note_part(&first, Order::ZERO);
        for nr in 1..nr_pages {
            // SAFETY: within our block, whose later pages nobody else uses or can find.
            let page = unsafe { later(first, nr) };
            page.set_refcount(1);
            note_part(&page, Order::ZERO);
        }
        SplitPages { next: first, left: nr_pages }
    }
}

/// Consecutive pages that were a block and are each freed by itself: an iterator over what is left of them.
#[must_use = "the pages are lost when this is dropped: free each of them"]
#[derive(Debug)]
pub struct SplitPages {
    next: PagePtr,
    left: u64,
}

impl SplitPages {
    /// The first page that is left.
    pub(super) fn first(&self) -> PagePtr {
        self.next
    }

    /// The pages, for whoever keeps them in another form: the first and how many.
    pub fn into_raw(self) -> (PagePtr, u64) {
        let pages = core::mem::ManuallyDrop::new(self);
        (pages.next, pages.left)
    }

    /// The pages again.
    ///
    /// # Safety
    /// From [`into_raw`](Self::into_raw), once.
    pub unsafe fn from_raw(first: PagePtr, nr_pages: u64) -> Self {
        Self { next: first, left: nr_pages }
    }
}

impl Iterator for SplitPages {
    type Item = PageBlock;

    #[inline]
    fn next(&mut self) -> Option<PageBlock> {
        self.left = self.left.checked_sub(1)?;
        let page = self.next;
        if self.left != 0 {
            // SAFETY: the next page of ours.
            self.next = unsafe { later(page, 1) };
        }
        Some(PageBlock { page, order: Order::ZERO })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for SplitPages {}
impl FusedIterator for SplitPages {}

impl Drop for SplitPages {
    /// Only a bug drops pages: debug builds say so.
    fn drop(&mut self) {
        debug_assert!(self.left == 0 || arch::unwinding(), "{} pages of a block were lost", self.left);
    }
}
