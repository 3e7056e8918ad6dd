//! The allocator on the host.

mod basics;
mod model;
mod source;

use std::vec::Vec;

use super::*;
use crate::gfp::Gfp;
use crate::id::NodeId;
use source::{Fault, HostSource, Region};

/// An allocator over the host's memory, which looks for leaks when it is dropped.
struct Machine {
    // Dropped first.
    alloc: PerCpuAllocator<'static, HostSource>,
    first: Region,
    span: usize,
}

const STATIC_BYTES: usize = 1000;

impl Machine {
    /// With CPUs on these nodes, and allocations of units that are multiples of `atom_bytes`.
    fn new(nodes: &[u16], atom_bytes: usize) -> Self {
        Self::try_new(nodes, atom_bytes, Fault::Never).unwrap()
    }

    fn try_new(nodes: &[u16], atom_bytes: usize, fault: Fault) -> Option<Self> {
        let nodes: Vec<NodeId> = nodes.iter().map(|&node| NodeId(node)).collect();
        let sizes = Sizes { static_bytes: STATIC_BYTES, reserved_bytes: 0, dynamic_bytes: 0, atom_bytes };
        let embedding = Embedding::new(sizes, &nodes).unwrap();
        let unit = embedding.unit_bytes();
        // Groups lie apart, and CPUs of a group side by side.
        let mut offsets = std::vec![0; nodes.len()];
        let mut span = 0;
        for group in embedding.groups() {
            for (index, cpu) in embedding.cpus_of(group).enumerate() {
                offsets[cpu.index()] = span + index * unit;
            }
            span += group.nr_units * unit + 7 * atom_bytes;
        }
        let first = Region::new(span);
        for &offset in &offsets {
            first.open(offset, embedding.first_chunk_pages() * crate::PAGE_SIZE);
        }
        let offsets: &'static [usize] = offsets.leak();
        let source = HostSource::new(span, offsets, fault);
        // SAFETY: the region has the units, and lives longer than the allocator.
        let alloc = unsafe { PerCpuAllocator::new(source, &embedding, first.base(), offsets) }.ok()?;
        Some(Self { alloc, first, span })
    }

    fn alloc(&self, size: usize, align: usize, gfp: Gfp) -> Result<Allocation, Error> {
        self.alloc.alloc(size, align, gfp)
    }

    /// Calls `f` with each CPU's copy of `size` bytes.
    fn copies(&self, memory: &Allocation, size: usize, mut f: impl FnMut(usize, &mut [u8])) {
        for cpu in self.alloc.cpus() {
            let at = self.alloc.copy_of(memory, cpu).as_ptr();
            // SAFETY: allocated, so every CPU's copy is there, and the test's alone.
            f(cpu.index(), unsafe { core::slice::from_raw_parts_mut(at, size) });
        }
    }

    fn free(&self, memory: Allocation) {
        // SAFETY: from this allocator, and not used after.
        unsafe { self.alloc.free(memory) };
    }
}
