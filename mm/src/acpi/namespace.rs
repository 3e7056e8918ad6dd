//! The devices of all definition blocks, with those of their objects that say what they are and where.
//!
//! ```text
//! blocks -> objects, as they come -> sorted by device -> Device { _HID, _CID, _CRS, _BBN, _SEG, _STA }
//! ```
//!
//! A device's objects may stand apart, in a scope that names it again, even in another table.
//!
//! # Invariants
//! - I1: the objects of a device are neighbours, devices in the order in which they are first named.

use core::fmt;

use super::aml::{self, Item, Outcome, Path, Seg, Value};
use super::resources::{self, Resource};

/// An object in storage of the caller.
#[derive(Clone, Copy, Debug)]
pub struct Object<'t> {
    device: Path,
    /// When the device was first named, and when this object was.
    order: (u32, u32),
    key: Key,
    item: Item<'t>,
}

impl Object<'_> {
    /// A filler for storage.
    pub const EMPTY: Self = Self { device: Path::ROOT, order: (0, 0), key: Key::Device, item: Item::Device };
}

/// What an object is to its device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    Device,
    Hid,
    Cid,
    Crs,
    Bbn,
    Seg,
    Sta,
}

impl Key {
    fn new(seg: Seg) -> Option<Self> {
        Some(match seg.bytes() {
            b"_HID" => Self::Hid,
            b"_CID" => Self::Cid,
            b"_CRS" => Self::Crs,
            b"_BBN" => Self::Bbn,
            b"_SEG" => Self::Seg,
            b"_STA" => Self::Sta,
            _ => return None,
        })
    }
}

/// Calls `visit` with each object of interest.
fn each<'t>(blocks: impl Iterator<Item = &'t [u8]>, mut visit: impl FnMut(Object<'t>)) -> Outcome {
    let mut order = 0;
    let mut outcome = Outcome::Whole;
    for block in blocks {
        let this = aml::walk(block, &mut |path, item| {
            let found = match item {
                Item::Device => Some((*path, Key::Device)),
                Item::Name(_) | Item::Method => path.last().and_then(Key::new).zip(path.parent()).map(swap),
            };
            if let Some((device, key)) = found {
                visit(Object { device, order: (0, order), key, item });
                order = order.saturating_add(1);
            }
        });
        if this == Outcome::Partial {
            outcome = Outcome::Partial;
        }
    }
    outcome
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// The devices of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'n, 't> {
    objects: &'n [Object<'t>],
    outcome: Outcome,
}

impl<'n, 't> Namespace<'n, 't> {
    /// How many slots [`new`](Self::new) needs for these blocks: the bodies of the DSDT and all SSDTs.
    pub fn slots(blocks: impl Iterator<Item = &'t [u8]>) -> usize {
        let mut nr = 0;
        each(blocks, |_| nr += 1);
        nr
    }

    /// Finds the devices in the blocks. Objects that find no slot are left out.
    pub fn new(slots: &'n mut [Object<'t>], blocks: impl Iterator<Item = &'t [u8]>) -> Self {
        let mut nr = 0;
        let outcome = each(blocks, |object| {
            if let Some(slot) = slots.get_mut(nr) {
                *slot = object;
                nr += 1;
            }
        });
        let objects = &mut slots[..nr];
        objects.sort_unstable_by_key(|o| (o.device, o.order));
        for device in objects.chunk_by_mut(|a, b| a.device == b.device) {
            let first = device[0].order.1;
            device.iter_mut().for_each(|o| o.order.0 = first);
        }
        objects.sort_unstable_by_key(|o| o.order);
        Self { objects, outcome }
    }

    /// Whether the blocks were understood.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The devices that are there, in the order in which they are first named.
    pub fn devices(&self) -> impl Iterator<Item = Device<'n, 't>> + Clone + use<'n, 't> {
        let groups = self.objects.chunk_by(|a, b| a.order.0 == b.order.0);
        groups.map(Device).filter(|d| d.objects(Key::Device).next().is_some() && d.is_present())
    }
}

/// A device.
#[derive(Clone, Copy, Debug)]
pub struct Device<'n, 't>(&'n [Object<'t>]);

