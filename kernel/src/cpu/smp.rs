//! The other CPUs are started, one at a time.
//!
//! ```text
//! boot CPU:  block, stacks, idle thread -> trampoline prepared -> INIT, start-up, start-up -> waits until it is online
//! new CPU:   trampoline -> start_here: area, tables, features, page tables, APIC -> online -> idle
//! ```
//!
//! # Invariants
//! - U1: a CPU's block, stacks and idle thread are its own from the moment it is sent for, for good; they are never freed.
//!
//! # Locking
//! None: boot calls [`bring_up`] once.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;

use mm::arch::Machine;
use mm::{CpuId, Gfp, NodeId, Order, PAGE_SIZE};
use x86_64::registers::control::Cr4;

use super::apic::timer::When;
use super::apic::{self, Interrupt, LocalApic};
use super::features::{self, Features};
use super::percpu::{self, PerCpuArea};
use super::tables::{self, CpuTables, NR_IST};
use super::trampoline::Trampoline;
use super::{call, ipi, online, paging};
use crate::console::clock;
use crate::memory::stack::Stack;
use crate::memory::{self, Memory};
use crate::thread::{self, IdleThread};

/// How long a CPU may take to come up (Linux: the same).
const TIMEOUT_US: u64 = 10_000_000;
/// Between the interrupts that start a CPU. Those of this architecture need no long pause (Linux: `smp_quirk_init_udelay`).
const PAUSE_US: u64 = 10;
/// Before the start-up interrupt is repeated, for a CPU that has missed the first.
const REPEAT_AFTER_US: u64 = 200;

/// What a CPU keeps, in one page on its own node.
#[repr(C)]
struct CpuBlock {
    area: PerCpuArea,
    tables: UnsafeCell<CpuTables>,
}

const _: () = assert!(size_of::<CpuBlock>() <= PAGE_SIZE && align_of::<CpuBlock>() <= PAGE_SIZE);

/// What a new CPU is told. On the boot CPU's stack, which waits.
struct Start {
    cpu: CpuId,
    block: &'static CpuBlock,
    stack: Range<u64>,
    ist: [Range<u64>; NR_IST],
    idle: IdleThread,
    features: Features,
    cr4: u64,
    memory: &'static Memory,
}

/// Why a CPU was not started.
#[derive(Debug)]
enum Error {
    Memory(memory::Error),
    Thread(thread::Error),
    Apic(apic::ipi::Error),
    Timeout,
}

impl From<memory::Error> for Error {
    fn from(error: memory::Error) -> Self {
        Self::Memory(error)
    }
}

impl From<thread::Error> for Error {
    fn from(error: thread::Error) -> Self {
        Self::Thread(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => fmt::Display::fmt(error, f),
            Self::Thread(error) => write!(f, "{error:?}"),
            Self::Apic(error) => write!(f, "{error:?}"),
            Self::Timeout => f.write_str("not responding"),
        }
    }
}

/// Starts CPUs until `max_cpus` run, the boot CPU included (Linux: `smp_init`). One that does not come up is reported and left
/// out. In a thread, once there are threads.
pub fn bring_up(memory: &'static Memory, features: &Features, max_cpus: u32) {
    if max_cpus == 0 {
        log::info!("SMP mode deactivated");
    }
    if max_cpus <= 1 || online::offline().next().is_none() || LocalApic::get().is_none() {
        return log_end(memory);
    }
    if call::init().is_err() {
        log::error!("smp: no memory for calls between CPUs: only the boot CPU runs");
        return;
    }
    log::info!("smp: Bringing up secondary CPUs ...");
    match Trampoline::new(memory) {
        Ok(trampoline) => {
            log::info!("x86: Booting SMP configuration:");
            for cpu in online::offline() {
                if online::nr_online() >= max_cpus {
                    break;
                }
                if let Err(error) = start(memory, features, &trampoline, cpu) {
                    log::error!("smpboot: CPU{cpu} failed to start: {error}");
                }
            }
            log_cpus(memory);
            trampoline.free(memory);
        }
        Err(error) => log::error!("smpboot: no CPU can be started: {error:?}"),
    }
    log_end(memory);
}

fn start(
    memory: &'static Memory,
    features: &Features,
    trampoline: &Trampoline,
    cpu: CpuId,
) -> Result<(), Error> {
    let node = memory.numa.node_of_cpu(cpu);
    let start = prepare(memory, features, cpu, node)?;
    online::expect(cpu, &start.block.area);
    // SAFETY: `start_here` takes a `Start`, which lives until the CPU is online or reset; the stack is its own (U1).
    unsafe {
        trampoline.prepare(start_here as *const () as u64, (&raw const start) as u64, start.stack.end);
    }
    let sent = send_start(cpu, trampoline.page());
    if sent.is_ok() && wait_us(TIMEOUT_US, || online::is_online(cpu)) || !online::give_up(cpu) {
        // A moment later it takes threads, too.
        wait_us(TIMEOUT_US, || thread::is_online(cpu));
        return Ok(());
    }
    // Back to where it waits to be started: it must not come late.
    let _ = ipi::send(cpu, Interrupt::INIT);
    wait_us(PAUSE_US, || false);
    Err(sent.err().map_or(Error::Timeout, Error::Apic))
}

