//! The shorthand for NUMA machines: `--numa NODES[@DISTANCES]`.
//!
//! ```text
//! 2                 two nodes, memory and CPUs split evenly
//! 1G,3G             a node of 1 GiB and one of 3 GiB; 0 is a node without memory
//! 2@40              40 from each node to each other one (QEMU's default: 20)
//! 2@10,21;30,10     the whole matrix, a row per node
//! ```
//!
//! CPUs go to the nodes in order, in runs as equal as can be; with fewer CPUs than nodes, the last nodes have none.

use crate::size::Size;
use std::str::FromStr;

/// QEMU's greatest number of nodes.
const MAX_NODES: u32 = 128;

/// What `--numa` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    nodes: Nodes,
    distances: Distances,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Nodes {
    Even(u32),
    Sizes(Vec<Size>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Distances {
    Default,
    Uniform(u8),
    Matrix(Vec<Vec<u8>>),
}

/// One node of a machine: its memory, and its CPUs as QEMU writes a range (none for a node without CPUs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's memory; 0 for a memoryless node.
    pub memory: Size,
    /// `0` or `0-3`.
    pub cpus: Option<String>,
}

/// The nodes of a machine and the distances that differ from QEMU's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// By node number.
    pub nodes: Vec<Node>,
    /// From, to, value.
    pub distances: Vec<(usize, usize, u8)>,
}

impl Spec {
    /// The memory that the nodes have together, if the shorthand gives sizes.
    pub fn memory(&self) -> Option<Size> {
        match &self.nodes {
            Nodes::Even(_) => None,
            Nodes::Sizes(sizes) => Size::sum(sizes),
        }
    }

    /// The nodes of a machine with so much memory and so many CPUs, or why there is no such machine.
    pub fn topology(&self, memory: Size, smp: u32) -> Result<Topology, String> {
        let sizes = match &self.nodes {
            Nodes::Even(count) if memory < Size::mib(*count) => {
                return Err(format!("{memory} is too little memory for {count} nodes"));
            }
            Nodes::Even(count) => memory.split(*count),
            Nodes::Sizes(sizes) => sizes.clone(),
        };
        if Size::sum(&sizes) != Some(memory) {
            return Err(format!("the nodes' memory does not add up to {memory}"));
        }
        let count = sizes.len();
        let mut first = 0;
        let nodes = sizes.into_iter().enumerate().map(|(i, memory)| {
            let nr_cpus = nr_cpus_of(i as u32, count as u32, smp);
            let cpus = match nr_cpus {
                0 => None,
                1 => Some(first.to_string()),
                _ => Some(format!("{first}-{}", first + nr_cpus - 1)),
            };
            first += nr_cpus;
            Node { memory, cpus }
        });
        Ok(Topology { nodes: nodes.collect(), distances: self.distances.list(count) })
    }
}

/// The first nodes get one CPU more where the CPUs do not divide evenly.
fn nr_cpus_of(node: u32, nr_nodes: u32, smp: u32) -> u32 {
    smp / nr_nodes + u32::from(node < smp % nr_nodes)
}

impl Distances {
    fn list(&self, count: usize) -> Vec<(usize, usize, u8)> {
        let value = |from: usize, to: usize| match self {
            Distances::Default => None,
            Distances::Uniform(_) if from == to => None,
            Distances::Uniform(distance) => Some(*distance),
            Distances::Matrix(rows) => Some(rows[from][to]),
        };
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        pairs.filter_map(|(from, to)| Some((from, to, value(from, to)?))).collect()
    }

