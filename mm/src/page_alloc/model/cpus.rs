//! The same with CPUs that run at the same time: the map is asked at each operation, everything is counted at the end.

use super::*;
use crate::testing::mailboxes::Mailboxes;
use std::sync::Mutex;
use std::thread;

const NR_CPUS: u32 = 4;
const STEPS: usize = 15_000;
/// Whose the blocks are that one CPU leaves for another.
const LEFT: u32 = u32::MAX - 1;

struct Shared {
    m: TestMachine,
    map: PageMap,
    calls: &'static Mailboxes,
    /// Blocks for whoever frees them.
    left: Mutex<Vec<PageBlock>>,
}

struct Worker<'a> {
    shared: &'a Shared,
    me: u32,
    held: Vec<PageBlock>,
    random: u64,
}

impl Worker<'_> {
    fn random(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.random >> 40) * below) >> 24
    }

    fn alloc(&mut self) {
        let Shared { m, map, .. } = self.shared;
        let order = Order::new([0, 0, 0, 1, 2, 3, 4, 5, 7, 9, 10][self.random(11) as usize]).unwrap();
        let gfp = FLAGS[self.random(FLAGS.len() as u64) as usize] | Gfp::NOWARN;
        let block = match self.random(4) {
            node @ 0..2 => m.pages.alloc_pages_node(NodeId(node as u16), gfp, order),
            _ => m.pages.alloc_pages(gfp, order),
        };
        let Ok(block) = block else { return };
        assert_eq!(block.page().refcount(), 1);
        map.take(frames(m, &block), self.me);
        self.held.push(block);
    }

    fn alloc_bulk(&mut self) {
        let Shared { m, map, .. } = self.shared;
        let mut slots: Vec<_> = (0..1 + self.random(40)).map(|_| None).collect();
        m.pages.alloc_pages_bulk(Gfp::KERNEL | Gfp::NOWARN, &mut slots);
        for block in slots.into_iter().flatten() {
            map.take(frames(m, &block), self.me);
            self.held.push(block);
        }
    }

    fn free(&mut self) {
        let Shared { m, map, .. } = self.shared;
        let Some(block) = self.any_held() else { return };
        map.give_up(frames(m, &block), self.me);
        m.pages.free_pages(block);
    }

    fn any_held(&mut self) -> Option<PageBlock> {
        let pick = self.random(self.held.len() as u64) as usize;
        (!self.held.is_empty()).then(|| self.held.swap_remove(pick))
    }

    /// Leaves a block for another CPU, or frees one that was left.
    fn pass_on(&mut self) {
        let Shared { m, map, left, .. } = self.shared;
        if self.random(2) == 0
            && let Some(block) = self.any_held()
        {
            map.pass(frames(m, &block), self.me, LEFT);
            left.lock().unwrap().push(block);
            return;
        }
        let Some(block) = left.lock().unwrap().pop() else { return };
        map.give_up(frames(m, &block), LEFT);
        m.pages.free_pages(block);
    }

    fn split(&mut self) {
        match self.any_held() {
            Some(block) if block.folio().is_compound() => self.held.push(block),
            Some(block) => self.held.extend(block.split().unwrap()),
            None => {}
        }
    }

    fn contig(&mut self) {
        let Shared { m, map, calls, .. } = self.shared;
        let start = self.random(FRAMES);
        let range = PfnRange::new(Pfn::new(start), Pfn::new((start + 1 + self.random(600)).min(FRAMES)));
        let taken = m.pages.alloc_contig_range(range, ContigType::Movable, Gfp::KERNEL, *calls);
        if let Ok(pages) = taken {
            map.take(range, self.me);
            map.give_up(range, self.me);
            m.pages.free_contig_range(pages);
        }
    }

    fn work(&mut self) {
        let Shared { m, calls, .. } = self.shared;
        for _ in 0..STEPS {
            calls.answer();
            match self.random(64) {
                0 => m.pages.drain_local(),
                1 if self.random(16) == 0 => m.pages.drain_all(),
                1 | 2 => self.split(),
                3 => self.contig(),
                4 => self.alloc_bulk(),
                5..16 => self.pass_on(),
                16..42 => self.alloc(),
                _ => self.free(),
            }
        }
        while !self.held.is_empty() {
            self.free();
        }
        calls.rest();
    }
}

#[test]
fn cpus_at_work_together_agree_with_a_map_of_all_pages() {
    let m = TestMachine::with(MIB, NODES.into(), NR_CPUS);
    let calls = Mailboxes::new(NR_CPUS);
    m.pages.set_cpus(calls);
    let shared = Shared { m, map: PageMap::new(FRAMES), calls, left: Mutex::default() };
    thread::scope(|scope| {
        for cpu in 0..NR_CPUS {
            let shared = &shared;
            scope.spawn(move || {
                let mut worker =
                    Worker { shared, me: cpu + 1, held: Vec::new(), random: u64::from(cpu) * 7 + 1 };
                run_as_cpu(CpuId(cpu), || worker.work());
            });
        }
    });
    let Shared { m, map, left, .. } = shared;
    for block in left.into_inner().unwrap() {
        map.give_up(frames(&m, &block), LEFT);
        m.pages.free_pages(block);
    }
    assert_eq!(map.nr_taken(), 0);
    assert_eq!(m.free_pages(), m.all_pages);
}
