//! Random operations against a naive model: what is true of each of a few small units of memory.

use super::tests::{Storage, r};
use super::*;
use crate::arch::SimMachine;
use crate::pfn::Pfn;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// The node and flags of a unit that is memory.
type Unit = Option<(Option<u16>, Flags)>;

const UNITS: u64 = 64;
/// Half a page, so that trimming has something to cut.
const UNIT: u64 = PAGE_SIZE as u64 / 2;
/// Where the units start: arrays grow below and above, never among them.
const BASE: u64 = 0x10_0000;
const END: u64 = BASE + UNITS * UNIT;
const TOP: u64 = 0x20_0000;

type Span = (u64, u64);

#[derive(Clone, Copy, Debug)]
enum Op {
    Add(Span),
    AddNode(Span, u16, Flags),
    Remove(Span),
    Reserve(Span),
    Free(Span),
    AddPhysmem(Span),
    SetNode(Span, Option<u16>),
    SetReservedNode(Span, Option<u16>),
    Mark(Span, Flags),
    Clear(Span, Flags),
    AvoidHotplug,
    SetLimit(u64),
    Trim,
    Enforce(u64),
    RemoveMap(u64),
    Cap(Span),
    Alloc { units: u64, align: u64, min: u64, max: Option<u64>, on: OnNode, up: bool, strict: bool },
}

fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    let span = || (0..UNITS, 0..14u64).prop_map(|(s, n)| (s, (s + n).min(UNITS)));
    let flags = || (0..16u32).prop_map(Flags::from_bits_retain);
    let node = || prop::option::of(0..3u16);
    let on = || {
        (0..3u16, 0..3u8).prop_map(|(n, kind)| match kind {
            0 => OnNode::Any,
            1 => OnNode::Prefer(NodeId(n)),
            _ => OnNode::Exact(NodeId(n)),
        })
    };
    let max = || prop::option::of(0..UNITS + 4);
    let alloc = (1..8u64, 0..3u32, 0..UNITS, max(), on(), any::<(bool, bool)>());
    prop_oneof![
        4 => span().prop_map(Add),
        4 => (span(), 0..3u16, flags()).prop_map(|(s, n, f)| AddNode(s, n, f & Flags::HOTPLUG)),
        3 => span().prop_map(Remove),
        4 => span().prop_map(Reserve),
        4 => span().prop_map(Free),
        2 => span().prop_map(AddPhysmem),
        3 => (span(), node()).prop_map(|(s, n)| SetNode(s, n)),
        2 => (span(), node()).prop_map(|(s, n)| SetReservedNode(s, n)),
        2 => (span(), flags()).prop_map(|(s, f)| Mark(s, f)),
        3 => (span(), flags()).prop_map(|(s, f)| Clear(s, f)),
        1 => Just(AvoidHotplug),
        1 => (0..UNITS + 8).prop_map(SetLimit),
        1 => Just(Trim),
        1 => (0..3 * UNITS).prop_map(Enforce),
        1 => (0..3 * UNITS).prop_map(RemoveMap),
        1 => span().prop_map(|(s, e)| Cap((s / 2, UNITS - (UNITS - e) / 2))),
        10 => alloc.prop_map(|(units, align, min, max, on, (up, strict))| {
            Alloc { units, align: 1 << align, min, max, on, up, strict }
        }),
    ]
}

/// What memblock stands for, unit by unit.
#[derive(Clone, PartialEq, Debug)]
struct Model {
    memory: Vec<Unit>,
    reserved: Vec<Option<Option<u16>>>,
    physmem: Vec<bool>,
    avoid: Flags,
    mirror: bool,
    limit: u64,
    /// Bytes that trimming cut off, which Linux keeps counting.
    trimmed: u64,
}

fn units((s, e): Span) -> std::ops::Range<usize> {
    s as usize..e as usize
}

impl Model {
    fn new() -> Self {
        Self {
            memory: vec![None; UNITS as usize],
            reserved: vec![None; UNITS as usize],
            physmem: vec![false; UNITS as usize],
            avoid: Flags::NOMAP | Flags::DRIVER_MANAGED,
            mirror: false,
            limit: u64::MAX,
            trimmed: 0,
        }
    }

    /// The node and flags of the unit if it is free and a walk with `flags` takes it.
    fn free(&self, u: u64, node: Option<u16>, flags: Flags) -> Unit {
        let (n, f) = self.memory.get(u as usize).copied().flatten()?;
        let taken = self.reserved[u as usize].is_none()
            && (node.is_none() || node == n)
            && f.contains(flags & Flags::MIRROR)
            && !f.intersects(self.avoid - flags);
        taken.then_some((n, f))
    }

