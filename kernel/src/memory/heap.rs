//! Slab caches, and Rust's global allocator over them.

use mm::acpi::PossibleCpus;
use mm::arch::Machine;
use mm::numa::Numa;
use mm::page_alloc::{GuardMinorder, PageAllocator};
use mm::slub::geometry::MAX_SLAB_ORDER;
use mm::slub::heap::KernelHeap;
use mm::slub::{Config, Slub};
use mm::{NodeId, Order};
use spin::Once;

use super::Error;

#[global_allocator]
static HEAP: KernelHeap = KernelHeap::new();

static SLUB: Once<Slub<'static>> = Once::new();

/// Brings the slab caches and the heap up, for all possible CPUs.
pub(super) fn init(
    pages: &'static PageAllocator,
    numa: &Numa<'static>,
    cpus: PossibleCpus<'_>,
    guards: GuardMinorder,
) -> Result<&'static Slub<'static>, Error> {
    static PAGES: Once<&'static PageAllocator> = Once::new();
    let source = PAGES.call_once(|| pages);
    let node_of = |cpu| nearest_with_memory(pages, numa.node_of_cpu(cpu));
    // Small slabs, so that there are guard pages around each (Linux: `kmem_cache_init`).
    let max_order = if guards == GuardMinorder::NONE { MAX_SLAB_ORDER } else { Order::ZERO };
    let config = Config {
        nr_cpus: cpus.nr(),
        present_cpus: cpus.nr_present,
        nr_nodes: pages.nodes().nr_ids(),
        max_order,
        node_of: &node_of,
    };
    let slub = Slub::init(*source, Machine, config)?;
    let slub = SLUB.call_once(|| slub);
    HEAP.init(slub);
    Ok(slub)
}

/// The node itself, or the first that its allocations fall back to.
fn nearest_with_memory(pages: &PageAllocator, node: NodeId) -> NodeId {
    let list = pages.nodes().get(node).map(|n| n.zonelist(mm::node::ZonelistKind::Fallback));
    list.and_then(|list| list.entries().first().map(|entry| entry.node())).unwrap_or(node)
}
