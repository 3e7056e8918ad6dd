//! `cma=`, and setting memory aside as it says: what is had lies in memory that was free, and a refusal takes nothing.
//!
//! Input: the text.

use mm::PhysRange;
use mm::arch::SimMachine;
use mm::cma::{self, CmaRequest};
use mm::memblock::{Memblock, Region};

pub(super) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some(request) = CmaRequest::parse(&text) else { return };
    let range = |start: u64, end: u64| PhysRange::new(start, end).expect("a range");
    let sim = SimMachine::new(5 << 30);
    let (mut memory, mut reserved) = ([Region::EMPTY; 16], [Region::EMPTY; 16]);
    let mut memblock = Memblock::new(&mut memory, &mut reserved);
    for (start, end) in [(0x1000, 3 << 30), (4 << 30, 5 << 30)] {
        memblock.add(range(start, end)).expect("room");
    }
    memblock.reserve(range(0, 16 << 20)).expect("room");
    // SAFETY: simulated RAM, nobody else's, as long as memblock.
    unsafe { memblock.allow_resize(sim.machine()) };
    let before = memblock.reserved_bytes();
    match cma::reserve(&mut memblock, request, "reserved") {
        Ok(Some(area)) => {
            let (start, end) = (area.pages().start.byte(), area.pages().end.byte());
            assert!(start >= 16 << 20 && memblock.is_region_memory(range(start, end)), "{text:?}");
            assert!(end - start >= request.size_bytes && start.is_multiple_of(cma::MIN_ALIGN_BYTES));
            assert!(memblock.reserved_bytes() > before + (end - start));
        }
        Ok(None) => assert_eq!((request.size_bytes, memblock.reserved_bytes()), (0, before)),
        Err(_) => assert_eq!(memblock.reserved_bytes(), before, "{text:?} takes memory in vain"),
    }
    memblock.validate();
}
