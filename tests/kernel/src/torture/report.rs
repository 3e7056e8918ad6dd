//! How fragmented memory is, as Linux's `pagetypeinfo` and `extfrag/unusable_index` show it.

use core::fmt::{self, Write};

use kernel::memory::Memory;
use kernel::{print, println};
use mm::stat::{collect, fragmentation, freelists};
use mm::zone::Zone;

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        print!("{text}");
        Ok(())
    }
}

/// Prints free blocks and pageblocks by type, and how much of what is free serves no allocation of each order.
pub(super) fn fragmentation(memory: &Memory, when: &str) {
    println!("--- fragmentation {when} ---");
    write(memory).expect("the console takes everything");
    println!("--- end ---");
}

fn write(memory: &Memory) -> fmt::Result {
    let zones = || memory.pages.nodes().populated_zones();
    let types = freelists::shown_types(zones().map(Zone::cma_pages).sum());
    let out = &mut Console;
    freelists::write_pagetype_head(out)?;
    for zone in zones() {
        freelists::write_pagetype_free(out, &collect::free_lists(zone), types)?;
    }
    freelists::write_pageblock_head(out, types)?;
    for zone in zones() {
        freelists::write_pageblocks(out, zone.node(), zone.idx(), &collect::pageblocks(zone), types)?;
    }
    writeln!(out)?;
    for zone in zones() {
        fragmentation::write_unusable(out, &collect::free_lists(zone))?;
    }
    Ok(())
}