/// All that a CPU needs, on its node.
fn prepare(memory: &'static Memory, features: &Features, cpu: CpuId, node: NodeId) -> Result<Start, Error> {
    let stack = || Stack::new_near(memory, Some(node)).map(|stack| stack.keep());
    let block = memory.pages.alloc_pages_node(node, Gfp::KERNEL, Order::ZERO).map_err(memory::Error::from)?;
    let at = NonNull::new(Machine.phys_to_virt(block.pfn(Machine).phys())).ok_or(memory::Error::Layout)?;
    let _ = block.into_raw();
    let at = at.cast::<CpuBlock>();
    // SAFETY: a page of ours, for good (U1).
    let block = unsafe {
        at.write(CpuBlock { area: PerCpuArea::new(), tables: UnsafeCell::new(CpuTables::new()) });
        at.as_ref()
    };
    let start_stack = stack()?;
    Ok(Start {
        cpu,
        block,
        idle: thread::idle_thread(cpu, start_stack.clone())?,
        stack: start_stack,
        ist: [stack()?, stack()?, stack()?, stack()?],
        features: *features,
        cr4: Cr4::read_raw(),
        memory,
    })
}

/// The sequence that the specification names.
fn send_start(cpu: CpuId, page: u8) -> Result<(), apic::ipi::Error> {
    let start_up = Interrupt::start_up(page);
    ipi::send(cpu, Interrupt::INIT)?;
    wait_us(PAUSE_US, || false);
    ipi::send(cpu, Interrupt::INIT_DEASSERT)?;
    wait_us(PAUSE_US, || false);
    ipi::send(cpu, start_up)?;
    if !wait_us(REPEAT_AFTER_US, || online::is_online(cpu)) {
        ipi::send(cpu, start_up)?;
    }
    Ok(())
}

/// Waits for `done`, but not longer than so many microseconds; returns whether it is.
fn wait_us(us: u64, done: impl Fn() -> bool) -> bool {
    let end = mm::arch::ticks() + clock::tsc_khz() * us / 1000;
    while mm::arch::ticks() < end {
        if done() {
            return true;
        }
        core::hint::spin_loop();
    }
    done()
}

/// Where a new CPU enters the kernel, on its own stack, with the trampoline's page tables and interrupts off (Linux:
/// `start_secondary`).
extern "C" fn start_here(start: &Start) -> ! {
    let Start { cpu, block, idle, features, memory, .. } = *start;
    // SAFETY: the block is this CPU's (U1), and nothing has run on it before.
    unsafe {
        percpu::install(&block.area, cpu.0);
        percpu::set_stacks(&block.area, start.stack.clone(), start.ist.clone());
        tables::init_this_cpu(&mut *block.tables.get(), start.ist.clone().map(|stack| stack.end));
    }
    tables::load_idt();
    paging::init_pat();
    // SAFETY: the kernel's tables map all that the trampoline's do, but the trampoline.
    unsafe { paging::set_root(memory.kernel_root) };
    features::enable_as(&features, start.cr4);
    apic::init_this_cpu();
    if !online::arrive() {
        // It was given up a moment ago, and is about to be reset.
        loop {
            x86_64::instructions::hlt();
        }
    }
    // What `start` refers to may be gone from here on.
    thread::init_this_cpu(idle);
    apic::timer::start(When::EachTick);
    thread::idle()
}

/// The CPUs that came up, a line a run of neighbours on a node (Linux: `announce_cpu`).
fn log_cpus(memory: &Memory) {
    let node_of = |cpu: CpuId| memory.numa.node_of_cpu(cpu);
    let mut cpus = online::all().filter(|&cpu| cpu != CpuId::BOOT).peekable();
    while let Some(&first) = cpus.peek() {
        let run = Run { memory, first, cpus: cpus.clone().take_while(|&cpu| node_of(cpu) == node_of(first)) };
        log::info!("{run}");
        while cpus.next_if(|&cpu| node_of(cpu) == node_of(first)).is_some() {}
    }
}

struct Run<'a, I> {
    memory: &'a Memory,
    first: CpuId,
    cpus: I,
}

impl<I: Iterator<Item = CpuId> + Clone> fmt::Display for Run<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = |n: u32| n.checked_ilog10().unwrap_or(0) as usize + 1;
        let width = digits(online::nr_possible()) + 1;
        let node = self.memory.numa.node_of_cpu(self.first);
        let node_width = digits(self.memory.numa.possible().len() as u32) + 1;
        let pad = (node_width - digits(node.0.into()).min(node_width)).max(1);
        write!(f, ".... node {:pad$}#{node}, CPUs:  ", "")?;
        // The boot CPU's place stays empty.
        if self.first.0 == 1 {
            write!(f, "{:1$}", "", width + 1)?;
        }
        self.cpus
            .clone()
            .try_for_each(|cpu| write!(f, "{:1$}#{cpu}", "", (width - digits(cpu.0).min(width)).max(1)))
    }
}

fn log_end(memory: &Memory) {
    let states = memory.states();
    let nodes = states.get(mm::node::NodeState::Online).len();
    let (nr, s) = (online::nr_online(), |n: usize| if n == 1 { "" } else { "s" });
    log::info!("smp: Brought up {nodes} node{}, {nr} CPU{}", s(nodes), s(nr as usize));
}
