//! The resources that are known before any device: the firmware's map and the kernel image.

use super::{Error, Id, Name, Tree};
use crate::addr::{PhysRange, align_up};
use crate::e820::{Entry, Kind, Map};

const MIB: u64 = 1 << 20;

impl Tree<'_> {
    /// Adds the parts of the kernel image, by Linux's names (`Kernel code`, `Kernel rodata`, `Kernel data`, `Kernel bss`);
    /// a part in several pieces is named for each, empty ones are left out. Those that share a page with another are
    /// reported and left out, too.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_kernel(
        &mut self,
        parts: impl Iterator<Item = (PhysRange, &'static str)>,
    ) -> Result<(), Error> {
        for (range, name) in parts.filter(|(range, _)| !range.is_empty()) {
            self.insert_or_report(range, name)?;
        }
        Ok(())
    }

    /// Adds what must be there before devices claim their windows: memory, ACPI tables, all below 1 MiB (Linux:
    /// `e820__reserve_resources`).
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_firmware_map(&mut self, map: &Map<'_>) -> Result<(), Error> {
        for entry in map.entries().iter().filter(|e| early(e)) {
            match self.insert(entry.range, entry.kind.iomem_name()) {
                Err(Error::Full) => return Err(Error::Full),
                Ok(_) | Err(Error::Outside | Error::Conflict(_)) => {}
            }
        }
        Ok(())
    }

    /// Adds the rest of the map, around devices' windows where it reaches into them, and the gaps between the end of
    /// memory and the next round address, where devices must not be placed (Linux: `e820__reserve_resources_late`).
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_firmware_map_late(&mut self, map: &Map<'_>) -> Result<(), Error> {
        // What was refused in the first round is an entry of this one.
        for entry in map.entries() {
            let name = Name::Text(entry.kind.iomem_name());
            if !(early(entry) && self.has(entry.range, name)) {
                self.done_or_report(entry.range, name, |tree| tree.insert_expanded(entry.range, name))?;
            }
        }
        for range in map.usable() {
            let end = align_up(range.end(), ram_alignment(range.end()));
            let all = self.range(Id::ROOT).end();
            let gap = end.and_then(|end| PhysRange::new(range.end(), end.min(all)));
            if let Some(gap) = gap.filter(|g| !g.is_empty()) {
                self.reserve_with_split(gap, "RAM buffer")?;
            }
        }
        Ok(())
    }

    /// Whether there is a resource of this range and name.
    fn has(&self, range: PhysRange, name: Name) -> bool {
        let mut at = Id::ROOT;
        while let Some(inner) = self.children(at).find(|&c| self.holds(c, range)) {
            if self.range(inner) == range && self.name(inner) == name {
                return true;
            }
            at = inner;
        }
        false
    }

    /// Inserts; a resource that finds no place is reported and left out.
    pub(super) fn insert_or_report(
        &mut self,
        range: PhysRange,
        name: impl Into<Name>,
    ) -> Result<Option<Id>, Error> {
        let name = name.into();
        self.done_or_report(range, name, |tree| tree.insert(range, name))
    }

    fn done_or_report(
        &mut self,
        range: PhysRange,
        name: Name,
        add: impl FnOnce(&mut Self) -> Result<Id, Error>,
    ) -> Result<Option<Id>, Error> {
        match add(self) {
            Ok(id) => return Ok(Some(id)),
            Err(Error::Full) => return Err(Error::Full),
            Err(Error::Outside) => log::warn!("resource: {name} {range} is out of reach"),
            Err(Error::Conflict(other)) => {
                let (other, at) = (self.name(other), self.range(other));
                log::warn!("resource: {name} {range} conflicts with {other} {at}");
            }
        }
        Ok(None)
    }
}

/// Whether an entry is added before devices' windows (Linux: `do_mark_busy`).
fn early(entry: &Entry) -> bool {
    let late = [Kind::RESERVED, Kind::SOFT_RESERVED, Kind::PRAM, Kind::PMEM];
    entry.range.start() < MIB || !late.contains(&entry.kind)
}

/// To which round address the end of memory is rounded up: the higher, the coarser.
fn ram_alignment(end: u64) -> u64 {
    match end / MIB {
        0 => 64 << 10,
        1..16 => MIB,
        _ => 64 * MIB,
    }
}
