//! The firmware's memory map: sanitised maps agree with the rule, byte for byte.
//!
//! Input: a byte, bit 0 of which chooses the form of the entries that follow (20 bytes as the BIOS call returns them, or
//! 3 bytes, which overlap more often), the upper four bits how little a small map holds.

use mm::addr::PHYS_LIMIT;
use mm::e820::{Entry, Kind, MAX_ARCH_PFN, Map};
use mm::{Pfn, PhysRange};

use crate::input::Input;

/// Most entries of an input: the naive map is quadratic.
const MAX_ENTRIES: usize = 64;

type Raw = (u64, u64, u32);

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let flags = input.u8();
    let raw = raw_entries(&mut input, flags & 1 != 0);
    as_the_kernel_does(&raw);
    in_little_room(&raw, usize::from(flags >> 4));
}

fn raw_entries(input: &mut Input<'_>, dense: bool) -> Vec<Raw> {
    let mut raw = Vec::new();
    while !input.is_empty() && raw.len() < MAX_ENTRIES {
        raw.push(match dense {
            true => {
                (u64::from(input.u8()) << 12, u64::from(input.u8() % 64) << 12, u32::from(input.u8() % 16))
            }
            false => input.e820_entry(),
        });
    }
    raw
}

/// With the room that the kernel provides, nothing can fail.
fn as_the_kernel_does(raw: &[Raw]) {
    let mut storage = vec![Entry::EMPTY; 3 * 2 * (raw.len() + 2)];
    let mut map = Map::new(&mut storage);
    for &(start, size, kind) in raw {
        map.add(start, size, Kind::from_raw(kind)).expect("room for every entry");
    }
    map.validate(false);
    map.sanitise().expect("room for what sanitising makes of them");
    map.validate(true);
    agrees_with_the_rule(&map, raw);
    map.print_bios_map();

    let once = map.entries().to_vec();
    map.sanitise().expect("room for the same again");
    assert_eq!(map.entries(), once, "sanitising twice is sanitising once");

    map.trim_bios_range().expect("room for two ranges more");
    map.validate(true);
    trimmed(&map, &once);
    ends(&map);
    changed(map, raw);
}

/// At each bound of an entry, the map has the highest kind of those that cover it.
fn agrees_with_the_rule(map: &Map<'_>, raw: &[Raw]) {
    let good: Vec<Entry> = raw
        .iter()
        .filter_map(|&(start, size, kind)| {
            let range = PhysRange::from_size(start, size).filter(|range| !range.is_empty())?;
            Some(Entry { range, kind: Kind::from_raw(kind) })
        })
        .filter(|entry| entry.kind != Kind::NONE)
        .collect();
    let bounds: Vec<u64> = good.iter().flat_map(|e| [e.range.start(), e.range.end()]).collect();
    for &at in &bounds {
        let rule = good.iter().filter(|e| e.range.contains(at)).map(|e| e.kind).max();
        assert_eq!(kind_at(map.entries(), at), rule, "at {at:#x}");
    }
    for Entry { range, .. } in map.entries() {
        assert!(bounds.contains(&range.start()) && bounds.contains(&range.end()), "{range:?} is made up");
    }
}

fn kind_at(entries: &[Entry], at: u64) -> Option<Kind> {
    entries.iter().find(|e| e.range.contains(at)).map(|e| e.kind)
}

fn trimmed(map: &Map<'_>, before: &[Entry]) {
    let rom = PhysRange::new(0xa_0000, 0x10_0000).expect("a range");
    let first_page = PhysRange::new(0, 0x1000).expect("a range");
    assert!(!map.mapped_any(rom, Some(Kind::RAM)) && !map.mapped_any(first_page, Some(Kind::RAM)));
    let above = |entries: &[Entry]| -> u64 {
        let high = PhysRange::new(rom.end(), PHYS_LIMIT).expect("a range");
        let ram = entries.iter().filter(|e| e.kind == Kind::RAM);
        ram.filter_map(|e| e.range.intersect(high)).map(PhysRange::len_bytes).sum()
    };
    assert_eq!(above(map.entries()), above(before), "memory above 1 MiB is as it was");
}

fn ends(map: &Map<'_>) {
    let (end, low_end) = (map.end_of_ram_pfn(), map.end_of_low_ram_pfn());
    assert!(low_end <= end && low_end.byte() <= 1 << 32);
    // What begins past the direct map's end counts for nothing.
    let mut reachable = map.usable().filter(|range| Pfn::down(range.start()) < MAX_ARCH_PFN);
    assert!(reachable.all(|range| Pfn::down(range.end()) <= end || end == MAX_ARCH_PFN));
    for range in map.usable() {
        assert!(map.mapped_all(range, Some(Kind::RAM)) && map.mapped_any(range, None));
    }
}

/// Takes each entry's range out of the map again, by kind and whatever it is.
fn changed(mut map: Map<'_>, raw: &[Raw]) {
    for (i, &(start, size, kind)) in raw.iter().enumerate() {
        let before: u64 = map.entries().iter().map(|e| e.range.len_bytes()).sum();
        let removed = match i % 3 {
            0 => map.range_update(start, size, Kind::RAM, Kind::from_raw(kind)).map(|_| 0),
            1 => map.range_remove(start, size, Some(Kind::from_raw(kind))),
            _ => map.range_remove(start, size, None),
        };
        map.validate(false);
        let Ok(removed) = removed else { return };
        let after: u64 = map.entries().iter().map(|e| e.range.len_bytes()).sum();
        assert_eq!(after, before - removed);
        if i % 3 == 2
            && let Some(range) = PhysRange::from_size(start, size)
        {
            assert!(!map.mapped_any(range, None), "{range:?} is still there");
        }
        if map.sanitise().is_ok() {
            map.validate(true);
        }
    }
}

/// A map that is full says so and keeps what it has.
fn in_little_room(raw: &[Raw], room: usize) {
    let mut storage = vec![Entry::EMPTY; 3 * room];
    let mut map = Map::new(&mut storage);
    for &(start, size, kind) in raw {
        let before = map.entries().len();
        if map.add(start, size, Kind::from_raw(kind)).is_err() {
            assert_eq!((before, map.entries().len()), (room, room), "full only when it is full");
        }
    }
    let mut before = map.entries().to_vec();
    match map.sanitise() {
        Ok(()) => map.validate(true),
        Err(_) => {
            let mut after = map.entries().to_vec();
            let key = |e: &Entry| (e.range, e.kind);
            before.sort_by_key(key);
            after.sort_by_key(key);
            assert_eq!(after, before, "what cannot be sanitised stays");
        }
    }
    map.validate(false);
    changed(map, raw);
}
