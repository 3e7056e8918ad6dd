//! How threads begin and end.
//!
//! ```text
//! a thread's stack   | ... free ... | frames | closure, later its result |
//!                    base                                               end
//!
//! exit:     Alive -> Dead        the handle's owner takes the result and frees stack and record
//!           Detached -> Dead     the reaper does
//! ```
//!
//! # Invariants
//! - I1: `Exit::dead` is set under the lock by who has left the thread's stack, and that is the last that it does with the
//!   thread: who takes the lock and finds it set has the thread for itself.
//! - I2: in the reaper's list are Dead threads that nobody else knows.

use core::arch::naked_asm;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use mm::CpuId;
use mm::sync::{Level, SpinLock};

use super::cpu::{Affinity, Scheduler, choose_new};
use super::wait::{WaitList, WaitQueue, Waiter, block};
use super::{NEXT_ID, Role, State, Thread, might_sleep, sched};
use crate::memory::stack::{STACK_BYTES, Stack};

/// What must be left of a stack below the thread's function: a panic with its backtrace has to fit.
const MIN_STACK: u64 = 12 * 1024;

/// Why a thread was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No memory for its stack or its record.
    NoMemory,
    /// The function, or what it returns, leaves too little of the stack.
    TooLarge,
    /// No thread can run on that CPU.
    NoSuchCpu,
    /// Threads do not run yet.
    NotStarted,
}

/// What a thread has taken, for who frees it.
#[derive(Debug)]
pub(super) struct Owned {
    stack: Stack,
    result: NonNull<u8>,
    /// Drops the result.
    drop_result: unsafe fn(NonNull<u8>),
}

/// How far the end of a thread is.
#[derive(Debug)]
pub(super) struct Exit {
    dead: bool,
    /// There is no handle any more.
    detached: bool,
    joiner: WaitList,
}

impl Exit {
    pub(super) const fn new() -> Self {
        Self { dead: false, detached: false, joiner: WaitList::new() }
    }
}

/// A thread that was spawned. Dropping it lets the thread go on; what it took is given back when it ends.
#[must_use = "join it, or drop it to let it go its way"]
#[derive(Debug)]
pub struct JoinHandle<T> {
    thread: NonNull<Thread>,
    result: PhantomData<T>,
}

// SAFETY: the handle gives nothing but the thread's result, once, to whoever has it then.
unsafe impl<T: Send> Send for JoinHandle<T> {}

/// Makes a thread that runs `function`, on any CPU (Linux: `kthread_run`). May sleep for memory.
///
/// # Errors
/// See [`Error`]; `function` is dropped then.
pub fn spawn<F, T>(name: &'static str, function: F) -> Result<JoinHandle<T>, Error>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_with(Affinity::Any, name, function)
}

/// As [`spawn`], on one CPU, for good (Linux: `kthread_create_on_cpu`).
///
/// # Errors
/// See [`Error`].
pub fn spawn_on<F, T>(cpu: CpuId, name: &'static str, function: F) -> Result<JoinHandle<T>, Error>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_with(Affinity::Cpu(cpu), name, function)
}

/// As [`spawn`], on the CPUs that `affinity` allows.
///
/// # Errors
/// See [`Error`].
pub fn spawn_with<F, T>(affinity: Affinity, name: &'static str, function: F) -> Result<JoinHandle<T>, Error>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let scheduler = Scheduler::get().ok_or(Error::NotStarted)?;
    let cpu = choose_new(affinity).ok_or(Error::NoSuchCpu)?;
    let affinity = match affinity {
        Affinity::Node(node) if cpu.node != node => Affinity::Any,
        other => other,
    };
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let thread =
        create(scheduler, Identity { role: Role::Ordinary, id, name, affinity, cpu: cpu.id }, function)?;
    // SAFETY: new, and nobody frees it before the handle is joined or dropped.
    sched::make_ready(unsafe { thread.as_ref() }, cpu);
    Ok(JoinHandle { thread, result: PhantomData })
}

/// Who a new thread is to be.
struct Identity {
    role: Role,
    id: u32,
    name: &'static str,
    affinity: Affinity,
    /// Where it runs first.
    cpu: CpuId,
}

/// Closure and result take turns at the top of the stack.
#[repr(C)]
union Packet<F, T> {
    function: ManuallyDrop<F>,
    result: ManuallyDrop<T>,
}

