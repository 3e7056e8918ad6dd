//! What `memblock=debug` logs, in Linux's words; a caller is a source line where Linux has a symbol.

use core::panic::Location;

use super::alloc::Request;
use super::{Array, Debug, Flags, Memblock, Region};
use crate::addr::{PHYS_LIMIT, PhysRange};
use crate::id::NodeId;

impl Array {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Reserved => "reserved",
            Self::Physmem => "physmem",
        }
    }
}

impl Memblock<'_> {
    /// Logs the arrays if debugging is on (Linux: `memblock_dump_all`).
    pub fn dump_all(&self) {
        if self.debug == Debug::On {
            self.print();
        }
    }

    /// Logs the arrays; that of what the firmware called memory if it is kept.
    pub fn print(&self) {
        let (memory, reserved) = (self.memory.total_bytes(), self.reserved.total_bytes());
        log::info!("MEMBLOCK configuration:");
        log::info!(" memory size = {memory:#018x} reserved size = {reserved:#018x}");
        print_array(Array::Memory, self.memory());
        print_array(Array::Reserved, self.reserved());
        if let Some(physmem) = &self.physmem {
            print_array(Array::Physmem, physmem.as_slice());
        }
    }

    pub(super) fn trace(&self, what: &str, range: PhysRange, caller: &Location<'_>) {
        if self.debug == Debug::On {
            let (start, last) = (range.start(), range.end().wrapping_sub(1));
            log::info!("{what}: [{start:#018x}-{last:#018x}] {caller}");
        }
    }

    pub(super) fn trace_add_node(&self, range: PhysRange, node: NodeId, flags: Flags, caller: &Location<'_>) {
        if self.debug == Debug::On {
            let (start, last, flags) = (range.start(), range.end().wrapping_sub(1), flags.bits());
            log::info!("memblock_add_node: [{start:#018x}-{last:#018x}] nid={node} flags={flags:x} {caller}");
        }
    }

    /// `what` is Linux's name of the call.
    pub(super) fn trace_alloc(&self, what: &str, request: &Request, caller: &Location<'_>) {
        if self.debug == Debug::Off {
            return;
        }
        let Request { size_bytes, align, min, on, .. } = *request;
        let max = max_addr(request);
        let nid = on.node().map_or(-1, |n| i32::from(n.0));
        log::info!(
            "{what}: {size_bytes} bytes align={align:#x} nid={nid} from={min:#018x} max_addr={max:#018x} {caller}"
        );
    }

    /// As `trace_alloc`, for the call that knows no nodes. The one that does logs only the reservation.
    pub(super) fn trace_phys_alloc(&self, request: &Request, caller: &Location<'_>) {
        if self.debug == Debug::On && request.on.node().is_none() {
            let Request { size_bytes, align, min, .. } = *request;
            let max = max_addr(request);
            let what = "memblock_phys_alloc_range";
            log::info!(
                "{what}: {size_bytes} bytes align={align:#x} from={min:#018x} max_addr={max:#018x} {caller}"
            );
        }
    }
}

/// Linux says "below the limit" with 0, and "anywhere" with all ones.
fn max_addr(request: &Request) -> u64 {
    match request.max {
        None => 0,
        Some(max) if max >= PHYS_LIMIT => u64::MAX,
        Some(max) => max,
    }
}

fn print_array(array: Array, regions: &[Region]) {
    let name = array.name();
    log::info!(" {name}.cnt  = {:#x}", regions.len());
    for (i, region) in regions.iter().enumerate() {
        let (start, last, size) = (region.range.start(), region.range.end() - 1, region.range.len_bytes());
        let flags = region.flags.bits();
        match region.node {
            Some(node) => log::info!(
                " {name}[{i:#x}]\t[{start:#018x}-{last:#018x}], {size:#018x} bytes on node {node} flags: {flags:#x}"
            ),
            None => {
                log::info!(
                    " {name}[{i:#x}]\t[{start:#018x}-{last:#018x}], {size:#018x} bytes flags: {flags:#x}"
                );
            }
        }
    }
}
