//! ACPI tables that describe any layout of memory to a kernel, as QEMU's `-acpitable data=FILE` takes them: without the
//! header, which QEMU puts before them.
//!
//! ```text
//! {srat:m=DOMAIN@BASE+SIZE[h],...;c=APIC:DOMAIN,...}    memory ranges (h: hot-pluggable) and CPUs
//! {slit:10,21;21,10}                                    distances, row by row
//! ```

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// An affinity entry's flag: it counts.
pub(crate) const ENABLED: u32 = 1;
/// A memory entry's flag: the memory can be unplugged.
pub(crate) const HOTPLUG: u32 = 2;

/// The body of a System Resource Affinity Table.
#[derive(Clone, Debug)]
pub(crate) struct Srat(Vec<u8>);

impl Srat {
    /// Without entries.
    pub(crate) fn new() -> Srat {
        // A revision for old readers, and eight bytes of nothing.
        Srat([&1u32.to_le_bytes()[..], &[0; 8]].concat())
    }

    /// Memory of a proximity domain.
    pub(crate) fn memory(mut self, domain: u32, base: u64, size: u64, flags: u32) -> Srat {
        self.0.extend([1, 40]);
        self.0.extend(domain.to_le_bytes());
        self.0.extend([0; 2]);
        self.0.extend(base.to_le_bytes());
        self.0.extend(size.to_le_bytes());
        self.0.extend([0; 4]);
        self.0.extend(flags.to_le_bytes());
        self.0.extend([0; 8]);
        self
    }

    /// A CPU of a proximity domain, whose number is in two parts.
    pub(crate) fn processor(mut self, apic: u8, domain: u32) -> Srat {
        let [low, rest @ ..] = domain.to_le_bytes();
        self.0.extend([0, 16, low, apic]);
        self.0.extend(ENABLED.to_le_bytes());
        self.0.push(0);
        self.0.extend(rest);
        self.0.extend([0; 4]);
        self
    }

    /// Whatever bytes.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Srat {
        self.0.extend(bytes);
        self
    }

    /// The table's bytes.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }

    fn parse(spec: &str) -> Result<Srat> {
        let mut srat = Srat::new();
        for part in spec.split(';') {
            let (kind, items) = part.split_once('=').context("no kind")?;
            for item in items.split(',') {
                srat = match kind {
                    "m" => srat.memory_of(item),
                    "c" => item
                        .split_once(':')
                        .context("no domain")
                        .and_then(|(apic, domain)| Ok(srat.processor(apic.parse()?, domain.parse()?))),
                    _ => bail!("neither memory nor CPUs"),
                }
                .with_context(|| format!("`{item}`"))?;
            }
        }
        Ok(srat)
    }

    fn memory_of(self, item: &str) -> Result<Srat> {
        let (domain, range) = item.split_once('@').context("no place")?;
        let (range, flags) = match range.strip_suffix('h') {
            Some(range) => (range, ENABLED | HOTPLUG),
            None => (range, ENABLED),
        };
        let (base, size) = range.split_once('+').context("no size")?;
        Ok(self.memory(domain.parse()?, bytes(base)?, bytes(size)?, flags))
    }
}

/// The body of a System Locality Information Table: how many localities it claims, and its distances.
pub(crate) fn slit(localities: u64, distances: &[u8]) -> Vec<u8> {
    [&localities.to_le_bytes()[..], distances].concat()
}

fn parse_slit(spec: &str) -> Result<Vec<u8>> {
    let rows = spec.split(';').map(|row| row.split(',').map(str::parse).collect::<Result<Vec<u8>, _>>());
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    if rows.iter().any(|row| row.len() != rows.len()) {
        bail!("not a square");
    }
    Ok(slit(rows.len() as u64, &rows.concat()))
}

/// A number of bytes, with K, M or G when it is large.
fn bytes(text: &str) -> Result<u64> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((end, 'K')) => (&text[..end], 10),
        Some((end, 'M')) => (&text[..end], 20),
        Some((end, 'G')) => (&text[..end], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse()?;
    number.checked_mul(1 << shift).context("too large")
}

/// QEMU's flags with the tables in them made files of `directory`.
pub(crate) fn expand(flags: &[String], directory: &Path) -> Result<Vec<String>> {
    let expanded = |flag: &String| -> Result<String> {
        let Some((before, spec)) = flag.strip_suffix('}').and_then(|flag| flag.split_once('{')) else {
            return Ok(flag.clone());
        };
        let (kind, body) = match spec.split_once(':') {
            Some(("srat", spec)) => ("srat", Srat::parse(spec)?.bytes()),
            Some(("slit", spec)) => ("slit", parse_slit(spec)?),
            _ => bail!("an unknown table"),
        };
        Ok(format!("{before}{}", file(directory, kind, &body)?))
    };
    flags.iter().map(|flag| expanded(flag).with_context(|| format!("`{flag}`"))).collect()
}

/// Writes a table's body, and returns the file's path.
pub(crate) fn file(directory: &Path, name: &str, body: &[u8]) -> Result<String> {
    let path = directory.join(name);
    fs::write(&path, body).with_context(|| format!("cannot write {}", path.display()))?;
    path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{path:?} is no text"))
}
