//! Several CPUs: which there are, what each has, what they ask of each other.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use kernel::cpu::apic::{self, LocalApic};
use kernel::cpu::percpu::{Kind, this_cpu};
use kernel::cpu::{call, ipi, irq, online};
use kernel::ktest;
use kernel::memory::stack::{STACK_BYTES, Stack};
use kernel::thread::{self, preempt};
use mm::arch::{IrqGuard, Machine, cpu_id, irqs_enabled};
use mm::{CpuId, Gfp, NodeId, Order, Pfn, PhysAddr, VirtAddr};

use crate::support::{leaks_nothing, memory, order};

ktest!(all_cpus_of_the_machine_run);
ktest!(four_cpus_run, on "bios-6g-4cpu,bios-2g-2x2cpu,uefi-512m-4cpu");
ktest!(each_cpu_has_its_number_its_apic_and_its_registers);
ktest!(what_a_cpu_has_is_on_its_own_node);
ktest!(a_call_runs_once_on_each_cpu_that_is_wanted);
ktest!(a_call_to_oneself_and_to_a_cpu_that_is_not_there);
ktest!(calls_cross_with_interrupts_off_on_both_sides);
ktest!(calls_from_all_to_all_at_once_end);
ktest!(a_cpu_that_is_told_to_look_at_its_queue_is_interrupted);
ktest!(a_handler_is_no_task);
ktest!(what_a_handler_allocates_is_not_counted_for_a_thread, on "bios-2x2cpu-torture");
ktest!(each_cpu_has_a_timer);
ktest!(threads_run_on_each_cpu_and_wake_each_other);
ktest!(what_is_unmapped_is_so_on_every_cpu);
ktest!(all_cpus_allocate_and_free_at_once);
ktest!(memory_is_near_to_the_cpu_that_asks, on "bios-2g-2x2cpu");
ktest!(idle_cpus_are_only_sent_for_when_they_may_help, on "bios-2g-2x2cpu");
ktest!(an_idle_cpu_of_the_node_takes_what_waits_for_another, on "bios-2g-2x2cpu");

/// Interrupts taken by a CPU.
fn taken(cpu: CpuId, kind: Kind) -> u32 {
    online::area(cpu).expect("it runs").interrupts.get(kind)
}

#[track_caller]
fn eventually(what: &str, done: impl Fn() -> bool) {
    let end = kernel::console::clock::uptime_us() + 20_000_000;
    while !done() {
        assert!(kernel::console::clock::uptime_us() < end, "{what}: not within 20 s");
        core::hint::spin_loop();
    }
}

fn others() -> impl Iterator<Item = CpuId> + Clone {
    online::all().filter(|&cpu| cpu != cpu_id())
}

fn all_cpus_of_the_machine_run() {
    assert_eq!(online::nr_online(), memory().cpus.nr_present);
    assert!(online::all().eq((0..online::nr_online()).map(CpuId)));
    assert_eq!(online::nr_possible(), memory().cpus.nr());
    assert!(!online::is_online(CpuId(online::nr_possible())) && !online::is_online(CpuId(u32::MAX)));
}

fn a_handler_is_no_task() {
    let guard = preempt::disable();
    let me = cpu_id();
    // Its own part is done by who calls.
    call::on_all(&|| assert_eq!(irq::in_handler(), cpu_id() != me));
    assert!(!irq::in_handler());
    drop(guard);
    for cpu in online::all() {
        let ended = thread::spawn_on(cpu, "task", || !irq::in_handler()).expect("memory for a thread");
        assert!(ended.join(), "CPU {cpu} is back");
    }
}

fn what_a_handler_allocates_is_not_counted_for_a_thread() {
    let pages = memory().pages;
    let allocate = || pages.alloc_pages(Gfp::NOWAIT, order(1));
    for cpu in others() {
        call::on_one(cpu, &|| {
            pages.set_fail_nth(1);
            pages.free_pages(allocate().expect("a handler's do not count"));
        });
        let fails = move || {
            let _guard = preempt::disable();
            let fails = allocate().map(|block| pages.free_pages(block)).is_err();
            pages.set_fail_nth(0);
            fails
        };
        assert!(thread::spawn_on(cpu, "fails", fails).expect("memory for a thread").join());
    }
}

