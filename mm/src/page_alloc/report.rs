//! What the log says of allocations that fail and of pages in a wrong state.

use core::fmt;

use crate::arch;
use crate::buddy::BadPage;
use crate::gfp::{Gfp, MigrateType};
use crate::id::{NodeId, ZoneIdx};
use crate::numa::NodeMask;
use crate::page::{PageDump, PagePtr};
use crate::pfn::Pfn;

use super::hooks::{Context, Reserves};
use super::show_mem::Nodes;
use super::walk::Request;
use super::{GfpNames, PageAllocator};

/// Reports of failures are at least so far apart (Linux: `nopage_rs`).
pub(super) const REPORT_MILLISECONDS: u64 = 10_000;

/// A page is in a wrong state: the kernel has a bug and cannot trust its memory. Reports the page in Linux's words
/// (`bad_page`) and panics.
///
/// # Panics
/// Always; the machine's panic handler says who was running, and how it came here.
#[cold]
#[inline(never)]
#[track_caller]
pub fn bug(bad: BadPage) -> ! {
    log::error!("BUG: Bad page state in process {}  pfn:{:05x}", arch::process_name(), bad.pfn);
    dump_page(bad.page, bad.pfn, bad.reason.as_str(), &mut |line| log::error!("{line}"));
    panic!("BUG: Bad page state  pfn:{:05x} ({})", bad.pfn, bad.reason.as_str());
}

/// Calls `line` with all that is known of a page, for a page in whatever state, and of who has it or had it (Linux:
/// `dump_page`). Any context; takes no lock, logs nothing itself, and reads only memory that is always mapped: so a report of
/// a fatal error may write the lines where no lock is waited for.
#[cold]
pub fn dump_page(page: PagePtr, pfn: Pfn, reason: &str, line: &mut dyn FnMut(fmt::Arguments<'_>)) {
    PageDump::new(page, pfn).each_line(&mut *line);
    line(format_args!("page dumped because: {reason}"));
    super::debug::report(page, line);
}

impl PageAllocator {
    /// An allocation failed: says whose, how it came there, and the state of memory (Linux: `warn_alloc`). At most once in
    /// ten seconds.
    #[cold]
    pub(super) fn report_failure(&self, request: &Request<'_>) {
        let Some(missed) = self.reports.may_say(arch::ticks()) else { return };
        if missed > 0 {
            log::warn!("warn_alloc: {missed} callbacks suppressed");
        }
        if request.gfp.contains(Gfp::DMA) && !self.has_managed_dma() {
            return;
        }
        let context = self.hooks.context();
        log::warn!(
            "{}: page allocation failure: order:{}, mode:{:#x}({}), nodemask={},cpuset=/,mems_allowed={}",
            Name(context),
            request.order.get(),
            request.gfp.bits(),
            GfpNames(request.gfp),
            Mask(request.nodemask),
            self.mems_allowed(context),
        );
        context.dump_stack();
        self.show_mem_of(self.shown_nodes(request));
    }

    /// Who may not allocate elsewhere need not see it (Linux: `SHOW_MEM_FILTER_NODES`).
    fn shown_nodes<'a>(&self, request: &Request<'a>) -> Nodes<'a> {
        let context = self.hooks.context();
        let anywhere = !request.gfp.contains(Gfp::NOMEMALLOC) && context.reserves() != Reserves::None
            || !context.in_task()
            || !request.gfp.contains(Gfp::DIRECT_RECLAIM);
        match request.nodemask {
            Some(mask) if !anywhere => Nodes::Of(mask),
            _ => Nodes::All,
        }
    }

    fn has_managed_dma(&self) -> bool {
        self.nodes().populated_zones().any(|zone| zone.idx() == ZoneIdx::Dma && zone.managed() > 0)
    }

    fn mems_allowed(&self, context: &dyn Context) -> NodeList {
        NodeList(context.allowed_nodes().copied().unwrap_or_else(|| {
            self.nodes().iter().filter(|node| node.has_memory()).map(|node| node.id()).collect()
        }))
    }
}

/// The name of who runs.
pub(super) struct Name<'a>(pub(super) &'a dyn Context);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_name(f)
    }
}

struct Mask<'a>(Option<&'a NodeMask>);

impl fmt::Display for Mask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(mask) => NodeList(*mask).fmt(f),
            None => f.write_str("(null)"),
        }
    }
}

/// `0-1,3` (Linux: `%*pbl`).
struct NodeList(NodeMask);

impl fmt::Display for NodeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes = self.0.iter().map(|NodeId(n)| n).peekable();
        let mut separator = "";
        while let Some(first) = nodes.next() {
            let mut last = first;
            while let Some(next) = nodes.next_if(|&n| n == last + 1) {
                last = next;
            }
            match last == first {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

/// A type's letter in lists of free blocks (Linux: `show_migration_types`).
pub(super) const fn letter(migrate_type: MigrateType) -> char {
    match migrate_type {
        MigrateType::Unmovable => 'U',
        MigrateType::Movable => 'M',
        MigrateType::Reclaimable => 'E',
        MigrateType::HighAtomic => 'H',
        MigrateType::Cma => 'C',
        MigrateType::Isolate => 'I',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn node_lists_have_ranges() {
        for (nodes, text) in
            [(&[0u16][..], "0"), (&[0, 1], "0-1"), (&[0, 1, 2, 5, 7, 8], "0-2,5,7-8"), (&[], "")]
        {
            let mask: NodeMask = nodes.iter().map(|&n| NodeId(n)).collect();
            assert_eq!(format!("{}", NodeList(mask)), text);
        }
    }
}
