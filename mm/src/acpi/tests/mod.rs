use super::aml::{Item, Outcome, Path, Value};
use super::namespace::Object;
use super::resources::{Prefetch, Resource};
use super::*;
use crate::addr::{PHYS_LIMIT, PhysRange};
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The DSDTs of QEMU 7.2's machines `pc` and `q35` with 512 MiB.
fn dsdt(machine: &str) -> Vec<u8> {
    let text = match machine {
        "pc" => include_str!("dsdt-pc.hex"),
        _ => include_str!("dsdt-q35.hex"),
    };
    Table::new(&hex(text), *b"DSDT").unwrap().body().to_vec()
}

fn table(signature: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend((36 + body.len() as u32).to_le_bytes());
    bytes.resize(36, 0);
    bytes.extend(body);
    bytes[9] = bytes.iter().fold(0u8, |sum, b| sum.wrapping_sub(*b));
    bytes
}

fn r(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end).unwrap()
}

fn memory(start: u64, end: u64) -> Resource {
    Resource::Memory { range: r(start, end), prefetch: Prefetch::Forbidden }
}

/// Runs `f` on the devices of some blocks.
fn with_devices<R>(blocks: &[&[u8]], f: impl FnOnce(&Namespace<'_, '_>) -> R) -> R {
    let mut slots = vec![Object::EMPTY; Namespace::slots(blocks.iter().copied())];
    f(&Namespace::new(&mut slots, blocks.iter().copied()))
}

/// Name, id and resources of each device that decodes memory or buses.
fn shown(blocks: &[&[u8]]) -> Vec<(String, String, Vec<Resource>)> {
    with_devices(blocks, |namespace| {
        let all = namespace.devices().map(|d| {
            let id = d.id().map_or(String::new(), |id| id.to_string());
            (d.path().to_string(), id, d.resources().collect::<Vec<_>>())
        });
        all.filter(|(_, _, resources)| !resources.is_empty()).collect()
    })
}

#[test]
fn the_devices_of_a_pc_are_found() {
    let want = [
        (
            "\\_SB_.PCI0".into(),
            "PNP0A03".into(),
            vec![
                Resource::Buses(0),
                memory(0xa_0000, 0xc_0000),
                memory(0x2000_0000, 0xfec0_0000),
                memory(1 << 32, 6 << 30),
            ],
        ),
        ("\\_SB_.HPET".into(), "PNP0103".into(), vec![memory(0xfed0_0000, 0xfed0_0400)]),
    ];
    assert_eq!(shown(&[&dsdt("pc")]), want);
    assert_eq!(aml::walk(&dsdt("pc"), &mut |_, _| {}), Outcome::Whole);
}

#[test]
fn the_devices_of_a_q35_are_found() {
    let got = shown(&[&dsdt("q35")]);
    let found: Vec<_> = got.iter().map(|(path, id, _)| (path.as_str(), id.as_str())).collect();
    let want = [("\\_SB_.PCI0", "PNP0A08"), ("\\_SB_.DRAC", "PNP0C01"), ("\\_SB_.HPET", "PNP0103")];
    assert_eq!(found, want);
    let windows = [
        Resource::Buses(0),
        memory(0xa_0000, 0xc_0000),
        memory(0x2000_0000, 0xb000_0000),
        memory(0xc000_0000, 0xfec0_0000),
        memory(1 << 32, 0x9_0000_0000),
    ];
    assert_eq!(got[0].2, windows);
    assert_eq!(got[1].2, [memory(0xb000_0000, 0xc000_0000)]);
    with_devices(&[&dsdt("q35")], |namespace| {
        let root = namespace.devices().find(|d| d.is(DeviceId::PCI_ROOT)).unwrap();
        assert!(root.is(DeviceId::PCIE_ROOT), "by its own id and by the compatible one");
        assert_eq!((root.segment(), root.first_bus()), (0, 0));
    });
}

