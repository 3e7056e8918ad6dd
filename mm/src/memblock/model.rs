//! Random operations against a naive model: a flag for each page.

use super::tests::{Storage, r};
use super::*;
use crate::arch::SimMachine;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// The node and flags of a page that is memory.
type Unit = Option<(Option<u16>, u32)>;

/// What memblock stands for: for each of 64 units, whether it is memory and on which node and flags; whether reserved.
#[derive(Clone, Default)]
struct Model {
    memory: Vec<Unit>,
    reserved: Vec<bool>,
}

const UNIT: u64 = 0x1000;
const UNITS: usize = 64;

#[derive(Clone, Debug)]
enum Op {
    Add(u64, u64),
    AddNode(u64, u64, u16),
    Remove(u64, u64),
    Reserve(u64, u64),
    Free(u64, u64),
    SetNode(u64, u64, Option<u16>),
    Mark(u64, u64, u32),
    Clear(u64, u64, u32),
    Alloc { units: u64, align: u64, min: u64, max: u64, node: Option<u16>, exact: bool, up: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let span = || (0..UNITS as u64, 0..12u64).prop_map(|(s, n)| (s, (s + n).min(UNITS as u64)));
    let flags = || prop::sample::select(vec![1u32, 4]);
    prop_oneof![
        span().prop_map(|(s, e)| Op::Add(s, e)),
        (span(), 0..3u16).prop_map(|((s, e), n)| Op::AddNode(s, e, n)),
        span().prop_map(|(s, e)| Op::Remove(s, e)),
        span().prop_map(|(s, e)| Op::Reserve(s, e)),
        span().prop_map(|(s, e)| Op::Free(s, e)),
        (span(), prop::option::of(0..3u16)).prop_map(|((s, e), n)| Op::SetNode(s, e, n)),
        (span(), flags()).prop_map(|((s, e), f)| Op::Mark(s, e, f)),
        (span(), flags()).prop_map(|((s, e), f)| Op::Clear(s, e, f)),
        (1..6u64, 0..3u32, 0..64u64, 0..66u64, prop::option::of(0..3u16), any::<(bool, bool)>()).prop_map(
            |(units, align, min, max, node, (exact, up))| Op::Alloc {
                units,
                align: 1 << align,
                min,
                max,
                node,
                exact,
                up
            }
        ),
    ]
}

impl Model {
    fn new() -> Self {
        Self { memory: vec![None; UNITS], reserved: vec![false; UNITS] }
    }

    fn place(&self, units: u64, align: u64, min: u64, max: u64, node: Option<u16>, up: bool) -> Option<u64> {
        let free = |u: u64| {
            let m = self.memory.get(u as usize).copied().flatten();
            m.filter(|m| !self.reserved[u as usize] && m.1 & 4 == 0 && (node.is_none() || node == m.0))
        };
        // Linux allocates within one region of memory, so node and flags are the same all through.
        let fits = |&s: &u64| {
            s % align == 0
                && s + units <= max
                && free(s).is_some()
                && (s..s + units).all(|u| free(u) == free(s))
        };
        let mut places = (min.max(1)..UNITS as u64).filter(fits);
        if up { places.next() } else { places.next_back() }
    }

    fn alloc(&mut self, op: &Op) -> Option<u64> {
        let &Op::Alloc { units, align, min, max, node, exact, up } = op else { return None };
        let once = |min| {
            let on_node = self.place(units, align, min, max, node, up);
            on_node.or_else(|| if exact { None } else { self.place(units, align, min, max, None, up) })
        };
        let at = once(min).or_else(|| once(0))?;
        (at..at + units).for_each(|u| self.reserved[u as usize] = true);
        Some(at)
    }

