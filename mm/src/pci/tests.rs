use super::*;
use crate::acpi::resources::Prefetch;
use crate::resource::{Id, Slot, Tree, Window, Windows};
use crate::testlog::capture;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

fn at(bus: u8, device: u8, function: u8) -> PciAddress {
    PciAddress::new(PciBus { segment: 0, bus }, device, function).unwrap()
}

/// A register: its value, and which bits can be written.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Register {
    value: u32,
    writable: u32,
}

/// Functions by address, each with 64 registers.
#[derive(Clone, PartialEq, Debug, Default)]
struct Model(RefCell<BTreeMap<PciAddress, [Register; 64]>>);

impl Config for Model {
    fn read(&self, at: PciAddress, offset: u8) -> u32 {
        assert_eq!(offset % 4, 0);
        self.0.borrow().get(&at).map_or(u32::MAX, |f| f[usize::from(offset / 4)].value)
    }

    fn write(&self, at: PciAddress, offset: u8, value: u32) {
        assert_eq!(offset % 4, 0);
        let mut functions = self.0.borrow_mut();
        let Some(function) = functions.get_mut(&at) else { return };
        let host_bridge = function[2].value >> 16 == 0x0600;
        let silent = function[1].value & (DECODE_MEMORY | DECODE_PORTS) == 0;
        assert!(offset == register::COMMAND || silent || host_bridge, "I1: {at} {offset:#x}");
        let register = &mut function[usize::from(offset / 4)];
        // The upper half of the command register is cleared by ones.
        assert!(offset != register::COMMAND || value >> 16 == 0);
        let writable = if offset == register::COMMAND { 0xffff } else { register.writable };
        register.value = register.value & !writable | value & writable;
    }
}

impl Model {
    fn add(&self, at: PciAddress, class: u32, header: u8, command: u32) {
        let mut registers = [Register::default(); 64];
        registers[0].value = 0x1234_1af4;
        registers[1].value = 0x0010_0000 | command;
        registers[2].value = class << 8;
        registers[3].value = u32::from(header) << 16;
        self.0.borrow_mut().insert(at, registers);
    }

    fn set(&self, at: PciAddress, offset: u8, value: u32, writable: u32) {
        self.0.borrow_mut().get_mut(&at).unwrap()[usize::from(offset / 4)] = Register { value, writable };
    }

    fn scan(&self, roots: &[u8]) -> Vec<Function> {
        let before = self.clone();
        let mut slots = vec![Function::EMPTY; count(self, roots.iter().copied())];
        let found = scan(self, roots.iter().copied(), |_| false, &mut slots).to_vec();
        assert_eq!(*self, before, "I1: registers are as they were");
        assert_eq!(found.len(), slots.len());
        found
    }
}

const MEMORY: u32 = DECODE_MEMORY;
const NETWORK: u32 = 0x02_0000;

/// The tree with all of it, a root bus with windows given.
#[track_caller]
fn claimed(model: &Model, windows: &[(u8, u64, u64)]) -> (String, Vec<String>) {
    let roots: Vec<u8> = windows.iter().map(|w| w.0).collect();
    let functions = model.scan(&roots);
    let mut slots = vec![Slot::EMPTY; 200];
    let mut tree = Tree::new(&mut slots, PhysRange::new(0, 1 << 40).unwrap()).unwrap();
    let mut storage = vec![Window::EMPTY; windows.len() + 2 * functions.len()];
    let mut known = Windows::new(&mut storage);
    for &(bus, start, end) in windows {
        let bus = PciBus { segment: 0, bus };
        let id =
            tree.insert(PhysRange::new(start, end).unwrap(), crate::resource::Name::PciBus(bus)).unwrap();
        known.add(Window { bus, id, prefetch: Prefetch::Forbidden }).unwrap();
    }
    let ((), log) = capture(|| {
        claim(&mut tree, &mut known, &functions).unwrap();
        claim_roms(&mut tree, &known, &functions).unwrap();
    });
    tree.validate();
    (tree.to_string(), log)
}

