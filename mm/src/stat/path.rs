//! Where a file is, and which names mean it.
//!
//! ```text
//! /sys/devices/system/node/node0/meminfo      its path, a row of parts
//!                          node0/meminfo      its last parts
//!                          node0              a directory in the path: all files below
//!                     node/node0/*            the same
//! ```

use core::fmt;

use crate::id::NodeId;

/// A directory that has files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Directory {
    /// `/proc`.
    Proc,
    /// `/proc/sys/vm`.
    SysVm,
    /// `/sys/kernel/debug`.
    Debug,
    /// `/sys/devices/system/node`.
    Nodes,
    /// The directory of one node in there.
    Node(NodeId),
}

impl Directory {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Proc => &["proc"],
            Self::SysVm => &["proc", "sys", "vm"],
            Self::Debug => &["sys", "kernel", "debug"],
            Self::Nodes | Self::Node(_) => &["sys", "devices", "system", "node"],
        }
    }

    fn numbered(self) -> Option<Part> {
        match self {
            Self::Node(node) => Some(Part::Node(node)),
            Self::Proc | Self::SysVm | Self::Debug | Self::Nodes => None,
        }
    }
}

/// What stands between two slashes.
#[derive(Clone, Copy)]
enum Part {
    Name(&'static str),
    Node(NodeId),
}

impl Part {
    fn is(self, text: &str) -> bool {
        match self {
            Self::Name(name) => name == text,
            // `node01` is no name of a node.
            Self::Node(node) => text
                .strip_prefix("node")
                .filter(|digits| *digits == "0" || digits.starts_with(|c| matches!(c, '1'..='9')))
                .is_some_and(|digits| digits.parse() == Ok(node.0)),
        }
    }
}

/// The path of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    pub(super) directory: Directory,
    pub(super) name: &'static str,
}

impl Path {
    fn parts(self) -> impl Iterator<Item = Part> + Clone {
        let directory = self.directory.names().iter().copied().map(Part::Name);
        directory.chain(self.directory.numbered()).chain([Part::Name(self.name)])
    }

    /// Whether `name` is the path, its last parts, or directories in it that follow each other. A name that starts with a
    /// slash starts at the root; one that ends with `/` or `/*` is that of a directory.
    pub(super) fn is_meant_by(self, name: &str) -> bool {
        let directory = name.strip_suffix("/*").or(name.strip_suffix('/'));
        let wanted = directory.unwrap_or(name);
        let (wanted, starts) = match wanted.strip_prefix('/') {
            Some(from_root) => (from_root, 1),
            None => (wanted, usize::MAX),
        };
        let mut rest = self.parts();
        for _ in 0..starts {
            let mut here = rest.clone();
            let all = wanted.split('/').all(|text| here.next().is_some_and(|part| part.is(text)));
            if all && (directory.is_none() || here.next().is_some()) {
                return true;
            }
            if rest.next().is_none() {
                break;
            }
        }
        false
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().try_for_each(|part| match part {
            Part::Name(name) => write!(f, "/{name}"),
            Part::Node(node) => write!(f, "/node{node}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const MEMINFO: Path = Path { directory: Directory::Node(NodeId(12)), name: "meminfo" };

    #[test]
    fn a_path_is_written_with_its_nodes_number() {
        assert_eq!(MEMINFO.to_string(), "/sys/devices/system/node/node12/meminfo");
        let proc = Path { directory: Directory::Proc, name: "iomem" };
        assert_eq!(proc.to_string(), "/proc/iomem");
        let setting = Path { directory: Directory::SysVm, name: "min_free_kbytes" };
        assert_eq!(setting.to_string(), "/proc/sys/vm/min_free_kbytes");
        assert!(
            ["sys/vm", "vm/min_free_kbytes", "/proc/sys/vm/*"].into_iter().all(|n| setting.is_meant_by(n))
        );
    }

    #[test]
    fn a_name_is_a_path_its_end_or_a_directory_in_it() {
        for name in [
            "/sys/devices/system/node/node12/meminfo",
            "node12/meminfo",
            "system/node/node12/meminfo",
            "meminfo",
            "node12",
            "node12/",
            "node12/*",
            "node",
            "sys",
            "/sys/*",
            "/sys/devices/system/node",
            "devices/system",
        ] {
            assert!(MEMINFO.is_meant_by(name), "{name}");
        }
    }

    #[test]
    fn a_name_ends_where_a_part_ends() {
        for name in [
            "",
            "/",
            "*",
            "/*",
            "nod",
            "info",
            "node1",
            "node012",
            "node+12",
            "node12/mem",
            "node12/meminfo/",
            "meminfo/*",
            "/node12/meminfo",
            "node//node12",
            "node12/meminfo/more",
            "node99999",
            "sys/system",
        ] {
            assert!(!MEMINFO.is_meant_by(name), "{name}");
        }
    }
}
