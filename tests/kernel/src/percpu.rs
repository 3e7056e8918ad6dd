//! Per-CPU memory on the machine: copies of all CPUs, on their nodes, got and given back.

extern crate alloc;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kernel::cpu::percpu::this_cpu;
use kernel::cpu::{call, online};
use kernel::ktest;
use kernel::memory::percpu::PerCpuBox;
use kernel::thread::{self, preempt};
use mm::arch::{IrqGuard, Machine};
use mm::percpu::{Allocation, Error, MAX_BYTES};
use mm::{CpuId, Gfp, NodeId, PAGE_SIZE, PagePtr, Pfn, VirtAddr};

use crate::support::{Random, memory};

ktest!(each_cpu_sees_its_own_copy, on "all");
ktest!(copies_are_zero_whatever_was_there, on "all");
ktest!(a_cpus_area_is_the_static_part_of_its_unit, on "all");
ktest!(copies_lie_on_their_cpus_nodes, on "bios-2g-2x2cpu,bios-4g-numa2");
ktest!(all_cpus_allocate_and_free_per_cpu_memory_at_once, on "bios-6g-4cpu,bios-2g-2x2cpu,uefi-512m-4cpu");
ktest!(who_cannot_wait_gets_pages_that_are_ready);
ktest!(chunks_and_their_pages_come_back, on "all");
ktest!(meminfo_counts_the_pages_of_all_units);

fn free(allocation: Allocation) {
    // SAFETY: from this allocator; the callers use it no more.
    unsafe { memory().percpu.free(allocation) };
}

/// A CPU's copy as bytes.
fn bytes_of(allocation: &mut Allocation, cpu: CpuId, size: usize) -> &mut [u8] {
    let at = memory().percpu.copy_of(allocation, cpu).as_ptr();
    // SAFETY: allocated with that size, and borrowed.
    unsafe { core::slice::from_raw_parts_mut(at, size) }
}

fn each_cpu_sees_its_own_copy() {
    let memory = memory();
    let counters =
        PerCpuBox::new(&memory.percpu, Gfp::KERNEL, |_| AtomicU64::new(0)).expect("plenty is free");
    for round in 1..=3 {
        call::on_all(&|| {
            let irq = IrqGuard::new();
            let mine = counters.this_cpu(&irq);
            mine.store(mine.load(Relaxed) + 10 + u64::from(this_cpu().cpu()), Relaxed);
        });
        counters.for_each(|cpu, count| {
            let expected = if online::is_online(cpu) { round * (10 + u64::from(cpu.0)) } else { 0 };
            assert_eq!(count.load(Relaxed), expected, "CPU {cpu}");
        });
    }
    let stays = preempt::disable();
    assert_eq!(counters.this_cpu(&stays).load(Relaxed), 3 * (10 + u64::from(this_cpu().cpu())));
    drop(stays);
    drop(counters);
    memory.percpu.validate();
}

fn copies_are_zero_whatever_was_there() {
    let memory = memory();
    for size in [1, 4, 63, 4096, 5000, MAX_BYTES] {
        for _ in 0..2 {
            let mut allocation = memory.percpu.alloc(size, 8, Gfp::KERNEL).expect("plenty is free");
            for cpu in memory.percpu.cpus() {
                let bytes = bytes_of(&mut allocation, cpu, size);
                assert!(bytes.iter().all(|&byte| byte == 0), "{size} bytes of CPU {cpu}");
                bytes.fill(0x5a);
            }
            free(allocation);
        }
    }
    for (size, align) in [(0, 8), (MAX_BYTES + 1, 8), (8, 24), (8, 2 * PAGE_SIZE)] {
        assert_eq!(memory.percpu.alloc(size, align, Gfp::KERNEL).map(drop), Err(Error::BadRequest));
    }
    memory.percpu.validate();
}

fn a_cpus_area_is_the_static_part_of_its_unit() {
    let memory = memory();
    let first = memory.first_chunk.area(CpuId::BOOT);
    assert!(memory.percpu.cpus().count() as u32 == online::nr_possible());
    for cpu in online::all() {
        let area = online::area(cpu).expect("it runs");
        assert!(core::ptr::eq(area, memory.first_chunk.area(cpu)), "CPU {cpu}");
        assert!(cpu == CpuId::BOOT || !core::ptr::eq(area, first));
    }
}

fn copies_lie_on_their_cpus_nodes() {
    let memory = memory();
    // More than the first chunk has, so that one of them is elsewhere.
    let all: Vec<Allocation> = (0..2)
        .map(|_| memory.percpu.alloc(MAX_BYTES, PAGE_SIZE, Gfp::KERNEL).expect("plenty is free"))
        .collect();
    for allocation in &all {
        for cpu in memory.percpu.cpus() {
            let start = memory.percpu.copy_of(allocation, cpu).as_ptr().addr() as u64;
            for at in (start..start + MAX_BYTES as u64).step_by(PAGE_SIZE) {
                assert_eq!(node_of(VirtAddr::new(at)), memory.numa.node_of_cpu(cpu), "CPU {cpu}");
            }
        }
    }
    all.into_iter().for_each(free);
}

