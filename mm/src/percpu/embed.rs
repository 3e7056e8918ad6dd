//! Where each CPU's copy is: how large a unit is, how many lie side by side, and which CPU has which (Linux: the embedding
//! first chunk's `pcpu_build_alloc_info`).
//!
//! ```text
//! node 0: | unit 0: CPU 0 | unit 1: CPU 2 | ...    node 1: | unit 2: CPU 1 | (nobody) |     a group for each node
//!           <- unit_bytes ->                                 whole allocations of alloc_bytes each
//! unit:   | static | reserved | dynamic | not used by the first chunk: given back |
//! ```
//! CPUs of a node lie side by side in large pages. What is wasted by that, units that nobody has, is a third of the CPUs at
//! most; within that, there are as few allocations as possible.
//!
//! # Not here
//! Who allocates the groups: the kernel, of memblock.

use core::fmt;

use crate::addr::PAGE_SIZE;
use crate::id::{CpuId, NodeId};

/// What a unit has at least; so an allocation can be as large in any chunk (Linux: `PCPU_MIN_UNIT_SIZE`).
pub const MIN_UNIT_BYTES: usize = 32 << 10;
/// What the first chunk has for allocations (Linux: `PERCPU_DYNAMIC_RESERVE`).
pub const DYNAMIC_BYTES: usize = 28 << 10;
/// The least of it: what is allocated before there are slab caches (Linux: `PERCPU_DYNAMIC_EARLY_SIZE`).
const DYNAMIC_EARLY_BYTES: usize = 20 << 10;

/// What is wanted of the first chunk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// What each CPU has from the beginning.
    pub static_bytes: usize,
    /// Kept for static data of modules.
    pub reserved_bytes: usize,
    /// To be allocated from.
    pub dynamic_bytes: usize,
    /// What allocations are multiples of, and aligned to: a power of two, a page at least.
    pub atom_bytes: usize,
}

/// How the units lie. All sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Embedding<'a> {
    sizes: Sizes,
    size_sum: usize,
    unit_bytes: usize,
    alloc_bytes: usize,
    nodes: &'a [NodeId],
}

/// CPUs of a node, whose units lie side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// Their node.
    pub node: NodeId,
    /// Its first CPU.
    pub first: CpuId,
    /// How many CPUs.
    pub nr_cpus: usize,
    /// How many units; those that are more than CPUs are nobody's.
    pub nr_units: usize,
}

impl<'a> Embedding<'a> {
    /// For CPUs that are on these nodes; `None` when the sizes are too large, or there is no CPU. Takes a look at each pair
    /// of a CPU and a node, and as often as units fit into an allocation.
    pub fn new(sizes: Sizes, nodes: &'a [NodeId]) -> Option<Self> {
        let fixed = sizes.static_bytes.checked_add(sizes.reserved_bytes)?;
        let sum = fixed.checked_add(sizes.dynamic_bytes.max(DYNAMIC_EARLY_BYTES))?;
        let size_sum = sum.checked_next_multiple_of(PAGE_SIZE)?;
        let min_unit = size_sum.max(MIN_UNIT_BYTES);
        if !sizes.atom_bytes.is_power_of_two() || sizes.atom_bytes < PAGE_SIZE || nodes.is_empty() {
            return None;
        }
        let alloc_bytes = min_unit.checked_next_multiple_of(sizes.atom_bytes)?;
        let sizes = Sizes { dynamic_bytes: size_sum - fixed, ..sizes };
        let whole = Self { sizes, size_sum, unit_bytes: alloc_bytes, alloc_bytes, nodes };
        Some(Self { unit_bytes: whole.best_unit(min_unit), ..whole })
    }

    /// The size of a unit of `min_unit` bytes at least that makes the fewest allocations without wasting too much.
    fn best_unit(&self, min_unit: usize) -> usize {
        let mut best = (usize::MAX, self.alloc_bytes);
        for per_alloc in (1..=self.alloc_bytes / min_unit).rev() {
            let unit = self.alloc_bytes / per_alloc;
            if !self.alloc_bytes.is_multiple_of(per_alloc) || !unit.is_multiple_of(PAGE_SIZE) {
                continue;
            }
            let (mut allocs, mut wasted) = (0, 0);
            for group in self.groups() {
                let of_group = group.nr_cpus.div_ceil(per_alloc);
                allocs += of_group;
                wasted += of_group * per_alloc - group.nr_cpus;
            }
            if wasted > self.nodes.len() / 3 {
                continue;
            }
            if allocs > best.0 {
                break;
            }
            best = (allocs, unit);
        }
        best.1
    }

    /// Pages that a CPU has in the first chunk.
    pub fn first_chunk_pages(&self) -> usize {
        self.size_sum / PAGE_SIZE
    }

