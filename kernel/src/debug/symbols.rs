//! Function names by address, from the table that the boot loader loads beside the kernel (boot/src/symbols.rs).
//!
//! ```text
//! "STRATSYM"  version u32 = 1  count u32  strings_len u32
//! count x { address u64, size u32, name_offset u32 }     by address
//! strings: NUL-terminated
//! ```
//! All little-endian; nothing is aligned.
//!
//! # Invariants
//! - I1: `TABLE` and `LENGTH` describe a table that [`check`] accepted, mapped for good; or `LENGTH` is 0.
//! - I2: only the boot CPU changes them, before other CPUs run, with the new place mapped before.

use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

const MAGIC: &[u8; 8] = b"STRATSYM";
const VERSION: u32 = 1;
const HEADER: usize = 20;
const ENTRY: usize = 16;

static TABLE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// What is wrong with a symbol table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Too short for what its header says, or not a table.
    Header,
    /// Of a version that this kernel does not know.
    Version,
    /// Entries are not sorted, or a name lies outside.
    Entry,
}

/// Uses the table `bytes` from now on. Without one, addresses are printed bare. Cost: a pass over the table.
pub fn init(bytes: &'static [u8]) -> Result<(), Error> {
    check(bytes)?;
    LENGTH.store(0, Relaxed);
    TABLE.store(bytes.as_ptr().cast_mut(), Relaxed);
    LENGTH.store(bytes.len(), Relaxed);
    Ok(())
}

/// The table has moved to `table`: for when the boot loader's mappings go.
///
/// # Safety
/// The same bytes are mapped at `table`, for good.
pub unsafe fn relocate(table: *const u8) {
    TABLE.store(table.cast_mut(), Relaxed);
}

/// The table is there no longer: addresses are printed bare.
pub fn forget() {
    LENGTH.store(0, Relaxed);
}

/// The table in use, empty if there is none.
pub fn table() -> &'static [u8] {
    let length = LENGTH.load(Relaxed);
    if length == 0 {
        return &[];
    }
    // SAFETY: I1, I2.
    unsafe { core::slice::from_raw_parts(TABLE.load(Relaxed), length) }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk::<4>().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk::<8>().copied()?))
}

fn check(bytes: &[u8]) -> Result<(), Error> {
    if !bytes.starts_with(MAGIC) {
        return Err(Error::Header);
    }
    if u32_at(bytes, 8) != Some(VERSION) {
        return Err(Error::Version);
    }
    let table = Table::new(bytes).ok_or(Error::Header)?;
    let mut previous = 0;
    for i in 0..table.count {
        let entry = table.entry(i).ok_or(Error::Entry)?;
        if entry.address < previous || table.name(&entry).is_none() {
            return Err(Error::Entry);
        }
        previous = entry.address;
    }
    Ok(())
}

struct Table<'a> {
    entries: &'a [u8],
    strings: &'a [u8],
    count: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    size: u32,
    name: u32,
}

impl<'a> Table<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let count = u32_at(bytes, 12)? as usize;
        let strings_len = u32_at(bytes, 16)? as usize;
        let strings_at = HEADER + count * ENTRY;
        let strings = bytes.get(strings_at..)?.get(..strings_len)?;
        Some(Self { entries: &bytes[HEADER..strings_at], strings, count })
    }

    fn entry(&self, i: usize) -> Option<Entry> {
        let at = i * ENTRY;
        Some(Entry {
            address: u64_at(self.entries, at)?,
            size: u32_at(self.entries, at + 8)?,
            name: u32_at(self.entries, at + 12)?,
        })
    }

    fn name(&self, entry: &Entry) -> Option<&'a str> {
        let rest = self.strings.get(entry.name as usize..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        core::str::from_utf8(&rest[..end]).ok()
    }

    /// The last entry at or below `address` (binary search).
    fn find(&self, address: u64) -> Option<Entry> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.address <= address { low = middle + 1 } else { high = middle }
        }
        self.entry(low.checked_sub(1)?)
    }
}

/// A function by name.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    /// The demangled name.
    pub name: &'static str,
    /// How far into the function the address is.
    pub offset: u64,
    /// The function's size in bytes; 0 if unknown.
    pub size: u32,
}

/// The function that `address` is in.
pub fn lookup(address: u64) -> Option<Symbol> {
    let table = Table::new(table())?;
    let entry = table.find(address)?;
    let offset = address - entry.address;
    if entry.size != 0 && offset >= u64::from(entry.size) {
        return None;
    }
    Some(Symbol { name: table.name(&entry)?, offset, size: entry.size })
}

/// Displays a code address as `name+0x12/0x40`, or bare.
#[derive(Clone, Copy, Debug)]
pub struct Symbolic(pub u64);

impl fmt::Display for Symbolic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, lookup(self.0))
    }
}

/// As [`Symbolic`], for a return address: belongs to the function of the call before it.
#[derive(Clone, Copy, Debug)]
pub struct Return(pub u64);

impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol =
            lookup(self.0.wrapping_sub(1)).map(|symbol| Symbol { offset: symbol.offset + 1, ..symbol });
        write(f, self.0, symbol)
    }
}

fn write(f: &mut fmt::Formatter<'_>, address: u64, symbol: Option<Symbol>) -> fmt::Result {
    match symbol {
        Some(Symbol { name, offset, size }) => write!(f, "{name}+{offset:#x}/{size:#x}"),
        None => write!(f, "{address:#018x}"),
    }
}