/// The node of the page that is mapped there.
fn node_of(at: VirtAddr) -> NodeId {
    let phys = memory().kernel_map.lock().translate(at).expect("it has memory").phys;
    // SAFETY: memory of the page allocator has a struct page.
    unsafe { PagePtr::new(Machine, Pfn::containing(phys)) }.node()
}

fn all_cpus_allocate_and_free_per_cpu_memory_at_once() {
    let memory = memory();
    let workers: Vec<_> = (0..online::nr_online())
        .map(|worker| thread::spawn("percpu", move || work(worker.into())).expect("memory for a thread"))
        .collect();
    workers.into_iter().for_each(thread::JoinHandle::join);
    memory.percpu.validate();
    memory.percpu.balance();
    assert!(memory.percpu.nr_chunks() <= 2, "all but the first and one are given back");
}

/// Random allocations, each copy with the owner's mark in it until it is freed.
fn work(worker: u64) {
    let percpu = &memory().percpu;
    let mut random = Random(worker + 1);
    let mut held: Vec<(Allocation, usize, u8)> = Vec::new();
    for _ in 0..2000 {
        if held.len() < 40 && random.below(2) == 0 || held.is_empty() {
            let largest = [64, 512, 8192][random.below(3) as usize];
            let size = 1 + random.below(largest) as usize;
            let gfp = [Gfp::KERNEL, Gfp::NOWAIT | Gfp::NOWARN][random.below(2) as usize];
            let Ok(mut allocation) = percpu.alloc(size, 1 << random.below(13), gfp) else {
                assert!(!gfp.contains(Gfp::KERNEL), "plenty is free");
                continue;
            };
            let mark = random.below(256) as u8;
            for cpu in percpu.cpus() {
                let bytes = bytes_of(&mut allocation, cpu, size);
                assert!(bytes.iter().all(|&byte| byte == 0), "zero at first");
                bytes.fill(mark ^ cpu.0 as u8);
            }
            held.push((allocation, size, mark));
        } else {
            let (mut allocation, size, mark) = held.swap_remove(random.below(held.len() as u64) as usize);
            for cpu in percpu.cpus() {
                let bytes = bytes_of(&mut allocation, cpu, size);
                assert!(bytes.iter().all(|&byte| byte == mark ^ cpu.0 as u8), "nobody else writes there");
            }
            free(allocation);
        }
    }
    held.into_iter().for_each(|(allocation, ..)| free(allocation));
}

fn who_cannot_wait_gets_pages_that_are_ready() {
    let percpu = &memory().percpu;
    percpu.balance();
    assert!(percpu.nr_empty_pop_pages() >= 4);
    let irq = IrqGuard::new();
    let allocation = percpu.alloc(PAGE_SIZE, PAGE_SIZE, Gfp::NOWAIT).expect("pages are ready");
    free(allocation);
    drop(irq);
    // What is used up is filled up by the thread.
    let mut held = Vec::new();
    while let Ok(allocation) = percpu.alloc(PAGE_SIZE, PAGE_SIZE, Gfp::NOWAIT | Gfp::NOWARN) {
        held.push(allocation);
        assert!(held.len() < 10_000, "the thread may add pages, but not so fast");
        if held.len() > 100 {
            break;
        }
    }
    let end = kernel::console::clock::uptime_us() + 20_000_000;
    while percpu.nr_empty_pop_pages() < 4 {
        assert!(kernel::console::clock::uptime_us() < end, "no pages within 20 s");
        thread::yield_now();
    }
    held.into_iter().for_each(free);
    percpu.balance();
    percpu.validate();
}

fn chunks_and_their_pages_come_back() {
    let memory = memory();
    memory.percpu.balance();
    let (chunks, areas) = (memory.percpu.nr_chunks(), memory.vmalloc.lock().nr_areas());
    let per_chunk = PAGE_SIZE * 512 / MAX_BYTES;
    let all: Vec<Allocation> = (0..2 * per_chunk)
        .map_while(|_| memory.percpu.alloc(MAX_BYTES, PAGE_SIZE, Gfp::KERNEL).ok())
        .collect();
    assert!(memory.percpu.nr_chunks() > 2 && memory.vmalloc.lock().nr_areas() > areas);
    let used = memory.percpu.nr_pages();
    all.into_iter().for_each(free);
    memory.percpu.balance();
    assert!(memory.percpu.nr_chunks() <= chunks.max(2));
    assert!(memory.percpu.nr_pages() < used);
    memory.percpu.validate();
    memory.vmalloc.lock().validate();
}

fn meminfo_counts_the_pages_of_all_units() {
    let percpu = &memory().percpu;
    let before = percpu.nr_pages();
    let units = u64::from(online::nr_possible());
    assert!(before >= 8 * units, "the first chunk has 8 pages of each CPU at least");
    let all: Vec<Allocation> =
        (0..10).map(|_| percpu.alloc(MAX_BYTES, PAGE_SIZE, Gfp::KERNEL).expect("plenty is free")).collect();
    assert!(percpu.nr_pages() >= 80 * units);
    all.into_iter().for_each(free);
}
