//! Values that are in the table as they are.

use super::cursor::Cursor;

/// A value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'t> {
    /// An integer.
    Number(u64),
    /// A string, without the 0 at its end.
    Text(&'t [u8]),
    /// A buffer: the bytes that the table gives of it.
    Bytes(&'t [u8]),
    /// A package of values.
    Package(Values<'t>),
    /// Something that another object has, or that must be computed.
    Other,
}

impl<'t> Value<'t> {
    pub(super) const fn package(content: &'t [u8]) -> Self {
        Self::Package(Values { cursor: Cursor::new(content) })
    }

    /// The value itself, or those in a package.
    pub fn each(self) -> impl Iterator<Item = Value<'t>> {
        let (one, many) = match self {
            Self::Package(values) => (None, Some(values)),
            value => (Some(value), None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// The values of a package in turn; ends at one that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Values<'t> {
    cursor: Cursor<'t>,
}

impl<'t> Iterator for Values<'t> {
    type Item = Value<'t>;

    fn next(&mut self) -> Option<Value<'t>> {
        let value = self.cursor.value();
        if value.is_none() {
            self.cursor = Cursor::new(&[]);
        }
        value
    }
}
