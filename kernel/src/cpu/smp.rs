//! The other CPUs are started, one at a time.
//!
//! ```text
//! boot CPU:  block, stacks, idle thread -> trampoline prepared -> INIT, start-up, start-up -> waits until it is online
//! new CPU:   trampoline -> start_here: area, tables, features, page tables, APIC -> online -> idle
//! ```
//!
//! # Invariants
//! - U1: a CPU's area, block, stacks and idle thread are its own from the moment it is sent for, for good; they are never freed.
//!   What could not be got whole is given back.
//!
//! # Locking
//! None: boot calls [`bring_up`] once.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::Range;

use mm::arch::Machine;
use mm::page_alloc::PageBlock;
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

/// What a CPU keeps beside its area, in pages of its own node; behind it is its mailbox.
#[repr(C)]
struct CpuBlock {
    tables: UnsafeCell<CpuTables>,
    start: Start,
}

const _: () =
    assert!(align_of::<CpuBlock>() <= PAGE_SIZE && size_of::<CpuBlock>().is_multiple_of(align_of::<u64>()));

/// What a new CPU is told.
struct Start {
    cpu: CpuId,
    area: &'static PerCpuArea,
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
    /// It may come yet: it could not be reset. Nothing that it would use may change, so no other can be started.
    Loose(apic::ipi::Error),
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
            Self::Loose(error) => write!(f, "{error:?}, and it cannot be reset: no other CPU is started"),
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
    if let Err(error) = let_boot_cpu_be_called(memory) {
        log::error!("smp: only the boot CPU runs: {error}");
        return log_end(memory);
    }
    log::info!("smp: Bringing up secondary CPUs ...");
    match Trampoline::new(memory) {
        Ok(trampoline) => {
            log::info!("x86: Booting SMP configuration:");
            let ways = start_all(memory, features, &trampoline, max_cpus);
            log_cpus(memory);
            if ways == Ways::Empty {
                trampoline.free(memory);
            }
        }
        Err(error) => log::error!("smpboot: no CPU can be started: {error:?}"),
    }
    log_end(memory);
}

/// The boot CPU has its area since early in boot; its mailbox is as large as there are CPUs.
fn let_boot_cpu_be_called(memory: &Memory) -> Result<(), memory::Error> {
    let area = online::area(CpuId::BOOT).ok_or(memory::Error::Layout)?;
    let node = memory.numa.node_of_cpu(CpuId::BOOT);
    let at = memory.slub.kmalloc_node(call::mailbox_bytes(), Gfp::KERNEL | Gfp::ZERO, node)?;
    // SAFETY: new memory of that size, zeroed, aligned to words, never given back.
    unsafe { call::give_mailbox(area, at) };
    Ok(())
}

/// Whether a CPU may be on its way through the trampoline (B2 of [`trampoline`](super::trampoline)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ways {
    Empty,
    Used,
}

fn start_all(memory: &'static Memory, features: &Features, trampoline: &Trampoline, max_cpus: u32) -> Ways {
    for cpu in online::offline() {
        if online::nr_online() >= max_cpus {
            break;
        }
        let Err(error) = start(memory, features, trampoline, cpu) else { continue };
        log::error!("smpboot: CPU{cpu} failed to start: {error}");
        if let Error::Loose(_) = error {
            return Ways::Used;
        }
    }
    Ways::Empty
}

fn start(
    memory: &'static Memory,
    features: &Features,
    trampoline: &Trampoline,
    cpu: CpuId,
) -> Result<(), Error> {
    let block = prepare(memory, features, cpu)?;
    online::expect(cpu, block.start.area);
    // SAFETY: `start_here` takes the CPU's block, and the stack is its own (U1).
    unsafe {
        let argument = core::ptr::from_ref(block) as u64;
        trampoline.prepare(start_here as *const () as u64, argument, block.start.stack.end);
    }
    let sent = send_start(cpu, trampoline.page());
    if sent.is_ok() && wait_us(TIMEOUT_US, || online::is_online(cpu)) || !online::give_up(cpu) {
        // A moment later it takes threads, too.
        wait_us(TIMEOUT_US, || thread::is_online(cpu));
        return Ok(());
    }
    // Back to where it waits to be started: it must not come late.
    ipi::send(cpu, Interrupt::INIT).map_err(Error::Loose)?;
    wait_us(PAUSE_US, || false);
    Err(sent.err().map_or(Error::Timeout, Error::Apic))
}