    fn apply(&mut self, op: &Op) {
        let mut memory = |s: u64, e: u64, f: &dyn Fn(&mut Unit)| {
            self.memory[s as usize..e as usize].iter_mut().for_each(f);
        };
        match *op {
            Op::Add(s, e) => memory(s, e, &|m| *m = m.or(Some((None, 0)))),
            Op::AddNode(s, e, n) => memory(s, e, &|m| *m = m.or(Some((Some(n), 0)))),
            Op::Remove(s, e) => memory(s, e, &|m| *m = None),
            Op::SetNode(s, e, n) => memory(s, e, &|m| *m = m.map(|(_, f)| (n, f))),
            Op::Mark(s, e, bits) => memory(s, e, &|m| *m = m.map(|(n, f)| (n, f | bits))),
            Op::Clear(s, e, bits) => memory(s, e, &|m| *m = m.map(|(n, f)| (n, f & !bits))),
            Op::Reserve(s, e) => self.reserved[s as usize..e as usize].fill(true),
            Op::Free(s, e) => self.reserved[s as usize..e as usize].fill(false),
            Op::Alloc { .. } => {}
        }
    }
}

fn apply(m: &mut Memblock<'_>, op: &Op) -> Option<u64> {
    let u = |s: u64, e: u64| r(s * UNIT, e * UNIT);
    match *op {
        Op::Add(s, e) => m.add(u(s, e)).unwrap(),
        Op::AddNode(s, e, n) => m.add_node(u(s, e), NodeId(n), Flags::empty()).unwrap(),
        Op::Remove(s, e) => m.remove(u(s, e)).unwrap(),
        Op::Reserve(s, e) => m.reserve(u(s, e)).unwrap(),
        Op::Free(s, e) => m.free(u(s, e)).unwrap(),
        Op::SetNode(s, e, n) => m.set_node(u(s, e), n.map(NodeId)).unwrap(),
        Op::Mark(s, e, f) => m.mark(u(s, e), Flags::from_bits_retain(f)).unwrap(),
        Op::Clear(s, e, f) => m.clear(u(s, e), Flags::from_bits_retain(f)).unwrap(),
        Op::Alloc { units, align, min, max, node, exact, up } => {
            m.set_direction(if up { Direction::BottomUp } else { Direction::TopDown });
            let on = match (node, exact) {
                (None, _) => OnNode::Any,
                (Some(n), true) => OnNode::Exact(NodeId(n)),
                (Some(n), false) => OnNode::Prefer(NodeId(n)),
            };
            let request =
                Request::new(units * UNIT).align(align * UNIT).from(min * UNIT).below(max * UNIT).on(on);
            return m.alloc(request).ok().map(|range| range.start() / UNIT);
        }
    }
    None
}

/// Where arrays grow: above what the operations use.
const ROOM: (u64, u64) = (0x10_0000, 0x20_0000);

fn run(m: &mut Memblock<'_>, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    for op in ops {
        let got = apply(m, op);
        model.apply(op);
        if let Op::Alloc { .. } = op {
            prop_assert_eq!(got, model.alloc(op));
        }
        m.validate();
        for (i, want) in model.memory.iter().enumerate() {
            let region = m.memory.search(i as u64 * UNIT);
            prop_assert_eq!(region.map(|x| (x.node.map(|n| n.0), x.flags.bits())), *want);
            prop_assert_eq!(m.is_reserved(i as u64 * UNIT), model.reserved[i]);
        }
        let mut up: Vec<_> = m.free_ranges(None).collect();
        let modelled = up.iter().filter(|f| f.range.start() < ROOM.0);
        let free: u64 = modelled.map(|f| f.range.len_bytes() / UNIT).sum();
        let want =
            (0..UNITS).filter(|&i| !model.reserved[i] && model.memory[i].is_some_and(|x| x.1 & 4 == 0));
        prop_assert_eq!(free, want.count() as u64);
        up.reverse();
        prop_assert_eq!(up, m.free_ranges_down(None).collect::<Vec<_>>());
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_operations_agree_with_a_bitmap(ops in prop::collection::vec(op(), 1..60)) {
        let mut storage = Storage::new(80);
        run(&mut storage.memblock(), &ops)?;
    }

    #[test]
    fn so_they_do_while_the_arrays_grow(ops in prop::collection::vec(op(), 1..60)) {
        let sim = SimMachine::new(ROOM.1);
        let mut storage = Storage::new(2);
        let mut m = storage.memblock();
        // SAFETY: the simulated RAM outlives `m`, and nobody else uses it.
        unsafe { m.allow_resize(sim.machine()) };
        m.add(r(ROOM.0, ROOM.1)).unwrap();
        // Bottom-up, the arrays would come out of what the model knows.
        let down = |op| match op {
            Op::Alloc { units, align, min, max, node, exact, .. } =>
                Op::Alloc { units, align, min, max, node, exact, up: false },
            op => op,
        };
        run(&mut m, &ops.into_iter().map(down).collect::<Vec<_>>())?;
    }
}
