//! A fuzzer's bytes, taken from the front as numbers.

/// What is left of them. Past the end everything is zero: an input may stop anywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'i> {
    rest: &'i [u8],
}

impl<'i> Input<'i> {
    pub(crate) fn new(bytes: &'i [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub(crate) fn rest(&self) -> &'i [u8] {
        self.rest
    }

    /// The next `len` bytes, or fewer at the end.
    pub(crate) fn bytes(&mut self, len: usize) -> &'i [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes(N);
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A text: its length in a byte, then it.
    pub(crate) fn text(&mut self) -> String {
        let len = usize::from(self.u8());
        String::from_utf8_lossy(self.bytes(len)).into_owned()
    }

    /// A range of a firmware's map as the BIOS call returns it: start, size, type.
    pub(crate) fn e820_entry(&mut self) -> (u64, u64, u32) {
        (self.u64(), self.u64(), self.u32())
    }
}
