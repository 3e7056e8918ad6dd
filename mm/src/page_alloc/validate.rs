//! Recounts the whole allocator.

use crate::arch::IrqGuard;
use crate::buddy::FreeAreas;
use crate::id::CpuId;
use crate::pfn::PfnRange;
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

    /// The same while other CPUs allocate and free: every zone's lists and its counter, each under the zone's lock, and this
    /// CPU's lists; those of other CPUs are only counted. Holds a zone's lock as long as it takes to look at all its free
    /// pages.
    ///
    /// # Panics
    /// When something is not in order.
    pub fn validate_running(&self) {
        for zone in self.nodes().populated_zones() {
            let irq = IrqGuard::new();
            validate_free(zone, &zone.free().lock_irq(&irq));
            self.with_pcp(zone, &irq, |pcp| pcp.validate());
            for cpu in 0..zone.pagesets().nr_cpus() {
                let count = fast::peek_count(zone, CpuId(cpu));
                assert!(
                    u64::from(count) <= zone.managed(),
                    "{count} pages on lists of CPU {cpu} in {zone:?}"
                );
            }
        }
    }

    fn validate_zone(&self, zone: &Zone) {
        let free = zone.free().lock();
        validate_free(zone, &free);
        for cpu in 0..zone.pagesets().nr_cpus() {
            fast::validate_pcp(zone, CpuId(cpu));
        }
        assert!(
            free.free_pages() + free.guard_pages() + self.pcp_pages(zone) <= zone.managed(),
            "more free than managed in {zone:?}"
        );
    }
}

/// Checks a zone's limits, its free lists and their counter, and its guard pages.
fn validate_free(zone: &Zone, free: &FreeAreas) {
    zone.validate();
    free.validate(zone.sparse());
    if free.has_guards() {
        let pages = zone.sparse().valid_in(zone.span()).flat_map(PfnRange::iter);
        let pages = pages.filter_map(|pfn| zone.sparse().page(pfn));
        free.validate_guards(pages.filter(|page| (page.node(), page.zone()) == (zone.node(), zone.idx())));
    }
    assert_eq!(zone.nr_free(), free.free_pages(), "NR_FREE_PAGES of {zone:?}");
}