fn four_cpus_run() {
    assert_eq!(online::nr_online(), 4);
}

fn each_cpu_has_its_number_its_apic_and_its_registers() {
    use x86_64::registers::control::{Cr0, Cr4, Efer};
    let registers = || (Cr0::read_raw(), Cr4::read_raw(), Efer::read_raw());
    let mine = registers();
    for cpu in online::all() {
        call::on_one(cpu, &|| {
            assert_eq!((cpu_id(), this_cpu().cpu()), (cpu, cpu.0));
            assert_eq!(Some(apic::apic_id()), online::apic_id(cpu));
            assert_eq!(LocalApic::get().map(LocalApic::id), online::apic_id(cpu));
            assert_eq!(registers(), mine, "CR0, CR4, EFER");
            assert!(core::ptr::eq(this_cpu(), online::area(cpu).expect("it runs")));
            let local = 0u8;
            let at = (&raw const local) as u64;
            assert!(kernel::debug::stacks::containing(at).is_some(), "on a stack that is known");
        });
    }
}

fn what_a_cpu_has_is_on_its_own_node() {
    let memory = memory();
    let node_of = |phys: PhysAddr| {
        // SAFETY: memory of the page allocator has a struct page.
        unsafe { mm::PagePtr::new(Machine, Pfn::containing(phys)) }.node()
    };
    for cpu in online::all() {
        let near = memory.numa.node_of_cpu(cpu);
        let area = online::area(cpu).expect("it runs");
        // A machine with one CPU has no calls.
        for part in area.parts().into_iter().filter(|part| !part.is_null()) {
            assert_eq!(
                node_of(Machine.virt_to_phys(part)),
                near,
                "what CPU {cpu} keeps for threads and calls"
            );
        }
        assert!(!area.parts()[0].is_null() && area.parts()[1].is_null() == (online::nr_online() == 1));
        // Area and stacks of the boot CPU are parts of the image.
        if cpu == CpuId::BOOT {
            continue;
        }
        assert_eq!(
            node_of(Machine.virt_to_phys(core::ptr::from_ref(area).cast())),
            near,
            "the area of CPU {cpu}"
        );
        for stack in area.stacks() {
            assert_eq!(stack.end - stack.start, STACK_BYTES);
            let map = memory.kernel_map.lock();
            let at = |addr| map.translate(VirtAddr::new(addr));
            assert_eq!(node_of(at(stack.start).expect("it is mapped").phys), near, "a stack of CPU {cpu}");
            assert!(at(stack.start - 1).is_none() && at(stack.end).is_none(), "holes around it");
        }
    }
}

fn a_call_runs_once_on_each_cpu_that_is_wanted() {
    let _here = preempt::disable();
    let (runs, cpus) = (AtomicU32::new(0), AtomicU64::new(0));
    let note = || {
        assert!(!irqs_enabled());
        runs.fetch_add(1, Relaxed);
        cpus.fetch_or(1 << cpu_id().0, Relaxed);
    };
    for _ in 0..100 {
        runs.store(0, Relaxed);
        cpus.store(0, Relaxed);
        call::on_all(&note);
        assert_eq!(
            (runs.load(Relaxed), cpus.load(Relaxed)),
            (online::nr_online(), (1 << online::nr_online()) - 1)
        );
    }
    for wanted in online::all() {
        cpus.store(0, Relaxed);
        call::on_each(&|cpu| cpu >= wanted, &note);
        let expected: u64 = online::all().filter(|&cpu| cpu >= wanted).map(|cpu| 1 << cpu.0).sum();
        assert_eq!(cpus.load(Relaxed), expected);
    }
}

