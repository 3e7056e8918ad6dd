//! The text of `/proc/vmallocinfo`.

use core::fmt::{self, Display, Write};
use core::ops::Range;

use crate::addr::PhysAddr;

/// What an area is, as a word of its line (Linux: `vm_struct.flags`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AreaKind {
    /// Device memory.
    Ioremap,
    /// Memory of its own.
    Vmalloc,
    /// Pages that somebody has.
    Vmap,
}

/// An area as `/proc/vmallocinfo` shows it.
#[derive(Clone)]
pub struct VmallocInfo<'a> {
    /// Its addresses, guard page included.
    pub addresses: Range<u64>,
    /// Who made it.
    pub caller: &'a dyn Display,
    /// What its first page maps, for devices.
    pub phys: Option<PhysAddr>,
    /// What it is.
    pub kind: AreaKind,
    /// How many pages of its own each node has, from node 0 on.
    pub on_nodes: &'a [u64],
}

impl fmt::Debug for VmallocInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmallocInfo").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn write_range(out: &mut dyn Write, addresses: &Range<u64>) -> fmt::Result {
    let Range { start, end } = addresses;
    write!(out, "0x{start:016x}-0x{end:016x} {:>7}", end - start)
}

/// Writes an area's line (Linux: `s_show`).
///
/// # Errors
/// Those of `out`.
pub fn write_area(out: &mut dyn Write, area: &VmallocInfo<'_>) -> fmt::Result {
    write_range(out, &area.addresses)?;
    write!(out, " {}", area.caller)?;
    match area.on_nodes.iter().sum() {
        0u64 => {}
        nr_pages => write!(out, " pages={nr_pages}")?,
    }
    if let Some(phys) = area.phys {
        write!(out, " phys=0x{:016x}", phys.as_u64())?;
    }
    out.write_str(match area.kind {
        AreaKind::Ioremap => " ioremap",
        AreaKind::Vmalloc => " vmalloc",
        AreaKind::Vmap => " vmap",
    })?;
    for (node, nr_pages) in area.on_nodes.iter().enumerate().filter(|(_, nr)| **nr > 0) {
        write!(out, " N{node}={nr_pages}")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn line(area: &VmallocInfo<'_>) -> String {
        let mut text = String::new();
        write_area(&mut text, area).unwrap();
        text
    }

    #[test]
    fn lines_read_as_in_linux() {
        let stack = VmallocInfo {
            addresses: 0xffff_c900_0000_0000..0xffff_c900_0000_5000,
            caller: &"dup_task_struct+0x5b/0x1b0",
            phys: None,
            kind: AreaKind::Vmalloc,
            on_nodes: &[3, 0, 1],
        };
        assert_eq!(
            line(&stack),
            "0xffffc90000000000-0xffffc90000005000   20480 dup_task_struct+0x5b/0x1b0 pages=4 vmalloc N0=3 N2=1\n"
        );
        let device = VmallocInfo {
            addresses: 0xffff_c900_0000_6000..0xffff_c900_0000_8000,
            caller: &"hpet_enable+0x2c/0x2e0",
            phys: Some(PhysAddr::new(0xfed0_0000)),
            kind: AreaKind::Ioremap,
            on_nodes: &[0, 0],
        };
        assert_eq!(
            line(&device),
            "0xffffc90000006000-0xffffc90000008000    8192 hpet_enable+0x2c/0x2e0 phys=0x00000000fed00000 ioremap\n"
        );
        let large = VmallocInfo {
            addresses: 0xffff_c900_4000_0000..0xffff_c900_4200_1000,
            caller: &"alloc_large_system_hash+0x19c/0x260",
            phys: None,
            kind: AreaKind::Vmap,
            on_nodes: &[],
        };
        assert_eq!(
            line(&large),
            "0xffffc90040000000-0xffffc90042001000 33558528 alloc_large_system_hash+0x19c/0x260 vmap\n"
        );
    }
}
