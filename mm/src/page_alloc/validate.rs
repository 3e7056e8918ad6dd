//! Recounts the whole allocator.

use crate::id::CpuId;
use crate::zone::Zone;

use super::{PageAllocator, fast};

impl PageAllocator {
    /// Checks G1 as far as free pages go: every zone's lists, its counter, and every CPU's lists. Looks at each free page.
    /// No CPU allocates or frees meanwhile.
    ///
    /// # Panics
    /// When something is not in order.
    pub fn validate(&self) {
        for zone in self.nodes().populated_zones() {
            self.validate_zone(zone);
        }
    }

    fn validate_zone(&self, zone: &Zone) {
        zone.validate();
        let free = zone.free().lock();
        free.validate(zone.sparse());
        assert_eq!(zone.nr_free(), free.free_pages(), "NR_FREE_PAGES of {zone:?}");
        for cpu in 0..zone.pagesets().nr_cpus() {
            fast::validate_pcp(zone, CpuId(cpu));
        }
        assert!(
            free.free_pages() + self.pcp_pages(zone) <= zone.managed(),
            "more free than managed in {zone:?}"
        );
    }
}
