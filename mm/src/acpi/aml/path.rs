//! Names of objects: segments of four characters, from the root.

use core::fmt::{self, Write};

use super::MAX_DEPTH;

/// A segment, such as `_SB_`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Seg([u8; 4]);

impl Seg {
    /// Letters, digits and `_`, not a digit first; `None` for anything else.
    pub const fn new(bytes: [u8; 4]) -> Option<Self> {
        let mut i = 0;
        while i < bytes.len() {
            if !(Self::may_start_with(bytes[i]) || i > 0 && bytes[i].is_ascii_digit()) {
                return None;
            }
            i += 1;
        }
        Some(Self(bytes))
    }

    pub(super) const fn may_start_with(byte: u8) -> bool {
        matches!(byte, b'A'..=b'Z' | b'_')
    }

    /// Its characters.
    pub const fn bytes(&self) -> &[u8; 4] {
        &self.0
    }
}

/// A name from the root on, up to [`MAX_DEPTH`] segments deep. Sorts by its segments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Zeroes after the last one, so that comparing works.
    segs: [Seg; MAX_DEPTH],
    nr: u8,
}

impl Path {
    /// The root, `\`.
    pub const ROOT: Self = Self { segs: [Seg([0; 4]); MAX_DEPTH], nr: 0 };

    /// Its segments.
    pub fn segs(&self) -> &[Seg] {
        &self.segs[..usize::from(self.nr)]
    }

    /// The last segment; the root has none.
    pub fn last(&self) -> Option<Seg> {
        self.segs().last().copied()
    }

    /// The path without the last segment; the root has none.
    pub fn parent(&self) -> Option<Self> {
        let mut path = *self;
        path.nr = self.nr.checked_sub(1)?;
        path.segs[usize::from(path.nr)] = Seg([0; 4]);
        Some(path)
    }

    /// The path with a segment more. `None` when that is too deep.
    pub fn join(&self, seg: Seg) -> Option<Self> {
        let mut path = *self;
        *path.segs.get_mut(usize::from(self.nr))? = seg;
        path.nr += 1;
        Some(path)
    }
}

impl fmt::Display for Path {
    /// As Linux logs it: `\_SB_.PCI0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('\\')?;
        for (i, seg) in self.segs().iter().enumerate() {
            if i > 0 {
                f.write_char('.')?;
            }
            seg.0.iter().try_for_each(|&byte| f.write_char(char::from(byte)))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
