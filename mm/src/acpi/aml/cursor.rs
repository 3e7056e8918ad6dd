//! Taking AML's elements off the front of bytes.

use super::path::{Path, Seg};
use super::value::Value;

/// The bytes that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor<'t> {
    rest: &'t [u8],
}

const ROOT: u8 = b'\\';
const PARENT: u8 = b'^';
const NO_NAME: u8 = 0x00;
const TWO_SEGS: u8 = 0x2e;
const MANY_SEGS: u8 = 0x2f;

impl<'t> Cursor<'t> {
    pub(super) const fn new(rest: &'t [u8]) -> Self {
        Self { rest }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) const fn rest(&self) -> &'t [u8] {
        self.rest
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn take(&mut self, nr_bytes: usize) -> Option<&'t [u8]> {
        let (taken, rest) = self.rest.split_at_checked(nr_bytes)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn skip(&mut self, nr_bytes: usize) -> Option<()> {
        self.take(nr_bytes).map(drop)
    }

    /// A little-endian number.
    pub(super) fn number(&mut self, nr_bytes: usize) -> Option<u64> {
        let bytes = self.take(nr_bytes)?;
        Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// The bytes up to a 0, which is taken too.
    pub(super) fn text(&mut self) -> Option<&'t [u8]> {
        let length = self.rest.iter().position(|&byte| byte == 0)?;
        let text = self.take(length)?;
        self.skip(1)?;
        Some(text)
    }

    /// The content of a package, whose length comes first and counts its own bytes.
    pub(super) fn package(&mut self) -> Option<Cursor<'t>> {
        let lead = self.byte()?;
        let following = usize::from(lead >> 6);
        let length = match following {
            0 => usize::from(lead & 0x3f),
            _ => usize::from(lead & 0x0f) | (self.number(following)? as usize) << 4,
        };
        self.take(length.checked_sub(1 + following)?).map(Self::new)
    }

    /// A name, seen from `scope`.
    pub(super) fn name(&mut self, scope: &Path) -> Option<Path> {
        let mut path = *scope;
        match self.peek()? {
            ROOT => {
                self.skip(1)?;
                path = Path::ROOT;
            }
            PARENT => {
                while self.peek() == Some(PARENT) {
                    self.skip(1)?;
                    path = path.parent()?;
                }
            }
            _ => {}
        }
        let nr_segs = match self.peek()? {
            NO_NAME => {
                self.skip(1)?;
                0
            }
            TWO_SEGS => {
                self.skip(1)?;
                2
            }
            MANY_SEGS => {
                self.skip(1)?;
                self.byte()?
            }
            _ => 1,
        };
        for _ in 0..nr_segs {
            let seg = Seg::new(*self.take(4)?.first_chunk()?)?;
            path = path.join(seg)?;
        }
        Some(path)
    }

    /// Skips names.
    pub(super) fn names(&mut self, nr: usize) -> Option<()> {
        (0..nr).try_for_each(|_| {
            // Deeper than a path can be is no reason to lose what follows.
            self.skip_name()
        })
    }

    fn skip_name(&mut self) -> Option<()> {
        while matches!(self.peek()?, ROOT | PARENT) {
            self.skip(1)?;
        }
        match self.byte()? {
            NO_NAME => Some(()),
            TWO_SEGS => self.skip(8),
            MANY_SEGS => {
                let nr = self.byte()?;
                self.skip(4 * usize::from(nr))
            }
            lead if Seg::may_start_with(lead) => self.skip(3),
            _ => None,
        }
    }

    /// Skips values and names of values.
    pub(super) fn values(&mut self, nr: usize) -> Option<()> {
        (0..nr).try_for_each(|_| self.value().map(drop))
    }

    /// A number that is given as such; nothing is taken when there is none.
    fn plain_number(&mut self) -> Option<u64> {
        let mut after = *self;
        let number = match after.byte()? {
            0x00 => 0,
            0x01 => 1,
            0xff => u64::MAX,
            0x0a => after.number(1)?,
            0x0b => after.number(2)?,
            0x0c => after.number(4)?,
            0x0e => after.number(8)?,
            _ => return None,
        };
        *self = after;
        Some(number)
    }

    /// A value that is all there, or the name of one.
    pub(super) fn value(&mut self) -> Option<Value<'t>> {
        const STRING: u8 = 0x0d;
        const BUFFER: u8 = 0x11;
        const PACKAGE: u8 = 0x12;
        const LONG_PACKAGE: u8 = 0x13;
        const EXTENDED: u8 = 0x5b;
        const REVISION: u8 = 0x30;
        let before = *self;
        if let Some(number) = self.plain_number() {
            return Some(Value::Number(number));
        }
        Some(match self.byte()? {
            STRING => Value::Text(self.text()?),
            BUFFER => {
                let mut content = self.package()?;
                // Its size: bytes that are not given are 0.
                if content.plain_number().is_none() {
                    return Some(Value::Other);
                }
                Value::Bytes(content.rest())
            }
            PACKAGE => {
                let mut content = self.package()?;
                content.skip(1)?;
                Value::package(content.rest())
            }
            LONG_PACKAGE => {
                let mut content = self.package()?;
                match content.plain_number() {
                    Some(_) => Value::package(content.rest()),
                    None => Value::Other,
                }
            }
            EXTENDED if self.byte()? == REVISION => Value::Number(2),
            _ => {
                *self = before;
                self.skip_name()?;
                Value::Other
            }
        })
    }
}