impl<'n, 't> Device<'n, 't> {
    fn objects(self, key: Key) -> impl Iterator<Item = Item<'t>> + use<'n, 't> {
        self.0.iter().filter(move |o| o.key == key).map(|o| o.item)
    }

    fn value(self, key: Key) -> Option<Value<'t>> {
        self.objects(key).find_map(|item| if let Item::Name(value) = item { Some(value) } else { None })
    }

    fn number(self, key: Key) -> Option<u64> {
        self.value(key).and_then(|value| if let Value::Number(number) = value { Some(number) } else { None })
    }

    /// Its name.
    pub fn path(&self) -> &'n Path {
        &self.0[0].device
    }

    /// Its id (`_HID`).
    pub fn id(self) -> Option<DeviceId> {
        DeviceId::new(self.value(Key::Hid)?)
    }

    /// Whether this is its id, or one that it is compatible with (`_HID`, `_CID`).
    pub fn is(self, id: DeviceId) -> bool {
        let compatible = self.value(Key::Cid).into_iter().flat_map(Value::each).filter_map(DeviceId::new);
        self.id().into_iter().chain(compatible).any(|own| own == id)
    }

    /// Whether it is there: unless it says no. A method is not asked.
    fn is_present(self) -> bool {
        const PRESENT: u64 = 1;
        self.number(Key::Sta).is_none_or(|status| status & PRESENT != 0)
    }

    /// What it decodes (`_CRS`).
    pub fn resources(self) -> impl Iterator<Item = Resource> + use<'t> {
        let bytes = match self.value(Key::Crs) {
            Some(Value::Bytes(bytes)) => bytes,
            _ => &[],
        };
        resources::decode(bytes)
    }

    /// Whether a method computes what it decodes, so that [`resources`](Self::resources) gives nothing.
    pub fn computes_resources(self) -> bool {
        self.value(Key::Crs).is_none() && self.objects(Key::Crs).next().is_some()
    }

    /// For the root of a PCI hierarchy, its first bus (Linux: `try_get_root_bridge_busnr`, then `_BBN`, then 0).
    pub fn first_bus(self) -> u8 {
        let decoded = self.resources().find_map(|r| if let Resource::Buses(b) = r { Some(b) } else { None });
        decoded.or_else(|| u8::try_from(self.number(Key::Bbn)?).ok()).unwrap_or(0)
    }

    /// For the root of a PCI hierarchy, its segment (`_SEG`).
    pub fn segment(self) -> u16 {
        self.number(Key::Seg).and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
    }
}

/// A device's id: up to 8 characters, such as `PNP0A03`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId([u8; 8]);

impl DeviceId {
    /// A PCI host bridge.
    pub const PCI_ROOT: Self = Self(*b"PNP0A03\0");
    /// A PCI Express host bridge.
    pub const PCIE_ROOT: Self = Self(*b"PNP0A08\0");
    /// A high-precision event timer.
    pub const HPET: Self = Self(*b"PNP0103\0");
    /// What the mainboard uses.
    pub const MAINBOARD: [Self; 2] = [Self(*b"PNP0C01\0"), Self(*b"PNP0C02\0")];

    /// From the value of an object: text, or the compressed form.
    pub fn new(value: Value<'_>) -> Option<Self> {
        let mut id = [0; 8];
        match value {
            Value::Text(text) => {
                let usable = !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric);
                id.get_mut(..text.len()).filter(|_| usable)?.copy_from_slice(text);
            }
            Value::Number(number) => {
                // Three letters of 5 bits and four digits of 4, high bits first, in big-endian order.
                let bits = u32::try_from(number).ok()?.swap_bytes();
                for (i, shift) in [26, 21, 16].into_iter().enumerate() {
                    id[i] = b'@' + (bits >> shift & 0x1f) as u8;
                }
                for (i, shift) in [12, 8, 4, 0].into_iter().enumerate() {
                    id[3 + i] = b"0123456789ABCDEF"[(bits >> shift & 0xf) as usize];
                }
            }
            _ => return None,
        }
        Some(Self(id))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let characters = self.0.iter().take_while(|&&byte| byte != 0);
        characters.into_iter().try_for_each(|&byte| fmt::Write::write_char(f, char::from(byte)))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