/// The memory that a CPU keeps, on its node or near it. Given back unless it is all there.
struct Own {
    memory: &'static Memory,
    stacks: [Option<Stack>; 1 + NR_IST],
    block: Option<PageBlock>,
}

impl Own {
    fn new(memory: &'static Memory, node: NodeId) -> Result<Self, memory::Error> {
        let mut own = Self { memory, stacks: [const { None }; 1 + NR_IST], block: None };
        for stack in &mut own.stacks {
            *stack = Some(Stack::new_near(memory, node)?);
        }
        let size = size_of::<CpuBlock>() + call::mailbox_bytes();
        let order = Order::for_size(size).ok_or(memory::Error::Layout)?;
        let gfp = Gfp::KERNEL | Gfp::ZERO;
        own.block = Some(memory.pages.alloc_pages_node(node, gfp, order)?);
        Ok(own)
    }

    /// The stack's addresses, that on which the CPU starts being the first.
    fn stack(&self, index: usize) -> Range<u64> {
        self.stacks[index].as_ref().map_or(0..0, Stack::addresses)
    }

    /// It is the CPU's, for good (U1).
    fn keep(mut self, start: Start) -> Option<&'static CpuBlock> {
        let block = self.block.take()?;
        let at = block.address(Machine).cast::<CpuBlock>();
        let _ = block.into_raw();
        self.stacks.iter_mut().filter_map(Option::take).for_each(|stack| _ = stack.keep());
        // SAFETY: pages of ours, zeroed, large enough for the block and, behind it, the mailbox; for good.
        unsafe {
            call::give_mailbox(start.area, at.add(1).cast());
            at.write(CpuBlock { tables: UnsafeCell::new(CpuTables::new()), start });
            Some(at.as_ref())
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for stack in self.stacks.iter_mut().filter_map(Option::take) {
            // SAFETY: no CPU was sent for that uses it.
            unsafe { stack.free(self.memory) };
        }
        if let Some(block) = self.block.take() {
            self.memory.pages.free_pages(block);
        }
    }
}

/// All that a CPU needs, on its node.
fn prepare(memory: &'static Memory, features: &Features, cpu: CpuId) -> Result<&'static CpuBlock, Error> {
    let own = Own::new(memory, memory.node_of_cpu(cpu))?;
    let stack = own.stack(0);
    let ist = core::array::from_fn(|i| own.stack(1 + i));
    let idle = thread::idle_thread(cpu, stack.clone())?;
    let area = memory.first_chunk.area(cpu);
    let start = Start { cpu, area, idle, stack, ist, features: *features, cr4: Cr4::read_raw(), memory };
    Ok(own.keep(start).ok_or(memory::Error::Layout)?)
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
extern "C" fn start_here(block: &'static CpuBlock) -> ! {
    let start = &block.start;
    // SAFETY: area and block are this CPU's (U1), and nothing has run on it before.
    unsafe {
        percpu::install(start.area, start.cpu.0);
        percpu::set_stacks(start.area, start.stack.clone(), start.ist.clone());
        tables::init_this_cpu(&mut *block.tables.get(), start.ist.clone().map(|stack| stack.end));
    }
    tables::load_idt();
    paging::init_pat();
    // SAFETY: the kernel's tables map all that the trampoline's do, but the trampoline.
    unsafe { paging::set_root(start.memory.kernel_root) };
    features::enable_as(&start.features, start.cr4);
    apic::init_this_cpu();
    if !online::arrive() {
        // It was given up a moment ago, and is about to be reset.
        loop {
            x86_64::instructions::hlt();
        }
    }
    // Nobody has told this CPU what was unmapped since it loaded the tables; from now on they do. Pairs with the fence in
    // `call::on_each`.
    mm::arch::flush_tlb_global();
    thread::init_this_cpu(start.idle);
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
