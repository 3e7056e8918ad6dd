use super::*;
use crate::e820::Entry;
use crate::pfn::Pfn;
use crate::testlog::capture;
use proptest::prelude::*;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// The firmware's map of QEMU's `pc` with 2 GiB: first and last bytes, kind.
const PC_2G: &[(u64, u64, u32)] = &[
    (0x0, 0x9fbff, 1),
    (0x9fc00, 0x9ffff, 2),
    (0xf0000, 0xfffff, 2),
    (0x10_0000, 0x7ffd_ffff, 1),
    (0x7ffe_0000, 0x7fff_ffff, 2),
    (0xfffc_0000, 0xffff_ffff, 2),
    (0xfd_0000_0000, 0xff_ffff_ffff, 2),
];

struct Booted {
    /// The map as it is after all steps.
    entries: Vec<(u64, u64, u32)>,
    last_pfn: Pfn,
    /// What was logged after the firmware's map.
    log: Vec<String>,
}

/// What boot does with the firmware's map `raw`, a kernel in `kernel` and a command line.
fn booted(raw: &[(u64, u64, u32)], kernel: &[(u64, u64)], cmdline: &str) -> Booted {
    let cmdline = Cmdline::new(cmdline);
    let mut storage = vec![Entry::EMPTY; 3 * capacity_for(raw.len(), &cmdline, kernel.len())];
    let mut map = Map::new(&mut storage);
    for &(first, last, kind) in raw {
        map.add(first, last - first + 1, Kind::from_raw(kind)).unwrap();
    }
    map.sanitise().unwrap();
    let (last_pfn, log) = capture(|| {
        map.apply_cmdline(&cmdline).unwrap();
        map.add_kernel(kernel.iter().map(|&(s, e)| PhysRange::new(s, e).unwrap())).unwrap();
        map.trim_bios_range().unwrap();
        map.end_of_ram_pfn()
    });
    map.validate(true);
    let triple = |e: &Entry| (e.range.start(), e.range.end() - 1, e.kind.raw());
    Booted { entries: map.entries().iter().map(triple).collect(), last_pfn, log }
}

const KERNEL: (u64, u64) = (0x100_0000, 0x381_1000);
const TRIMMED: [&str; 2] = [
    "e820: update [mem 0x00000000-0x00000fff] usable ==> reserved",
    "e820: remove [mem 0x000a0000-0x000fffff] usable",
];

fn name(kind: u32) -> Kind {
    Kind::from_raw(kind)
}

/// Checks against what Linux 6.1 logged on the 2 GiB machine: changes before and after the user's map, and that map.
#[track_caller]
fn as_linux(cmdline: &str, before: &[&str], user: &[(u64, u64, u32)], last_pfn: u64) {
    let booted = booted(PC_2G, &[KERNEL], cmdline);
    let mut want: Vec<String> = before.iter().map(|&line| line.into()).collect();
    want.push("user-defined physical RAM map:".into());
    want.extend(user.iter().map(|&(s, e, kind)| format!("user: [mem {s:#018x}-{e:#018x}] {}", name(kind))));
    want.extend(TRIMMED.map(String::from));
    want.push(format!("last_pfn = {last_pfn:#x} max_arch_pfn = 0x400000000"));
    assert_eq!(booted.log, want);
    assert_eq!(booted.last_pfn, Pfn::new(last_pfn));
}

#[test]
fn mem_512m_is_what_linux_makes_of_it() {
    let mut user = PC_2G.to_vec();
    user[3].1 = 0x1fff_ffff;
    as_linux("mem=512M", &["e820: remove [mem 0x20000000-0xfffffffffffffffe] usable"], &user, 0x20000);
}

#[test]
fn an_exact_map_is_what_linux_makes_of_it() {
    let user = [(0, 0x9fbff, 1), (0x10_0000, 0x3fff_ffff, 1)];
    as_linux("memmap=exactmap memmap=639K@0 memmap=1023M@1M", &[], &user, 0x40000);
}

#[test]
fn a_reserved_hole_is_what_linux_makes_of_it() {
    let mut user = PC_2G.to_vec();
    user[3].1 = 0x3fff_ffff;
    user.insert(4, (0x4000_0000, 0x43ff_ffff, 2));
    user.insert(5, (0x4400_0000, 0x7ffd_ffff, 1));
    as_linux("memmap=64M$1G", &[], &user, 0x7ffe0);
}

