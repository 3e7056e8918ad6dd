//! The symbol table that travels with the kernel, for backtraces with function names.
//!
//! The kernel finds it as the boot loader's ramdisk (`BootInfo::ramdisk_addr`, `ramdisk_len`). It is kept small because
//! a BIOS loads 1.5 s a MiB. All numbers are little-endian:
//!
//! ```text
//! offset 0   magic        8 bytes  "STRATSYM"
//!        8   version      u32      1
//!       12   count        u32      number of entries
//!       16   strings_len  u32      bytes of strings
//!       20   entries      count x { address u64, size u32, name_offset u32 }, by rising address
//!            strings      strings_len bytes: demangled names, UTF-8, each ended by a NUL
//! ```
//!
//! The entries start at an offset that is no multiple of 8: read them as bytes.
//!
//! # Invariants
//!
//! - I1: addresses rise strictly: of several names of one address, one is kept.
//! - I2: `address + size` does not pass the next entry's address; a size of 0 in the ELF file (assembly) has become
//!   the distance to the next symbol or to the end of the section.
//! - I3: `name_offset` is below `strings_len` and the string there ends within the strings.

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SectionIndex, SymbolKind};
use std::collections::HashMap;

/// What the table starts with.
pub const MAGIC: [u8; 8] = *b"STRATSYM";

/// The version of the format.
pub const VERSION: u32 = 1;

struct Function {
    address: u64,
    size: u64,
    section: SectionIndex,
    name: String,
}

/// Makes the symbol table of the functions in `elf`.
pub fn table(elf: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(elf).context("the kernel is no ELF file")?;
    Ok(encode(&functions(&file)?))
}

fn functions(file: &object::File<'_>) -> Result<Vec<Function>> {
    let mut functions = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
    {
        let Some(section) = symbol.section_index() else { continue };
        let name = symbol.name().context("a symbol's name is broken")?;
        let name = format!("{:#}", rustc_demangle::demangle(name));
        functions.push(Function { address: symbol.address(), size: symbol.size(), section, name });
    }
    // The largest first among equal addresses: that is the one that covers the code.
    functions.sort_by(|a, b| (a.address, b.size, &a.name).cmp(&(b.address, a.size, &b.name)));
    functions.dedup_by_key(|function| function.address);
    for i in 0..functions.len() {
        let section = file.section_by_index(functions[i].section)?;
        let limit = match functions.get(i + 1) {
            Some(next) if next.section == functions[i].section => next.address,
            _ => section.address() + section.size(),
        };
        let room = limit.saturating_sub(functions[i].address);
        functions[i].size = if functions[i].size == 0 { room } else { functions[i].size.min(room) };
    }
    Ok(functions)
}

fn encode(functions: &[Function]) -> Vec<u8> {
    let mut strings = Vec::new();
    let mut offsets: HashMap<&str, u32> = HashMap::new();
    let mut entries = Vec::new();
    for function in functions {
        let offset = *offsets.entry(&function.name).or_insert_with(|| {
            let offset = strings.len() as u32;
            strings.extend_from_slice(function.name.as_bytes());
            strings.push(0);
            offset
        });
        entries.extend_from_slice(&function.address.to_le_bytes());
        entries.extend_from_slice(&u32::try_from(function.size).unwrap_or(u32::MAX).to_le_bytes());
        entries.extend_from_slice(&offset.to_le_bytes());
    }
    let mut table = MAGIC.to_vec();
    table.extend_from_slice(&VERSION.to_le_bytes());
    table.extend_from_slice(&(functions.len() as u32).to_le_bytes());
    table.extend_from_slice(&(strings.len() as u32).to_le_bytes());
    table.extend_from_slice(&entries);
    table.extend_from_slice(&strings);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(table: &[u8], offset: usize) -> u32 {
        u32::from_le_bytes(table[offset..offset + 4].try_into().unwrap())
    }

    #[test]
    fn the_table_of_this_program_keeps_its_invariants_and_knows_this_test() {
        let elf = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let table = table(&elf).unwrap();
        assert_eq!(table[..8], MAGIC);
        assert_eq!(u32_at(&table, 8), VERSION);
        let count = u32_at(&table, 12) as usize;
        let strings = &table[20 + 16 * count..];
        assert_eq!(strings.len(), u32_at(&table, 16) as usize);
        let mut end = 0;
        let mut found = false;
        for i in 0..count {
            let entry = 20 + 16 * i;
            let address = u64::from_le_bytes(table[entry..entry + 8].try_into().unwrap());
            assert!(address >= end, "I1, I2 at {i}");
            end = address + u64::from(u32_at(&table, entry + 8));
            let name = &strings[u32_at(&table, entry + 12) as usize..];
            let name = &name[..name.iter().position(|&byte| byte == 0).expect("I3")];
            let name = std::str::from_utf8(name).unwrap();
            found |= name.contains("the_table_of_this_program_keeps_its_invariants");
        }
        assert!(count > 100 && found);
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        assert!(table(b"not an ELF file").is_err());
    }
}
