//! Trees of address ranges, each with room for what its owner says of it: areas of a process, of the vmalloc space.
//!
//! ```text
//! AreaTree<T, A>   ordered by address, balanced, each subtree knowing its largest hole
//!   T: Area        what is in the tree: a range, and what the owner says of it
//!   A: NodeAlloc   where its nodes come from
//! ```
//!
//! # Not here
//! What the areas mean: `vma`, `vmalloc`.

mod gap;
mod node;
mod tree;

pub use gap::Direction;
pub use node::NodeAlloc;
pub use tree::AreaTree;
pub(crate) use tree::SpareNode;

use core::fmt;

/// A range of addresses, not empty.
pub trait Area: Copy + fmt::Debug {
    /// First byte.
    fn start(&self) -> u64;
    /// One past the last byte.
    fn end(&self) -> u64;
}

#[cfg(test)]
pub(crate) mod tests;