const LOW: (u8, u64, u64) = (0, 0x8000_0000, 0xfec0_0000);
const HIGH: (u8, u64, u64) = (0, 1 << 32, 8 << 32);

#[test]
fn bars_of_each_kind_are_sized() {
    let model = Model::default();
    model.add(at(0, 2, 0), NETWORK, 0, MEMORY);
    model.set(at(0, 2, 0), 0x10, 0xfeb0_0000, 0xfffe_0000);
    model.set(at(0, 2, 0), 0x14, 0xc001, 0xffe0);
    model.set(at(0, 2, 0), 0x18, 0x0000_000c, 0xffff_0000);
    model.set(at(0, 2, 0), 0x1c, 0x2, u32::MAX);
    // Not set; then the lower half of one at the end, which counts as a whole.
    model.set(at(0, 2, 0), 0x20, 0, 0xffff_f000);
    model.set(at(0, 2, 0), 0x24, 0xfea0_0004, 0xffff_fff0);
    model.set(at(0, 2, 0), 0x30, 0xfeb8_0000, 0xfffc_0001);
    let (tree, log) = claimed(&model, &[LOW, HIGH]);
    let want = "\
80000000-febfffff : PCI Bus 0000:00
  fea00000-fea0000f : 0000:00:02.0
  feb00000-feb1ffff : 0000:00:02.0
  feb80000-febbffff : 0000:00:02.0
100000000-7ffffffff : PCI Bus 0000:00
  200000000-20000ffff : 0000:00:02.0
";
    assert_eq!((tree.as_str(), log.len()), (want, 0));
}

#[test]
fn a_function_in_ram_that_is_used_goes_on_decoding() {
    let model = Model::default();
    model.add(at(0, 2, 0), 0x03_0000, 0, MEMORY);
    model.set(at(0, 2, 0), 0x10, 0xfd00_0008, 0xff00_0000);
    model.set(at(0, 2, 0), 0x18, 0x0000_0004, 0xffff_0000);
    model.set(at(0, 2, 0), 0x1c, 0x2, u32::MAX);
    let scan_with = |ram: (u64, u64)| {
        let (mut slots, ram) = (vec![Function::EMPTY; 1], PhysRange::new(ram.0, ram.1).unwrap());
        capture(|| scan(&model, [0].into_iter(), |range| range.overlaps(ram), &mut slots)[0])
    };
    for ram in [(0xfdff_f000, 0xfe00_0000), (0, 1 << 32), (3 << 33, 4 << 33), (2 << 32, (2 << 32) + 1)] {
        let (function, log) = scan_with(ram);
        let found = function.bars.iter().flatten().count();
        let used = (2 << 32..4 << 32).contains(&ram.0) || ram.0 < 1 << 32;
        assert_eq!((found, log.len()), if used { (0, 1) } else { (2, 0) }, "{ram:#x?}");
    }
    let (function, log) = scan_with((0, 0xfd00_0000));
    assert_eq!((function.bars.iter().flatten().count(), log.len()), (2, 0));
}

#[test]
fn a_wide_bar_may_be_larger_than_4_gib() {
    let model = Model::default();
    model.add(at(0, 2, 0), NETWORK, 0, MEMORY);
    model.set(at(0, 2, 0), 0x10, 0x0000_000c, 0);
    model.set(at(0, 2, 0), 0x14, 0x4, 0xffff_fffe);
    let (tree, _) = claimed(&model, &[HIGH]);
    assert_eq!(tree.lines().nth(1), Some("  400000000-5ffffffff : 0000:00:02.0"));
}

