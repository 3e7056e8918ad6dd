//! The declared order of all locks.

macro_rules! levels {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All of them, outermost first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
        }
    };
}

levels! {
    /// Where a lock stands in the global order: a CPU that holds one may take only those after it.
    Level {
        /// Which address spaces there are (Linux: `mmlist_lock`).
        Spaces,
        /// Page-table pages of an address space (Linux: `page_table_lock`).
        PageTable,
        /// The settings that the limits of zones follow from (Linux: `pcp_batch_high_lock`).
        Settings,
        /// The list of all slab caches (Linux: `slab_mutex`).
        SlabCaches,
        /// A slab cache's partial list on one node (Linux: `kmem_cache_node.list_lock`).
        SlabNode,
        /// A zone's free lists (Linux: `zone->lock`).
        Zone,
        /// What is allocated of per-CPU memory (Linux: `pcpu_lock`).
        PerCpu,
        /// Who waits for something, or until when.
        WaitQueue,
        /// A CPU's ready threads.
        RunQueue,
        /// A leaf: nothing is taken under it.
        Leaf,
    }
}

impl Level {
    /// Its place in [`ALL`](Self::ALL).
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}