#[track_caller]
fn gives(cmdline: &str, raw: &[(u64, u64, u32)], want: &[(u64, u64, u32)]) {
    let cmdline = Cmdline::new(cmdline);
    let mut storage = vec![Entry::EMPTY; 3 * capacity_for(raw.len(), &cmdline, 0)];
    let mut map = Map::new(&mut storage);
    raw.iter().for_each(|&(s, e, kind)| map.add(s, e - s + 1, name(kind)).unwrap());
    map.sanitise().unwrap();
    map.apply_cmdline(&cmdline).unwrap();
    map.validate(true);
    let got: Vec<_> =
        map.entries().iter().map(|e| (e.range.start(), e.range.end() - 1, e.kind.raw())).collect();
    assert_eq!(got, want, "{}", cmdline.text());
}

#[test]
fn changes_see_what_stands_before_them_only() {
    let ram = [(0, 0x3fff_ffff, 1)];
    // The limit takes what was usable when it was read; what is added later stays.
    gives("mem=16M memmap=16M@512M", &ram, &[(0, 0xff_ffff, 1), (0x2000_0000, 0x20ff_ffff, 1)]);
    gives("memmap=16M@2G mem=16M", &ram, &[(0, 0xff_ffff, 1)]);
    gives("mem=64M mem=16M mem=32M", &ram, &[(0, 0xff_ffff, 1)]);
    gives("memmap=16M@2G,exactmap,16M@16M", &ram, &[(0x100_0000, 0x1ff_ffff, 1)]);
}

#[test]
fn ranges_under_others_come_to_light_when_those_go() {
    let ram = [(0, 0xffff_ffff, 1)];
    gives("memmap=64M#1G,64M%1G-3", &ram, &ram);
    gives("memmap=64M$1G mem=512M", &ram, &[(0, 0x1fff_ffff, 1), (0x4000_0000, 0x43ff_ffff, 2)]);
    gives("memmap=64M#1G,64M%1G", &ram, &[(0, 0x3fff_ffff, 1), (0x4400_0000, 0xffff_ffff, 1)]);
}

#[test]
fn kinds_are_converted_where_they_lie() {
    let raw = [(0, 0xffff, 1), (0x2_0000, 0x2_ffff, 2)];
    gives("memmap=64K%0x8000-1+7", &raw, &[(0, 0x7fff, 1), (0x8000, 0xffff, 7), (0x2_0000, 0x2_ffff, 2)]);
    gives("memmap=1M%0-2+5", &raw, &[(0, 0xffff, 1), (0x2_0000, 0x2_ffff, 5)]);
    gives("memmap=4K%0+12", &raw, &[(0, 0xfff, 12), (0x1000, 0xffff, 1), (0x2_0000, 0x2_ffff, 2)]);
    gives(
        "memmap=16M!0",
        &raw,
        &[(0, 0xffff, 12), (0x1_0000, 0x1_ffff, 12), (0x2_0000, 0x2_ffff, 12), (0x3_0000, 0xff_ffff, 12)],
    );
    gives("memmap=exactmap", &raw, &[]);
}

#[test]
fn malformed_options_are_reported_once_and_change_nothing() {
    let options = "mem=nopentium mem=0 memmap=1M@,2M@,exactmaps memmap= memmap=1M%2G-1+1";
    let booted = booted(PC_2G, &[KERNEL], options);
    let want = [
        "mem=nopentium ignored! (only supported on x86_32)",
        "Malformed early option 'mem'",
        "Malformed early option 'mem'",
        "Malformed early option 'memmap'",
        "Malformed early option 'memmap'",
        "Malformed early option 'memmap'",
    ];
    assert_eq!(booted.log[..want.len()], want);
    assert_eq!(booted.log[want.len()..][..2], TRIMMED);
}

#[test]
fn the_valid_parts_of_a_list_count() {
    gives(
        "memmap=4K$0,bad,4K#8K",
        &[(0, 0xffff, 1)],
        &[(0, 0xfff, 2), (0x1000, 0x1fff, 1), (0x2000, 0x2fff, 3), (0x3000, 0xffff, 1)],
    );
}