    fn parse(text: &str, count: usize) -> Result<Distances, String> {
        let number = |text: &str| match text.parse::<u8>() {
            Ok(distance) if distance >= 10 => Ok(distance),
            _ => Err(format!("`{text}` is no distance: 10 (the node itself) to 255 (out of reach)")),
        };
        if !text.contains([',', ';']) {
            return match number(text)? {
                10 => Err("10 is the distance of a node to itself".into()),
                distance => Ok(Distances::Uniform(distance)),
            };
        }
        let rows: Vec<Vec<u8>> =
            text.split(';').map(|row| row.split(',').map(number).collect()).collect::<Result<_, _>>()?;
        if rows.len() != count || rows.iter().any(|row| row.len() != count) {
            return Err(format!("{count} nodes need {count} rows of {count} distances, like 10,20;20,10"));
        }
        if (0..count).any(|from| (0..count).any(|to| (rows[from][to] == 10) != (from == to))) {
            return Err("a distance is 10 from a node to itself, and more than that to any other".into());
        }
        Ok(Distances::Matrix(rows))
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Spec, String> {
        let (nodes, distances) = match text.split_once('@') {
            Some((nodes, distances)) => (nodes, Some(distances)),
            None => (text, None),
        };
        let (nodes, count) = match nodes.parse::<u32>() {
            Ok(count) if (1..=MAX_NODES).contains(&count) => (Nodes::Even(count), count as usize),
            Ok(_) => return Err(format!("1 to {MAX_NODES} nodes are possible")),
            Err(_) => {
                let sizes: Vec<Size> = nodes.split(',').map(str::parse).collect::<Result<_, _>>()?;
                if sizes.len() > MAX_NODES as usize {
                    return Err(format!("1 to {MAX_NODES} nodes are possible"));
                }
                if Size::sum(&sizes).is_none_or(|sum| sum == Size::mib(0)) {
                    return Err("the nodes have no memory, or more than can be counted".into());
                }
                let count = sizes.len();
                (Nodes::Sizes(sizes), count)
            }
        };
        let distances = match distances {
            Some(text) => Distances::parse(text, count)?,
            None => Distances::Default,
        };
        Ok(Spec { nodes, distances })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn makes(
        spec: &str,
        mib: u32,
        smp: u32,
        nodes: &[(u32, Option<&str>)],
        distances: &[(usize, usize, u8)],
    ) {
        let topology = spec.parse::<Spec>().unwrap().topology(Size::mib(mib), smp).unwrap();
        let found: Vec<_> = topology.nodes.iter().map(|node| (node.memory, node.cpus.as_deref())).collect();
        let wanted: Vec<_> = nodes.iter().map(|&(mib, cpus)| (Size::mib(mib), cpus)).collect();
        assert_eq!((found, topology.distances.as_slice()), (wanted, distances));
    }

    #[test]
    fn the_shorthand_gives_nodes_cpus_and_distances() {
        makes("2", 512, 2, &[(256, Some("0")), (256, Some("1"))], &[]);
        makes("2", 512, 5, &[(256, Some("0-2")), (256, Some("3-4"))], &[]);
        makes("2", 512, 1, &[(256, Some("0")), (256, None)], &[]);
        makes("1G,3G", 4096, 2, &[(1024, Some("0")), (3072, Some("1"))], &[]);
        makes("64,0@40", 64, 2, &[(64, Some("0")), (0, Some("1"))], &[(0, 1, 40), (1, 0, 40)]);
        let matrix = [(0, 0, 10), (0, 1, 21), (1, 0, 30), (1, 1, 10)];
        makes("2@10,21;30,10", 2, 2, &[(1, Some("0")), (1, Some("1"))], &matrix);
        makes("1G", 1024, 2, &[(1024, Some("0-1"))], &[]);
    }

    #[track_caller]
    fn refuses(spec: &str, reason: &str) {
        let error = spec.parse::<Spec>().unwrap_err();
        assert!(error.contains(reason), "{spec}: {error}");
    }

    #[test]
    fn what_is_no_machine_is_refused_with_a_reason() {
        refuses("", "no size");
        refuses("0", "1 to 128");
        refuses("129", "1 to 128");
        refuses("0M,0", "no memory");
        refuses("1G,x", "no size");
        refuses("2@9", "no distance");
        refuses("2@256", "no distance");
        refuses("2@10", "to itself");
        refuses("2@", "no distance");
        refuses("2@10,20", "2 rows");
        refuses("2@10,20;20", "2 rows");
        refuses("2@10,20;20,11", "to itself");
        assert!("1G,1G".parse::<Spec>().unwrap().topology(Size::mib(512), 1).is_err());
        assert!("8".parse::<Spec>().unwrap().topology(Size::mib(7), 1).is_err());
    }
}