/// A package's length and content.
fn package(content: &[u8]) -> Vec<u8> {
    let length = content.len() + 3;
    let lead = [0x80 | (length & 0xf) as u8, (length >> 4) as u8, (length >> 12) as u8];
    [&lead, content].concat()
}

fn device(name: &[u8], content: &[u8]) -> Vec<u8> {
    [&[0x5b, 0x82][..], &package(&[name, content].concat())].concat()
}

fn scope(name: &[u8], content: &[u8]) -> Vec<u8> {
    [&[0x10][..], &package(&[name, content].concat())].concat()
}

fn method(name: &[u8]) -> Vec<u8> {
    // Its body cannot be read as terms.
    [&[0x14][..], &package(&[name, &[0, 0xa4, 0xff]].concat())].concat()
}

fn name(name: &[u8], value: &[u8]) -> Vec<u8> {
    [b"\x08", name, value].concat()
}

fn template(bytes: &[u8]) -> Vec<u8> {
    [&[0x11][..], &package(&[&[0x0a, bytes.len() as u8][..], bytes].concat())].concat()
}

const FIXED: &[u8] = &[0x86, 9, 0, 1, 0, 0, 0xd0, 0xfe, 0, 4, 0, 0, 0x79, 0];
const PNP0103: &[u8] = &[0x0c, 0x41, 0xd0, 0x01, 0x03];

#[test]
fn objects_of_a_device_may_stand_apart() {
    let first = scope(b"\\_SB_", &device(b"TIM0", &name(b"_HID", PNP0103)));
    let second = name(b"\\._SB_TIM0".as_slice(), &[]);
    assert_eq!(shown(&[&first, &second]), [], "a name that is cut off");
    let two = [b"\\\x2e_SB_TIM0".as_slice(), b"\\\x2f\x02_SB_TIM0"];
    for path in two {
        let apart = scope(path, &name(b"_CRS", &template(FIXED)));
        let want = [("\\_SB_.TIM0".into(), "PNP0103".into(), vec![memory(0xfed0_0000, 0xfed0_0400)])];
        assert_eq!(shown(&[&first, &apart]), want);
        assert_eq!(shown(&[&apart, &first]), want);
        assert_eq!(shown(&[&apart]), [], "a scope is no device");
    }
    let up = scope(b"_SB_", &scope(b"XXXX", &name(b"^TIM0", &[0])));
    let mut paths = Vec::new();
    aml::walk(&up, &mut |path, item| paths.push((path.to_string(), item)));
    assert_eq!(paths, [("\\_SB_.TIM0".into(), Item::Name(Value::Number(0)))]);
}

#[test]
fn a_device_that_says_it_is_absent_is_left_out() {
    let with = |status: &[u8]| {
        let crs = name(b"_CRS", &template(FIXED));
        shown(&[&device(b"TIM0", &[name(b"_HID", PNP0103), status.to_vec(), crs].concat())]).len()
    };
    assert_eq!(with(&name(b"_STA", &[0])), 0);
    assert_eq!(with(&name(b"_STA", &[0x0a, 0x0e])), 0);
    assert_eq!(with(&name(b"_STA", &[0x0a, 0x0f])), 1);
    assert_eq!(with(&method(b"_STA")), 1, "a method is not asked");
    assert_eq!(with(&[]), 1);
}

#[test]
fn computed_resources_are_known_to_be() {
    let bytes = device(b"PCI0", &[name(b"_HID", b"\x0dPNP0A03\0"), method(b"_CRS")].concat());
    with_devices(&[&bytes], |namespace| {
        let root = namespace.devices().next().unwrap();
        assert!(root.is(DeviceId::PCI_ROOT) && root.computes_resources());
        assert_eq!(root.resources().count(), 0);
    });
}

