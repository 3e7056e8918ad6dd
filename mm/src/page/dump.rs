//! A page in words: a line for messages, and Linux's `dump_page` for reports.

use core::fmt;

use super::{Page, PageFlags, PagePtr, ZONE_SHIFT, peek_compound};
use crate::pfn::Pfn;

/// The flags in the order and with the names of Linux's `%pGp`.
const NAMES: [(PageFlags, &str); 23] = [
    (PageFlags::LOCKED, "locked"),
    (PageFlags::WAITERS, "waiters"),
    (PageFlags::ERROR, "error"),
    (PageFlags::REFERENCED, "referenced"),
    (PageFlags::UPTODATE, "uptodate"),
    (PageFlags::DIRTY, "dirty"),
    (PageFlags::LRU, "lru"),
    (PageFlags::ACTIVE, "active"),
    (PageFlags::WORKINGSET, "workingset"),
    (PageFlags::SLAB, "slab"),
    (PageFlags::OWNER_PRIV_1, "owner_priv_1"),
    (PageFlags::ARCH_1, "arch_1"),
    (PageFlags::RESERVED, "reserved"),
    (PageFlags::PRIVATE, "private"),
    (PageFlags::PRIVATE_2, "private_2"),
    (PageFlags::WRITEBACK, "writeback"),
    (PageFlags::HEAD, "head"),
    (PageFlags::MAPPEDTODISK, "mappedtodisk"),
    (PageFlags::RECLAIM, "reclaim"),
    (PageFlags::SWAPBACKED, "swapbacked"),
    (PageFlags::UNEVICTABLE, "unevictable"),
    (PageFlags::MLOCKED, "mlocked"),
    (PageFlags::HWPOISON, "hwpoison"),
];

/// Flags, node and zone as Linux's `%pGp`: `0x0000000000001000(reserved|node=0|zone=1)`.
pub(crate) struct FlagNames<'a>(pub(crate) &'a Page);

impl fmt::Display for FlagNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}(", self.0.raw_flags())?;
        for (_, name) in NAMES.iter().filter(|(flag, _)| self.0.flags().contains(*flag)) {
            write!(f, "{name}|")?;
        }
        write!(
            f,
            "node={}|zone={})",
            self.0.node(),
            self.0.zone_key() & ((1 << (super::NODE_SHIFT - ZONE_SHIFT)) - 1)
        )
    }
}

/// All that a page has to say of itself (Linux: `dump_page`), for a page in whatever state.
#[derive(Clone, Copy, Debug)]
pub struct PageDump {
    page: PagePtr,
    pfn: Pfn,
}

impl PageDump {
    /// Of that page, whose frame is `pfn`.
    pub(crate) const fn new(page: PagePtr, pfn: Pfn) -> Self {
        Self { page, pfn }
    }