fn a_call_to_oneself_and_to_a_cpu_that_is_not_there() {
    let _here = preempt::disable();
    let runs = AtomicU32::new(0);
    let calls = || others().map(|cpu| taken(cpu, Kind::Call)).sum::<u32>();
    let before = calls();
    call::on_one(cpu_id(), &|| {
        runs.fetch_add(1, Relaxed);
    });
    call::on_one(CpuId(online::nr_possible()), &|| panic!("nobody runs this"));
    assert_eq!((runs.load(Relaxed), calls()), (1, before), "no other CPU was asked");
}

/// The other CPU runs the call in an interrupt and calls back, while this one waits for it: both with interrupts off.
fn calls_cross_with_interrupts_off_on_both_sides() {
    let _here = preempt::disable();
    let me = cpu_id();
    for cpu in others() {
        let returned = AtomicU32::new(0);
        let _irq = IrqGuard::new();
        call::on_one(cpu, &|| {
            call::on_one(me, &|| {
                assert_eq!(cpu_id(), me);
                returned.fetch_add(1, Relaxed);
            });
        });
        assert_eq!(returned.load(Relaxed), 1);
    }
}

fn calls_from_all_to_all_at_once_end() {
    let _here = preempt::disable();
    let runs = AtomicU32::new(0);
    let nr = online::nr_online();
    let me = cpu_id();
    // All but this one call all, while this one waits for them.
    call::on_each(&|cpu| cpu != me, &|| {
        if !this_cpu().is_calling() {
            call::on_all(&|| {
                runs.fetch_add(1, Relaxed);
            });
        }
    });
    assert_eq!(runs.load(Relaxed), (nr - 1) * nr);
}

fn a_cpu_that_is_told_to_look_at_its_queue_is_interrupted() {
    let _here = preempt::disable();
    for cpu in others() {
        let before = taken(cpu, Kind::Reschedule);
        ipi::reschedule(cpu);
        eventually("the interrupt arrives", || taken(cpu, Kind::Reschedule) != before);
    }
    ipi::reschedule(CpuId(online::nr_possible()));
}

/// A CPU ticks while it has something to do.
fn each_cpu_has_a_timer() {
    for cpu in online::all() {
        let busy = move || {
            let before = taken(cpu, Kind::Timer);
            eventually("ticks", || taken(cpu, Kind::Timer).wrapping_sub(before) >= 3);
        };
        thread::spawn_on(cpu, "ktest", busy).expect("memory for a thread").join();
    }
}

fn threads_run_on_each_cpu_and_wake_each_other() {
    for cpu in online::all() {
        let run = move || (cpu_id(), thread::current_id_and_name().1);
        let found = thread::spawn_on(cpu, "ktest", run).expect("memory for a thread").join();
        assert_eq!(found, (cpu, "ktest"));
    }
    assert_eq!(thread::nr_online(), online::nr_online());
}

/// Two stacks have the same addresses, one after the other, and different frames.
fn what_is_unmapped_is_so_on_every_cpu() {
    for cpu in others() {
        let first = Stack::new(memory()).expect("memory for a stack");
        let at = first.addresses().start as *mut u64;
        let on_other = || {
            let seen = AtomicU64::new(0);
            let at = at as usize;
            call::on_one(cpu, &|| {
                // SAFETY: the stack is ours and mapped; the call has ended before anything changes.
                seen.store(unsafe { (at as *const u64).read_volatile() }, Relaxed);
            });
            seen.load(Relaxed)
        };
        // SAFETY: ours.
        unsafe { at.write_volatile(1) };
        assert_eq!(on_other(), 1);
        // SAFETY: nobody uses it any more.
        unsafe { first.free(memory()) };
        // What was just freed would come back.
        let taken = memory().pages.alloc_pages(Gfp::KERNEL, order(2)).expect("plenty is free");
        let second = Stack::new(memory()).expect("memory for a stack");
        assert_eq!(second.addresses().start, at as u64, "the lowest place that is free");
        // SAFETY: ours.
        unsafe { at.write_volatile(2) };
        assert_eq!(on_other(), 2, "CPU {cpu} sees the page that is mapped now");
        // SAFETY: nobody uses it any more.
        unsafe { second.free(memory()) };
        memory().pages.free_pages(taken);
    }
}