#[test]
fn a_root_bridge_takes_its_first_bus_from_its_windows_or_its_number() {
    let of = |objects: &[Vec<u8>]| {
        with_devices(&[&device(b"PC80", &objects.concat())], |namespace| {
            let root = namespace.devices().next().unwrap();
            (root.segment(), root.first_bus())
        })
    };
    let bbn = || name(b"_BBN", &[0x0a, 0x80]);
    let buses = [0x88, 0x0d, 0, 2, 0xc, 0, 0, 0, 0x40, 0, 0x4f, 0, 0, 0, 0x10, 0, 0x79, 0];
    assert_eq!(of(&[]), (0, 0));
    assert_eq!(of(&[bbn(), name(b"_SEG", &[1])]), (1, 0x80));
    assert_eq!(of(&[bbn(), name(b"_CRS", &template(&buses))]), (0, 0x40));
    assert_eq!(of(&[name(b"_BBN", &[0x0b, 0, 1])]), (0, 0), "there are 256 buses");
}

#[test]
fn what_only_running_could_tell_ends_its_package_only() {
    let broken = scope(b"_SB_", &[vec![0x70, 1, 2], device(b"LOST", &[])].concat());
    let bytes = [broken, device(b"KEPT", &[])].concat();
    let mut found = Vec::new();
    let outcome = aml::walk(&bytes, &mut |path, _| found.push(path.to_string()));
    assert_eq!((outcome, found), (Outcome::Partial, vec!["\\KEPT".into()]));
}

#[test]
fn terms_that_name_no_device_are_stepped_over() {
    let terms: [&[u8]; 12] = [
        b"\x06AAAABBBB",
        b"\x15\x2eAAAABBBB\x06\x00",
        &[b"\xa0", package(&[1, 0x70, 0]).as_slice()].concat(),
        &[b"\xa1", package(&[0x70, 0]).as_slice()].concat(),
        b"\xa3",
        b"\x5b\x01AAAA\x00",
        b"\x5b\x02AAAA",
        b"\x5b\x80AAAA\x01\x0b\x00\xae\x0a\x08",
        &[b"\x5b\x81", package(b"AAAA\x01BBBB\x20").as_slice()].concat(),
        b"\x5b\x13AAAA\x00\x0a\x08BBBB",
        b"\x8aAAAA\x00BBBB",
        &[b"\x08AAAA\x12", package(&[2, 0x0a, 1, 0x0d, 0]).as_slice()].concat(),
    ];
    for term in terms {
        let bytes = [term, &device(b"KEPT", &[])].concat();
        let mut last = None;
        let outcome = aml::walk(&bytes, &mut |path, item| last = Some((path.to_string(), item)));
        assert_eq!((outcome, last), (Outcome::Whole, Some(("\\KEPT".into(), Item::Device))), "{term:x?}");
    }
    let processor =
        [b"\x5b\x83", package(&[b"CPU0\x00", &[0; 5][..], &device(b"DEV0", &[])].concat()).as_slice()]
            .concat();
    let power =
        [b"\x5b\x84", package(&[b"PWR0", &[0; 3][..], &device(b"DEV0", &[])].concat()).as_slice()].concat();
    for (bytes, want) in [(processor, "\\CPU0.DEV0"), (power, "\\PWR0.DEV0")] {
        let mut found = Vec::new();
        assert_eq!(aml::walk(&bytes, &mut |path, _| found.push(path.to_string())), Outcome::Whole);
        assert_eq!(found, [want]);
    }
}

#[test]
fn deep_nesting_ends() {
    let nested = |depth| (0..depth).fold(device(b"DEEP", &[]), |inner, _| scope(b"AAAA", &inner));
    let walk = |bytes: &[u8]| {
        let mut nr = 0;
        (aml::walk(bytes, &mut |_, _| nr += 1), nr)
    };
    assert_eq!(walk(&nested(15)), (Outcome::Whole, 1));
    assert_eq!(walk(&nested(16)), (Outcome::Partial, 0));
    assert_eq!(walk(&nested(2000)), (Outcome::Partial, 0));
    // Paths that go nowhere but deeper in packages; values in values.
    let in_place = (0..2000).fold(Vec::new(), |inner, _| scope(b"\\\0", &inner));
    assert_eq!(walk(&in_place).0, Outcome::Partial);
    let values = (0..2000).fold(vec![0], |inner, _| [&[0x13][..], &package(&inner)].concat());
    walk(&name(b"AAAA", &values));
}

