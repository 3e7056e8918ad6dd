//! Checks of pages on their way out and back: what a block must look like, and what is done about it when not.

use core::ptr::NonNull;

use crate::addr::PAGE_SIZE;
use crate::arch::{self, Machine};
use crate::buddy::{BadPage, BadReason, FreeBlock, why_not_free};
use crate::gfp::Gfp;
use crate::order::Order;
use crate::page::{CompoundFault, Folio, Page, PageFlags, PagePtr};
use crate::page::{make_compound, peek_compound, unmake_compound};

use super::block::PageBlock;
use super::debug::note_part;
use super::{PageAllocator, bug};

/// Whether no page of a block has any of `flags`, a type, or a user.
#[inline(always)]
#[allow(unsafe_code, reason = "reads pages that it owns")]
fn all_clean(block: &FreeBlock, flags: PageFlags) -> bool {
    // SAFETY: our own block (B1 of `buddy`), on no list.
    unsafe { Page::are_unused(block.pages(), flags) }
}

/// The first page that is not clean, and why.
#[cold]
fn first_bad(machine: Machine, pages: &[Page], flags: PageFlags) -> Result<(), BadPage> {
    for page in pages {
        if let Some(reason) = why_not_free(page, flags) {
            return Err(BadPage::new(machine, ptr_of(page), reason));
        }
    }
    Ok(())
}

#[allow(unsafe_code, reason = "a reference from the vmemmap is a page of it")]
fn ptr_of(page: &Page) -> PagePtr {
    // SAFETY: the slices here are of the vmemmap (I1 of `page`).
    unsafe { PagePtr::from_raw(NonNull::from_ref(page)) }
}

/// Makes a block a compound page, unless it is a single page.
#[allow(unsafe_code, reason = "owns the block")]
fn join(block: &FreeBlock) {
    // SAFETY: our own block (B1 of `buddy`), on no list.
    unsafe { make_compound(block.page(), block.order()) };
}

/// Undoes [`join`]; else the page that shows why it cannot be.
#[allow(unsafe_code, reason = "owns the block")]
fn take_apart(block: &FreeBlock) -> Result<(), (PagePtr, BadReason)> {
    let head = block.page();
    // SAFETY: our own block, which has the flag of a compound page's head.
    unsafe {
        if Folio::of_head(head).order() != block.order() {
            return Err((head, BadReason::WrongOrder));
        }
        unmake_compound(head, block.order()).map_err(|fault| match fault {
            CompoundFault::NotATail(tail) => (tail, BadReason::NotATail),
            CompoundFault::OtherHead(tail) => (tail, BadReason::CorruptedTail),
            CompoundFault::Mapped(tail) => (tail, BadReason::CompoundMapped),
        })
    }
}

/// Whether a block from the buddy is as it was when it came there (Linux: `check_new_pages`).
#[inline(always)]
pub(super) fn check_new(machine: Machine, block: &FreeBlock) -> Result<(), BadPage> {
    if all_clean(block, PageFlags::CHECK_AT_PREP) {
        return Ok(());
    }
    first_bad(machine, block.pages(), PageFlags::CHECK_AT_PREP)
}

impl PageAllocator {
    /// A block goes to its user (Linux: `prep_new_page`).
    #[inline(always)]
    pub(super) fn hand_out(&self, block: FreeBlock, gfp: Gfp) -> PageBlock {
        if gfp.intersects(Gfp::ZERO.union(Gfp::COMP)) {
            return self.prepare(block, gfp);
        }
        PageBlock::give_out(block)
    }

    #[inline(never)]
    fn prepare(&self, block: FreeBlock, gfp: Gfp) -> PageBlock {
        if gfp.contains(Gfp::ZERO) {
            self.clear(&block);
        }
        if gfp.contains(Gfp::COMP) {
            join(&block);
        }
        PageBlock::give_out(block)
    }

    #[allow(unsafe_code, reason = "zeroes memory that it owns")]
    pub(super) fn clear(&self, block: &FreeBlock) {
        let start = self.machine.phys_to_virt(block.page().pfn(self.machine).phys());
        for nr in 0..block.order().nr_pages() as usize {
            // SAFETY: the block's memory is ours (B1 of `buddy`) and mapped (the machine's contract).
            unsafe { arch::clear_page(start.wrapping_add(nr * PAGE_SIZE)) };
        }
    }

    /// A block that is not a clean single page.
    #[inline(never)]
    pub(super) fn free_larger(&self, block: PageBlock) {
        if !block.is_clean() {
            return self.free_unclean(block);
        }
        let block = block.into_free();
        if !all_clean(&block, PageFlags::all()) {
            return self.free_unused(block);
        }
        self.free_clean(block);
    }

    /// A block without users, as its last one left it.
    #[inline(never)]
    pub(super) fn free_unused(&self, block: FreeBlock) {
        self.make_clean(&block);
        self.free_clean(block);
    }

    /// A block with something to check or undo: one with other users, or flags that its user has left.
    #[inline(never)]
    fn free_unclean(&self, mut block: PageBlock) {
        let page = block.page();
        match page.refcount() {
            0 => self.not_in_use(page),
            1 => {}
            _ if page.flags().contains(PageFlags::HEAD) => {
                if !page.put() {
                    return;
                }
            }
            _ => {
                // Said as long as the reference is ours: without it the page can be anything a moment later.
                note_part(&page, Order::ZERO);
                if !page.put() {
                    return self.free_rest(&mut block);
                }
                note_part(&page, block.order());
            }
        }
        self.free_unused(block.into_free());
    }

    /// Somebody frees a page that has no users.
    #[cold]
    fn not_in_use(&self, page: PagePtr) -> ! {
        let is_tail = peek_compound(page, page.pfn(self.machine)).is_some_and(|compound| compound.nr != 0);
        let reason = if is_tail { BadReason::TailFreed } else { BadReason::AlreadyFree };
        bug(BadPage::new(self.machine, page, reason))
    }

    /// Somebody still uses the first page of a block that is not compound, and only that page, which is no longer ours.
    fn free_rest(&self, block: &mut PageBlock) {
        while let Some(half) = block.upper_half() {
            self.make_clean(&half);
            self.free_clean(half);
        }
    }

    /// Checks a block to be freed and clears the flags that may be left (Linux: `free_pages_prepare`).
    #[inline(never)]
    fn make_clean(&self, block: &FreeBlock) {
        if block.page().flags().contains(PageFlags::HEAD)
            && let Err((page, reason)) = take_apart(block)
        {
            bug(BadPage::new(self.machine, page, reason));
        }
        if !all_clean(block, PageFlags::all()) {
            self.clear_flags(block);
        }
    }

    #[cold]
    fn clear_flags(&self, block: &FreeBlock) {
        if let Err(bad) = first_bad(self.machine, block.pages(), PageFlags::CHECK_AT_FREE) {
            bug(bad);
        }
        for page in block.pages() {
            page.clear_flags_owned(PageFlags::CHECK_AT_PREP);
        }
    }
}
