//! `mem=` and `memmap=`: the changes of the memory map that the command line asks for.
//!
//! ```text
//! mem=nn  memmap=nn       usable memory ends at nn
//! memmap=exactmap         the map so far is forgotten
//! memmap=nn@ss            nn bytes from ss are usable
//! memmap=nn#ss            ... hold ACPI tables
//! memmap=nn$ss            ... are reserved
//! memmap=nn!ss            ... are persistent (type 12)
//! memmap=nn%ss-old+new    ... of kind old become kind new; without old they are added, without new taken away
//! ```
//!
//! `memmap=` takes a list with commas; kinds are type numbers; sizes and addresses have suffixes (K, M, G, ...).
//!
//! # Not here
//! What a change does to a map (see `user.rs`).

use super::Kind;
use crate::cmdline::{Param, memparse, same_name, simple_number};

/// A change of the map. Ranges are as the user wrote them: they may be empty or wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Usable memory ends at this address.
    Limit(u64),
    /// The map so far is forgotten; what follows is all there is.
    Exact,
    /// A new entry.
    Add {
        /// First byte.
        start: u64,
        /// Size in bytes.
        size_bytes: u64,
        /// What it is.
        kind: Kind,
    },
    /// What is of kind `old` becomes another kind.
    Update {
        /// First byte.
        start: u64,
        /// Size in bytes.
        size_bytes: u64,
        /// What changes.
        old: Kind,
        /// What it becomes; not `old`.
        new: Kind,
    },
    /// What is of kind `old`, of any kind for `None`, goes.
    Remove {
        /// First byte.
        start: u64,
        /// Size in bytes.
        size_bytes: u64,
        /// What goes.
        old: Option<Kind>,
    },
}

/// Why a part of an option changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// It does not have the form, or a number does not fit.
    Malformed,
    /// `mem=nopentium`, which only means something on 32-bit machines.
    NoPentium,
}

/// The changes that an option asks for, in the order in which it names them; none if it is not about the map (Linux:
/// `parse_memopt`, `parse_memmap_opt`). Parts with anything left over are malformed as a whole.
pub fn changes<'a>(param: &Param<'a>) -> Option<impl Iterator<Item = Result<Change, Invalid>> + use<'a>> {
    type Parse = fn(&str) -> Result<Change, Invalid>;
    // The value of `mem=` is no list: with a comma it is malformed.
    let (parse, max_parts): (Parse, _) = match param.name {
        name if same_name(name, "mem") => (mem, 1),
        name if same_name(name, "memmap") => (memmap, usize::MAX),
        _ => return None,
    };
    Some(param.value.unwrap_or("").splitn(max_parts, ',').map(parse))
}

fn mem(text: &str) -> Result<Change, Invalid> {
    if text == "nopentium" {
        return Err(Invalid::NoPentium);
    }
    // Nothing left is not what anybody means by it.
    let limit = memparse(text).filter(|&(size, rest)| size > 0 && rest.is_empty());
    limit.map(|(size, _)| Change::Limit(size)).ok_or(Invalid::Malformed)
}

fn memmap(text: &str) -> Result<Change, Invalid> {
    match text {
        "exactmap" => Ok(Change::Exact),
        _ => range(text).ok_or(Invalid::Malformed),
    }
}

fn range(text: &str) -> Option<Change> {
    let (size_bytes, rest) = memparse(text)?;
    let mut rest = rest.chars();
    let Some(sign) = rest.next() else { return Some(Change::Limit(size_bytes)) };
    let (start, rest) = memparse(rest.as_str())?;
    let kind = match sign {
        '@' => Kind::RAM,
        '#' => Kind::ACPI,
        '$' => Kind::RESERVED,
        '!' => Kind::PRAM,
        '%' => return conversion(start, size_bytes, rest),
        _ => return None,
    };
    rest.is_empty().then_some(Change::Add { start, size_bytes, kind })
}

/// `-old+new`, both optional; 0 is as if it were not there.
fn conversion(start: u64, size_bytes: u64, text: &str) -> Option<Change> {
    let (old, rest) = kind_behind('-', text)?;
    let (new, rest) = kind_behind('+', rest)?;
    let change = match (old, new) {
        (Some(old), Some(new)) if old == new => return None,
        (Some(old), Some(new)) => Change::Update { start, size_bytes, old, new },
        (None, Some(kind)) => Change::Add { start, size_bytes, kind },
        (old, None) => Change::Remove { start, size_bytes, old },
    };
    rest.is_empty().then_some(change)
}

fn kind_behind(sign: char, text: &str) -> Option<(Option<Kind>, &str)> {
    let Some(number) = text.strip_prefix(sign) else { return Some((None, text)) };
    let (number, rest) = simple_number(number)?;
    let number = u32::try_from(number).ok()?;
    Some(((number != 0).then(|| Kind::from_raw(number)), rest))
}

#[cfg(test)]
mod tests;
