//! Windows, ROMs and what goes around them.

use super::*;
use crate::acpi::namespace::{Namespace, Object};
use crate::acpi::resources::Prefetch;
use crate::acpi::{DeviceId, Hpet, Madt, Mcfg};
use crate::testlog::capture;

const BUS: PciBus = PciBus { segment: 0, bus: 0 };

fn window(bus: u8, start: u64, end: u64) -> Claim {
    Claim {
        range: r(start, end),
        name: Name::PciBus(PciBus { segment: 0, bus }),
        prefetch: Prefetch::Forbidden,
    }
}

fn claim(start: u64, end: u64, name: Name) -> Claim {
    Claim { range: r(start, end), name, prefetch: Prefetch::Forbidden }
}

fn with_windows(before: &[(u64, u64)], claims: &[Claim]) -> (String, Vec<String>, Vec<PhysRange>) {
    let mut slots = vec![Slot::EMPTY; 32];
    let mut tree = Tree::new(&mut slots, r(0, 0x1000)).unwrap();
    for &(start, end) in before {
        tree.insert(r(start, end), "x").unwrap();
    }
    let mut windows = vec![Window::EMPTY; claims.len()];
    let mut windows = Windows::new(&mut windows);
    let mut claims = claims.to_vec();
    let (result, log) = capture(|| tree.add_windows(&mut claims, &mut windows));
    result.unwrap();
    let of_bus = windows.of(BUS).map(|w| tree.range(w.id)).collect();
    (shown(&tree), log, of_bus)
}

#[test]
fn windows_of_one_bus_that_overlap_are_joined() {
    let (tree, _, windows) = with_windows(
        &[],
        &[window(0, 0x40, 0x60), window(0, 0x10, 0x20), window(0, 0x18, 0x41), window(1, 0x60, 0x80)],
    );
    assert_eq!(tree, "10-60 PCI Bus 0000:00, 60-80 PCI Bus 0000:01");
    assert_eq!(windows, [r(0x10, 0x60)]);
    let (tree, ..) = with_windows(&[], &[window(0, 0x10, 0x20), window(0, 0x20, 0x30)]);
    assert_eq!(tree, "10-20 PCI Bus 0000:00, 20-30 PCI Bus 0000:00", "neighbours are two");
}

#[test]
fn windows_that_cannot_be_are_reported() {
    let (tree, log, windows) = with_windows(
        &[(0x10, 0x30)],
        &[window(0, 0x20, 0x40), window(0, 0x800, 0x2000), window(1, 0x1000, 0x2000)],
    );
    assert_eq!(tree, "10-30 x, 800-1000 PCI Bus 0000:00", "what the CPU cannot address is cut off");
    assert_eq!(windows, [r(0x800, 0x1000)]);
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log.iter().any(|l| l.contains("conflicts with x [mem 0x00000010-0x0000002f]")), "{log:?}");
}

#[test]
fn names_read_as_under_linux() {
    let bus = PciBus { segment: 1, bus: 0xab };
    for (name, want) in [
        (Name::PciBus(bus), "PCI Bus 0001:ab"),
        (Name::PciDevice(PciAddress::new(bus, 31, 7).unwrap()), "0001:ab:1f.7"),
        (Name::Mmconfig { first: BUS, last: 0xff }, "PCI MMCONFIG 0000 [bus 00-ff]"),
        (Name::IoApic(2), "IOAPIC 2"),
        (Name::Hpet(0), "HPET 0"),
        (Name::AcpiDevice(DeviceId::HPET, 10), "PNP0103:0a"),
    ] {
        assert_eq!(name.to_string(), want);
    }
    assert!(PciAddress::new(bus, 32, 0).is_none() && PciAddress::new(bus, 0, 8).is_none());
}

