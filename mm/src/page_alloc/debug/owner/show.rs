//! What is known of pages' owners, in Linux's words: the file `page_owner`, and a part of reports.

use core::fmt;

use crate::gfp::Gfp;
use crate::order::PAGEBLOCK_ORDER;
use crate::page::{FlagNames, Page, PagePtr};
use crate::pfn::Pfn;
use crate::sparse::section_pages;
use crate::stackdepot::Stack;

use super::super::super::{GfpNames, PageAllocator};
use super::record::{Known, State};
use super::record_of;

/// `mask 0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO)`.
struct Mask(Gfp);

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}({})", self.0.bits(), GfpNames(self.0))
    }
}

impl PageAllocator {
    /// The file `/sys/kernel/debug/page_owner`: each block in use that was allocated with a record, lowest first, and an empty
    /// line behind it (Linux: `read_page_owner`, over the whole file). What comes and goes meanwhile may be missing, or be
    /// shown in part. Takes time by the pages.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_page_owner(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for (nr, _) in self.nodes().sparse().sections() {
            for pfn in section_pages(nr).iter() {
                let Some(page) = self.nodes().sparse().page(pfn) else { continue };
                let Some(known) = record_of(&page).and_then(|record| record.get()) else { continue };
                if known.state == State::Allocated && pfn.is_aligned(known.allocation.order.nr_pages()) {
                    self.write_block(&page, pfn, &known, out)?;
                }
            }
        }
        Ok(())
    }

    /// Linux: `print_page_owner`.
    fn write_block(&self, page: &Page, pfn: Pfn, known: &Known, out: &mut dyn fmt::Write) -> fmt::Result {
        let by = &known.allocation;
        writeln!(
            out,
            "Page allocated via order {}, mask {}, pid {}, tgid {} ({}), ts {} ns, free_ts {} ns",
            by.order.get(),
            Mask(by.gfp),
            by.pid,
            by.tgid,
            known.name(),
            by.ts_ns,
            known.free_ts_ns
        )?;
        writeln!(
            out,
            "PFN {} type {} Block {} type {} Flags {}",
            pfn.get(),
            by.gfp.migrate_type().name(),
            pfn.get() >> PAGEBLOCK_ORDER.get(),
            self.nodes().sparse().migrate_type(pfn).name(),
            FlagNames(page)
        )?;
        let mut result = Ok(());
        if let Some(stack) = &by.stack {
            stack.each_line(|line| result = result.and_then(|()| writeln!(out, "{line}")));
        }
        result?;
        writeln!(out)
    }
}

/// Where a report goes, line by line.
type Line<'a> = &'a mut dyn FnMut(fmt::Arguments<'_>);

fn report_stack(stack: Option<Stack>, header: Option<&str>, missing: &str, line: Line<'_>) {
    match stack {
        None => line(format_args!("{missing}")),
        Some(stack) => {
            if let Some(header) = header {
                line(format_args!("{header}"));
            }
            stack.each_line(line);
        }
    }
}

/// Calls `line` with who has a page, or had it, when there are records (Linux: `dump_page_owner`). Any context; no lock.
pub(in crate::page_alloc) fn report(page: PagePtr, line: Line<'_>) {
    let Some(record) = record_of(&page) else { return };
    let Some(known) = record.get() else {
        return line(format_args!("page_owner info is not present (never set?)"));
    };
    let state = if known.state == State::Allocated { "allocated" } else { "freed" };
    line(format_args!("page_owner tracks the page as {state}"));
    let by = &known.allocation;
    line(format_args!(
        "page last allocated via order {}, migratetype {}, gfp_mask {}, pid {}, tgid {} ({}), ts {}, free_ts {}",
        by.order.get(),
        by.gfp.migrate_type().name(),
        Mask(by.gfp),
        by.pid,
        by.tgid,
        known.name(),
        by.ts_ns,
        known.free_ts_ns
    ));
    report_stack(by.stack, None, "page_owner allocation stack trace missing", line);
    let header = Some("page last free stack trace:");
    report_stack(known.free_stack, header, "page_owner free stack trace missing", line);
}
