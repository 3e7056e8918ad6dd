//! `kernelcore=` and `movablecore=`: any amount that is read gives movable zones inside their nodes.
//!
//! Input: the two values, with a line's end between them.

use mm::zone::{Amount, MovableRequest, NodeRam, ZoneLimits, node_span};
use mm::{NodeId, Order, Pfn, PfnRange};

/// Machines by their RAM: node, first page, number of pages.
const MACHINES: [&[(u16, u64, u64)]; 4] = [
    &[(0, 1, 0x9e), (0, 0x100, 0x7fee0)],
    &[(0, 1, 0x9e), (0, 0x100, 0xbfee0), (1, 0x10_0000, 0x4_0000)],
    &[(0, 0x100, 0x8_0000), (2, 0x10_0000, 3), (1, 0x10_0003, 0x7_fffd), (2, 0x18_0000, 0x3ff)],
    &[(3, 0x3_ffff_0000, 0xffff)],
];
const NR_NODES: usize = 4;

pub(super) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (kernelcore, movablecore) = text.split_once('\n').unwrap_or((&text, ""));
    let [kernelcore, movablecore] = [kernelcore, movablecore].map(|value| {
        let amount = Amount::parse(value);
        match amount {
            None | Some(Amount::Unsaid) => assert_eq!(amount, None, "{value:?}"),
            Some(Amount::Percent(percent)) => assert!(percent <= 100 && value.ends_with('%')),
            Some(Amount::Pages(pages)) => assert!(pages <= u64::MAX >> mm::PAGE_SHIFT),
        }
        amount.unwrap_or_default()
    });
    for machine in MACHINES {
        starts(machine, MovableRequest::Sizes { kernelcore, movablecore });
    }
}

fn starts(machine: &[(u16, u64, u64)], request: MovableRequest) {
    let ram = || {
        machine.iter().map(|&(node, start, nr)| NodeRam {
            node: NodeId(node),
            pages: PfnRange::new(Pfn::new(start), Pfn::new(start + nr)),
        })
    };
    let limits = ZoneLimits::new(ram()).expect("a machine with RAM");
    let mut starts = [Some(Pfn::new(0)); NR_NODES];
    request.starts(ram(), ram(), &limits, &mut starts);
    for (node, start) in starts.into_iter().enumerate() {
        let Some(start) = start else { continue };
        let span = node_span(ram(), NodeId(node as u16));
        assert!(span.start <= start && start < span.end, "node {node}: {start:#x}, {span:?}");
        assert!(start.is_aligned(Order::MAX.nr_pages()), "node {node}: {start:#x}");
        assert!(start >= limits.get(limits.highest()).start, "only the highest zone becomes movable");
    }
}