    /// What a unit spans in each chunk.
    pub fn unit_bytes(&self) -> usize {
        self.unit_bytes
    }

    /// What the parts of the first chunk take.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// How many CPUs there are.
    pub fn nr_cpus(&self) -> usize {
        self.nodes.len()
    }

    /// The node that a CPU is on.
    pub fn node_of(&self, cpu: CpuId) -> NodeId {
        self.nodes[cpu.index()]
    }

    /// The groups, in the order of their first CPUs. Each step costs a look at the CPUs so far.
    pub fn groups(&self) -> impl Iterator<Item = Group> + Clone + '_ {
        let per_alloc = self.alloc_bytes / self.unit_bytes;
        let is_first = move |&cpu: &usize| !self.nodes[..cpu].contains(&self.nodes[cpu]);
        (0..self.nodes.len()).filter(is_first).map(move |cpu| {
            let node = self.nodes[cpu];
            let nr_cpus = self.nodes[cpu..].iter().filter(|&&other| other == node).count();
            let nr_units = nr_cpus.next_multiple_of(per_alloc);
            Group { node, first: CpuId(cpu as u32), nr_cpus, nr_units }
        })
    }

    /// The CPUs of a group, in the order of their units.
    pub fn cpus_of(&self, group: Group) -> impl Iterator<Item = CpuId> + '_ {
        let cpus = (group.first.0..).zip(&self.nodes[group.first.index()..]);
        cpus.filter(move |(_, node)| **node == group.node).map(|(cpu, _)| CpuId(cpu))
    }

    /// Units of all groups, those that are nobody's too.
    pub fn nr_units(&self) -> usize {
        self.groups().map(|group| group.nr_units).sum()
    }

    /// Says what was found, as Linux does: a line for users, the rest for who looks closer (`pcpu_dump_alloc_info`).
    pub fn log(&self) {
        let Sizes { static_bytes, reserved_bytes, dynamic_bytes, atom_bytes } = self.sizes;
        let (pages, unit) = (self.first_chunk_pages(), self.unit_bytes);
        log::info!(
            "percpu: Embedded {pages} pages/cpu s{static_bytes} r{reserved_bytes} d{dynamic_bytes} u{unit}"
        );
        log::debug!(
            "pcpu-alloc: s{static_bytes} r{reserved_bytes} d{dynamic_bytes} u{unit} alloc={}*{atom_bytes}",
            self.alloc_bytes / atom_bytes
        );
        let (per_line, nr_allocs) = (self.allocs_per_line(), self.nr_units() * unit / self.alloc_bytes);
        for first in (0..nr_allocs).step_by(per_line) {
            log::debug!("pcpu-alloc: {}", Allocs { embedding: self, first, nr: per_line });
        }
    }

    fn allocs_per_line(&self) -> usize {
        let width = self.alloc_bytes / self.unit_bytes * (self.cpu_width() + 1) + self.group_width() + 3;
        1 << (60 / width).max(1).ilog2()
    }

    fn cpu_width(&self) -> usize {
        digits(self.nodes.len())
    }

    fn group_width(&self) -> usize {
        digits(self.groups().count())
    }
}

fn digits(n: usize) -> usize {
    n.checked_ilog10().unwrap_or(0) as usize + 1
}

/// A line of allocations: `[0] 0 1 2 3 [1] 4 5 6 - `.
struct Allocs<'a> {
    embedding: &'a Embedding<'a>,
    first: usize,
    nr: usize,
}

