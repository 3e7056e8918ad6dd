//! Nodes for tests, given what their zones span.

use std::alloc::alloc;
use std::boxed::Box;
use std::vec::Vec;

use super::*;
use crate::pcp::Pcp;
use crate::percpu::PerCpu;
use crate::zone::Span;

fn zonelist(zones: &[&Zone]) -> Zonelist {
    let entries: Vec<ZoneRef> = zones.iter().filter(|z| z.is_populated()).map(|z| ZoneRef::new(z)).collect();
    Zonelist::for_test(entries.leak())
}

impl Nodes {
    /// Nodes whose zones span those pages; each node's fallbacks are the next ones in turn. Leaked: a few dozen kilobytes
    /// a test.
    pub(crate) fn for_test(sparse: Sparse, spans: &[[PfnRange; ZoneIdx::COUNT]], nr_cpus: u32) -> Self {
        let empty = || Zonelist::for_test(&mut []);
        let nodes: Vec<*mut Node> = spans
            .iter()
            .enumerate()
            .map(|(id, spans)| {
                let id = NodeId(id as u16);
                let zones = ZoneIdx::ALL.map(|idx| {
                    let pages = spans[idx.index()];
                    let span = Span { pages, present: pages.nr_pages() };
                    Zone::new(id, idx, span, sparse, pagesets(nr_cpus))
                });
                let present = spans.iter().map(|s| s.nr_pages()).sum();
                let ram = || spans.iter().filter(|s| !s.is_empty());
                let start = ram().map(|s| s.start).min().unwrap_or_default();
                let end = ram().map(|s| s.end).max().unwrap_or_default();
                let span = PfnRange::new(start, end);
                Box::into_raw(Box::new(Node {
                    zones,
                    zonelists: [empty(), empty()],
                    id,
                    span,
                    present,
                    counters: NodeCounters::new(),
                }))
            })
            .collect();
        for (id, &node) in nodes.iter().enumerate() {
            let in_turn = nodes[id..].iter().chain(&nodes[..id]);
            // SAFETY: the nodes were leaked above and nobody else has them yet.
            let zones: Vec<&Zone> = in_turn.flat_map(|&n| unsafe { (*n).zones.iter().rev() }).collect();
            let lists = [zonelist(&zones), zonelist(&zones[..ZoneIdx::COUNT])];
            // SAFETY: as above; only `zones` are shared.
            unsafe { (*node).zonelists = lists };
        }
        let table: Vec<AtomicPtr<Node>> = nodes.into_iter().map(AtomicPtr::new).collect();
        let len = table.len();
        Self { table: NonNull::from_mut(table.leak()).cast(), len, sparse }
    }
}

fn pagesets(nr_cpus: u32) -> PerCpu<Pcp> {
    let layout = PerCpu::<Pcp>::layout(nr_cpus).unwrap();
    // SAFETY: the layout's size is not zero; fresh memory of that layout.
    unsafe { PerCpu::init(NonNull::new(alloc(layout)).unwrap(), nr_cpus, |_| Pcp::new()) }
}
