//! ACPI tables out of a fuzzer's bytes.

const HEADER_BYTES: usize = 36;

/// The table with a right signature, length and checksum: a mutation seldom gets past those by itself. What is shorter
/// than a header gets one.
pub(crate) fn repaired(bytes: &[u8], signature: [u8; 4]) -> Vec<u8> {
    let mut table = bytes.to_vec();
    table.resize(bytes.len().max(HEADER_BYTES), 0);
    let length = table.len() as u32;
    table[..4].copy_from_slice(&signature);
    table[4..8].copy_from_slice(&length.to_le_bytes());
    table[9] = 0;
    table[9] = table.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    table
}

/// Calls `check` with the bytes as they are, then repaired.
pub(crate) fn raw_and_repaired(bytes: &[u8], signature: [u8; 4], check: impl Fn(&[u8])) {
    check(bytes);
    check(&repaired(bytes, signature));
}

/// Cuts tables that stand one behind the other, by the lengths in their headers. The last one may be cut short.
pub(crate) fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut tables = Vec::new();
    while let Some(length) = bytes.get(4..).and_then(|b| b.first_chunk()) {
        let length = (u32::from_le_bytes(*length) as usize).clamp(8, bytes.len());
        let (table, rest) = bytes.split_at(length);
        tables.push(table);
        bytes = rest;
    }
    tables
}
