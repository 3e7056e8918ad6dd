//! Putting what functions decode into the resource tree, in Linux's order.

use super::{DECODE_MEMORY, DECODE_PORTS, Function, Region};
use crate::acpi::resources::Prefetch;
use crate::addr::PhysRange;
use crate::resource::{Error, Id, Name, PciBus, Tree, Window, Windows};

/// Adds bridges' windows, then BARs: of functions that decode before those that do not (Linux:
/// `pcibios_resource_survey`). What is outside its bus's windows, or in the way of another, is reported and left out.
///
/// # Errors
/// [`Error::Full`].
pub fn claim(tree: &mut Tree<'_>, windows: &mut Windows<'_>, functions: &[Function]) -> Result<(), Error> {
    for function in functions {
        claim_bridge(tree, windows, functions, function)?;
    }
    let (now, later) = (|f: &&Function| f.decodes(DECODE_MEMORY), |f: &&Function| !f.decodes(DECODE_MEMORY));
    for function in functions.iter().filter(now).chain(functions.iter().filter(later)) {
        for (index, bar) in function.bars.iter().enumerate() {
            if let Some(bar) = bar {
                let name = Name::PciDevice(function.address);
                claim_region(tree, windows, functions, function, *bar, name, What::Bar(index))?;
            }
        }
    }
    Ok(())
}

/// Adds the ROMs (Linux: `pcibios_allocate_rom_resources`), but not that of a graphics adapter in use, which was copied
/// below 1 MiB.
///
/// # Errors
/// [`Error::Full`].
pub fn claim_roms(tree: &mut Tree<'_>, windows: &Windows<'_>, functions: &[Function]) -> Result<(), Error> {
    for function in functions {
        let copied = function.class.is_vga() && function.decodes(DECODE_MEMORY | DECODE_PORTS);
        if let Some(rom) = function.rom.filter(|_| !copied) {
            let name = Name::PciDevice(function.address);
            claim_region(tree, windows, functions, function, rom, name, What::Rom)?;
        }
    }
    Ok(())
}

/// What of a function is claimed, for messages.
#[derive(Clone, Copy)]
enum What {
    Bar(usize),
    Rom,
    Window,
}

impl core::fmt::Display for What {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Bar(index) => write!(f, "BAR {index}"),
            Self::Rom => f.write_str("ROM"),
            Self::Window => f.write_str("bridge window"),
        }
    }
}

fn claim_bridge(
    tree: &mut Tree<'_>,
    windows: &mut Windows<'_>,
    functions: &[Function],
    function: &Function,
) -> Result<(), Error> {
    let Some(bridge) = function.bridge else { return Ok(()) };
    let bus = PciBus { bus: bridge.secondary, ..function.address.bus() };
    let both = [(bridge.memory, Prefetch::Forbidden), (bridge.prefetch, Prefetch::Allowed)];
    for (range, prefetch) in both {
        let Some(range) = range else { continue };
        let region = Region { range, prefetch };
        let name = Name::PciBus(bus);
        if let Some(id) = claim_region(tree, windows, functions, function, region, name, What::Window)? {
            windows.add(Window { bus, id, prefetch })?;
        }
    }
    Ok(())
}

/// Adds a region inside its bus's window (Linux: `pci_claim_resource`).
fn claim_region(
    tree: &mut Tree<'_>,
    windows: &Windows<'_>,
    functions: &[Function],
    function: &Function,
    region: Region,
    name: Name,
    what: What,
) -> Result<Option<Id>, Error> {
    let Region { range, .. } = region;
    let at = function.address;
    let Some(parent) = window_for(tree, windows, functions, at.bus(), region) else {
        log::info!("pci {at}: can't claim {what} {range}: no compatible bridge window");
        return Ok(None);
    };
    match tree.request(parent, range, name) {
        Ok(id) => Ok(Some(id)),
        Err(Error::Full) => Err(Error::Full),
        Err(Error::Outside) => Ok(None),
        Err(Error::Conflict(other)) => {
            let (other, taken) = (tree.name(other), tree.range(other));
            log::info!("pci {at}: can't claim {what} {range}: address conflict with {other} {taken}");
            Ok(None)
        }
    }
}

/// The window of a bus that holds a region (Linux: `pci_find_parent_resource`): its own, or, behind a bridge that passes
/// everything on, one of the bus before the bridge.
fn window_for(
    tree: &Tree<'_>,
    windows: &Windows<'_>,
    functions: &[Function],
    bus: PciBus,
    region: Region,
) -> Option<Id> {
    let holds = |range: PhysRange| range.intersect(region.range) == Some(region.range);
    let mut bus = bus;
    loop {
        if let Some(window) = windows.of(bus).find(|w| holds(tree.range(w.id))) {
            let too_eager = window.prefetch == Prefetch::Allowed && region.prefetch == Prefetch::Forbidden;
            return (!too_eager).then_some(window.id);
        }
        // Towards the root bus numbers fall (`secondary_bus`), so this ends.
        let leads_here = |f: &&Function| {
            f.bridge.is_some_and(|b| b.secondary == bus.bus) && f.class.is_subtractive_bridge()
        };
        bus = functions.iter().find(leads_here)?.address.bus();
    }
}