    /// Linux allocates within one region of memory, so node and flags are the same all through.
    fn place(&self, op: Op, min: u64, node: Option<u16>, flags: Flags) -> Option<u64> {
        let Op::Alloc { units, align, max, up, strict, .. } = op else { return None };
        let max = if strict { max.unwrap_or(self.limit) } else { self.limit.min(max.unwrap_or(u64::MAX)) };
        let fits = |&s: &u64| {
            let first = self.free(s, node, flags);
            (BASE / UNIT + s).is_multiple_of(align)
                && s + units <= max
                && first.is_some()
                && (s..s + units).all(|u| self.free(u, node, flags) == first)
        };
        let mut places = (min..UNITS).filter(fits);
        if up { places.next() } else { places.next_back() }
    }

    fn alloc(&self, op: Op) -> Option<u64> {
        let Op::Alloc { min, on, strict, .. } = op else { return None };
        let node = on.node().map(|n| n.0);
        let with = |min, flags| {
            let on_node = self.place(op, min, node, flags);
            let falls_back = matches!(on, OnNode::Prefer(_));
            on_node.or_else(|| falls_back.then(|| self.place(op, min, None, flags))?)
        };
        let mirrored = |min| self.mirror.then(|| with(min, Flags::MIRROR)).flatten();
        let once = |min| mirrored(min).or_else(|| with(min, Flags::empty()));
        once(min).or_else(|| if strict { None } else { once(0) })
    }

    /// The unit where the first `n` units of memory end.
    fn end_of_first(&self, n: u64) -> Option<u64> {
        let memory = (0..UNITS).filter(|&u| self.memory[u as usize].is_some());
        n.checked_sub(1).and_then(|last| memory.map(|u| u + 1).nth(last as usize))
    }

    fn cap(&mut self, (s, e): Span) {
        if s == e || self.memory.iter().all(Option::is_none) {
            return;
        }
        for u in (0..UNITS).filter(|u| !(s..e).contains(u)).map(|u| u as usize) {
            self.memory[u] = self.memory[u].filter(|m| m.1.contains(Flags::NOMAP));
            self.reserved[u] = None;
        }
    }

    /// Runs of memory of one node and flags, as regions are.
    fn trim(&mut self) {
        let mut start = 0;
        while start < UNITS as usize {
            let run = self.memory[start..].iter().take_while(|m| **m == self.memory[start]).count();
            let end = start + run;
            if self.memory[start].is_some() {
                let whole = (start.next_multiple_of(2), end / 2 * 2);
                let vanishes = whole.0 >= whole.1;
                for u in (start..end).filter(|&u| vanishes || u < whole.0 || u >= whole.1) {
                    self.memory[u] = None;
                    self.trimmed += if vanishes { 0 } else { UNIT };
                }
            }
            start = end;
        }
    }

    fn apply(&mut self, op: Op) {
        let memory = |m: &mut Self, span, f: &dyn Fn(Unit) -> Unit| {
            m.memory[units(span)].iter_mut().for_each(|unit| *unit = f(*unit));
        };
        match op {
            Op::Add(s) => memory(self, s, &|m| m.or(Some((None, Flags::empty())))),
            Op::AddNode(s, n, f) => memory(self, s, &|m| m.or(Some((Some(n), f)))),
            Op::Remove(s) => memory(self, s, &|_| None),
            Op::SetNode(s, n) => memory(self, s, &|m| m.map(|(_, f)| (n, f))),
            Op::Mark(s, bits) => {
                memory(self, s, &|m| m.map(|(n, f)| (n, f | bits)));
                self.mirror |= bits.contains(Flags::MIRROR);
            }
            Op::Clear(s, bits) => memory(self, s, &|m| m.map(|(n, f)| (n, f - bits))),
            Op::Reserve(s) => self.reserved[units(s)].iter_mut().for_each(|x| *x = x.or(Some(None))),
            Op::Free(s) => self.reserved[units(s)].fill(None),
            Op::AddPhysmem(s) => self.physmem[units(s)].fill(true),
            Op::SetReservedNode(s, n) => {
                self.reserved[units(s)].iter_mut().for_each(|x| *x = x.map(|_| n));
            }
            Op::AvoidHotplug => self.avoid |= Flags::HOTPLUG,
            Op::SetLimit(at) => self.limit = at,
            Op::Trim => self.trim(),
            Op::Enforce(n) => {
                if let Some(at) = self.end_of_first(n) {
                    memory(self, (at, UNITS), &|_| None);
                    self.reserved[units((at, UNITS))].fill(None);
                }
            }
            Op::RemoveMap(n) => {
                if let Some(at) = self.end_of_first(n) {
                    self.cap((0, at));
                }
            }
            Op::Cap(s) => self.cap(s),
            Op::Alloc { units, .. } => {
                if let Some(at) = self.alloc(op) {
                    (at..at + units).for_each(|u| self.reserved[u as usize] = Some(None));
                }
            }
        }
    }
}

