//! The machines of `testdata/machines.tsv`; its head says what the columns are.

use core::str::FromStr;
use std::string::{String, ToString};
use std::vec::Vec;

use super::NodeRam;
use crate::id::{NodeId, ZoneIdx};
use crate::pfn::{Pfn, PfnRange};

/// What Linux reported of a machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) online: u32,
    pub(crate) possible: usize,
    pub(crate) huge_pages: bool,
    pub(crate) user_min_free: Option<u64>,
    pub(crate) high_fraction: u32,
    pub(crate) ratio: [u32; 5],
    pub(crate) min_free_kbytes: u64,
    pub(crate) total_pages: u64,
    pub(crate) dma_reserved: u64,
    pub(crate) kernelcore: u64,
    pub(crate) movablecore: u64,
    pub(crate) ram: Vec<NodeRam>,
    pub(crate) hotplug: Vec<NodeRam>,
    pub(crate) movable: Vec<(NodeId, Pfn)>,
    pub(crate) unavailable: Vec<(NodeId, ZoneIdx, u64)>,
    pub(crate) zones: Vec<ZoneFacts>,
    pub(crate) distances: Vec<Vec<u64>>,
    pub(crate) fallback: Vec<(NodeId, Vec<NodeId>)>,
    pub(crate) zonelists: Vec<ZonelistFacts>,
}

/// A zonelist: its kind, node and highest zone, and the zones in order.
pub(crate) type ZonelistFacts = (String, NodeId, ZoneIdx, Vec<(NodeId, ZoneIdx)>);

/// What it reported of a zone. `managed`: when it computed min_free_kbytes, watermarks, high, reserves, thresholds.
#[derive(Clone, Debug)]
pub(crate) struct ZoneFacts {
    pub(crate) node: NodeId,
    pub(crate) idx: ZoneIdx,
    pub(crate) span: super::Span,
    pub(crate) managed: [u64; 5],
    pub(crate) cpus: u32,
    pub(crate) watermarks: [u64; 3],
    pub(crate) batch: u32,
    pub(crate) high: u32,
    pub(crate) threshold: u32,
    pub(crate) protection: [u64; 5],
}

fn number<T: FromStr>(text: &str) -> T {
    text.parse().ok().unwrap_or_else(|| panic!("{text:?} is not a number"))
}

fn node(text: &str) -> NodeId {
    NodeId(number(text))
}

fn zone(text: &str) -> ZoneIdx {
    ZoneIdx::ALL.into_iter().find(|z| z.name() == text).expect("a zone's name")
}

fn place(text: &str) -> (NodeId, ZoneIdx) {
    let (n, z) = text.split_once(':').expect("node:zone");
    (node(n), zone(z))
}

fn numbers<const N: usize>(fields: &[&str]) -> [u64; N] {
    core::array::from_fn(|i| number(fields[i]))
}

fn ram(f: &[&str]) -> NodeRam {
    NodeRam { node: node(f[1]), pages: PfnRange::new(Pfn::new(number(f[2])), Pfn::new(number(f[3]))) }
}

fn zone_facts(f: &[&str]) -> ZoneFacts {
    let [start, spanned, present] = numbers(&f[3..]);
    let pages = PfnRange::new(Pfn::new(start), Pfn::new(start + spanned));
    ZoneFacts {
        node: node(f[1]),
        idx: zone(f[2]),
        span: super::Span { pages, present },
        managed: numbers(&f[6..]),
        cpus: number(f[11]),
        watermarks: numbers(&f[12..]),
        batch: number(f[15]),
        high: number(f[16]),
        threshold: number(f[17]),
        protection: numbers(&f[18..]),
    }
}

fn machine(f: &[&str]) -> Machine {
    let ratio: Vec<u32> = f[7].split(':').map(number).collect();
    Machine {
        name: f[1].to_string(),
        online: number(f[2]),
        possible: number(f[3]),
        huge_pages: f[4] == "always",
        user_min_free: f[5].parse().ok(),
        high_fraction: number(f[6]),
        ratio: ratio.try_into().expect("five ratios"),
        min_free_kbytes: number(f[8]),
        total_pages: number(f[9]),
        dma_reserved: number(f[10]),
        kernelcore: number(f[11]),
        movablecore: number(f[12]),
        ..Machine::default()
    }
}

impl Machine {
    fn add(&mut self, f: &[&str]) {
        match f[0] {
            "ram" => self.ram.push(ram(f)),
            "hotplug" => self.hotplug.push(ram(f)),
            "movable" => self.movable.push((node(f[1]), Pfn::new(number(f[2])))),
            "unavailable" => self.unavailable.push((node(f[1]), zone(f[2]), number(f[3]))),
            "zone" => self.zones.push(zone_facts(f)),
            "distance" => self.distances.push(f[2..].iter().map(|d| number(d)).collect()),
            "fallback" => self.fallback.push((node(f[1]), f[2..].iter().map(|n| node(n)).collect())),
            "zonelist" => {
                let (n, z) = place(f[2]);
                self.zonelists.push((f[1].to_string(), n, z, f[3..].iter().map(|p| place(p)).collect()));
            }
            other => panic!("unknown record {other}"),
        }
    }

    /// Where its movable zones begin, by node, as computed.
    pub(crate) fn movable_starts(&self) -> Vec<Option<Pfn>> {
        let limits = super::ZoneLimits::new(self.ram.iter().copied()).expect("RAM");
        let mut starts = std::vec![None; self.possible];
        self.movable_request().starts(
            self.ram.iter().copied(),
            self.hotplug.iter().copied(),
            &limits,
            &mut starts,
        );
        starts
    }

    pub(crate) fn movable_request(&self) -> super::MovableRequest {
        let amount = |pages| if pages == 0 { super::Amount::Unsaid } else { super::Amount::Pages(pages) };
        match self.hotplug.is_empty() {
            false => super::MovableRequest::Hotplug,
            true => super::MovableRequest::Sizes {
                kernelcore: amount(self.kernelcore),
                movablecore: amount(self.movablecore),
            },
        }
    }
}

/// All of them.
pub(crate) fn machines() -> Vec<Machine> {
    let mut machines: Vec<Machine> = Vec::new();
    for line in include_str!("testdata/machines.tsv").lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        match machines.last_mut() {
            Some(last) if fields[0] != "machine" => last.add(&fields),
            _ => machines.push(machine(&fields)),
        }
    }
    assert!(machines.len() >= 60);
    machines
}