/// Makes a thread that is in no queue yet.
fn create<F, T>(scheduler: &Scheduler, who: Identity, function: F) -> Result<NonNull<Thread>, Error>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let memory = scheduler.memory;
    let stack = Stack::new_near(memory, memory.node_of_cpu(who.cpu)).map_err(|_| Error::NoMemory)?;
    let range = stack.addresses();
    debug_assert_eq!(range.end - range.start, STACK_BYTES);
    let align = (align_of::<Packet<F, T>>() as u64).max(16);
    let packet_at = range.end.saturating_sub(size_of::<Packet<F, T>>() as u64) & !(align - 1);
    let failed = |stack: Stack, error| {
        // SAFETY: no thread has used it.
        unsafe { stack.free(memory) };
        Err(error)
    };
    if packet_at < range.start + MIN_STACK {
        return failed(stack, Error::TooLarge);
    }
    let packet = packet_at as *mut Packet<F, T>;
    let frame = first_frame(packet.cast(), run::<F, T>);
    let rsp = packet_at - size_of_val(&frame) as u64;
    let mut thread = Thread::new(who.role, who.id, who.name, range, who.affinity);
    thread.cpu = who.cpu.0.into();
    *thread.saved_rsp.get_mut() = rsp;
    let record = match scheduler.record(thread, memory.node_of_cpu(who.cpu)) {
        Ok(record) => record,
        Err(error) => return failed(stack, error),
    };
    // SAFETY: packet and frame lie on the stack, apart from each other, aligned; the record is new; nobody else knows any
    // of them.
    unsafe {
        packet.write(Packet { function: ManuallyDrop::new(function) });
        (rsp as *mut [u64; 9]).write(frame);
        let result = NonNull::new_unchecked(packet.cast());
        (*record.as_ptr()).owned = Some(Owned { stack, result, drop_result: drop_result::<F, T> });
    }
    Ok(record)
}

/// The words that [`sched`]'s switch pops for a new thread: r15 r14 r13 r12 rbx rbp, return address, and an end of the
/// chain of frame pointers. R12 and r13 carry what [`enter`] calls. Two words are left below the packet, which is aligned
/// to 16 bytes: so the stack is, too, where `enter` calls, as the calling convention wants it.
fn first_frame(function: *mut u8, run: unsafe extern "C" fn(*mut u8) -> !) -> [u64; 9] {
    [0, 0, run as usize as u64, function as u64, 0, 0, enter as *const () as u64, 0, 0]
}

/// Where a new thread starts: in rax the thread that ran before; interrupts are off, the stack is aligned for a call.
#[unsafe(naked)]
unsafe extern "C" fn enter() {
    naked_asm!(
        "mov rdi, rax",
        "call {finish_switch}",
        "sti",
        "mov rdi, r12",
        "call r13",
        "ud2",
        finish_switch = sym sched::finish_switch,
    )
}

/// Runs the thread's function, and ends the thread.
///
/// # Safety
/// Called by [`enter`] only, once, with the place of a packet with its function in it.
unsafe extern "C" fn run<F: FnOnce() -> T, T>(packet: *mut u8) -> ! {
    let packet = packet.cast::<Packet<F, T>>();
    // SAFETY: `create` wrote it there, and nobody else reads it.
    let function = unsafe { ManuallyDrop::into_inner(packet.read().function) };
    let result = Packet { result: ManuallyDrop::new(function()) };
    // SAFETY: the place is the thread's until it is dead.
    unsafe { packet.write(result) };
    if let Some(memory) = crate::memory::memory() {
        crate::memory::space::leave(memory);
    }
    exit()
}

/// # Safety
/// The thread has ended, and its result was not taken.
unsafe fn drop_result<F, T>(packet: NonNull<u8>) {
    // SAFETY: `run` has left the result there.
    drop(unsafe { ManuallyDrop::into_inner(packet.cast::<Packet<F, T>>().read().result) });
}

fn exit() -> ! {
    x86_64::instructions::interrupts::disable();
    if let Some(thread) = super::current() {
        thread.set(State::Exiting);
    }
    // There is always another: the idle thread, which never exits.
    while !sched::reschedule() {}
    unreachable!("a dead thread was run again")
}

/// The thread has left its stack for good. With interrupts off, on the stack of another.
pub(super) fn finish_exit(thread: &Thread) {
    thread.set(State::Dead);
    let mut exit = thread.exit.lock();
    exit.dead = true;
    exit.joiner.wake_all();
    let detached = exit.detached;
    // The last look at a thread that is joined (I1).
    drop(exit);
    if detached {
        bury(NonNull::from(thread));
    }
}

