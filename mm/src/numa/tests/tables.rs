//! Makes ACPI tables.

use std::vec::Vec;

/// A table with a right length and checksum.
pub(super) fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend((36 + body.len() as u32).to_le_bytes());
    bytes.extend([revision, 0]);
    bytes.resize(36, 0);
    bytes.extend(body);
    bytes[9] = bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
    bytes
}

pub(super) fn srat(revision: u8, entries: &[Vec<u8>]) -> Vec<u8> {
    table(*b"SRAT", revision, &[&[0; 12][..], &entries.concat()].concat())
}

pub(super) fn slit(nr: u64, matrix: &[u8]) -> Vec<u8> {
    table(*b"SLIT", 1, &[&nr.to_le_bytes()[..], matrix].concat())
}

pub(super) fn madt(revision: u8, entries: &[Vec<u8>]) -> Vec<u8> {
    table(*b"APIC", revision, &[&[0; 8][..], &entries.concat()].concat())
}

pub(super) fn memory(pxm: u32, base: u64, size: u64, flags: u32) -> Vec<u8> {
    let parts: [&[u8]; 8] = [
        &[1, 40],
        &pxm.to_le_bytes(),
        &[0; 2],
        &base.to_le_bytes(),
        &size.to_le_bytes(),
        &[0; 4],
        &flags.to_le_bytes(),
        &[0; 8],
    ];
    parts.concat()
}

pub(super) fn cpu(pxm: u32, apic_id: u8, flags: u32) -> Vec<u8> {
    let d = pxm.to_le_bytes();
    [&[0, 16, d[0], apic_id][..], &flags.to_le_bytes(), &[0, d[1], d[2], d[3]], &[0; 4]].concat()
}

pub(super) fn x2apic(pxm: u32, apic_id: u32, flags: u32) -> Vec<u8> {
    let parts: [&[u8]; 5] =
        [&[2, 24, 0, 0], &pxm.to_le_bytes(), &apic_id.to_le_bytes(), &flags.to_le_bytes(), &[0; 8]];
    parts.concat()
}

pub(super) fn generic(pxm: u32, flags: u32) -> Vec<u8> {
    [&[5, 32, 0, 0][..], &pxm.to_le_bytes(), &[0; 16], &flags.to_le_bytes(), &[0; 4]].concat()
}

pub(super) fn lapic(apic_id: u8, flags: u32) -> Vec<u8> {
    [&[0, 8, apic_id, apic_id][..], &flags.to_le_bytes()].concat()
}

pub(super) fn lx2apic(apic_id: u32, flags: u32) -> Vec<u8> {
    [&[9, 16, 0, 0][..], &apic_id.to_le_bytes(), &flags.to_le_bytes(), &[0; 4]].concat()
}
