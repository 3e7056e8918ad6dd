//! Reading ACPI tables out of bytes: the header, and the entries of the tables that are lists.
//!
//! # Invariants
//! - I1: the bytes of a [`Table`] are as many as its header says, and their sum is 0.

/// Size of the header that all tables begin with.
const HEADER_BYTES: usize = 36;

/// Why a table is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableError {
    /// Shorter than its header, its fixed part or the length it gives.
    Truncated,
    /// Not the table that was asked for.
    Signature,
    /// Its bytes do not add up to 0.
    Checksum,
    /// An entry of this kind is shorter than its kind or reaches past the end of the table.
    Entry(u8),
    /// A value makes no sense.
    Value,
}

/// A table whose header, length and checksum are good.
#[derive(Clone, Copy, Debug)]
pub struct Table<'t> {
    bytes: &'t [u8],
}

impl<'t> Table<'t> {
    /// Checks the table at the start of `bytes`, which may go on after it.
    ///
    /// # Errors
    /// [`TableError`]: `Truncated`, `Signature` or `Checksum`.
    pub fn new(bytes: &'t [u8], signature: [u8; 4]) -> Result<Self, TableError> {
        let header = bytes.get(..HEADER_BYTES).ok_or(TableError::Truncated)?;
        if header[..4] != signature {
            return Err(TableError::Signature);
        }
        let length = u32_at(header, 4).ok_or(TableError::Truncated)? as usize;
        let bytes = bytes.get(..length).filter(|b| b.len() >= HEADER_BYTES).ok_or(TableError::Truncated)?;
        match bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) {
            0 => Ok(Self { bytes }),
            _ => Err(TableError::Checksum),
        }
    }

    /// The table's revision.
    pub fn revision(&self) -> u8 {
        self.bytes[8]
    }

    /// All of its bytes, the header included.
    pub fn bytes(&self) -> &'t [u8] {
        self.bytes
    }

    /// The entries that start `fixed_bytes` into the table, each led by its kind and length.
    pub fn entries(&self, fixed_bytes: usize) -> Entries<'t> {
        match self.bytes.get(fixed_bytes..) {
            Some(rest) => Entries { rest, too_short: false },
            None => Entries { rest: &[], too_short: true },
        }
    }
}

/// An entry of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'t> {
    /// What it is; each table has its own numbers.
    pub kind: u8,
    /// All of its bytes, kind and length included.
    pub bytes: &'t [u8],
}

impl Entry<'_> {
    /// Whether the entry has the size of its kind.
    pub(super) fn has(&self, size_bytes: usize) -> Result<(), TableError> {
        if self.bytes.len() >= size_bytes { Ok(()) } else { Err(TableError::Entry(self.kind)) }
    }

    pub(super) fn u8(&self, at: usize) -> Result<u8, TableError> {
        self.bytes.get(at).copied().ok_or(TableError::Entry(self.kind))
    }

    pub(super) fn u32(&self, at: usize) -> Result<u32, TableError> {
        u32_at(self.bytes, at).ok_or(TableError::Entry(self.kind))
    }

    pub(super) fn u64(&self, at: usize) -> Result<u64, TableError> {
        u64_at(self.bytes, at).ok_or(TableError::Entry(self.kind))
    }
}

/// The entries of a table in turn; ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'t> {
    rest: &'t [u8],
    too_short: bool,
}

impl<'t> Iterator for Entries<'t> {
    type Item = Result<Entry<'t>, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if core::mem::take(&mut self.too_short) {
            return Some(Err(TableError::Truncated));
        }
        let &kind = self.rest.first()?;
        let length = self.rest.get(1).map_or(0, |&n| usize::from(n));
        match self.rest.split_at_checked(length) {
            Some((bytes, rest)) if length >= 2 => {
                self.rest = rest;
                Some(Ok(Entry { kind, bytes }))
            }
            _ => {
                self.rest = &[];
                Some(Err(TableError::Entry(kind)))
            }
        }
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}