fn addr(unit: u64) -> u64 {
    BASE + unit * UNIT
}

/// What the operation allocated, if it is one that does.
fn apply(m: &mut Memblock<'_>, op: Op) -> Result<Option<u64>, Error> {
    let span = |(s, e): Span| r(addr(s), addr(e));
    let done = match op {
        Op::Add(s) => m.add(span(s)),
        Op::AddNode(s, n, f) => m.add_node(span(s), NodeId(n), f),
        Op::Remove(s) => m.remove(span(s)),
        Op::Reserve(s) => m.reserve(span(s)),
        Op::Free(s) => m.free(span(s)),
        Op::AddPhysmem(s) => m.add_physmem(span(s)),
        Op::SetNode(s, n) => m.set_node(span(s), n.map(NodeId)),
        Op::SetReservedNode(s, n) => m.set_reserved_node(span(s), n.map(NodeId)),
        Op::Mark(s, f) => m.mark(span(s), f),
        Op::Clear(s, f) => m.clear(span(s), f),
        Op::AvoidHotplug => {
            m.avoid_hotplug();
            Ok(())
        }
        Op::SetLimit(at) => {
            m.set_current_limit(addr(at));
            Ok(())
        }
        Op::Trim => {
            m.trim_memory(PAGE_SIZE as u64);
            Ok(())
        }
        Op::Enforce(n) => m.enforce_memory_limit(n * UNIT),
        Op::RemoveMap(n) => m.mem_limit_remove_map(n * UNIT),
        Op::Cap(s) => m.cap_memory_range(span(s)),
        Op::Alloc { units, align, min, max, on, up, strict } => {
            m.set_direction(if up { Direction::BottomUp } else { Direction::TopDown });
            let request = Request::new(units * UNIT).align(align * UNIT).from(addr(min)).on(on);
            let request = max.map_or(request, |max| request.below(addr(max)));
            let got = if strict { m.alloc_in_range(request) } else { m.alloc(request) };
            return match got {
                Err(Error::NoMemory) => Ok(None),
                got => got.map(|range| Some((range.start() - BASE) / UNIT)),
            };
        }
    };
    done.map(|()| None)
}

/// What memblock says of each unit.
fn read(m: &Memblock<'_>, model: &Model) -> Model {
    let each = || (0..UNITS).map(addr);
    let node = |x: &Region| x.node.map(|n| n.0);
    Model {
        memory: each().map(|at| m.memory.search(at).map(|x| (node(x), x.flags))).collect(),
        reserved: each().map(|at| m.reserved.search(at).map(node)).collect(),
        physmem: each().map(|at| m.physmem().iter().any(|x| x.range.contains(at))).collect(),
        mirror: m.has_mirror(),
        ..model.clone()
    }
}

