//! PCI configuration space by ports (configuration mechanism #1).
//!
//! ```text
//! 0xcf8  which register: enable, bus, device, function, offset      0xcfc  its value
//! ```
//!
//! # Invariants
//! - I1: a [`Ports`] exists only where the mechanism answers.
//!
//! # Locking
//! Choosing and accessing belong together: the boot CPU uses it alone, at boot.
//!
//! # Not here
//! Segments other than 0 and registers past 256 bytes: they are only reached through memory.

use mm::pci::Config;
use mm::resource::{PciAddress, PciBus};
use x86_64::instructions::port::Port;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// The mechanism.
#[derive(Clone, Copy, Debug)]
pub struct Ports(());

impl Ports {
    /// Finds the mechanism; none on machines without PCI (Linux: `pci_check_type1`).
    pub fn probe() -> Option<Self> {
        let mut address = Port::<u32>::new(ADDRESS);
        // SAFETY: a read and a write of the mechanism's own register, which keeps its enable bit; where there is none
        // the write goes nowhere.
        let answered = unsafe {
            let before = address.read();
            address.write(ENABLE);
            let answer = address.read();
            address.write(before);
            answer
        };
        let this = Self(());
        let anything = |device| {
            let at = PciAddress::new(PciBus { segment: 0, bus: 0 }, device, 0);
            at.is_some_and(|at| !matches!(this.read(at, 0), 0 | u32::MAX))
        };
        (answered == ENABLE && (0..32).any(anything)).then_some(this)
    }

    fn choose(self, at: PciAddress, offset: u8) {
        let (bus, device, function) = (at.bus().bus, at.device(), at.function());
        let register = u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8;
        // SAFETY: the register that says what the data port is (I1).
        unsafe { Port::<u32>::new(ADDRESS).write(ENABLE | register | u32::from(offset & !3)) };
    }
}

impl Config for Ports {
    fn read(&self, at: PciAddress, offset: u8) -> u32 {
        self.choose(at, offset);
        // SAFETY: reading configuration registers has no effect (I1).
        unsafe { Port::<u32>::new(DATA).read() }
    }

    fn write(&self, at: PciAddress, offset: u8, value: u32) {
        self.choose(at, offset);
        // SAFETY: `mm::pci` writes commands and address registers only, each back to what it was; nobody uses devices
        // yet.
        unsafe { Port::<u32>::new(DATA).write(value) };
    }
}