impl fmt::Display for Allocs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { embedding, first, nr } = *self;
        let per_alloc = embedding.alloc_bytes / embedding.unit_bytes;
        let (group_width, cpu_width) = (embedding.group_width(), embedding.cpu_width());
        let mut alloc = 0;
        for (index, group) in embedding.groups().enumerate() {
            let nr_allocs = group.nr_units / per_alloc;
            let mut cpus = embedding.cpus_of(group).skip(first.saturating_sub(alloc) * per_alloc);
            for _ in alloc.max(first)..(alloc + nr_allocs).min(first + nr) {
                write!(f, "[{index:0group_width$}] ")?;
                for _ in 0..per_alloc {
                    match cpus.next() {
                        Some(cpu) => write!(f, "{:0cpu_width$} ", cpu.0)?,
                        None => write!(f, "{:-<cpu_width$} ", "")?,
                    }
                }
            }
            alloc += nr_allocs;
        }
        f.write_str("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testlog;
    use std::vec;
    use std::vec::Vec;

    const PMD: usize = 2 << 20;

    fn sizes(static_bytes: usize) -> Sizes {
        Sizes { static_bytes, reserved_bytes: 8192, dynamic_bytes: DYNAMIC_BYTES, atom_bytes: PMD }
    }

    /// Debian's Linux 6.1 has 212,992 bytes of static data, and prints these units.
    #[track_caller]
    fn check_unit(nodes: &[NodeId], unit: usize, nr_units: usize) {
        let embedding = Embedding::new(sizes(212_992), nodes).unwrap();
        assert_eq!(embedding.first_chunk_pages(), 61);
        assert_eq!((embedding.unit_bytes(), embedding.nr_units()), (unit, nr_units));
        let in_groups: usize = embedding.groups().map(|group| group.nr_cpus).sum();
        assert_eq!(in_groups, nodes.len());
    }

    fn on_nodes(nodes: &[u16]) -> Vec<NodeId> {
        nodes.iter().map(|&node| NodeId(node)).collect()
    }

    #[test]
    fn units_are_as_large_as_in_linux() {
        check_unit(&on_nodes(&[0]), PMD, 1);
        check_unit(&on_nodes(&[0; 2]), PMD / 2, 2);
        check_unit(&on_nodes(&[0; 4]), PMD / 4, 4);
        check_unit(&on_nodes(&[0; 8]), PMD / 8, 8);
        check_unit(&on_nodes(&[0; 16]), PMD / 8, 16);
        check_unit(&on_nodes(&[0; 6]), PMD / 8, 8);
        check_unit(&on_nodes(&[0, 1]), PMD, 2);
        check_unit(&on_nodes(&[0, 0, 1, 1]), PMD / 2, 4);
        check_unit(&on_nodes(&[0, 1, 0, 1, 0, 1]), PMD / 4, 8);
    }

    #[test]
    fn a_small_static_part_still_leaves_room_for_the_largest_allocation() {
        let nodes = on_nodes(&[0; 64]);
        let small = Sizes { reserved_bytes: 0, ..sizes(100) };
        let embedding = Embedding::new(small, &nodes).unwrap();
        assert_eq!((embedding.unit_bytes(), embedding.first_chunk_pages()), (MIN_UNIT_BYTES, 8));
        let Sizes { static_bytes, dynamic_bytes, .. } = embedding.sizes();
        assert_eq!(static_bytes + dynamic_bytes, 8 * PAGE_SIZE);
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        let nodes = on_nodes(&[0]);
        assert!(Embedding::new(sizes(usize::MAX), &nodes).is_none());
        assert!(Embedding::new(sizes(100), &[]).is_none());
        assert!(Embedding::new(Sizes { atom_bytes: 100, ..sizes(100) }, &nodes).is_none());
        assert!(Embedding::new(Sizes { atom_bytes: 12 << 10, ..sizes(100) }, &nodes).is_none());
    }

    #[test]
    fn cpus_of_a_node_lie_side_by_side() {
        let nodes = on_nodes(&[0, 1, 0, 1, 0]);
        let embedding = Embedding::new(sizes(212_992), &nodes).unwrap();
        let cpus: Vec<Vec<u32>> =
            embedding.groups().map(|group| embedding.cpus_of(group).map(|cpu| cpu.0).collect()).collect();
        assert_eq!(cpus, vec![vec![0, 2, 4], vec![1, 3]]);
    }

    #[test]
    fn the_log_reads_as_in_linux() {
        let line = |nodes: &[u16], first, nr| {
            let nodes = on_nodes(nodes);
            let embedding = Embedding::new(sizes(212_992), &nodes).unwrap();
            std::format!("{}", Allocs { embedding: &embedding, first, nr })
        };
        assert_eq!(line(&[0; 4], 0, 4), "[0] 0 1 2 3 ");
        assert_eq!(line(&[0, 0, 0, 0, 0, 0], 0, 1), "[0] 0 1 2 3 4 5 - - ");
        assert_eq!(line(&[0, 0, 1, 1], 0, 2), "[0] 0 1 [1] 2 3 ");
        assert_eq!(line(&[0; 16], 0, 1), "[0] 00 01 02 03 04 05 06 07 ");
        assert_eq!(line(&[0; 16], 1, 1), "[0] 08 09 10 11 12 13 14 15 ");
        let ((), lines) = testlog::capture(|| {
            let nodes = on_nodes(&[0, 1]);
            Embedding::new(sizes(212_992), &nodes).unwrap().log();
        });
        assert_eq!(
            lines,
            [
                "percpu: Embedded 61 pages/cpu s212992 r8192 d28672 u2097152",
                "pcpu-alloc: s212992 r8192 d28672 u2097152 alloc=1*2097152",
                "pcpu-alloc: [0] 0 [1] 1 ",
            ]
        );
    }
}