#[test]
fn controllers_go_around_what_is_there() {
    let mut slots = vec![Slot::EMPTY; 32];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    tree.insert(r(0xb000_0000, 0xc000_0000), "Reserved").unwrap();
    let mut claims = [
        claim(0xfed0_0000, 0xfed0_0400, Name::Hpet(0)),
        claim(0xfed0_0000, 0xfed0_0400, Name::AcpiDevice(DeviceId::HPET, 0)),
        claim(0xb000_0000, 0xc000_0000, Name::Mmconfig { first: BUS, last: 255 }),
        claim(0xfec0_0000, 0xfec0_0400, Name::IoApic(0)),
    ];
    tree.add_windows(&mut claims, &mut Windows::new(&mut [])).unwrap();
    tree.add_devices(&claims).unwrap();
    tree.add_controllers(&claims).unwrap();
    let want = "\
b0000000-bfffffff : PCI MMCONFIG 0000 [bus 00-ff]
  b0000000-bfffffff : Reserved
fec00000-fec003ff : IOAPIC 0
fed00000-fed003ff : HPET 0
  fed00000-fed003ff : PNP0103:00
";
    assert_eq!(tree.to_string(), want);
}

fn mcfg(base: u64) -> Vec<u8> {
    let mut bytes = b"MCFG".to_vec();
    bytes.extend(60u32.to_le_bytes());
    bytes.resize(44, 0);
    bytes.extend(base.to_le_bytes());
    bytes.extend([0, 0, 0, 255, 0, 0, 0, 0]);
    bytes[9] = bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
    bytes
}

