//! Every order in which CPUs can take their turns: programs of a few operations, run once for each.
//!
//! ```text
//! explore(orders, setup, programs, check)
//!   again and again: setup()  ->  programs, one a CPU, one thread at a time  ->  check()
//!                    a turn ends where interrupts go off and where a lock is wanted; who is next is the next choice
//! ```
//! What a CPU does with interrupts off is its own business, but for locks and what they protect: turns that end at these
//! places meet in every way in which instructions can. A call from another CPU comes in where interrupts go off, a
//! moment before, and when the program has ended: where a CPU takes it earlier, its caller could as well have called later.
//!
//! # Invariants
//! - O1: the thread that [`State::running`] names runs, and no other, but for those that end because one failed.
//! - O2: a run follows from its choices: programs, `setup` and the code under test take nothing from time, threads or
//!   addresses that would change what they do.
//! - O3: a [`Call`] is in a queue only while its caller is in [`Scheduler::on_each`].

use core::cell::Cell;
use core::mem;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::string::{String, ToString};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::vec::Vec;
use std::{format, panic, thread};

use crate::arch::steps::{self, Scheduler};
use crate::arch::{self, IrqGuard, run_as_cpu};
use crate::id::CpuId;
use crate::smp::{CallCpus, OnlyThisCpu};

/// Which orders are tried.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Orders {
    /// All.
    All,
    /// Those in which a CPU that could go on has to wait at most so often.
    Preempted(u32),
}

/// What a CPU does.
pub(crate) type Program<W> = fn(&W);

/// What a CPU waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    /// Its turn.
    Turn,
    Lock(usize),
    /// Other CPUs, which it has called.
    Answers,
    /// Calls: its program has ended.
    Calls,
}

/// A function to be run on another CPU, for `from`.
#[derive(Clone, Copy)]
struct Call {
    f: *const (dyn Fn() + Sync),
    from: usize,
}

// SAFETY: the function may be called from other threads, and lives until its caller has all answers (O3).
unsafe impl Send for Call {}

struct Cpu {
    waits: Waits,
    calls: VecDeque<Call>,
    unanswered: usize,
}

/// The choices of a run, each with how many there were: what is to be repeated of the run before, then the first each time.
#[derive(Default)]
struct Path {
    choices: Vec<(usize, usize)>,
    at: usize,
}

impl Path {
    fn choose(&mut self, nr: usize) -> usize {
        if nr == 1 {
            return 0;
        }
        if self.at == self.choices.len() {
            self.choices.push((0, nr));
        }
        let (chosen, of) = self.choices[self.at];
        assert_eq!(of, nr, "a run does not follow from its choices");
        self.at += 1;
        chosen
    }