#[test]
fn ids_are_numbers_or_text() {
    let of = |value| DeviceId::new(value).map(|id| id.to_string());
    assert_eq!(of(Value::Number(0x030a_d041)), Some("PNP0A03".into()));
    assert_eq!(DeviceId::new(Value::Number(0x030a_d041)), Some(DeviceId::PCI_ROOT));
    assert_eq!(of(Value::Text(b"QEMU0002")), Some("QEMU0002".into()));
    assert_eq!(of(Value::Text(b"")), None);
    assert_eq!(of(Value::Text(b"TOOLONG99")), None);
    assert_eq!(of(Value::Text(b"A B")), None);
    assert_eq!(of(Value::Number(1 << 32)), None);
}

#[test]
fn each_memory_descriptor_is_decoded() {
    #[track_caller]
    fn decoded(bytes: &[u8], want: &[Resource]) {
        assert_eq!(resources::decode(bytes).collect::<Vec<_>>(), want);
    }
    decoded(FIXED, &[memory(0xfed0_0000, 0xfed0_0400)]);
    decoded(&[0x81, 9, 0, 1, 0x00, 0x0a, 0xff, 0x0b, 0, 0, 0x00, 0x02], &[memory(0xa_0000, 0xc_0000)]);
    let u32s = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let u64s = |values: &[u64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let memory32 = [&[0x85, 17, 0, 1][..], &u32s(&[0x1000, 0x8000, 0, 0x2000])].concat();
    decoded(&memory32, &[memory(0x1000, 0x3000)]);
    let dword = |general, specific, values: &[u32]| {
        [&[0x87, 23, 0, 0, general, specific][..], &u32s(values)].concat()
    };
    decoded(&dword(0xc, 3, &[0, 0x1000, 0x1fff, 0, 0x1000]), &[memory(0x1000, 0x2000)]);
    decoded(&dword(0xc, 3, &[0, 0x1000, 0x1fff, 0x10, 0x1000]), &[memory(0x1010, 0x2010)]);
    decoded(&dword(0xd, 3, &[0, 0x1000, 0x1fff, 0x10, 0x1000]), &[memory(0x1000, 0x2000)]);
    decoded(&dword(0xc, 3, &[0, 0x1000, 0x1fff, 0, 0]), &[]);
    decoded(&dword(0xc, 3, &[0, 0x2000, 0x1fff, 0, 0x1000]), &[]);
    let prefetch = Resource::Memory { range: r(0x1000, 0x2000), prefetch: Prefetch::Allowed };
    decoded(&dword(0xc, 7, &[0, 0x1000, 0x1fff, 0, 0x1000]), &[prefetch]);
    let qword = [&[0x8a, 43, 0, 0, 0xc, 3][..], &u64s(&[0, 1 << 32, (6 << 30) - 1, 0, 2 << 30])].concat();
    decoded(&qword, &[memory(1 << 32, 6 << 30)]);
    let extended =
        [&[0x8b, 53, 0, 0, 0xc, 3, 1, 0][..], &u64s(&[0, 1 << 32, (6 << 30) - 1, 0, 2 << 30, 0])].concat();
    decoded(&[&extended[..], &qword].concat(), &[memory(1 << 32, 6 << 30); 2]);
    let out_of_reach = [&[0x8a, 43, 0, 0, 0xc, 3][..], &u64s(&[0, 0, u64::MAX, 0, 1])].concat();
    decoded(&[&out_of_reach[..], FIXED].concat(), &[memory(0xfed0_0000, 0xfed0_0400)]);
    // An interrupt and ports before; nothing after the end, nor of what is cut off.
    decoded(
        &[&[0x22, 4, 0, 0x47, 1, 0, 0, 0, 1, 1, 0][..], FIXED, FIXED].concat(),
        &[memory(0xfed0_0000, 0xfed0_0400)],
    );
    decoded(&FIXED[..10], &[]);
}

#[test]
fn the_timers_table_is_read() {
    let hpet = |space, address: u64, sequence| {
        table(
            *b"HPET",
            &[
                &0x8086_a201u32.to_le_bytes(),
                &[space, 0, 0, 0][..],
                &address.to_le_bytes(),
                &[sequence, 0, 0, 0],
            ]
            .concat(),
        )
    };
    let range = r(0xfed0_0000, 0xfed0_0400);
    assert_eq!(Hpet::new(&hpet(0, 0xfed0_0000, 3)), Ok(Some(Hpet { id: 0x8086_a201, sequence: 3, range })));
    assert_eq!(Hpet::new(&hpet(0, 0, 0)), Ok(None));
    assert_eq!(Hpet::new(&hpet(1, 0xfed0_0000, 0)), Err(TableError::Value));
    assert_eq!(Hpet::new(&hpet(0, PHYS_LIMIT, 0)), Err(TableError::Value));
    assert_eq!(Hpet::new(&table(*b"HPET", &[0; 8])), Err(TableError::Truncated));
}

#[test]
fn mapped_configuration_space_is_read() {
    let entry = |base: u64, segment: u8, first, last| {
        [&base.to_le_bytes()[..], &[segment, 0, first, last, 0, 0, 0, 0]].concat()
    };
    let entries = [
        entry(0xb000_0000, 0, 0, 255),
        entry(0xe000_0000, 1, 0x40, 0x7f),
        entry(0, 0, 0, 1),
        entry(0xb000_0000, 0, 2, 1),
        entry(u64::MAX, 0, 0, 1),
        vec![0; 15],
    ];
    let bytes = table(*b"MCFG", &[&[0; 8], entries.concat().as_slice()].concat());
    let regions: Vec<_> = Mcfg::new(&bytes).unwrap().regions().collect();
    let region = |segment, first_bus, last_bus, range| McfgRegion { segment, first_bus, last_bus, range };
    let want = [
        Ok(region(0, 0, 255, r(0xb000_0000, 0xc000_0000))),
        Ok(region(1, 0x40, 0x7f, r(0xe400_0000, 0xe800_0000))),
        Err(TableError::Value),
        Err(TableError::Value),
        Err(TableError::Value),
    ];
    assert_eq!(regions, want);
    assert!(matches!(Mcfg::new(&table(*b"MCFG", &[0; 7])), Err(TableError::Truncated)));
}

#[test]
fn the_dsdt_is_where_the_wide_field_says_if_it_does() {
    let fadt = |size: usize, short: u32, long: u64| {
        let mut body = vec![0; size];
        body[4..8].copy_from_slice(&short.to_le_bytes());
        if let Some(field) = body.get_mut(104..112) {
            field.copy_from_slice(&long.to_le_bytes());
        }
        Fadt::new(&table(*b"FACP", &body)).map(|fadt| fadt.dsdt)
    };
    assert_eq!(fadt(80, 0x1000, 0), Ok(0x1000));
    assert_eq!(fadt(208, 0x1000, 0), Ok(0x1000));
    assert_eq!(fadt(208, 0x1000, 1 << 40), Ok(1 << 40));
    assert_eq!(Fadt::new(&table(*b"FACP", &[0; 4])), Err(TableError::Truncated));
}

#[test]
fn the_madt_says_where_the_interrupt_controllers_are() {
    let io_apic = |address: u32, first: u32| {
        [&[1, 12, 7, 0][..], &address.to_le_bytes(), &first.to_le_bytes()].concat()
    };
    let local = |address: u64| [&[5, 12, 0, 0][..], &address.to_le_bytes()].concat();
    let madt = |entries: &[Vec<u8>]| {
        table(*b"APIC", &[&0xfee0_0000u32.to_le_bytes()[..], &[0; 4], &entries.concat()].concat())
    };
    let bytes = madt(&[
        io_apic(0xfec0_0000, 0),
        io_apic(0, 24),
        vec![1, 8, 0, 0, 0, 0, 0xc1, 0xfe],
        io_apic(0xfec0_0000, 48),
        io_apic(0xfec1_0000, 72),
    ]);
    let found: Vec<_> = Madt::new(&bytes).unwrap().io_apics().collect();
    let want = [(0xfec0_0000, 0), (0xfec1_0000, 72)];
    assert_eq!(found, want.map(|(address, first_interrupt)| IoApic { id: 7, address, first_interrupt }));
    assert_eq!(Madt::new(&bytes).unwrap().local_apic_address(), Some(0xfee0_0000));
    let bytes = madt(&[local(1), io_apic(1, 0), local(1 << 33), vec![5, 10, 0, 0, 0, 0, 0, 0, 0, 0]]);
    assert_eq!(Madt::new(&bytes).unwrap().local_apic_address(), Some(1 << 33));
}

/// Looks at everything that can be seen of blocks.
fn look(blocks: &[&[u8]]) {
    with_devices(blocks, |namespace| {
        for device in namespace.devices() {
            let _ = format!("{:?} {:?}", device.path(), device.id());
            let _ = (device.is(DeviceId::PCI_ROOT), device.segment(), device.first_bus());
            device.resources().for_each(drop);
        }
    });
}

proptest! {
    #[test]
    fn arbitrary_definition_blocks_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        look(&[&bytes]);
    }

    #[test]
    fn blocks_of_amls_own_bytes_never_panic(
        bytes in prop::collection::vec(
            prop::sample::select(b"\x00\x01\x06\x08\x0a\x0d\x10\x11\x12\x13\x14\x2e\x2f\x5b\x80\x81\x82\x83\xa0^\\_HIDCRS".as_slice()),
            0..300,
        ),
    ) {
        look(&[&bytes]);
    }

    #[test]
    fn damaged_real_blocks_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = dsdt("pc");
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let cut = cut.index(bytes.len());
        look(&[&bytes[..cut], &bytes[cut..]]);
        look(&[&bytes]);
    }

    #[test]
    fn arbitrary_templates_give_valid_ranges(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        for resource in resources::decode(&bytes) {
            if let Resource::Memory { range, .. } = resource {
                prop_assert!(!range.is_empty());
            }
        }
    }

    #[test]
    fn arbitrary_tables_never_panic(body in prop::collection::vec(any::<u8>(), 0..260)) {
        for signature in [*b"HPET", *b"MCFG", *b"FACP", *b"APIC"] {
            for bytes in [table(signature, &body), body.clone()] {
                let _ = (Hpet::new(&bytes), Fadt::new(&bytes));
                Mcfg::new(&bytes).into_iter().for_each(|mcfg| mcfg.regions().for_each(drop));
                Madt::new(&bytes).into_iter().for_each(|madt| {
                    let _ = madt.local_apic_address();
                    madt.io_apics().for_each(drop);
                });
            }
        }
    }

    #[test]
    fn paths_compare_and_print_by_their_segments(names in prop::collection::vec("[A-Z_][A-Z0-9_]{3}", 0..20)) {
        let mut segs = names.iter().map(|n| aml::Seg::new(*n.as_bytes().first_chunk().unwrap()).unwrap());
        let path = segs.clone().try_fold(Path::ROOT, |path, seg| path.join(seg));
        match path {
            Some(path) => {
                prop_assert!(names.len() <= aml::MAX_DEPTH);
                prop_assert_eq!(path.to_string(), format!("\\{}", names.join(".")));
                prop_assert_eq!(path.last(), segs.next_back());
                prop_assert_eq!(path.parent().is_none(), names.is_empty());
            }
            None => prop_assert!(names.len() > aml::MAX_DEPTH),
        }
    }
}
