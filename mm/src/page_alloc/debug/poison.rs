//! The pattern in free pages, and what is said when somebody has written there.

use core::fmt;
use core::ops::Range;

use crate::addr::PAGE_SIZE;
use crate::buddy::{BadPage, BadReason, FreeBlock};
use crate::page::PagePtr;

use super::super::{PageAllocator, bug};

/// What every byte of a free page is (Linux: `PAGE_POISON`).
const POISON: u8 = 0xaa;
const POISON_WORD: u64 = u64::from_ne_bytes([POISON; 8]);

/// Bytes in a line of a dump.
const ROW: usize = 16;

/// From the first byte to the last that is not as it should be.
fn overwritten(bytes: &[u8]) -> Option<Range<usize>> {
    let is_wrong = |byte: &u8| *byte != POISON;
    let (first, last) = (bytes.iter().position(is_wrong)?, bytes.iter().rposition(is_wrong)?);
    Some(first..last + 1)
}

/// Whether just one bit of a page has changed: mostly the memory itself is broken (Linux: `single_bit_flip`).
fn is_single_bit(wrong: &[u8]) -> bool {
    matches!(wrong, [byte] if (byte ^ POISON).is_power_of_two())
}

/// A line of Linux's `print_hex_dump`: address, up to 16 bytes, the same as text.
struct HexLine<'a> {
    at: u64,
    bytes: &'a [u8],
}

impl fmt::Display for HexLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}: ", self.at)?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x} "))?;
        (self.bytes.len()..ROW).try_for_each(|_| f.write_str("   "))?;
        f.write_str(" ")?;
        self.bytes.iter().try_for_each(|&byte| {
            let shown = if byte.is_ascii_graphic() || byte == b' ' { byte } else { b'.' };
            write!(f, "{}", char::from(shown))
        })
    }
}

impl PageAllocator {
    /// The memory of a free block, page by page.
    ///
    /// # Safety
    /// The block is mapped.
    unsafe fn memory_of<'b>(
        &self,
        block: &'b FreeBlock,
    ) -> impl Iterator<Item = (u64, &'b mut [u64])> + use<'b> {
        let start = self.machine.phys_to_virt(block.page().pfn(self.machine).phys());
        (0..block.order().nr_pages()).map(move |nr| {
            let at = start.wrapping_add(nr as usize * PAGE_SIZE).cast::<u64>();
            // SAFETY: a page of the block, which is ours alone (B1 of `buddy`) and mapped; each is handed on once.
            (nr, unsafe { core::slice::from_raw_parts_mut(at, PAGE_SIZE / size_of::<u64>()) })
        })
    }

    /// Fills a block that becomes free (Linux: `kernel_poison_pages`). Takes time by the pages.
    ///
    /// # Safety
    /// The block is mapped.
    pub(super) unsafe fn poison(&self, block: &FreeBlock) {
        // SAFETY: the caller's promise.
        unsafe { self.memory_of(block) }.for_each(|(_, words)| words.fill(POISON_WORD));
    }

    /// Whether a block that was free is as it was left; if not, somebody has used it after it was freed, which ends the
    /// machine (Linux: `kernel_unpoison_pages`). Takes time by the pages.
    ///
    /// # Safety
    /// The block is mapped.
    pub(super) unsafe fn check_poison(&self, block: &FreeBlock) {
        // SAFETY: the caller's promise.
        for (nr, words) in unsafe { self.memory_of(block) } {
            if words.iter().fold(0, |wrong, word| wrong | (word ^ POISON_WORD)) != 0 {
                // SAFETY: inside the block.
                self.report_overwritten(unsafe { crate::buddy::later(block.page(), nr) }, words);
            }
        }
    }

    /// Linux: `check_poison_mem`.
    #[cold]
    fn report_overwritten(&self, page: PagePtr, words: &[u64]) -> ! {
        // SAFETY: the same memory in bytes, which have no alignment and no values that are not allowed.
        let bytes = unsafe { core::slice::from_raw_parts(words.as_ptr().cast::<u8>(), PAGE_SIZE) };
        let wrong = overwritten(bytes).unwrap_or(0..0);
        let what =
            if is_single_bit(&bytes[wrong.clone()]) { "single bit error" } else { "memory corruption" };
        log::error!("pagealloc: {what}");
        for (nr, row) in bytes[wrong.clone()].chunks(ROW).enumerate() {
            let at = words.as_ptr() as u64 + (wrong.start + nr * ROW) as u64;
            log::error!("{}", HexLine { at, bytes: row });
        }
        self.hooks.context().dump_stack();
        bug(BadPage::new(self.machine, page, BadReason::Overwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::{vec, vec::Vec};

    #[test]
    fn a_line_has_the_address_the_bytes_and_the_text() {
        let line = HexLine { at: 0xffff_8880_0000_1010, bytes: b"strata\0\xaa" };
        assert_eq!(
            line.to_string(),
            "ffff888000001010: 73 74 72 61 74 61 00 aa                          strata.."
        );
        let full = HexLine { at: 0x10, bytes: &[POISON; ROW] };
        assert_eq!(
            full.to_string(),
            std::format!("0000000000000010: {} {}", "aa ".repeat(16), ".".repeat(16))
        );
    }

    proptest! {
        #[test]
        fn what_was_overwritten_is_found_from_its_first_byte_to_its_last(writes: Vec<(u16, u8)>) {
            let mut page = vec![POISON; PAGE_SIZE];
            for (at, byte) in writes {
                page[usize::from(at) % PAGE_SIZE] = byte;
            }
            let wrong: Vec<usize> = (0..PAGE_SIZE).filter(|&at| page[at] != POISON).collect();
            let range = wrong.first().zip(wrong.last()).map(|(first, last)| *first..last + 1);
            prop_assert_eq!(overwritten(&page), range);
        }

        #[test]
        fn one_bit_is_a_single_bit(at in 0..PAGE_SIZE, bit in 0u32..8, more: bool) {
            let mut page = vec![POISON; PAGE_SIZE];
            page[at] ^= 1 << bit;
            if more {
                page[(at + 1) % PAGE_SIZE] ^= 1;
            }
            prop_assert_eq!(is_single_bit(&page[overwritten(&page).unwrap()]), !more);
        }
    }
}