    /// Goes on to the next path, if there is one.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, of)) = self.choices.pop() {
            if chosen + 1 < of {
                self.choices.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

struct State {
    running: Option<usize>,
    cpus: Vec<Cpu>,
    locks: BTreeSet<usize>,
    /// The thread that is each CPU with interrupts off.
    sections: BTreeMap<CpuId, usize>,
    path: Path,
    preemptions: Option<u32>,
    turns: Vec<usize>,
    ended: bool,
    failure: Option<String>,
}

impl State {
    fn new(nr_cpus: usize, orders: Orders, path: Path) -> Self {
        let cpu = || Cpu { waits: Waits::Turn, calls: VecDeque::new(), unanswered: 0 };
        Self {
            running: None,
            cpus: (0..nr_cpus).map(|_| cpu()).collect(),
            locks: BTreeSet::new(),
            sections: BTreeMap::new(),
            path,
            preemptions: match orders {
                Orders::All => None,
                Orders::Preempted(most) => Some(most),
            },
            turns: Vec::new(),
            ended: false,
            failure: None,
        }
    }

    fn can_go_on(&self, cpu: usize) -> bool {
        let Cpu { waits, calls, unanswered } = &self.cpus[cpu];
        match waits {
            Waits::Turn => true,
            Waits::Lock(lock) => !self.locks.contains(lock),
            Waits::Answers => *unanswered == 0 || !calls.is_empty(),
            Waits::Calls => !calls.is_empty(),
        }
    }

    /// Chooses who is next after `last`.
    fn pass_on(&mut self, last: Option<usize>) {
        let last = last.filter(|&cpu| self.can_go_on(cpu));
        let others = (0..self.cpus.len()).filter(|&cpu| Some(cpu) != last && self.can_go_on(cpu));
        let others = others.filter(|_| last.is_none() || self.preemptions != Some(0));
        let all: Vec<usize> = last.into_iter().chain(others).collect();
        if all.is_empty() {
            self.running = None;
            self.ended = true;
            if self.cpus.iter().any(|cpu| cpu.waits != Waits::Calls) {
                let waits: Vec<_> = self.cpus.iter().map(|cpu| cpu.waits).collect();
                self.fail(format!("nobody can go on: {waits:?}"));
            }
            return;
        }
        let next = all[self.path.choose(all.len())];
        if last.is_some_and(|last| last != next)
            && let Some(left) = &mut self.preemptions
        {
            *left -= 1;
        }
        self.turns.push(next);
        self.running = Some(next);
    }

    fn fail(&mut self, why: String) {
        let turns = &self.turns;
        self.failure.get_or_insert_with(|| format!("{why}; CPUs' turns: {turns:?}"));
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What ends the programs of the other CPUs when one has failed.
struct Stopped;

/// Whether there is more to do.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for `me`'s turn (O1).
    fn wait(&self, me: usize, mut state: MutexGuard<'_, State>) -> Next {
        self.changed.notify_all();
        loop {
            if state.failure.is_some() {
                drop(state);
                resume_unwind(Box::new(Stopped));
            }
            if state.running == Some(me) {
                return Next::GoOn;
            }
            if state.ended {
                return Next::End;
            }
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Ends `me`'s turn until it has what it waits for and is chosen.
    fn switch(&self, me: usize, waits: Waits) -> Next {
        let mut state = self.lock();
        state.cpus[me].waits = waits;
        state.pass_on(Some(me));
        self.wait(me, state)
    }
}

/// One CPU's side of it.
struct ThisCpu {
    shared: Arc<Shared>,
    me: usize,
    /// It answers a call.
    answers: Cell<bool>,
}

impl ThisCpu {
    /// Does what other CPUs ask, with interrupts off.
    fn answer_calls(&self) {
        loop {
            let Some(call) = self.shared.lock().cpus[self.me].calls.pop_front() else { return };
            self.answers.set(true);
            let irq = IrqGuard::new();
            // SAFETY: its caller waits for the answer (O3).
            unsafe { (*call.f)() };
            drop(irq);
            self.answers.set(false);
            self.shared.lock().cpus[call.from].unanswered -= 1;
        }
    }

    fn enter_section(&self) {
        let cpu = arch::cpu_id();
        let other = self.shared.lock().sections.insert(cpu, self.me);
        assert_eq!(other, None, "CPU {cpu} works on what is its own at two places");
    }

    /// The whole life of a CPU.
    fn run(&self, program: impl FnOnce()) {
        let body = || {
            self.shared.wait(self.me, self.shared.lock());
            program();
            while self.shared.switch(self.me, Waits::Calls) == Next::GoOn {
                self.answer_calls();
            }
        };
        let Err(panic) = catch_unwind(AssertUnwindSafe(body)) else { return };
        if !panic.is::<Stopped>() {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            self.shared.lock().fail(said.unwrap_or_default());
            self.shared.changed.notify_all();
        }
    }
}

impl Scheduler for ThisCpu {
    fn interrupts_go_off(&self) {
        if thread::panicking() {
            return;
        }
        if !self.answers.get() {
            self.shared.switch(self.me, Waits::Turn);
            self.answer_calls();
        }
        self.enter_section();
    }

    fn interrupts_are_on(&self) {
        self.shared.lock().sections.remove(&arch::cpu_id());
    }

    fn wants_lock(&self, lock: usize) {
        if !thread::panicking() {
            self.shared.switch(self.me, Waits::Lock(lock));
            self.shared.lock().locks.insert(lock);
        }
    }

    fn gave_lock_back(&self, lock: usize) {
        self.shared.lock().locks.remove(&lock);
    }

    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
        self.shared.switch(self.me, Waits::Turn);
        // SAFETY: only the lifetime changes; the function is not called after this returns (O3).
        let call: *const (dyn Fn() + Sync) = unsafe { mem::transmute(f) };
        let nr_cpus = self.shared.lock().cpus.len();
        let all: Vec<usize> = (0..nr_cpus).filter(|&cpu| wanted(CpuId(cpu as u32))).collect();
        let mut state = self.shared.lock();
        for &cpu in all.iter().filter(|&&cpu| cpu != self.me) {
            state.cpus[cpu].calls.push_back(Call { f: call, from: self.me });
            state.cpus[self.me].unanswered += 1;
        }
        drop(state);
        if all.contains(&self.me) {
            let _irq = IrqGuard::new();
            f();
        }
        while self.shared.lock().cpus[self.me].unanswered > 0 {
            self.shared.switch(self.me, Waits::Answers);
            self.answer_calls();
        }
    }
}

/// Calls to the CPUs that programs run on.
#[derive(Debug)]
pub(crate) struct ScheduledCpus;

impl CallCpus for ScheduledCpus {
    fn on_each(&self, wanted: &dyn Fn(CpuId) -> bool, f: &(dyn Fn() + Sync)) {
        match steps::scheduler() {
            Some(scheduler) => scheduler.on_each(wanted, f),
            None => OnlyThisCpu.on_each(wanted, f),
        }
    }
}

/// Runs `programs`, program n on CPU n, in all `orders`, each time in a new world, which is checked then. How many there
/// were.
///
/// # Panics
/// When a program or the check does, or when CPUs wait for each other; with the CPUs in order of their turns.
pub(crate) fn explore<W: Sync>(
    orders: Orders,
    setup: impl Fn() -> W,
    programs: &[Program<W>],
    check: impl Fn(&W),
) -> u64 {
    let (mut path, mut nr_runs) = (Path::default(), 0);
    loop {
        let world = setup();
        let shared = run(&world, State::new(programs.len(), orders, path), programs);
        let state = mem::replace(&mut *shared.lock(), State::new(0, orders, Path::default()));
        if let Some(failure) = state.failure {
            panic!("run {nr_runs}: {failure}");
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&world))) {
            std::eprintln!("run {nr_runs}; CPUs' turns: {:?}", state.turns);
            resume_unwind(panic);
        }
        nr_runs += 1;
        path = state.path;
        if !path.advance() {
            return nr_runs;
        }
    }
}

/// One run.
fn run<W: Sync>(world: &W, state: State, programs: &[Program<W>]) -> Arc<Shared> {
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    shared.lock().pass_on(None);
    thread::scope(|scope| {
        for (me, program) in programs.iter().enumerate() {
            let shared = shared.clone();
            scope.spawn(move || {
                let cpu = Rc::new(ThisCpu { shared, me, answers: Cell::new(false) });
                let run = || cpu.run(|| program(world));
                run_as_cpu(CpuId(me as u32), || steps::under(cpu.clone(), run));
            });
        }
    });
    shared
}