/// Look-ups and walks say the same, for a walk by `node` and `flags` and for a span.
fn check(m: &Memblock<'_>, model: &Model, (s, e): Span, node: Option<u16>, flags: Flags) {
    m.validate();
    assert_eq!(read(m, model), *model);
    let inside = |f: &FreeRange| r(BASE, END).overlaps(f.range);
    let id = node.map(NodeId);
    let up: Vec<_> = m.free_ranges_with(id, flags).filter(inside).collect();
    let mut down: Vec<_> = m.free_ranges_down_with(id, flags).filter(inside).collect();
    down.reverse();
    assert_eq!(up, down);
    for u in 0..UNITS {
        let walked = up.iter().find(|f| f.range.contains(addr(u))).map(|f| (f.node.map(|n| n.0), f.flags));
        assert_eq!(walked, model.free(u, node, flags));
        let unit = model.memory[u as usize];
        assert_eq!(m.is_memory(addr(u)), unit.is_some());
        assert_eq!(m.is_map_memory(addr(u)), unit.is_some_and(|x| !x.1.contains(Flags::NOMAP)));
        assert_eq!(m.is_reserved(addr(u)), model.reserved[u as usize].is_some());
    }
    for pfn in BASE / (2 * UNIT)..END / (2 * UNIT) {
        let first = model.memory[(pfn * 2 - BASE / UNIT) as usize];
        assert_eq!(m.search_pfn(Pfn::new(pfn)).map(|x| x.1.map(|n| n.0)), first.map(|x| x.0));
    }
    let range = r(addr(s), addr(e));
    let memory = &model.memory[units((s, e))];
    assert_eq!(m.overlaps_memory(range), memory.iter().any(Option::is_some));
    assert_eq!(m.is_region_reserved(range), model.reserved[units((s, e))].iter().any(Option::is_some));
    let one_region = memory.first().copied().flatten().is_some() && memory.iter().all(|x| *x == memory[0]);
    assert!(s == e || m.is_region_memory(range) == one_region);
    let cut_off: u64 = m.physmem_ranges(m.memory()).map(|f| f.range.len_bytes() / UNIT).sum();
    let want = (0..UNITS as usize).filter(|&u| model.physmem[u] && model.memory[u].is_none());
    assert_eq!(cut_off, want.count() as u64);
}

/// All operations one after the other. When an array is full, nothing has changed.
fn run(m: &mut Memblock<'_>, ops: &[Op]) -> usize {
    let mut model = Model::new();
    let outside = m.memory_bytes();
    let mut nr_full = 0;
    for (i, &op) in ops.iter().enumerate() {
        let want = model.alloc(op);
        match apply(m, op) {
            Ok(got) => {
                assert_eq!(got, want, "{op:?}");
                model.apply(op);
            }
            Err(error) => {
                assert_eq!(error, Error::Full, "{op:?}");
                nr_full += 1;
            }
        }
        let at = (i as u64 * 7) % UNITS;
        let node = [None, Some(0), Some(1), Some(2)][i % 4];
        check(m, &model, (at, (at + i as u64 % 9).min(UNITS)), node, Flags::from_bits_retain(i as u32 % 16));
        let memory = model.memory.iter().flatten().count() as u64 * UNIT;
        assert_eq!(
            (m.memory_bytes() - outside, m.memory.total_bytes() - m.memory_bytes()),
            (memory, model.trimmed)
        );
    }
    nr_full
}

proptest! {
    #[test]
    fn random_operations_agree_with_a_bitmap(ops in prop::collection::vec(op(), 1..80)) {
        let (mut storage, mut slots) = (Storage::new(80), [Region::EMPTY; 80]);
        let mut m = storage.memblock();
        m.keep_physmem(&mut slots);
        prop_assert_eq!(run(&mut m, &ops), 0);
    }

    #[test]
    fn a_full_array_changes_nothing(ops in prop::collection::vec(op(), 1..80), size in 1..8usize) {
        let (mut storage, mut slots) = (Storage::new(size), [Region::EMPTY; 4]);
        let mut m = storage.memblock();
        m.keep_physmem(&mut slots);
        run(&mut m, &ops);
    }

    #[test]
    fn so_they_do_while_the_arrays_grow(ops in prop::collection::vec(op(), 1..80)) {
        let sim = SimMachine::new(TOP);
        let (mut storage, mut slots) = (Storage::new(2), [Region::EMPTY; 1]);
        let mut m = storage.memblock();
        // SAFETY: the simulated RAM outlives `m`, and nobody else uses it.
        unsafe { m.allow_resize(sim.machine()) };
        m.add(r(PAGE_SIZE as u64, BASE / 2)).unwrap();
        m.add(r((END + TOP) / 2, TOP)).unwrap();
        m.keep_physmem(&mut slots);
        // Without what would find, cut or run out of the arrays' memory.
        let stays_inside = |op: &Op| !matches!(op, Op::SetLimit(_) | Op::Enforce(_) | Op::RemoveMap(_) | Op::Cap(_));
        let strict = |op| match op {
            Op::Alloc { units, align, min, max, on, .. } => {
                let max = Some(max.unwrap_or(UNITS).min(UNITS));
                Op::Alloc { units, align, min, max, on, up: false, strict: true }
            }
            Op::Mark(span, flags) => Op::Mark(span, flags - Flags::MIRROR),
            op => op,
        };
        let ops: Vec<_> = ops.into_iter().filter(stays_inside).map(strict).collect();
        prop_assert_eq!(run(&mut m, &ops), 0);
    }
}
