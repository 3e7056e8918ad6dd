//! ROMs of the old PC: code of the firmware, of the graphics adapter and of other cards, below 1 MiB.
//!
//! ```text
//! c0000      video, on a multiple of 2 KiB: 55 aa, length in 512 bytes, bytes that add up to 0
//!   ...      adapters, likewise
//! e0000      an extension of the system's, all or nothing; else more adapters
//! f0000      the system's, always
//! ```

use super::{Error, Id, Tree};
use crate::addr::PhysRange;

/// Where ROMs are: these bytes are what [`Tree::add_roms`] reads.
pub const ROMS: PhysRange = range(VIDEO, END);

const VIDEO: u64 = 0xc_0000;
/// Where the video ROM starts at the latest, and ends when its length cannot be trusted.
const VIDEO_END: u64 = 0xc_8000;
const EXTENSION: u64 = 0xe_0000;
const SYSTEM: u64 = 0xf_0000;
const END: u64 = 0x10_0000;
const STEP: u64 = 2048;
/// Linux shows no more.
const MAX_ADAPTERS: usize = 6;

const fn range(start: u64, end: u64) -> PhysRange {
    match PhysRange::new(start, end) {
        Some(range) => range,
        None => unreachable!(),
    }
}

/// The bytes at [`ROMS`].
#[derive(Clone, Copy, Debug)]
pub struct Rom<'m>(&'m [u8]);

impl<'m> Rom<'m> {
    /// Bytes from the start of [`ROMS`] on; what is missing is no ROM.
    pub const fn new(bytes: &'m [u8]) -> Self {
        Self(bytes)
    }

    fn bytes(self, range: PhysRange) -> Option<&'m [u8]> {
        let start = usize::try_from(range.start().checked_sub(VIDEO)?).ok()?;
        self.0.get(start..)?.get(..usize::try_from(range.len_bytes()).ok()?)
    }

    fn has_signature(self, start: u64) -> bool {
        PhysRange::from_size(start, 2).and_then(|at| self.bytes(at)) == Some(&[0x55, 0xaa])
    }

    fn adds_up(self, range: PhysRange) -> bool {
        self.bytes(range).is_some_and(|bytes| bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) == 0)
    }

    /// What a ROM with a signature says it takes, if its bytes add up.
    fn extent(self, start: u64) -> Option<PhysRange> {
        let length = *self.bytes(PhysRange::from_size(start + 2, 1)?)?.first()?;
        let range = PhysRange::from_size(start, u64::from(length) * 512)?;
        (!range.is_empty() && self.adds_up(range)).then_some(range)
    }

    fn video(self) -> Option<PhysRange> {
        let start = (VIDEO..VIDEO_END).step_by(STEP as usize).find(|&start| self.has_signature(start))?;
        self.extent(start).or_else(|| PhysRange::new(start, VIDEO_END))
    }

    fn extension(self) -> Option<PhysRange> {
        let all = range(EXTENSION, SYSTEM);
        (self.has_signature(EXTENSION) && self.adds_up(all)).then_some(all)
    }

    /// The next adapter's from `from` on, below `end`.
    fn adapter(self, from: u64, end: u64) -> Option<PhysRange> {
        let from = from.next_multiple_of(STEP);
        let starts = (from..end).step_by(STEP as usize).filter(|&start| self.has_signature(start));
        starts.filter_map(|start| self.extent(start)).find(|rom| rom.end() <= end)
    }
}

impl Tree<'_> {
    /// How many slots [`add_roms`](Self::add_roms) needs at most.
    pub const MAX_ROMS: usize = MAX_ADAPTERS + 3;

    /// Adds the ROMs (Linux: `probe_roms`). One whose place is taken is left out.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_roms(&mut self, rom: Rom<'_>) -> Result<(), Error> {
        let video = rom.video();
        self.add_rom(video, "Video ROM")?;
        self.add_rom(Some(range(SYSTEM, END)), "System ROM")?;
        let extension = rom.extension();
        self.add_rom(extension, "Extension ROM")?;
        let end = extension.map_or(SYSTEM, PhysRange::start);
        let mut from = video.map_or(VIDEO_END, PhysRange::end);
        for _ in 0..MAX_ADAPTERS {
            let Some(adapter) = rom.adapter(from, end) else { break };
            self.add_rom(Some(adapter), "Adapter ROM")?;
            from = adapter.end();
        }
        Ok(())
    }

    fn add_rom(&mut self, range: Option<PhysRange>, name: &'static str) -> Result<(), Error> {
        match range.map(|range| self.request(Id::ROOT, range, name)) {
            Some(Err(Error::Full)) => Err(Error::Full),
            _ => Ok(()),
        }
    }
}
