//! Names of the counters that a zone has.

/// A counter of a zone; order and names are Linux 6.1's (`enum zone_stat_item`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ZoneStat {
    /// Pages on the free lists.
    FreePages,
    /// Anonymous pages on the inactive list.
    InactiveAnon,
    /// Anonymous pages on the active list.
    ActiveAnon,
    /// File pages on the inactive list.
    InactiveFile,
    /// File pages on the active list.
    ActiveFile,
    /// Pages that cannot be reclaimed.
    Unevictable,
    /// Dirty pages and those being written.
    WritePending,
    /// Pages that `mlock` keeps.
    Mlock,
    /// Bounce buffers.
    Bounce,
    /// Compressed pages.
    Zspages,
    /// Free pages of contiguous areas.
    FreeCma,
}

impl ZoneStat {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All, in Linux's order.
    pub const ALL: [Self; 11] = [
        Self::FreePages,
        Self::InactiveAnon,
        Self::ActiveAnon,
        Self::InactiveFile,
        Self::ActiveFile,
        Self::Unevictable,
        Self::WritePending,
        Self::Mlock,
        Self::Bounce,
        Self::Zspages,
        Self::FreeCma,
    ];

    /// Linux's name in `/proc/zoneinfo` and `/proc/vmstat`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FreePages => "nr_free_pages",
            Self::InactiveAnon => "nr_zone_inactive_anon",
            Self::ActiveAnon => "nr_zone_active_anon",
            Self::InactiveFile => "nr_zone_inactive_file",
            Self::ActiveFile => "nr_zone_active_file",
            Self::Unevictable => "nr_zone_unevictable",
            Self::WritePending => "nr_zone_write_pending",
            Self::Mlock => "nr_mlock",
            Self::Bounce => "nr_bounce",
            Self::Zspages => "nr_zspages",
            Self::FreeCma => "nr_free_cma",
        }
    }
}
