//! What `/proc/slabinfo` shows.

use core::fmt;

use super::Slub;
use super::cache::Cache;
use crate::stat::SlabCaches;
use crate::stat::slabinfo::SlabInfo;

impl<'a> Cache<'a> {
    /// The cache's line in `/proc/slabinfo` (Linux: `get_slabinfo`). Takes each node's lock in turn.
    pub fn info(&self) -> SlabInfo<'a> {
        let g = self.geometry();
        let mut info = SlabInfo {
            name: self.name(),
            active_objs: 0,
            num_objs: 0,
            obj_size: g.size,
            objs_per_slab: g.objects(g.order) as u32,
            order: g.order,
            num_slabs: 0,
        };
        for node in self.nodes() {
            let counts = node.lock().counts();
            info.num_slabs += counts.nr_slabs;
            info.num_objs += counts.nr_objects;
            info.active_objs += counts.nr_objects - counts.nr_free;
        }
        info
    }
}

impl Slub<'_> {
    /// Calls `show` with each cache's line, the newest cache first. The list of caches stays locked and interrupts off
    /// meanwhile.
    pub fn for_each_cache(&self, mut show: impl FnMut(SlabInfo<'_>)) {
        self.for_each(|cache| show(cache.info()));
    }
}

impl SlabCaches for Slub<'_> {
    fn for_each(&self, show: &mut dyn FnMut(&SlabInfo<'_>) -> fmt::Result) -> fmt::Result {
        let mut result = Ok(());
        self.for_each_cache(|info| {
            if result.is_ok() {
                result = show(&info);
            }
        });
        result
    }
}
