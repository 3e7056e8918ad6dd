//! In which order an allocation tries zones.

use core::ptr::NonNull;

use crate::id::{NodeId, ZoneIdx};
use crate::zone::Zone;

/// The two orders that each node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ZonelistKind {
    /// All nodes, the nearest first (Linux: `ZONELIST_FALLBACK`).
    Fallback = 0,
    /// This node only, for `__GFP_THISNODE` (Linux: `ZONELIST_NOFALLBACK`).
    ThisNode = 1,
}

/// An entry of a zonelist: the zone, and what is asked of it most without touching it.
#[derive(Clone, Copy, Debug)]
pub struct ZoneRef {
    zone: NonNull<Zone>,
    node: NodeId,
    idx: ZoneIdx,
}

// SAFETY: a shared reference to a zone, which is Sync.
unsafe impl Send for ZoneRef {}
// SAFETY: as above.
unsafe impl Sync for ZoneRef {}

impl ZoneRef {
    pub(super) fn new(zone: &Zone) -> Self {
        Self { zone: NonNull::from_ref(zone), node: zone.node(), idx: zone.idx() }
    }

    /// The zone.
    #[inline(always)]
    pub fn zone(&self) -> &Zone {
        // SAFETY: zones live as long as the machine (node's I1), never moved.
        unsafe { self.zone.as_ref() }
    }

    /// The zone's node.
    #[inline(always)]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Which zone of its node.
    #[inline(always)]
    pub fn idx(&self) -> ZoneIdx {
        self.idx
    }
}

/// Zones in the order in which an allocation tries them (Linux: `struct zonelist`).
#[derive(Debug)]
pub struct Zonelist {
    entries: NonNull<ZoneRef>,
    len: u32,
    first: [u32; ZoneIdx::COUNT],
}

// SAFETY: entries do not change once the list is built.
unsafe impl Send for Zonelist {}
// SAFETY: as above.
unsafe impl Sync for Zonelist {}

impl Zonelist {
    #[cfg(test)]
    pub(super) fn for_test(entries: &'static mut [ZoneRef]) -> Self {
        let first =
            ZoneIdx::ALL.map(|idx| entries.iter().position(|e| e.idx <= idx).unwrap_or(entries.len()) as u32);
        Self { len: entries.len() as u32, entries: NonNull::from_mut(entries).cast(), first }
    }

    /// All entries.
    #[inline]
    pub fn entries(&self) -> &[ZoneRef] {
        // SAFETY: `len` entries that live as long as the machine (node's I1).
        unsafe { core::slice::from_raw_parts(self.entries.as_ptr(), self.len as usize) }
    }

    /// The zones up to `highest`, in order (Linux: `for_each_zone_zonelist`). Starts at the first of them at once.
    #[inline]
    pub fn zones(&self, highest: ZoneIdx) -> impl Iterator<Item = &Zone> + Clone {
        let from = self.first[highest.index()] as usize;
        self.entries().get(from..).unwrap_or(&[]).iter().filter(move |r| r.idx <= highest).map(ZoneRef::zone)
    }

    /// The zone to try first (Linux: `first_zones_zonelist`), `None` when no node of the list has one up to `highest`.
    #[inline]
    pub fn preferred(&self, highest: ZoneIdx) -> Option<&Zone> {
        self.entries().get(self.first[highest.index()] as usize).map(ZoneRef::zone)
    }
}
