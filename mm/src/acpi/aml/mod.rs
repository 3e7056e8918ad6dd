//! The static part of AML: which objects a definition block names, without running anything.
//!
//! ```text
//! block ── Scope(\_SB) ── Device(PCI0) ── Name(_HID, 0x030ad041)      visited: Device, Name, Method
//!              │              └─ Method(_PRT) { ... }                 not entered
//!              └─ If (...) { ... }                                    not entered: nobody knows the condition
//! ```
//!
//! A term that only running could tell the length of ends the package that it is in; what comes after that package is
//! visited again, for packages give their length. [`Outcome`] says when that happened.
//!
//! # Invariants
//! - I1: each byte is looked at a bounded number of times: a package's content either is walked or is a value.
//! - I2: packages nest at most [`MAX_DEPTH`] deep in each other; deeper ones are skipped.

mod cursor;
mod path;
mod value;

pub use path::{Path, Seg};
pub use value::{Value, Values};

use cursor::Cursor;

/// How deep scopes and devices nest at most. Real machines need some 6.
pub const MAX_DEPTH: usize = 16;

/// What a definition block names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'t> {
    /// A device.
    Device,
    /// A name for a value that is in the table.
    Name(Value<'t>),
    /// A name for a value that a method computes.
    Method,
}

/// Whether all of a definition block was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was, but for methods and conditions.
    Whole,
    /// Part of it was skipped.
    Partial,
}

/// Calls `visit` with each object that the block's `body` (what follows the table's header) names, in its order; a scope
/// that is opened twice gives its path twice.
pub fn walk<'t>(body: &'t [u8], visit: &mut dyn FnMut(&Path, Item<'t>)) -> Outcome {
    let mut walker = Walker { visit, outcome: Outcome::Whole };
    walker.terms(Cursor::new(body), &Path::ROOT, 0);
    walker.outcome
}

struct Walker<'v, 't> {
    visit: &'v mut dyn FnMut(&Path, Item<'t>),
    outcome: Outcome,
}

mod op {
    pub(super) const ALIAS: u8 = 0x06;
    pub(super) const NAME: u8 = 0x08;
    pub(super) const SCOPE: u8 = 0x10;
    pub(super) const METHOD: u8 = 0x14;
    pub(super) const EXTERNAL: u8 = 0x15;
    pub(super) const EXTENDED: u8 = 0x5b;
    pub(super) const CREATE_DWORD_FIELD: u8 = 0x8a;
    pub(super) const CREATE_BIT_FIELD: u8 = 0x8d;
    pub(super) const CREATE_QWORD_FIELD: u8 = 0x8f;
    pub(super) const IF: u8 = 0xa0;
    pub(super) const WHILE: u8 = 0xa2;
    pub(super) const NOOP: u8 = 0xa3;
    /// After [`EXTENDED`].
    pub(super) mod extended {
        pub(in super::super) const MUTEX: u8 = 0x01;
        pub(in super::super) const EVENT: u8 = 0x02;
        pub(in super::super) const CREATE_FIELD: u8 = 0x13;
        pub(in super::super) const REGION: u8 = 0x80;
        pub(in super::super) const FIELD: u8 = 0x81;
        pub(in super::super) const DEVICE: u8 = 0x82;
        pub(in super::super) const PROCESSOR: u8 = 0x83;
        pub(in super::super) const POWER_RESOURCE: u8 = 0x84;
        pub(in super::super) const THERMAL_ZONE: u8 = 0x85;
        pub(in super::super) const INDEX_FIELD: u8 = 0x86;
        pub(in super::super) const BANK_FIELD: u8 = 0x87;
        pub(in super::super) const DATA_REGION: u8 = 0x88;
    }
}

impl<'t> Walker<'_, 't> {
    fn terms(&mut self, mut cursor: Cursor<'t>, scope: &Path, depth: usize) {
        if depth > MAX_DEPTH {
            self.outcome = Outcome::Partial;
            return;
        }
        while !cursor.is_empty() {
            if self.term(&mut cursor, scope, depth).is_none() {
                self.outcome = Outcome::Partial;
                return;
            }
        }
    }

    /// `None` when nobody knows where the next term starts.
    fn term(&mut self, cursor: &mut Cursor<'t>, scope: &Path, depth: usize) -> Option<()> {
        match cursor.byte()? {
            op::NAME => {
                let path = cursor.name(scope)?;
                let value = cursor.value()?;
                (self.visit)(&path, Item::Name(value));
            }
            op::METHOD => {
                let path = cursor.package()?.name(scope);
                path.inspect(|path| (self.visit)(path, Item::Method));
            }
            op::SCOPE => {
                let content = cursor.package()?;
                self.inner(content, scope, depth, None, 0);
            }
            op::ALIAS => cursor.names(2)?,
            op::EXTERNAL => {
                cursor.names(1)?;
                cursor.skip(2)?;
            }
            op::CREATE_DWORD_FIELD..=op::CREATE_BIT_FIELD | op::CREATE_QWORD_FIELD => {
                cursor.values(2)?;
                cursor.names(1)?;
            }
            op::IF..=op::WHILE => drop(cursor.package()?),
            op::NOOP => {}
            op::EXTENDED => self.extended_term(cursor, scope, depth)?,
            _ => return None,
        }
        Some(())
    }

    fn extended_term(&mut self, cursor: &mut Cursor<'t>, scope: &Path, depth: usize) -> Option<()> {
        use op::extended;
        match cursor.byte()? {
            extended::DEVICE => {
                let content = cursor.package()?;
                self.inner(content, scope, depth, Some(Item::Device), 0);
            }
            extended::THERMAL_ZONE => {
                let content = cursor.package()?;
                self.inner(content, scope, depth, None, 0);
            }
            // Between name and content: a level and an order; a number and a register block.
            extended::POWER_RESOURCE => {
                let content = cursor.package()?;
                self.inner(content, scope, depth, None, 3);
            }
            extended::PROCESSOR => {
                let content = cursor.package()?;
                self.inner(content, scope, depth, None, 6);
            }
            extended::FIELD | extended::INDEX_FIELD | extended::BANK_FIELD => drop(cursor.package()?),
            extended::REGION => {
                cursor.names(1)?;
                cursor.skip(1)?;
                cursor.values(2)?;
            }
            extended::DATA_REGION => {
                cursor.names(1)?;
                cursor.values(3)?;
            }
            extended::CREATE_FIELD => {
                cursor.values(3)?;
                cursor.names(1)?;
            }
            extended::MUTEX => {
                cursor.names(1)?;
                cursor.skip(1)?;
            }
            extended::EVENT => cursor.names(1)?,
            _ => return None,
        }
        Some(())
    }

    /// Walks what is in a package that starts with its name and `fixed_bytes` more.
    fn inner(
        &mut self,
        mut content: Cursor<'t>,
        scope: &Path,
        depth: usize,
        item: Option<Item<'t>>,
        fixed_bytes: usize,
    ) {
        let Some(path) = content.name(scope) else {
            self.outcome = Outcome::Partial;
            return;
        };
        if let Some(item) = item {
            (self.visit)(&path, item);
        }
        if content.skip(fixed_bytes).is_some() {
            self.terms(content, &path, depth + 1);
        }
    }
}
