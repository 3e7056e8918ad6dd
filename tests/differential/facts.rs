//! The facts about a machine: `machines/NAME.txt`, what Linux 6.1 reported on it. One fact a line:
//!
//! ```text
//! # ...                   a comment; the first one says what is special about the machine
//! qemu: FLAGS             the machine's flags; {srat:...} and {slit:...} stand for files, see `tables`
//! cmdline: OPTIONS        what the kernel was told; absent when nothing (the console and log level are left out)
//! log: LINE               a line of the log without its time stamp
//! file: PATH TEXT         a file of one line
//! zone: NODE NAME start_pfn N spanned N present N managed N     a zone of /proc/zoneinfo that has pages
//! ```
//!
//! Of the log only what describes the machine's memory is kept; of memblock's dumps the totals and the memory regions.

use crate::report::Report;
use crate::zoneinfo::Zone;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// A machine, and what Linux reported on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The machine's name: that of the file.
    pub(crate) name: String,
    /// QEMU's flags, split; tables are not made yet.
    pub(crate) qemu: Vec<String>,
    /// The kernel's options.
    pub(crate) cmdline: String,
    /// Log lines and files.
    pub(crate) report: Report,
    /// Zones that have pages.
    pub(crate) zones: Vec<Zone>,
}

impl Facts {
    /// Reads all files of `directory`, by name.
    pub(crate) fn read_all(directory: &Path) -> Result<Vec<Facts>> {
        let entries =
            fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        let read = |path: &Path| {
            let name = path.file_stem().context("no name")?.to_string_lossy();
            Facts::parse(&name, &fs::read_to_string(path)?)
        };
        paths.iter().map(|path| read(path).with_context(|| format!("in {}", path.display()))).collect()
    }

    fn parse(name: &str, text: &str) -> Result<Facts> {
        let mut facts = Facts { name: name.to_owned(), ..Facts::default() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            facts.add(line).with_context(|| format!("`{line}`"))?;
        }
        if facts.qemu.is_empty() || facts.zones.is_empty() {
            bail!("no flags or no zones");
        }
        Ok(facts)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let (kind, value) = line.split_once(": ").context("no fact")?;
        match kind {
            "qemu" => self.qemu = shell_words::split(value)?,
            "cmdline" => self.cmdline = value.to_owned(),
            "log" => self.report.log.push(value.trim_end().to_owned()),
            "file" => {
                let (path, text) = value.split_once(' ').unwrap_or((value, ""));
                self.report.files.insert(path.to_owned(), vec![text.to_owned()]);
            }
            "zone" => self.zones.push(zone(value)?),
            _ => bail!("an unknown kind of fact"),
        }
        Ok(())
    }

    /// The value of the last kernel option `name`.
    pub(crate) fn option(&self, name: &str) -> Option<String> {
        let words = shell_words::split(&self.cmdline).unwrap_or_default();
        let value = |word: String| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        words.into_iter().filter_map(value).next_back()
    }

    /// The value of `sysctl.vm.NAME=`.
    pub(crate) fn sysctl(&self, name: &str) -> Option<String> {
        self.option(&format!("sysctl.vm.{name}"))
    }
}

fn zone(text: &str) -> Result<Zone> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [node, name, "start_pfn", start, "spanned", spanned, "present", present, "managed", managed] =
        words[..]
    else {
        bail!("not a zone");
    };
    Ok(Zone {
        node: node.parse()?,
        name: name.to_owned(),
        start_pfn: start.parse()?,
        spanned: spanned.parse()?,
        present: present.parse()?,
        managed: managed.parse()?,
        ..Zone::default()
    })
}
