//! A simulated machine with memory for what a target allocates.

use mm::arch::SimMachine;
use mm::memblock::{Memblock, Region};
use mm::{PhysRange, e820};

/// The memory that is really there; what memblock hands out lies below.
const SIM_BYTES: u64 = 8 << 30;

/// Runs `f` with memblock over the map's usable memory, its arrays having `slots` slots before they grow. Returns `None`
/// when the memory has more ranges than that: the arrays cannot grow before there is memory to grow into.
pub(crate) fn with_memblock<R>(
    map: &e820::Map<'_>,
    slots: usize,
    f: impl FnOnce(&mut Memblock<'_>) -> R,
) -> Option<R> {
    let sim = SimMachine::new(SIM_BYTES);
    let (mut memory, mut reserved) = (vec![Region::EMPTY; slots], vec![Region::EMPTY; slots]);
    let mut memblock = Memblock::new(&mut memory, &mut reserved);
    memblock.set_current_limit(SIM_BYTES);
    // SAFETY: below the limit is the simulated RAM; it outlives `memblock`, and nobody else uses it.
    unsafe { memblock.allow_resize(sim.machine()) };
    // As the kernel does: a frame that can be address 0 is never handed out.
    memblock.reserve(PhysRange::new(0, 1 << 20)?).ok()?;
    memblock.add_usable(map).ok()?;
    memblock.validate();
    let result = f(&mut memblock);
    memblock.validate();
    Some(result)
}

/// The same, over `size_bytes` of memory from address 0.
pub(crate) fn with_memory<R>(size_bytes: u64, f: impl FnOnce(&mut Memblock<'_>) -> R) -> R {
    let mut storage = [e820::Entry::EMPTY; 12];
    let mut map = e820::Map::new(&mut storage);
    map.add(0, size_bytes, e820::Kind::RAM).expect("room for one");
    with_memblock(&map, 128, f).expect("room for one")
}