#[test]
fn configuration_space_counts_where_it_is_reserved() {
    let mut objects: [Object<'_>; 0] = [];
    let namespace = Namespace::new(&mut objects, core::iter::empty());
    let mut entries = vec![e820::Entry::EMPTY; 96];
    let mut map = e820::Map::new(&mut entries);
    map.add(0xb000_0000, 0x800_0000, e820::Kind::RESERVED).unwrap();
    map.add(0xb800_0000, 0x800_0000, e820::Kind::RESERVED).unwrap();
    map.add(0xd000_0000, 0x800_0000, e820::Kind::RESERVED).unwrap();
    let claimed = |base: u64| {
        let bytes = mcfg(base);
        let hpet = Some(Hpet { id: 0, sequence: 0, range: r(0x100, 0x500) });
        let claims = Claims { namespace, madt: None, hpet, mcfg: Mcfg::new(&bytes).ok(), local_apic: None };
        let mut found = Vec::new();
        claims.each(&map, &mut |claim| found.push(claim.name.to_string()));
        found
    };
    assert_eq!(claimed(0xb000_0000), ["HPET 0", "PCI MMCONFIG 0000 [bus 00-ff]"]);
    assert_eq!(claimed(0xd000_0000), ["HPET 0"]);
    assert_eq!(claimed(0xa000_0000), ["HPET 0"]);
}

#[test]
fn what_is_left_out_is_reported_once_a_table() {
    let mut objects: [Object<'_>; 0] = [];
    let namespace = Namespace::new(&mut objects, core::iter::empty());
    let mut bytes = mcfg(0xb000_0000);
    let entry = bytes[44..].to_vec();
    (0..3).for_each(|_| bytes.extend(&entry));
    (0..5).for_each(|_| bytes.extend([0; 16]));
    bytes[4] = bytes.len() as u8;
    bytes[9] = 0;
    bytes[9] = bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
    let claims = Claims { namespace, madt: None, hpet: None, mcfg: Mcfg::new(&bytes).ok(), local_apic: None };
    let mut entries = vec![e820::Entry::EMPTY; 32];
    let map = e820::Map::new(&mut entries);
    let (nr, log) = capture(|| {
        let mut nr = 0;
        claims.report(&map);
        claims.each(&map, &mut |_| nr += 1);
        nr
    });
    let want = [
        "ACPI: MCFG: 5 entries make no sense",
        "PCI: not using MMCONFIG: 4 ranges are not reserved, first [mem 0xb0000000-0xbfffffff]",
    ];
    assert_eq!((nr, log), (0, want.map(String::from).to_vec()));
}

#[test]
fn the_local_apic_is_where_the_madt_says_else_the_cpu() {
    let madt = |address: u32| {
        let mut bytes = b"APIC".to_vec();
        bytes.extend(44u32.to_le_bytes());
        bytes.resize(36, 0);
        bytes.extend(address.to_le_bytes());
        bytes.resize(44, 0);
        bytes[9] = bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
        bytes
    };
    let of = |table: &[u8], local_apic| {
        let mut objects: [Object<'_>; 0] = [];
        let namespace = Namespace::new(&mut objects, core::iter::empty());
        let claims = Claims { namespace, madt: Madt::new(table).ok(), hpet: None, mcfg: None, local_apic };
        let mut none = [];
        let mut found = Vec::new();
        claims.each(&e820::Map::new(&mut none), &mut |claim| found.push((claim.range.start(), claim.name)));
        found
    };
    let at = |start| vec![(start, Name::Text("Local APIC"))];
    assert_eq!(of(&madt(0xfee0_1000), Some(0xfee0_0000)), at(0xfee0_1000));
    assert_eq!(of(&[], Some(0xfee0_0000)), at(0xfee0_0000));
    assert_eq!(of(&madt(0xfee0_1000), None), [], "not reached through memory");
}

/// Puts a ROM of `blocks` of 512 bytes whose bytes add up to 0.
fn put(bytes: &mut [u8], start: usize, blocks: u8) {
    let rom = &mut bytes[start - 0xc_0000..][..512 * usize::from(blocks).max(1)];
    rom[..3].copy_from_slice(&[0x55, 0xaa, blocks]);
    rom[3] = 0;
    rom[3] = rom.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
}

#[track_caller]
fn roms(bytes: &[u8], want: &str) {
    let mut slots = vec![Slot::EMPTY; Tree::MAX_ROMS + 1];
    let mut tree = Tree::new(&mut slots, all()).unwrap();
    tree.add_roms(Rom::new(bytes)).unwrap();
    assert_eq!(shown(&tree), want);
}

#[test]
fn roms_are_found_by_signature_and_checksum() {
    const SYSTEM: &str = "f0000-100000 System ROM";
    let empty = || vec![0u8; 0x4_0000];
    roms(&[], SYSTEM);
    roms(&empty(), SYSTEM);
    let mut bytes = empty();
    put(&mut bytes, 0xc_0000, 78);
    put(&mut bytes, 0xc_a000, 7);
    put(&mut bytes, 0xc_b000, 3);
    put(&mut bytes, 0xd_0001, 3);
    roms(
        &bytes,
        "c0000-c9c00 Video ROM, ca000-cae00 Adapter ROM, cb000-cb600 Adapter ROM, f0000-100000 System ROM",
    );
    // The video ROM's length is not believed: to its end. An adapter's with a bad sum is none.
    bytes[0x100] ^= 1;
    bytes[0xb100] ^= 1;
    roms(&bytes, "c0000-c8000 Video ROM, ca000-cae00 Adapter ROM, f0000-100000 System ROM");
    let mut bytes = empty();
    put(&mut bytes, 0xc_1800, 0);
    put(&mut bytes, 0xe_8000, 64);
    roms(&bytes, "c1800-c8000 Video ROM, e8000-f0000 Adapter ROM, f0000-100000 System ROM");
    put(&mut bytes, 0xe_8000, 65);
    roms(&bytes, "c1800-c8000 Video ROM, f0000-100000 System ROM");
}

#[test]
fn an_extension_of_the_system_rom_ends_the_adapters() {
    let mut bytes = vec![0u8; 0x4_0000];
    put(&mut bytes, 0xe_8000, 4);
    bytes[0x2_0000..][..2].copy_from_slice(&[0x55, 0xaa]);
    roms(&bytes, "e8000-e8800 Adapter ROM, f0000-100000 System ROM");
    bytes[0x2_0010] = bytes[0x2_0000..0x3_0000].iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
    roms(&bytes, "e0000-f0000 Extension ROM, f0000-100000 System ROM");
}

proptest! {
    #[test]
    fn arbitrary_roms_never_panic(marks in prop::collection::vec((0usize..127, any::<u8>()), 0..40), cut in 0usize..0x4_0001) {
        let mut bytes = vec![0u8; 0x4_0000];
        for (at, blocks) in marks {
            bytes[at * 2048..][..3].copy_from_slice(&[0x55, 0xaa, blocks]);
            if blocks % 2 == 0 {
                bytes[at * 2048 + 3] = 0u8.wrapping_sub(0x55u8.wrapping_add(0xaa).wrapping_add(blocks));
            }
        }
        let mut slots = vec![Slot::EMPTY; Tree::MAX_ROMS + 1];
        let mut tree = Tree::new(&mut slots, all()).unwrap();
        tree.add_roms(Rom::new(&bytes[..cut])).unwrap();
        tree.validate();
    }
}
