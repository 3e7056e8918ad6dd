//! The resources that ACPI names: windows of PCI buses, interrupt controllers, timers, mapped configuration space.
//!
//! ```text
//! tables -> Claims -> Vec of Claim   read while the tables can be;  then, as Linux's order of boot has it:
//!     add_windows         windows of PCI roots: before anything behind them
//!     add_devices         devices that only ACPI knows
//!     (PCI devices, the rest of the firmware's map)
//!     add_controllers     around what is there: I/O APICs, the local APIC, timers, configuration space
//! ```

use super::{Error, Id, Name, PciBus, Tree};
use crate::acpi::resources::{Prefetch, Resource};
use crate::acpi::{Device, DeviceId, Hpet, Madt, Mcfg, McfgRegion, Namespace};
use crate::addr::{PAGE_SIZE, PhysRange};
use crate::e820;

/// A resource that ACPI names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    pub(super) range: PhysRange,
    pub(super) name: Name,
    pub(super) prefetch: Prefetch,
}

impl Claim {
    /// A filler for storage.
    pub const EMPTY: Self = Self {
        range: crate::memblock::Region::EMPTY.range,
        name: Name::Text(""),
        prefetch: Prefetch::Forbidden,
    };

    const fn new(range: PhysRange, name: Name) -> Self {
        Self { range, name, prefetch: Prefetch::Forbidden }
    }

    /// The bus of a PCI root's window.
    pub const fn root_bus(&self) -> Option<PciBus> {
        match self.name {
            Name::PciBus(bus) => Some(bus),
            _ => None,
        }
    }
}

/// Where claims come from; each table may be missing.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'s, 't> {
    /// The devices.
    pub namespace: Namespace<'s, 't>,
    /// The MADT.
    pub madt: Option<Madt<'t>>,
    /// The timer.
    pub hpet: Option<Hpet>,
    /// The MCFG.
    pub mcfg: Option<Mcfg<'t>>,
    /// Where the boot CPU says that its local APIC is; `None` when it is not reached through memory.
    pub local_apic: Option<u64>,
}

impl Claims<'_, '_> {
    /// Calls `visit` with each claim; the same ones each time.
    pub fn each(&self, map: &e820::Map<'_>, visit: &mut dyn FnMut(Claim)) {
        self.windows(visit);
        self.timers(visit);
        self.interrupt_controllers(visit);
        if let Some(hpet) = self.hpet {
            visit(Claim::new(hpet.range, Name::Hpet(hpet.sequence)));
        }
        for region in self.mapped_buses().filter(|region| self.is_set_apart(region.range, map)) {
            let first = PciBus { segment: region.segment, bus: region.first_bus };
            visit(Claim::new(region.range, Name::Mmconfig { first, last: region.last_bus }));
        }
    }

    /// Logs what [`each`](Self::each) leaves out.
    pub fn report(&self, map: &e820::Map<'_>) {
        for root in self.pci_roots().filter(|root| root.computes_resources()) {
            log::info!("ACPI: {}: _CRS is a method, which is not run: no windows", root.path());
        }
        let all = self.mcfg.iter().flat_map(Mcfg::regions).count();
        let sound = self.mapped_buses().count();
        if sound < all {
            log::warn!("ACPI: MCFG: {} entries make no sense", all - sound);
        }
        let in_use = |region: &McfgRegion| !self.is_set_apart(region.range, map);
        if let Some(first) = self.mapped_buses().find(in_use) {
            let nr = self.mapped_buses().filter(in_use).count();
            log::info!("PCI: not using MMCONFIG: {nr} ranges are not reserved, first {}", first.range);
        }
    }

    fn mapped_buses(&self) -> impl Iterator<Item = McfgRegion> + '_ {
        self.mcfg.iter().flat_map(Mcfg::regions).filter_map(Result::ok)
    }

    /// (Linux: `acpi_pci_probe_root_resources`.)
    fn windows(&self, visit: &mut dyn FnMut(Claim)) {
        for root in self.pci_roots() {
            let name = Name::PciBus(PciBus { segment: root.segment(), bus: root.first_bus() });
            for resource in root.resources() {
                if let Resource::Memory { range, prefetch } = resource {
                    visit(Claim { range, name, prefetch });
                }
            }
        }
    }

    /// The roots of PCI hierarchies.
    pub fn pci_roots(&self) -> impl Iterator<Item = Device<'_, '_>> {
        let ids = [DeviceId::PCI_ROOT, DeviceId::PCIE_ROOT];
        self.namespace.devices().filter(move |d| ids.into_iter().any(|id| d.is(id)))
    }

    fn timers(&self, visit: &mut dyn FnMut(Claim)) {
        let timers = self.namespace.devices().filter(|d| d.id() == Some(DeviceId::HPET));
        for (number, timer) in (0..).zip(timers) {
            for resource in timer.resources() {
                if let Resource::Memory { range, .. } = resource {
                    visit(Claim::new(range, Name::AcpiDevice(DeviceId::HPET, number)));
                }
            }
        }
    }

    fn interrupt_controllers(&self, visit: &mut dyn FnMut(Claim)) {
        const IO_APIC_BYTES: u64 = 1 << 10;
        for (index, io_apic) in (0..).zip(self.madt.iter().flat_map(Madt::io_apics)) {
            if let Some(range) = PhysRange::from_size(io_apic.address.into(), IO_APIC_BYTES) {
                visit(Claim::new(range, Name::IoApic(index)));
            }
        }
        let listed = self.madt.and_then(|madt| madt.local_apic_address()).filter(|&address| address != 0);
        let address = self.local_apic.map(|own| listed.unwrap_or(own));
        if let Some(range) = address.and_then(|address| PhysRange::from_size(address, PAGE_SIZE as u64)) {
            visit(Claim::new(range, Name::Text("Local APIC")));
        }
    }

    /// Whether the firmware's map or the mainboard keeps other uses away (Linux: `pci_mmcfg_check_reserved`).
    fn is_set_apart(&self, range: PhysRange, map: &e820::Map<'_>) -> bool {
        let mut from = range.start();
        for entry in map.entries().iter().filter(|e| e.kind == e820::Kind::RESERVED) {
            if entry.range.contains(from) {
                from = entry.range.end();
            }
        }
        let holds = |outer: PhysRange| outer.intersect(range) == Some(range);
        let decodes = |device: Device<'_, '_>| {
            device.resources().any(|r| matches!(r, Resource::Memory { range, .. } if holds(range)))
        };
        let mainboard = |d: &Device<'_, '_>| DeviceId::MAINBOARD.into_iter().any(|id| d.is(id));
        from >= range.end() || self.namespace.devices().filter(mainboard).any(decodes)
    }
}