#[test]
fn ranges_that_are_empty_or_wrap_are_dropped_with_a_message() {
    let (_, log) = capture(|| gives("memmap=0@1M,2@0xffffffffffffffff,15E@0,1M@0", &[], &[(0, 0xf_ffff, 1)]));
    let want = [
        "e820: ignored entry at 0x0000000000100000 of 0x0 bytes (usable)",
        "e820: ignored entry at 0xffffffffffffffff of 0x2 bytes (usable)",
        "e820: ignored entry at 0x0000000000000000 of 0xf000000000000000 bytes (usable)",
        "user-defined physical RAM map:",
        "user: [mem 0x0000000000000000-0x00000000000fffff] usable",
    ];
    assert_eq!(log, want);
}

#[test]
fn the_kernel_stays_usable_whatever_the_user_says() {
    let warning = ".text .data .bss are not marked as E820_TYPE_RAM!";
    let kernel = [KERNEL, (0x390_0000, 0x390_1000)];
    for (options, warned) in
        [("mem=1G", false), ("mem=32M", true), ("memmap=1M$16M", true), ("memmap=exactmap", true)]
    {
        let booted = booted(PC_2G, &kernel, options);
        assert_eq!(
            booted.log.iter().filter(|line| *line == warning).count(),
            usize::from(warned),
            "{options}"
        );
        for (start, end) in kernel {
            let inside = |e: &&(u64, u64, u32)| e.0 <= start && end - 1 <= e.1 && e.2 == 1;
            assert_eq!(booted.entries.iter().filter(inside).count(), 1, "{options}");
        }
    }
}

#[test]
fn options_that_the_map_has_no_room_for_are_ignored_as_a_whole() {
    let mut storage = vec![Entry::EMPTY; 3 * 8];
    let mut map = Map::new(&mut storage);
    map.add(0, 0x1000, Kind::RAM).unwrap();
    let (result, log) =
        capture(|| map.apply_cmdline(&Cmdline::new("mem=2K memmap=1@1,1@2,1@3,1@4 memmap=1%1 memmap=1%1-2")));
    assert_eq!(result, Ok(()));
    map.validate(true);
    let ignored = log.iter().filter(|line| line.contains("too many entries; ignoring"));
    assert_eq!(ignored.count(), 2, "{log:?}");
    assert_eq!(map.entries()[0].range, PhysRange::new(0, 0x800).unwrap());
}

#[test]
fn a_copy_holds_the_same_entries() {
    let mut storage = vec![Entry::EMPTY; 30];
    let mut map = Map::new(&mut storage);
    map.add(0, 10, Kind::RAM).unwrap();
    map.add(20, 10, Kind::ACPI).unwrap();
    let mut other = vec![Entry::EMPTY; map.copy_slots()];
    let copy = map.copied_to(&mut other).unwrap();
    assert_eq!(copy.entries(), map.entries());
    assert_eq!(map.copied_to(&mut []).unwrap_err(), Error::Full);
}

#[test]
fn what_only_the_user_calls_usable_is_found_piece_by_piece() {
    let range = |(s, e)| PhysRange::new(s, e).unwrap();
    let firmware = [(50, 60), (0, 20), (15, 25), (60, 70)].map(range);
    let mut storage = vec![Entry::EMPTY; 30];
    let mut map = Map::new(&mut storage);
    for (start, size, kind) in [(90, 10, Kind::RAM), (5, 60, Kind::RAM), (70, 10, Kind::RESERVED)] {
        map.add(start, size, kind).unwrap();
    }
    let next = |from| map.next_usable_outside(from, firmware.iter().copied());
    assert_eq!(next(0), Some(range((25, 50))));
    assert_eq!(next(30), Some(range((30, 50))));
    assert_eq!(next(50), Some(range((90, 100))));
    assert_eq!(next(100), None);
}