fn all_cpus_allocate_and_free_at_once() {
    let work = |memory: &'static kernel::memory::Memory| {
        call::on_all(&|| {
            for round in 0..500u32 {
                let order = order((round % 4) as u8);
                let gfp = Gfp::ATOMIC_CONTEXT | Gfp::NOWARN;
                let blocks = [(); 8].map(|()| memory.pages.alloc_pages(gfp, order).ok());
                let object = memory.slub.kmalloc(64 << (round % 5), gfp);
                blocks.into_iter().flatten().for_each(|block| memory.pages.free_pages(block));
                // SAFETY: just allocated, and not used.
                object.into_iter().for_each(|object| unsafe { memory.slub.kfree(object) });
            }
        });
    };
    // Each CPU keeps objects in its caches: so many come before leaks are looked for.
    work(memory());
    leaks_nothing(work);
}

fn memory_is_near_to_the_cpu_that_asks() {
    let memory = memory();
    for cpu in online::all() {
        let node = AtomicU32::new(u32::MAX);
        call::on_one(cpu, &|| {
            let block = memory.pages.alloc_pages(Gfp::ATOMIC_CONTEXT, Order::ZERO).expect("plenty is free");
            node.store(block.page().node().0.into(), Relaxed);
            memory.pages.free_pages(block);
        });
        assert_eq!(NodeId(node.load(Relaxed) as u16), memory.numa.node_of_cpu(cpu));
        assert_eq!(memory.numa.node_of_cpu(cpu).0, (cpu.0 / 2) as u16, "two CPUs on each node");
    }
}

/// Keeps the CPU for so many ticks.
fn spin_ticks(ticks: u64) {
    let end = kernel::console::clock::uptime_us() + ticks * 1_000_000 / apic::timer::HZ;
    while kernel::console::clock::uptime_us() < end {
        core::hint::spin_loop();
    }
}

/// How often each CPU was told to look for something to run.
fn sent_for() -> [u32; 4] {
    [0, 1, 2, 3].map(|cpu| taken(CpuId(cpu), Kind::Reschedule))
}

/// Three threads wait for one CPU, a turn each, and may run nowhere else: the others are left alone.
fn idle_cpus_are_only_sent_for_when_they_may_help() {
    const TICKS: u64 = 30;
    let before = sent_for();
    let threads = [(); 3]
        .map(|()| thread::spawn_on(CpuId(0), "ktest", || spin_ticks(TICKS)).expect("memory for a thread"));
    threads.into_iter().for_each(thread::JoinHandle::join);
    let after = sent_for();
    // This thread itself may have been woken there, and the reaper.
    let others: u32 = (1..4).map(|cpu| after[cpu].wrapping_sub(before[cpu])).sum();
    assert!(u64::from(others) < TICKS / 2, "{before:?} {after:?}");
}

/// Threads of the second node that have the first of its CPUs only: the other one takes its share, the first node's do not.
fn an_idle_cpu_of_the_node_takes_what_waits_for_another() {
    const NODE: NodeId = NodeId(1);
    static RAN_ON: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
    let before = sent_for();
    let threads = [(); 4].map(|()| {
        let work = || {
            for _ in 0..20 {
                spin_ticks(1);
                RAN_ON[cpu_id().index()].fetch_add(1, Relaxed);
                thread::yield_now();
            }
        };
        thread::spawn_with(thread::Affinity::Node(NODE), "ktest", work).expect("memory for a thread")
    });
    threads.into_iter().for_each(thread::JoinHandle::join);
    let after = sent_for();
    let ran = [0, 1, 2, 3].map(|cpu| RAN_ON[cpu].load(Relaxed));
    assert_eq!((ran[0], ran[1], ran[2] + ran[3]), (0, 0, 80));
    assert!(ran[2] > 0 && ran[3] > 0, "{ran:?}");
    let first_node: u32 = (0..2).map(|cpu| after[cpu].wrapping_sub(before[cpu])).sum();
    assert!(first_node < 20, "{before:?} {after:?}");
}