/// A window of a PCI bus that is in the tree.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The bus that it belongs to.
    pub bus: PciBus,
    /// The window in the tree.
    pub id: Id,
    /// Whether only what may be read ahead can be behind it.
    pub prefetch: Prefetch,
}

/// The windows of PCI buses, in storage of the caller.
#[derive(Debug)]
pub struct Windows<'a> {
    slots: &'a mut [Window],
    nr: usize,
}

impl Window {
    /// A filler for storage.
    pub const EMPTY: Self =
        Self { bus: PciBus { segment: 0, bus: 0 }, id: Id::ROOT, prefetch: Prefetch::Forbidden };
}

impl<'a> Windows<'a> {
    /// None so far.
    pub fn new(slots: &'a mut [Window]) -> Self {
        Self { slots, nr: 0 }
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add(&mut self, window: Window) -> Result<(), Error> {
        *self.slots.get_mut(self.nr).ok_or(Error::Full)? = window;
        self.nr += 1;
        Ok(())
    }

    /// Those of a bus, in the order in which they were added.
    pub fn of(&self, bus: PciBus) -> impl Iterator<Item = Window> + '_ {
        self.slots[..self.nr].iter().copied().filter(move |w| w.bus == bus)
    }
}

impl Tree<'_> {
    /// Adds the windows of PCI roots (Linux: `pci_acpi_root_add_resources`). Those of one bus that overlap become one;
    /// one that another's would cut is reported and left out.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_windows(&mut self, claims: &mut [Claim], windows: &mut Windows<'_>) -> Result<(), Error> {
        claims.sort_unstable_by_key(|c| (c.root_bus(), c.range));
        let mut last: Option<Claim> = None;
        for claim in claims.iter().filter(|c| c.root_bus().is_some()).copied() {
            match last {
                Some(ref mut before) if before.name == claim.name && before.range.overlaps(claim.range) => {
                    let end = before.range.end().max(claim.range.end());
                    let joined = PhysRange::new(before.range.start(), end);
                    log::info!(
                        "resource: {}: window {} joined with {}",
                        claim.name,
                        claim.range,
                        before.range
                    );
                    before.range = joined.unwrap_or(before.range);
                }
                _ => self.add_window(last.replace(claim), windows)?,
            }
        }
        self.add_window(last, windows)
    }

    fn add_window(&mut self, claim: Option<Claim>, windows: &mut Windows<'_>) -> Result<(), Error> {
        let Some((claim, bus)) = claim.and_then(|c| Some((c, c.root_bus()?))) else { return Ok(()) };
        // What the CPU cannot address of it is not there.
        let Some(range) = claim.range.intersect(self.range(Id::ROOT)) else {
            log::info!("resource: {}: window {} is out of reach", claim.name, claim.range);
            return Ok(());
        };
        match self.insert_or_report(range, claim.name)? {
            Some(id) => windows.add(Window { bus, id, prefetch: claim.prefetch }),
            None => Ok(()),
        }
    }

    /// Adds the devices that only ACPI knows (Linux: `platform_device_add`).
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_devices(&mut self, claims: &[Claim]) -> Result<(), Error> {
        self.add_claims(claims, |name| matches!(name, Name::AcpiDevice(..)))
    }

    /// Adds what goes around whatever is there (Linux: `ioapic_insert_resources`, `lapic_insert_resource`,
    /// `hpet_insert_resource`, `pci_mmcfg_insert_resources`).
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_controllers(&mut self, claims: &[Claim]) -> Result<(), Error> {
        self.add_claims(claims, |name| !matches!(name, Name::AcpiDevice(..) | Name::PciBus(_)))
    }

    fn add_claims(&mut self, claims: &[Claim], wanted: fn(Name) -> bool) -> Result<(), Error> {
        claims.iter().filter(|c| wanted(c.name)).try_for_each(|claim| {
            self.insert_or_report(claim.range, claim.name)?;
            Ok(())
        })
    }
}