/// The kind of a byte by definition: each entry that covers it is a kind of its own, changed one by one.
fn naive(raw: &[(u64, u64, u32)], changes: &[Change], byte: u64) -> Option<u32> {
    let covers = |start: u64, size: u64| start <= byte && byte - start < size;
    let mut kinds: Vec<u32> =
        raw.iter().filter(|r| covers(r.0, r.1 - r.0 + 1)).map(|r| r.2).max().into_iter().collect();
    for &change in changes {
        match change {
            Change::Limit(end) if byte >= end => kinds.retain(|&k| k != 1),
            Change::Exact => kinds.clear(),
            Change::Add { start, size_bytes, kind } if covers(start, size_bytes) => kinds.push(kind.raw()),
            Change::Update { start, size_bytes, old, new } if covers(start, size_bytes) => {
                kinds.iter_mut().filter(|k| **k == old.raw()).for_each(|k| *k = new.raw());
            }
            Change::Remove { start, size_bytes, old } if covers(start, size_bytes) => {
                kinds.retain(|&k| old.is_some_and(|old| old.raw() != k));
            }
            _ => {}
        }
    }
    kinds.into_iter().max()
}

fn change() -> impl Strategy<Value = Change> {
    let kind = || prop::sample::select(vec![1u32, 2, 3, 7, 12]).prop_map(Kind::from_raw);
    let range = || (0u64..64, 0u64..32);
    prop_oneof![
        1 => (0u64..64).prop_map(Change::Limit),
        1 => Just(Change::Exact),
        6 => (range(), kind()).prop_map(|((start, size_bytes), kind)| Change::Add { start, size_bytes, kind }),
        4 => (range(), kind(), kind()).prop_filter_map("the same kind", |((start, size_bytes), old, new)| {
            (old != new).then_some(Change::Update { start, size_bytes, old, new })
        }),
        4 => (range(), prop::option::of(kind()))
            .prop_map(|((start, size_bytes), old)| Change::Remove { start, size_bytes, old }),
    ]
}

fn raw_entry() -> impl Strategy<Value = (u64, u64, u32)> {
    (0u64..64, 0u64..32, prop::sample::select(vec![1u32, 2, 3, 12]))
        .prop_map(|(s, len, kind)| (s, s + len, kind))
}

/// The options that ask for `changes`.
fn written(changes: &[Change]) -> String {
    let word = |change: &Change| match *change {
        Change::Limit(end) => format!("memmap={end}"),
        Change::Exact => "memmap=exactmap".into(),
        Change::Add { start, size_bytes, kind } => format!("memmap={size_bytes}%{start}+{}", kind.raw()),
        Change::Update { start, size_bytes, old, new } => {
            format!("memmap={size_bytes}%{start}-{}+{}", old.raw(), new.raw())
        }
        Change::Remove { start, size_bytes, old } => {
            format!("memmap={size_bytes}%{start}-{}", old.map_or(0, Kind::raw))
        }
    };
    changes.iter().map(word).collect::<Vec<_>>().join(" ")
}

proptest! {
    #[test]
    fn each_byte_becomes_what_the_options_say(
        raw in prop::collection::vec(raw_entry(), 0..8),
        changes in prop::collection::vec(change(), 0..12),
    ) {
        let text = written(&changes);
        let cmdline = Cmdline::new(&text);
        let mut storage = vec![Entry::EMPTY; 3 * capacity_for(raw.len(), &cmdline, 1)];
        let mut map = Map::new(&mut storage);
        raw.iter().for_each(|&(s, e, kind)| map.add(s, e - s + 1, name(kind)).unwrap());
        map.sanitise().unwrap();
        map.apply_cmdline(&cmdline).unwrap();
        map.validate(true);
        for byte in 0..100 {
            let got = map.entries().iter().find(|e| e.range.contains(byte)).map(|e| e.kind.raw());
            prop_assert_eq!(got, naive(&raw, &changes, byte), "byte {} of {}", byte, text);
        }
        map.add_kernel([PhysRange::new(30, 50).unwrap()].into_iter()).unwrap();
        prop_assert!(map.mapped_all(PhysRange::new(30, 50).unwrap(), Some(Kind::RAM)));
        map.trim_bios_range().unwrap();
        map.validate(true);
    }

    #[test]
    fn any_command_line_leaves_a_sound_map(text in "((mem|memmap)=[0-9KMGE@#$!%+,x-]{0,24} ){0,8}") {
        let booted = booted(PC_2G, &[KERNEL], &text);
        prop_assert!(booted.last_pfn >= Pfn::new(KERNEL.1 >> 12));
    }
}