#[test]
fn only_functions_that_are_there_are_asked() {
    let model = Model::default();
    model.add(at(0, 0, 0), 0x06_0000, 0, MEMORY);
    model.add(at(0, 1, 0), NETWORK, 0x80, 0);
    model.add(at(0, 1, 3), NETWORK, 0, 0);
    model.add(at(0, 2, 1), NETWORK, 0, 0);
    model.add(at(0, 3, 0), NETWORK, 0, 0);
    model.add(at(0, 3, 5), NETWORK, 0, 0);
    model.add(at(9, 0, 0), NETWORK, 0, 0);
    let found = |roots: &[u8]| model.scan(roots).iter().map(|f| f.address().to_string()).collect::<Vec<_>>();
    assert_eq!(found(&[0]), ["0000:00:00.0", "0000:00:01.0", "0000:00:01.3", "0000:00:03.0"]);
    assert_eq!(found(&[9, 9]), ["0000:09:00.0"]);
    assert_eq!(found(&[]), [""; 0]);
}

fn bridge(model: &Model, address: PciAddress, class: u32, secondary: u8, memory: u32, prefetch: [u32; 3]) {
    model.add(address, class, 1, MEMORY);
    model.set(address, 0x18, 0x00ff_0000 | u32::from(secondary) << 8, 0);
    model.set(address, 0x20, memory, 0);
    for (offset, value) in [0x24, 0x28, 0x2c].into_iter().zip(prefetch) {
        model.set(address, offset, value, 0);
    }
}

#[test]
fn what_is_behind_bridges_is_inside_their_windows() {
    let model = Model::default();
    bridge(&model, at(0, 5, 0), 0x06_0400, 1, 0xfe90_fe80, [0x0011_0001, 2, 2]);
    bridge(&model, at(1, 0, 0), 0x06_0400, 2, 0xfe80_fe80, [0x0000_fff0, 0, 0]);
    for (bus, bar) in [(1, 0xfe90_0000), (2, 0xfe80_0000)] {
        model.add(at(bus, 1, 0), NETWORK, 0, MEMORY);
        model.set(at(bus, 1, 0), 0x10, bar, 0xffff_f000);
    }
    model.set(at(1, 1, 0), 0x18, 0x0000_000c, 0xffff_0000);
    model.set(at(1, 1, 0), 0x1c, 0x2, u32::MAX);
    let (tree, log) = claimed(&model, &[LOW, HIGH]);
    let want = "\
80000000-febfffff : PCI Bus 0000:00
  fe800000-fe9fffff : PCI Bus 0000:01
    fe800000-fe8fffff : PCI Bus 0000:02
      fe800000-fe800fff : 0000:02:01.0
    fe900000-fe900fff : 0000:01:01.0
100000000-7ffffffff : PCI Bus 0000:00
  200000000-2001fffff : PCI Bus 0000:01
    200000000-20000ffff : 0000:01:01.0
";
    assert_eq!((tree.as_str(), log.len()), (want, 0));
}

#[test]
fn what_is_outside_its_windows_or_in_the_way_is_reported() {
    let model = Model::default();
    bridge(&model, at(0, 5, 0), 0x06_0400, 1, 0x0000_fff0, [0x8010_8000, 0, 0]);
    model.add(at(1, 1, 0), NETWORK, 0, MEMORY);
    // May not be read ahead, but is in a window for what may be.
    model.set(at(1, 1, 0), 0x10, 0x8000_0000, 0xffff_f000);
    model.set(at(1, 1, 0), 0x14, 0x9000_0000, 0xffff_f000);
    model.add(at(0, 6, 0), NETWORK, 0, 0);
    model.set(at(0, 6, 0), 0x10, 0xa000_0000, 0xffff_f000);
    model.add(at(0, 7, 0), NETWORK, 0, MEMORY);
    model.set(at(0, 7, 0), 0x10, 0xa000_0000, 0xffff_f000);
    let (tree, log) = claimed(&model, &[LOW]);
    let want = "\
80000000-febfffff : PCI Bus 0000:00
  80000000-801fffff : PCI Bus 0000:01
  a0000000-a0000fff : 0000:00:07.0
";
    assert_eq!(tree, want, "who decodes comes first");
    let want = [
        "pci 0000:01:01.0: can't claim BAR 0 [mem 0x80000000-0x80000fff]: no compatible bridge window",
        "pci 0000:01:01.0: can't claim BAR 1 [mem 0x90000000-0x90000fff]: no compatible bridge window",
        "pci 0000:00:06.0: can't claim BAR 0 [mem 0xa0000000-0xa0000fff]: address conflict with 0000:00:07.0 [mem 0xa0000000-0xa0000fff]",
    ];
    assert_eq!(log, want);
}

