//! How a case is measured: a batch of operations between two readings of the time stamp counter, several times over.
//!
//! ```text
//! rep 0 (warms up, not counted)   rep 1   ...   rep 9      median of 9, less an empty loop, by the operations
//! [ tsc, op, op, ... op, tsc ]    [ ... ]       [ ... ]
//! ```
//! Under `-icount shift=0` a tick is an instruction, so that figures are counts and two runs agree.

use core::arch::asm;
use core::fmt;
use core::hint::black_box;

use mm::arch::{IrqGuard, ticks};

/// Counted repetitions of a batch.
const REPS: usize = 9;

/// Ticks per operation, in tenths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tenths(u64);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

impl Tenths {
    /// The median of `samples` of `ops` operations each, without the loop around them.
    fn of(mut samples: [u64; REPS], ops: usize, empty_loop: u64) -> Self {
        samples.sort_unstable();
        Self(samples[REPS / 2].saturating_sub(empty_loop) * 10 / ops as u64)
    }
}

/// Whether interrupts are kept off while a batch runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Irqs {
    /// Yes.
    Off,
    /// No: for batches that take long.
    Untouched,
}

impl Irqs {
    fn guard(self) -> Option<IrqGuard> {
        (self == Self::Off).then(IrqGuard::new)
    }
}

/// In which order the second half of a batch takes what the first half made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Back {
    /// The first one first.
    InTurn,
    /// The last one first.
    Reversed,
}

/// Keeps the compiler from moving memory accesses of one operation into another (Linux: `barrier`).
#[inline(always)]
fn barrier() {
    // SAFETY: no instruction.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// Ticks that `body` takes for all items.
#[inline(always)]
pub(super) fn time<T>(items: impl Iterator<Item = T>, mut body: impl FnMut(T)) -> u64 {
    let start = ticks();
    for item in items {
        barrier();
        body(item);
    }
    ticks() - start
}

/// Ticks of that many turns of an empty loop, and of reading the counter.
#[inline(never)]
fn empty(turns: usize) -> u64 {
    (0..5).map(|_| time(0..turns, drop)).min().unwrap_or(0)
}

/// Ticks of `body`, which runs `ops` times in a batch.
#[inline(always)]
pub(super) fn each(ops: usize, irqs: Irqs, mut body: impl FnMut()) -> Tenths {
    let ops = black_box(ops);
    let mut samples = [0; REPS];
    for rep in 0..=REPS {
        let guard = irqs.guard();
        let ticks = time(0..ops, |_| body());
        drop(guard);
        if rep > 0 {
            samples[rep - 1] = ticks;
        }
    }
    Tenths::of(samples, ops, empty(ops))
}

/// Ticks an item of `fill` for each of `slots`, then of `drain` for each, and of both.
#[inline(always)]
pub(super) fn batch<T>(
    slots: &mut [T],
    irqs: Irqs,
    back: Back,
    mut fill: impl FnMut(&mut T),
    mut drain: impl FnMut(&mut T),
) -> [Tenths; 3] {
    let (ops, mut filling, mut draining) = (slots.len(), [0; REPS], [0; REPS]);
    for rep in 0..=REPS {
        let guard = irqs.guard();
        let filled = time(slots.iter_mut(), &mut fill);
        let drained = match back {
            Back::InTurn => time(slots.iter_mut(), &mut drain),
            Back::Reversed => time(slots.iter_mut().rev(), &mut drain),
        };
        drop(guard);
        if rep > 0 {
            (filling[rep - 1], draining[rep - 1]) = (filled, drained);
        }
    }
    let empty = empty(ops);
    let both = core::array::from_fn(|rep| filling[rep] + draining[rep]);
    [Tenths::of(filling, ops, empty), Tenths::of(draining, ops, empty), Tenths::of(both, ops, 2 * empty)]
}

/// Ticks an item of two kinds of work on `ops` items, which `round` measures itself: one call, then a loop of so many turns
/// (0: another call).
#[inline(always)]
pub(super) fn halves(ops: usize, turns: usize, mut round: impl FnMut() -> [u64; 2]) -> [Tenths; 3] {
    let mut samples = [[0; REPS]; 2];
    for rep in 0..=REPS {
        let guard = Irqs::Off.guard();
        let ticks = round();
        drop(guard);
        if rep > 0 {
            (samples[0][rep - 1], samples[1][rep - 1]) = (ticks[0], ticks[1]);
        }
    }
    [Tenths::of(samples[0], ops, empty(0)), Tenths::of(samples[1], ops, empty(turns)), Tenths::default()]
}
