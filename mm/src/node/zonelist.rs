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
    pub(super) const EMPTY: Self = Self { entries: NonNull::dangling(), len: 0, first: [0; ZoneIdx::COUNT] };

    /// # Safety
    /// `entries` points to `len` entries that live as long as the machine and do not change.
    pub(super) unsafe fn new(entries: NonNull<ZoneRef>, len: usize) -> Self {
        let mut list = Self { entries, len: len as u32, first: [0; ZoneIdx::COUNT] };
        list.first = ZoneIdx::ALL
            .map(|highest| list.entries().iter().position(|r| r.idx <= highest).unwrap_or(len) as u32);
        list
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

    /// Checks node's I2 and I3, for the zonelist of `kind` of node `local`.
    ///
    /// # Panics
    /// When they do not hold.
    pub(super) fn validate(&self, kind: ZonelistKind, local: NodeId) {
        let entries = self.entries();
        for entry in entries {
            let zone = entry.zone();
            assert!(zone.is_populated() && (zone.node(), zone.idx()) == (entry.node, entry.idx), "{entry:?}");
            assert!(
                kind == ZonelistKind::Fallback || entry.node == local,
                "{entry:?} is not on node {local}"
            );
        }
        for pair in entries.windows(2) {
            let twice = entries.iter().filter(|e| e.zone == pair[0].zone).count() != 1;
            assert!(!twice && (pair[0].node != pair[1].node || pair[0].idx > pair[1].idx), "{pair:?}");
        }
        for highest in ZoneIdx::ALL {
            let first = entries.iter().position(|e| e.idx <= highest).unwrap_or(entries.len());
            assert_eq!(self.first[highest.index()] as usize, first, "first zone up to {highest:?}");
        }
    }
}
