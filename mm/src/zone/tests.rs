use super::testdata::machines;
use super::*;
use crate::zone::limits::*;

#[test]
fn spans_are_linuxs_on_all_machines() {
    for m in machines() {
        let ram = || m.ram.iter().copied();
        let limits = ZoneLimits::new(ram()).unwrap();
        let starts = m.movable_starts();
        for (id, start) in starts.into_iter().enumerate() {
            for idx in ZoneIdx::ALL {
                let got = limits.zone_span(ram(), NodeId(id as u16), idx, start);
                let facts = m.zones.iter().find(|z| (z.node.index(), z.idx) == (id, idx));
                match facts {
                    Some(facts) => assert_eq!(got, facts.span, "{} node {id} {idx:?}", m.name),
                    None => assert_eq!(got.present, 0, "{} node {id} {idx:?}", m.name),
                }
            }
        }
    }
}

#[test]
fn movable_zones_begin_where_linuxs_do() {
    for m in machines() {
        let got: std::vec::Vec<_> = m.movable_starts().into_iter().enumerate().collect();
        for (id, start) in got {
            let want = m.movable.iter().find(|(n, _)| n.index() == id).map(|(_, pfn)| *pfn);
            assert_eq!(start, want, "{} node {id}", m.name);
        }
    }
}

#[test]
fn total_pages_are_linuxs() {
    for m in machines() {
        let total: u64 = m.zones.iter().map(|z| estimated_managed(z.idx, z.span, m.dma_reserved)).sum();
        assert_eq!(total, m.total_pages, "{}", m.name);
    }
}

fn total(m: &testdata::Machine, moment: usize) -> u64 {
    m.zones.iter().map(|z| z.managed[moment]).sum()
}

#[test]
fn min_free_kbytes_is_linuxs() {
    for m in machines().into_iter().filter(|m| m.user_min_free.is_none()) {
        let low: std::vec::Vec<u64> = m
            .zones
            .iter()
            .filter(|z| z.idx <= ZoneIdx::Normal)
            .map(|z| z.managed[0])
            .filter(|p| *p != 0)
            .collect();
        let first = min_free_kbytes(low.iter().sum());
        let left = low.iter().map(|p| p.saturating_sub(watermarks(*p, total(&m, 0), first, 10)[2])).sum();
        let got = match (total(&m, 0) >= HUGE_PAGES_MIN_TOTAL, m.huge_pages) {
            (false, _) => first,
            (true, true) => first.max(min_free_kbytes_huge(low.len() as u64, left)),
            (true, false) => min_free_kbytes(left),
        };
        assert_eq!(got, m.min_free_kbytes, "{}", m.name);
    }
}

#[test]
fn watermarks_batches_and_thresholds_are_linuxs() {
    for m in machines() {
        for z in m.zones.iter().filter(|z| z.managed[1] != 0) {
            let name = (&m.name, z.node, z.idx);
            assert_eq!(
                watermarks(z.managed[1], total(&m, 1), m.min_free_kbytes, 10),
                z.watermarks,
                "{name:?}"
            );
            assert_eq!(pcp_batch(z.managed[1]), z.batch, "{name:?}");
            let high = pcp_high(z.managed[2], z.watermarks[1], z.batch, z.cpus, m.online, m.high_fraction);
            assert_eq!(high, z.high, "{name:?}");
            assert_eq!(stat_threshold(z.managed[4], m.online), z.threshold, "{name:?}");
        }
    }
}

#[test]
fn reserves_are_linuxs() {
    for m in machines() {
        for z in m.zones.iter().filter(|z| z.managed[3] != 0) {
            let managed = ZoneIdx::ALL.map(|idx| {
                m.zones.iter().find(|o| (o.node, o.idx) == (z.node, idx)).map_or(0, |o| o.managed[3])
            });
            assert_eq!(lowmem_reserve(&managed, z.idx, &m.ratio), z.protection, "{} {:?}", m.name, z.idx);
        }
    }
}

#[test]
fn limits_of_no_memory_are_the_smallest() {
    assert_eq!(min_free_kbytes(0), 128);
    assert_eq!(min_free_kbytes(1 << 40), 262_144);
    assert_eq!(watermarks(0, 0, 128, 10), [0, 0, 0]);
    assert_eq!((pcp_batch(0), pcp_high(0, 0, 1, 0, 0, 0), stat_threshold(0, 1)), (1, 4, 2));
    assert!(ZoneLimits::new(core::iter::empty()).is_none());
}

#[test]
fn amounts_are_sizes_or_percentages() {
    let cases = [
        ("512M", Some(Amount::Pages(131_072))),
        ("4095", Some(Amount::Pages(0))),
        ("0x1000", Some(Amount::Pages(1))),
        ("30%", Some(Amount::Percent(30))),
        ("0%", Some(Amount::Percent(0))),
        ("100%", Some(Amount::Percent(100))),
        ("101%", None),
        ("", None),
        ("%", None),
        ("mirror", None),
        ("5X", None),
        ("30%%", None),
    ];
    for (text, want) in cases {
        assert_eq!(Amount::parse(text), want, "{text:?}");
    }
}

#[test]
fn a_percentage_is_of_all_ram() {
    let ram = [NodeRam { node: NodeId(0), pages: PfnRange::new(Pfn::new(1 << 20), Pfn::new(3 << 20)) }];
    let limits = ZoneLimits::new(ram.iter().copied()).unwrap();
    let start = |request: MovableRequest| {
        let mut starts = [None];
        request.starts(ram.iter().copied(), ram[..0].iter().copied(), &limits, &mut starts);
        starts[0].map(|pfn: Pfn| pfn.get())
    };
    let sizes = |kernelcore, movablecore| MovableRequest::Sizes { kernelcore, movablecore };
    assert_eq!(start(MovableRequest::NONE), None);
    assert_eq!(start(sizes(Amount::Percent(50), Amount::Unsaid)), Some(2 << 20));
    assert_eq!(start(sizes(Amount::Unsaid, Amount::Percent(50))), Some(2 << 20));
    assert_eq!(start(sizes(Amount::Percent(25), Amount::Percent(50))), Some(2 << 20));
    assert_eq!(start(sizes(Amount::Percent(100), Amount::Unsaid)), None);
    assert_eq!(start(sizes(Amount::Unsaid, Amount::Pages(u64::MAX))), None);
}

#[test]
fn a_share_that_memory_below_makes_up_leaves_all_ranges_above_movable() {
    let range =
        |start, end| NodeRam { node: NodeId(0), pages: PfnRange::new(Pfn::new(start), Pfn::new(end)) };
    let ram = [range(256, 262_144), range(1 << 20, 1_492_428), range(1_502_932, 2_359_296)];
    let limits = ZoneLimits::new(ram.iter().copied()).unwrap();
    let movablecore = Amount::Pages(5434 << 8);
    let request = MovableRequest::Sizes { kernelcore: Amount::Unsaid, movablecore };
    let mut starts = [None];
    request.starts(ram.iter().copied(), ram[..0].iter().copied(), &limits, &mut starts);
    assert_eq!(starts, [Some(Pfn::new(1 << 20))]);
}