impl<T> JoinHandle<T> {
    /// Waits until the thread has ended, and returns what its function did. Sleeps.
    #[track_caller]
    pub fn join(self) -> T {
        might_sleep();
        let this = ManuallyDrop::new(self);
        // SAFETY: alive: only who has the handle frees it.
        let thread = unsafe { this.thread.as_ref() };
        let waiter = Waiter::new();
        let mut exit = thread.exit.lock();
        if !exit.dead {
            exit.joiner.push(&waiter);
            exit = block(&thread.exit, exit, &waiter);
        }
        debug_assert!(exit.dead && thread.is(State::Dead));
        drop(exit);
        // SAFETY: dead, so nobody else knows the thread (I1); the result was left by `run`, whose packet starts with it.
        unsafe {
            let result = thread.owned.as_ref().map(|owned| owned.result.cast::<T>().read());
            free(this.thread, Taken::Yes);
            result.expect("a spawned thread owns its stack")
        }
    }

    /// The thread's number.
    pub fn id(&self) -> u32 {
        // SAFETY: alive: only who has the handle frees it.
        unsafe { self.thread.as_ref() }.id
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // SAFETY: alive: only who has the handle frees it.
        let mut exit = unsafe { self.thread.as_ref() }.exit.lock();
        exit.detached = true;
        let dead = exit.dead;
        drop(exit);
        if dead {
            bury(self.thread);
        }
    }
}

/// Whether the result of a thread was taken.
#[derive(PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

/// Frees a thread with all that it took. May sleep.
///
/// # Safety
/// It is dead, and nobody else knows it.
unsafe fn free(thread: NonNull<Thread>, result: Taken) {
    // SAFETY: the caller's alone.
    let owned = unsafe { (*thread.as_ptr()).owned.take() };
    let Some(scheduler) = Scheduler::get() else { return };
    if let Some(Owned { stack, result: at, drop_result }) = owned {
        if result == Taken::No {
            // SAFETY: it has ended, so the result is there, and nobody has taken it.
            unsafe { drop_result(at) };
        }
        // SAFETY: the thread has left it.
        unsafe { stack.free(scheduler.memory) };
    }
    // SAFETY: from that cache, and nothing of it is used any more; what it holds needs no drop.
    unsafe { scheduler.threads.free(thread.cast()) };
}

/// Dead threads that nobody will join, linked by `next`.
#[derive(Debug)]
struct Graves {
    first: *mut Thread,
    /// How many are in the list or being freed.
    nr: usize,
}

// SAFETY: I2.
unsafe impl Send for Graves {}

static GRAVES: SpinLock<Graves> = SpinLock::new(Level::Leaf, Graves { first: ptr::null_mut(), nr: 0 });
static REAPER: WaitQueue = WaitQueue::new();

/// Leaves a dead thread to the reaper: its stack cannot be freed with interrupts off.
fn bury(thread: NonNull<Thread>) {
    let mut graves = GRAVES.lock();
    // SAFETY: I2: dead, and known to nobody else.
    unsafe { thread.as_ref() }.next.store(graves.first, Ordering::Relaxed);
    graves.first = thread.as_ptr();
    graves.nr += 1;
    drop(graves);
    REAPER.wake_one();
}

/// Whether there are ended threads that were not freed yet.
pub fn reaper_is_busy() -> bool {
    GRAVES.lock().nr != 0
}

/// Starts the thread that frees those that nobody joins.
pub(super) fn start_reaper() -> Result<(), Error> {
    spawn("kreaper", || -> () {
        loop {
            REAPER.wait_until(|| !GRAVES.lock().first.is_null());
            let mut next = core::mem::take(&mut GRAVES.lock().first);
            while let Some(thread) = NonNull::new(next) {
                // SAFETY: I2: ours alone since it is out of the list.
                unsafe {
                    next = thread.as_ref().next.load(Ordering::Relaxed);
                    free(thread, Taken::No);
                }
                GRAVES.lock().nr -= 1;
            }
        }
    })
    .map(drop)
}

/// The boot CPU's idle thread; the boot stack's thread is an ordinary one.
pub(super) fn boot_idle(scheduler: &Scheduler) -> Result<NonNull<Thread>, Error> {
    let cpu = CpuId::BOOT;
    let who = Identity { role: Role::Idle, id: 0, name: "swapper", affinity: Affinity::Cpu(cpu), cpu };
    create(scheduler, who, || -> () { super::idle() })
}
