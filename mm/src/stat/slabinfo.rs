//! The text of `/proc/slabinfo`.

use core::fmt::{self, Write};

use crate::order::Order;

/// A slab cache as `/proc/slabinfo` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlabInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Objects in use; those on per-CPU lists count as in use, as in Linux.
    pub active_objs: u64,
    /// Objects that its slabs hold.
    pub num_objs: u64,
    /// Bytes from one object to the next (Linux: `s->size`).
    pub obj_size: u32,
    /// Objects in a slab.
    pub objs_per_slab: u32,
    /// A slab's order.
    pub order: Order,
    /// Slabs.
    pub num_slabs: u64,
}

/// Writes the two lines at the top (Linux: `print_slabinfo_header`).
///
/// # Errors
/// Those of `out`.
pub fn write_head(out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "slabinfo - version: 2.1")?;
    write!(out, "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>")?;
    write!(out, " : tunables <limit> <batchcount> <sharedfactor>")?;
    writeln!(out, " : slabdata <active_slabs> <num_slabs> <sharedavail>")
}

/// Writes a cache's line (Linux: `cache_show`). SLUB has no tunables and counts no slab as inactive.
///
/// # Errors
/// Those of `out`.
pub fn write_cache(out: &mut dyn Write, cache: &SlabInfo<'_>) -> fmt::Result {
    let SlabInfo { name, active_objs, num_objs, obj_size, objs_per_slab, order, num_slabs } = *cache;
    let pages = order.nr_pages();
    write!(out, "{name:<17} {active_objs:>6} {num_objs:>6} {obj_size:>6} {objs_per_slab:>4} {pages:>4}")?;
    write!(out, " : tunables {:>4} {:>4} {:>4}", 0, 0, 0)?;
    writeln!(out, " : slabdata {num_slabs:>6} {num_slabs:>6} {:>6}", 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn a_cache_reads_as_in_linux() {
        let mut text = String::new();
        let cache = SlabInfo {
            name: "kmalloc-2k",
            active_objs: 1152,
            num_objs: 1168,
            obj_size: 2048,
            objs_per_slab: 16,
            order: Order::new(3).unwrap(),
            num_slabs: 73,
        };
        write_head(&mut text).unwrap();
        write_cache(&mut text, &cache).unwrap();
        let wanted = "slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
kmalloc-2k          1152   1168   2048   16    8 : tunables    0    0    0 : slabdata     73     73      0
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_long_name_is_not_cut() {
        let mut text = String::new();
        let name = "dma-kmalloc-rcl-cache-of-a-long-name";
        let cache = SlabInfo {
            name,
            active_objs: 0,
            num_objs: 0,
            obj_size: 8,
            objs_per_slab: 512,
            order: Order::ZERO,
            num_slabs: 0,
        };
        write_cache(&mut text, &cache).unwrap();
        assert!(text.starts_with(&std::format!("{name}      0      0      8  512    1 :")), "{text}");
    }
}
