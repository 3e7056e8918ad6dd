//! `/proc/zoneinfo`, read back.

use anyhow::{Context, Result, bail};

/// The zones of a node, in Linux's order.
pub(crate) const NAMES: [&str; 5] = ["DMA", "DMA32", "Normal", "Movable", "Device"];

/// A zone as the file describes it. Counts are pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Zone {
    pub(crate) node: u32,
    pub(crate) name: String,
    pub(crate) start_pfn: u64,
    pub(crate) spanned: u64,
    pub(crate) present: u64,
    pub(crate) managed: u64,
    /// min, low, high
    pub(crate) watermarks: [u64; 3],
    pub(crate) protection: Vec<u64>,
    /// One per online CPU; none when the zone has no pages.
    pub(crate) pagesets: Vec<Pageset>,
}

/// What a CPU keeps of a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pageset {
    pub(crate) high: u64,
    pub(crate) batch: u64,
    pub(crate) stat_threshold: u64,
}

impl Zone {
    /// `node 0 DMA32`
    pub(crate) fn title(&self) -> String {
        format!("node {} {}", self.node, self.name)
    }

    /// Its place among [`NAMES`].
    pub(crate) fn index(&self) -> usize {
        NAMES.iter().position(|name| *name == self.name).unwrap_or(NAMES.len())
    }
}

/// The zones of the file, those without pages too.
pub(crate) fn parse(lines: &[String]) -> Result<Vec<Zone>> {
    let mut zones: Vec<Zone> = Vec::new();
    for line in lines {
        if let Some(header) = line.strip_prefix("Node ") {
            zones.push(header_of(header).with_context(|| format!("`{line}`"))?);
        } else {
            let zone = zones.last_mut().context("a value before the first zone")?;
            value(zone, line).with_context(|| format!("`{line}`"))?;
        }
    }
    Ok(zones)
}

fn header_of(text: &str) -> Result<Zone> {
    let (node, zone) = text.split_once(", zone").context("no zone")?;
    let zone = Zone { node: node.parse()?, name: zone.trim().to_owned(), ..Zone::default() };
    if zone.index() == NAMES.len() {
        bail!("no such zone");
    }
    Ok(zone)
}

/// `high` is the watermark, `high:` a pageset's.
fn value(zone: &mut Zone, line: &str) -> Result<()> {
    if let Some((_, list)) = line.split_once("protection: (") {
        let numbers = list.trim_end_matches(')').split(", ");
        zone.protection = numbers.map(|number| Ok(number.parse()?)).collect::<Result<_>>()?;
        return Ok(());
    }
    let Some((key, number)) = line.trim().rsplit_once(' ') else { return Ok(()) };
    let target = match (key.trim(), zone.pagesets.last_mut()) {
        ("cpu:", _) => {
            zone.pagesets.push(Pageset::default());
            return Ok(());
        }
        ("min", _) => &mut zone.watermarks[0],
        ("low", _) => &mut zone.watermarks[1],
        ("high", _) => &mut zone.watermarks[2],
        ("spanned", _) => &mut zone.spanned,
        ("present", _) => &mut zone.present,
        ("managed", _) => &mut zone.managed,
        ("start_pfn:", _) => &mut zone.start_pfn,
        ("high:", Some(pageset)) => &mut pageset.high,
        ("batch:", Some(pageset)) => &mut pageset.batch,
        ("vm stats threshold:", Some(pageset)) => &mut pageset.stat_threshold,
        _ => return Ok(()),
    };
    *target = number.parse()?;
    Ok(())
}