#[test]
fn behind_a_subtractive_bridge_the_windows_before_it_count() {
    for (class, shown) in [(0x06_0401, true), (0x06_0400, false)] {
        let model = Model::default();
        bridge(&model, at(0, 5, 0), class, 1, 0x0000_fff0, [0x0000_fff0, 0, 0]);
        model.add(at(1, 1, 0), NETWORK, 0, MEMORY);
        model.set(at(1, 1, 0), 0x10, 0x9000_0000, 0xffff_f000);
        assert_eq!(claimed(&model, &[LOW]).0.contains("0000:01:01.0"), shown);
    }
}

#[test]
fn the_rom_of_a_graphics_adapter_in_use_is_not_shown() {
    for (class, command, shown) in
        [(0x03_0000, MEMORY, false), (0x03_0000, 0, true), (0x03_8000, MEMORY, true)]
    {
        let model = Model::default();
        model.add(at(0, 2, 0), class, 0, command);
        model.set(at(0, 2, 0), 0x30, 0xfeb8_0000, 0xfffc_0001);
        assert_eq!(claimed(&model, &[LOW]).0.contains("0000:00:02.0"), shown, "{class:x} {command}");
    }
}

#[test]
fn bridges_that_lead_in_circles_end() {
    let model = Model::default();
    bridge(&model, at(0, 1, 0), 0x06_0400, 1, 0, [0; 3]);
    bridge(&model, at(0, 2, 0), 0x06_0400, 1, 0, [0; 3]);
    bridge(&model, at(1, 0, 0), 0x06_0401, 0, 0, [0; 3]);
    bridge(&model, at(1, 1, 0), 0x06_0401, 1, 0, [0; 3]);
    bridge(&model, at(1, 2, 0), 0x06_0401, 255, 0, [0; 3]);
    assert_eq!(model.scan(&[0, 1, 255]).len(), 5);
    claimed(&model, &[LOW]);
}

#[test]
fn without_a_word_from_acpi_bars_are_in_the_root() {
    let model = Model::default();
    model.add(at(0, 2, 0), NETWORK, 0, MEMORY);
    model.set(at(0, 2, 0), 0x10, 0xfeb0_0000, 0xfffe_0000);
    let functions = model.scan(&[0]);
    let mut slots = vec![Slot::EMPTY; 8];
    let mut tree = Tree::new(&mut slots, PhysRange::new(0, 1 << 40).unwrap()).unwrap();
    let mut storage =
        [Window { bus: PciBus { segment: 0, bus: 0 }, id: Id::ROOT, prefetch: Prefetch::Forbidden }; 2];
    let mut windows = Windows::new(&mut storage);
    windows.add(Window { id: Id::ROOT, ..Window::EMPTY }).unwrap();
    claim(&mut tree, &mut windows, &functions).unwrap();
    assert_eq!(tree.to_string(), "feb00000-feb1ffff : 0000:00:02.0\n");
}

proptest! {
    #[test]
    fn arbitrary_registers_are_left_as_they_were(
        functions in prop::collection::vec(
            (0u8..4, 0u8..3, 0u8..8, prop::collection::vec((any::<u32>(), any::<u32>()), 12), 0u8..3, any::<bool>()),
            0..12,
        ),
    ) {
        let model = Model::default();
        for (bus, device, function, registers, header, many) in functions {
            let address = at(bus, device, function);
            let class = [NETWORK, 0x06_0400, 0x06_0401, 0x06_0000][usize::from(header)];
            model.add(address, class, header | u8::from(many) << 7, registers[0].0 & 0x7);
            for (offset, (value, writable)) in (0x10u8..).step_by(4).zip(registers) {
                model.set(address, offset, value, writable);
            }
        }
        claimed(&model, &[LOW, HIGH]);
    }
}