    /// Calls `line` with each line. Any context; what others change meanwhile may be of before or after.
    pub fn each_line(self, mut line: impl FnMut(fmt::Arguments<'_>)) {
        let compound = peek_compound(self.page, self.pfn);
        let head = compound.map_or(self.page, |compound| compound.head);
        line(format_args!(
            "page:{:016x} refcount:{:?} mapcount:{:?} mapping:{:016x} index:{:#x} pfn:{:#x}",
            self.page.as_ptr() as u64,
            head.refs(),
            self.page.maps(),
            raw_word(self.page, 3),
            raw_word(self.page, 4),
            self.pfn.get()
        ));
        if head.flags().contains(PageFlags::HEAD) {
            // SAFETY: nothing is changed, nor anything followed but what the head's own block has; a page that others change
            // meanwhile gives a line that is of no use.
            let folio = unsafe { super::Folio::of_head(head) };
            line(format_args!(
                "head:{:016x} order:{} compound_mapcount:{} compound_pincount:0",
                head.as_ptr() as u64,
                folio.order().get(),
                folio.entire_mapcount()
            ));
        }
        line(format_args!("flags: {}", FlagNames(&head)));
        raw("raw", self.page, &mut line);
        if head != self.page {
            raw("head", head, &mut line);
        }
    }
}

/// The page's eight words, four a line.
fn raw(name: &str, page: PagePtr, line: &mut impl FnMut(fmt::Arguments<'_>)) {
    for row in [0usize, 4] {
        let word = |n| raw_word(page, row + n);
        line(format_args!("{name}: {:016x} {:016x} {:016x} {:016x}", word(0), word(1), word(2), word(3)));
    }
}

/// Word `index` of the `struct Page`, whoever owns it.
fn raw_word(page: PagePtr, index: usize) -> u64 {
    assert!(index < size_of::<Page>() / size_of::<u64>());
    // SAFETY: inside the page's struct, which is mapped (I1 of `page`); volatile, since its owner may change it.
    unsafe { page.as_ptr().cast::<u64>().add(index).read_volatile() }
}

impl fmt::Debug for Page {
    /// In a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "refcount:{:?} type:{:?} mapcount:{:?} node:{} zone:{} flags: {}",
            self.refs(),
            self.page_type(),
            self.maps(),
            self.node(),
            self.zone().name(),
            FlagNames(self)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::SimMachine;
    use crate::id::{NodeId, ZoneIdx};
    use crate::order::Order;
    use crate::page::make_compound;
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn pages(sim: &SimMachine, nr: u64) -> PagePtr {
        for n in 0..nr {
            // SAFETY: inside the machine's vmemmap, which nobody uses yet.
            unsafe { sim.machine().page(Pfn::new(n)).write(Page::free(NodeId(2), ZoneIdx::Normal)) };
        }
        // SAFETY: just initialised.
        unsafe { PagePtr::new(sim.machine(), Pfn::new(0)) }
    }

    fn lines(page: PagePtr, pfn: u64) -> Vec<String> {
        let mut lines = Vec::new();
        PageDump::new(page, Pfn::new(pfn)).each_line(|line| lines.push(line.to_string()));
        lines
    }

    #[test]
    fn a_page_is_dumped_as_linux_does() {
        let sim = SimMachine::new(1 << 20);
        let page = pages(&sim, 1);
        page.set_refcount(1);
        page.set_flags_owned(PageFlags::WAITERS | PageFlags::LOCKED | PageFlags::SLAB);
        let at = page.as_ptr() as u64;
        let flags = page.raw_flags();
        assert_eq!(
            lines(page, 0x3f2a),
            [
                format!("page:{at:016x} refcount:1 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x3f2a"),
                format!("flags: {flags:#x}(locked|waiters|slab|node=2|zone=2)"),
                format!("raw: {flags:016x} 0000000000000000 0000000000000000 0000000000000000"),
                "raw: 0000000000000000 0000000000000000 00000001ffffffff 0000000000000000".to_string(),
            ]
        );
    }

    #[test]
    fn a_tail_is_dumped_with_its_head() {
        let sim = SimMachine::new(1 << 20);
        let head = pages(&sim, 4);
        // SAFETY: pages of the test's own.
        let tail = unsafe {
            make_compound(head, Order::new(2).unwrap());
            PagePtr::new(sim.machine(), Pfn::new(3))
        };
        head.set_refcount(2);
        let lines = lines(tail, 3);
        assert!(lines[0].contains("refcount:2 mapcount:0"), "{lines:?}");
        let head_line =
            format!("head:{:016x} order:2 compound_mapcount:0 compound_pincount:0", head.as_ptr() as u64);
        assert_eq!(lines[1], head_line);
        assert!(lines[2].contains("(head|node=2|zone=2)"), "{lines:?}");
        assert_eq!((lines.len(), lines[5].starts_with("head: ")), (7, true));
    }

    #[test]
    fn counts_below_zero_are_shown_as_such() {
        let sim = SimMachine::new(1 << 20);
        let page = pages(&sim, 1);
        page.set_page_type(crate::page::PageType::BUDDY);
        page.set_refcount(u32::MAX);
        assert!(
            lines(page, 0)[0].contains("refcount:-1 mapcount:-128 "),
            "as Linux shows a free block's head"
        );
    }
}
