//! `mem=` and `memmap=` on a firmware's map, with the room that the kernel makes: nothing fails, the kernel stays usable.
//!
//! Input: a command line (its length, then text), then map entries, 20 bytes each.

use mm::PhysRange;
use mm::cmdline::Cmdline;
use mm::e820::{Entry, Kind, Map, capacity_for};

use crate::input::Input;

const MAX_ENTRIES: usize = 40;
/// Where the kernel is: two pieces.
const KERNEL: [(u64, u64); 2] = [(0x100_0000, 0x12_3000), (0x120_0000, 0x1000)];

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let text = input.text();
    let cmdline = Cmdline::new(&text);
    let mut raw = Vec::new();
    while !input.is_empty() && raw.len() < MAX_ENTRIES {
        raw.push(input.e820_entry());
    }
    let kernel = || KERNEL.into_iter().filter_map(|(start, size)| PhysRange::from_size(start, size));
    let mut storage = vec![Entry::EMPTY; 3 * capacity_for(raw.len(), &cmdline, KERNEL.len())];
    let mut map = Map::new(&mut storage);
    for (start, size, kind) in raw {
        map.add(start, size, Kind::from_raw(kind)).expect("room for every entry");
    }
    map.sanitise().expect("room for what sanitising makes of them");
    let firmware = map.entries().to_vec();

    map.apply_cmdline(&cmdline).expect("room for what the user wants");
    map.validate(true);
    if !cmdline.has("mem") && !cmdline.has("memmap") {
        assert_eq!(map.entries(), firmware, "nobody asked for a change");
    }
    map.add_kernel(kernel()).expect("room for the kernel");
    map.validate(true);
    assert!(kernel().all(|range| map.mapped_all(range, Some(Kind::RAM))), "the kernel is not in memory");
    map.trim_bios_range().expect("room for two ranges more");
    map.validate(true);

    let mut copy_storage = vec![Entry::EMPTY; map.copy_slots()];
    let copy = map.copied_to(&mut copy_storage).expect("room for a copy");
    assert_eq!(copy.entries(), map.entries());
}
