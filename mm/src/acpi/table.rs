//! A table's header, and the entries of the tables that are lists.
//!
//! # Invariants
//! - I1: the bytes of a [`Table`] are as many as its header says, and their sum is 0.

use core::fmt;

/// Size of the header that all tables begin with.
const HEADER_BYTES: usize = 36;

/// Why a table, or an entry of it, cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableError {
    /// Shorter than its header, its fixed part or the length it gives.
    Truncated,
    /// Not the table that was asked for.
    Signature,
    /// Its bytes do not add up to 0.
    Checksum,
    /// A value makes no sense.
    Value,
    /// An entry says that it has no length; what follows cannot be found.
    ZeroLength,
    /// An entry reaches past the end of the table.
    Cut,
    /// An entry of this kind has a length that its kind cannot have.
    EntryLength {
        /// The kind.
        kind: u8,
        /// The length it has.
        length: u8,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("Truncated table"),
            Self::Signature => f.write_str("Unexpected signature"),
            Self::Checksum => f.write_str("Incorrect checksum"),
            Self::Value => f.write_str("Invalid value"),
            Self::ZeroLength => f.write_str("Invalid zero length"),
            Self::Cut => f.write_str("Entry past the end of the table"),
            Self::EntryLength { length, .. } => write!(f, "Unexpected header length: {length}"),
        }
    }
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

    /// What follows the header.
    pub fn body(&self) -> &'t [u8] {
        &self.bytes[HEADER_BYTES..]
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
    /// Checks that the entry has the size of its kind, or is longer.
    pub(crate) fn at_least(&self, size_bytes: usize) -> Result<(), TableError> {
        if self.bytes.len() >= size_bytes { Ok(()) } else { Err(self.wrong()) }
    }

    /// Checks that the entry has exactly the size of its kind.
    pub(crate) fn exactly(&self, size_bytes: usize) -> Result<(), TableError> {
        if self.bytes.len() == size_bytes { Ok(()) } else { Err(self.wrong()) }
    }

    fn wrong(&self) -> TableError {
        TableError::EntryLength { kind: self.kind, length: self.bytes.len() as u8 }
    }

    pub(crate) fn u8(&self, at: usize) -> Result<u8, TableError> {
        self.bytes.get(at).copied().ok_or(self.wrong())
    }

    pub(crate) fn u32(&self, at: usize) -> Result<u32, TableError> {
        u32_at(self.bytes, at).ok_or(self.wrong())
    }

    pub(crate) fn u64(&self, at: usize) -> Result<u64, TableError> {
        u64_at(self.bytes, at).ok_or(self.wrong())
    }
}

/// The entries of a table in turn; ends after one whose length is wrong.
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
        let length = self.rest.get(1).map(|&n| usize::from(n));
        let error = match length.and_then(|n| self.rest.split_at_checked(n)) {
            Some((bytes, rest)) if bytes.len() >= 2 => {
                self.rest = rest;
                return Some(Ok(Entry { kind, bytes }));
            }
            _ if length == Some(0) => TableError::ZeroLength,
            Some((bytes, _)) => TableError::EntryLength { kind, length: bytes.len() as u8 },
            None => TableError::Cut,
        };
        self.rest = &[];
        Some(Err(error))
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}
