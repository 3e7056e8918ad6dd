//! What each operation does by itself.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::vec::Vec;

use super::*;
use crate::arch::{self, IrqGuard};
use crate::id::CpuId;
use crate::{PAGE_SIZE, testlog};

const ATOM: usize = 64 << 10;

#[test]
fn each_cpu_has_zeroed_memory_of_its_own() {
    let machine = Machine::new(&[0, 1, 0], ATOM);
    let memory = machine.alloc(100, 8, Gfp::KERNEL).unwrap();
    machine.copies(&memory, 100, |cpu, bytes| {
        assert!(bytes.iter().all(|&byte| byte == 0), "CPU {cpu}");
        bytes.fill(cpu as u8 + 1);
    });
    machine.copies(&memory, 100, |cpu, bytes| assert!(bytes.iter().all(|&byte| byte == cpu as u8 + 1)));
    machine.free(memory);
    let again = machine.alloc(100, 8, Gfp::NOWAIT).unwrap();
    machine.copies(&again, 100, |cpu, bytes| assert!(bytes.iter().all(|&byte| byte == 0), "CPU {cpu}"));
    machine.free(again);
    machine.alloc.validate();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let machine = Machine::new(&[0], ATOM);
    let bad = [(0, 8), (MAX_BYTES + 1, 8), (usize::MAX, 8), (8, 0), (8, 3), (8, 2 * PAGE_SIZE)];
    for (size, align) in bad {
        let (result, lines) = testlog::capture(|| machine.alloc(size, align, Gfp::KERNEL).map(drop));
        assert_eq!(result, Err(Error::BadRequest), "{size} {align}");
        let expected = std::format!("percpu: illegal size ({size}) or align ({align}) for percpu allocation");
        assert_eq!(lines, [expected]);
    }
    for (size, align) in [(1, 1), (MAX_BYTES, PAGE_SIZE), (3, PAGE_SIZE)] {
        let memory = machine.alloc(size, align, Gfp::KERNEL).unwrap();
        machine.copies(&memory, size, |_, bytes| assert!(bytes.as_ptr().addr().is_multiple_of(align)));
        machine.free(memory);
    }
    machine.alloc.validate();
}

#[test]
fn the_first_chunk_gives_out_all_but_its_static_part() {
    let machine = Machine::new(&[0; 2], ATOM);
    let dynamic = 6 * PAGE_SIZE - STATIC_BYTES;
    let all: Vec<_> = (0..dynamic / 8).map(|_| machine.alloc(8, 4, Gfp::NOWAIT).unwrap()).collect();
    assert_eq!(machine.alloc.nr_chunks(), 1);
    for memory in &all {
        let offset =
            machine.alloc.copy_of(memory, CpuId(0)).as_ptr().addr() - machine.first.base().as_ptr().addr();
        assert!((STATIC_BYTES..6 * PAGE_SIZE).contains(&offset));
    }
    let (failed, lines) = testlog::capture(|| machine.alloc(8, 4, Gfp::NOWAIT).map(drop));
    assert_eq!(failed, Err(Error::OutOfMemory));
    let expected = "percpu: allocation failed, size=8 align=4 atomic=1, alloc from populated areas failed";
    assert_eq!(lines, [expected]);
    let further = machine.alloc(8, 4, Gfp::KERNEL).unwrap();
    assert_eq!((machine.alloc.nr_chunks(), machine.alloc.nr_pages()), (2, 2 * 7));
    all.into_iter().chain([further]).for_each(|memory| machine.free(memory));
    machine.alloc.validate();
}

#[test]
fn failures_are_reported_ten_times() {
    let machine = Machine::new(&[0], ATOM);
    let silent = Gfp::NOWAIT | Gfp::NOWARN;
    let mut all = Vec::new();
    while let Ok(memory) = machine.alloc(PAGE_SIZE, 4, silent) {
        all.push(memory);
    }
    let ((), lines) =
        testlog::capture(|| (0..20).for_each(|_| assert!(machine.alloc(PAGE_SIZE, 4, Gfp::NOWAIT).is_err())));
    assert_eq!((lines.len(), lines[10].as_str()), (11, "percpu: limit reached, disable warning"));
    all.into_iter().for_each(|memory| machine.free(memory));
}

#[test]
fn balance_keeps_pages_ready_for_who_cannot_wait() {
    let machine = Machine::new(&[0, 0], ATOM);
    let mut all = Vec::new();
    while let Ok(memory) = machine.alloc(64, 64, Gfp::NOWAIT | Gfp::NOWARN) {
        all.push(memory);
    }
    assert!(machine.alloc.source.wants_balance.load(Relaxed));
    assert_eq!(machine.alloc.nr_empty_pop_pages(), 0);
    machine.alloc.balance();
    assert_eq!((machine.alloc.nr_empty_pop_pages(), machine.alloc.nr_chunks()), (4, 2));
    let memory = machine.alloc(PAGE_SIZE, PAGE_SIZE, Gfp::NOWAIT).unwrap();
    machine.alloc.validate();
    all.into_iter().chain([memory]).for_each(|memory| machine.free(memory));
}

#[test]
fn chunks_without_areas_are_given_back_but_one() {
    let machine = Machine::new(&[0], ATOM);
    let all: Vec<_> = (0..20).map(|_| machine.alloc(MAX_BYTES, 4, Gfp::KERNEL).unwrap()).collect();
    let many = machine.alloc.nr_chunks();
    assert!(many > 9, "{many}");
    all.into_iter().for_each(|memory| machine.free(memory));
    assert_eq!(machine.alloc.nr_chunks(), many);
    assert!(machine.alloc.source.wants_balance.load(Relaxed));
    machine.alloc.balance();
    assert_eq!(machine.alloc.nr_chunks(), 2);
    machine.alloc.validate();
}

#[test]
fn empty_pages_of_a_chunk_in_use_are_given_back() {
    let machine = Machine::new(&[0], 256 << 10);
    let mut small: Vec<_> =
        (0..6).map(|_| machine.alloc(PAGE_SIZE, PAGE_SIZE, Gfp::KERNEL).unwrap()).collect();
    let large: Vec<_> = (0..7).map(|_| machine.alloc(MAX_BYTES, 4, Gfp::KERNEL).unwrap()).collect();
    assert_eq!(machine.alloc.nr_chunks(), 2);
    let (before, kept) = (machine.alloc.nr_pages(), small.pop().unwrap());
    machine.alloc.source.wants_balance.store(false, Relaxed);
    large.into_iter().for_each(|memory| machine.free(memory));
    assert!(!machine.alloc.source.wants_balance.load(Relaxed), "enough is empty only with the first chunk's");
    small.into_iter().for_each(|memory| machine.free(memory));
    // Seen when something is freed in the chunk that has too many.
    let last = machine.alloc(MAX_BYTES, 4, Gfp::KERNEL).unwrap();
    machine.free(last);
    assert!(machine.alloc.source.wants_balance.load(Relaxed));
    machine.alloc.balance();
    assert!(machine.alloc.nr_pages() < before - 40, "{} of {before}", machine.alloc.nr_pages());
    machine.alloc.validate();
    machine.free(kept);
}

#[test]
fn whatever_fails_leaves_everything_as_it_was() {
    for step in 0.. {
        let Some(machine) = Machine::try_new(&[0, 1], ATOM, Fault::After(step)) else {
            assert!(step < 5, "tables and the first chunk");
            continue;
        };
        machine.alloc.source.set_fault(Fault::Never);
        let filled: Vec<_> = (0..5).map(|_| machine.alloc(4096, 4, Gfp::NOWAIT).unwrap()).collect();
        let (blocks, chunks) = (machine.alloc.source.nr_blocks(), machine.alloc.source.chunks().len());
        machine.alloc.source.set_fault(Fault::After(step - 5));
        let result = machine.alloc(MAX_BYTES, 4, Gfp::KERNEL | Gfp::NOWARN);
        machine.alloc.validate();
        match result {
            Err(error) => {
                assert_eq!(error, Error::OutOfMemory);
                // A chunk without pages may be there: the next one takes it.
                let made = machine.alloc.nr_chunks() - 1;
                assert_eq!(machine.alloc.source.chunks().len(), chunks + made);
                assert_eq!(machine.alloc.source.nr_blocks(), blocks + 5 * made);
                machine.alloc.source.set_fault(Fault::Never);
                let memory = machine.alloc(MAX_BYTES, 4, Gfp::KERNEL).unwrap();
                machine.free(memory);
            }
            Ok(memory) => {
                assert_eq!(step - 5, 7, "four tables, addresses, the chunk, its pages");
                machine.free(memory);
            }
        }
        filled.into_iter().for_each(|memory| machine.free(memory));
        machine.alloc.validate();
        if step - 5 == 7 {
            return;
        }
    }
}

#[test]
#[should_panic(expected = "BUG: percpu: no area at unit")]
fn what_is_freed_twice_is_found() {
    free_twice(20);
}

#[test]
#[should_panic(expected = "is freed twice")]
fn what_is_freed_twice_is_found_among_what_is_kept() {
    free_twice(16);
}

fn free_twice(size: usize) {
    let machine = Machine::new(&[0], ATOM);
    let memory = machine.alloc(size, 4, Gfp::KERNEL).unwrap();
    // SAFETY: it is not: that is what is tested, and nothing is touched through it.
    let twice: Allocation = unsafe { core::ptr::read(&memory) };
    machine.free(memory);
    machine.free(twice);
}

#[test]
fn a_box_has_a_value_of_each_cpu_and_drops_them() {
    let machine = Machine::new(&[0, 1, 1], ATOM);
    let counted = std::sync::Arc::new(());
    let before = machine.alloc.nr_empty_pop_pages();
    let mut counters =
        PerCpuBox::new(&machine.alloc, Gfp::KERNEL, |cpu| (AtomicU64::new(cpu.0.into()), counted.clone()))
            .unwrap();
    assert_eq!(std::sync::Arc::strong_count(&counted), 4);
    for cpu in [2, 0, 2] {
        arch::run_as_cpu(CpuId(cpu), || {
            let irq = IrqGuard::new();
            let mine = &counters.this_cpu(&irq).0;
            mine.store(mine.load(Relaxed) + 10, Relaxed);
        });
    }
    *counters.get_mut(CpuId(1)).0.get_mut() += 5;
    let mut seen = Vec::new();
    counters.for_each(|cpu, (value, _)| seen.push((cpu.0, value.load(Relaxed))));
    assert_eq!(seen, [(0, 10), (1, 6), (2, 22)]);
    drop(counters);
    assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    machine.alloc.validate();
    machine.alloc.balance();
    assert_eq!(machine.alloc.nr_empty_pop_pages(), before);
}

#[test]
fn what_was_freed_is_next_and_no_obstacle() {
    let machine = Machine::new(&[0], ATOM);
    let at = |memory: &Allocation| machine.alloc.copy_of(memory, CpuId(0));
    let mut all: Vec<_> = (0..32).map(|_| machine.alloc(64, 4, Gfp::NOWAIT).unwrap()).collect();
    let last = all.pop().unwrap();
    let place = at(&last);
    machine.free(last);
    let again = machine.alloc(61, 4, Gfp::NOWAIT).unwrap();
    assert_eq!(at(&again), place);
    all.into_iter().chain([again]).for_each(|memory| machine.free(memory));
    machine.alloc.validate();
    // Only the page of the static part is not whole.
    let whole: Vec<_> = (0..5).map(|_| machine.alloc(PAGE_SIZE, 4, Gfp::NOWAIT).unwrap()).collect();
    whole.into_iter().for_each(|memory| machine.free(memory));
    machine.alloc.balance();
    machine.alloc.validate();
}

#[test]
fn cpus_allocate_and_free_at_once() {
    let machine = Machine::new(&[0, 0, 1, 1], ATOM);
    std::thread::scope(|scope| {
        for cpu in 0..4u32 {
            let machine = &machine;
            scope.spawn(move || {
                arch::run_as_cpu(CpuId(cpu), || {
                    let mut seed = u64::from(cpu) + 1;
                    let mut random = move || {
                        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                        (seed >> 33) as usize
                    };
                    let mut held: Vec<(Allocation, usize, u8)> = Vec::new();
                    for round in 0..3000 {
                        if random() % 2 == 0 || held.is_empty() {
                            let size = 1 + random() % [64, 512, MAX_BYTES][random() % 3];
                            let gfp = [Gfp::KERNEL, Gfp::NOWAIT | Gfp::NOWARN][random() % 2];
                            let Ok(memory) = machine.alloc(size, 1 << (random() % 13), gfp) else { continue };
                            let tag = random() as u8;
                            machine.copies(&memory, size, |cpu, bytes| {
                                assert!(bytes.iter().all(|&byte| byte == 0), "not zero");
                                bytes.fill(tag ^ cpu as u8);
                            });
                            held.push((memory, size, tag));
                        } else {
                            let (memory, size, tag) = held.swap_remove(random() % held.len());
                            machine.copies(&memory, size, |cpu, bytes| {
                                assert!(
                                    bytes.iter().all(|&byte| byte == tag ^ cpu as u8),
                                    "not what was left there"
                                );
                            });
                            machine.free(memory);
                        }
                        if round % 100 == 0 {
                            machine.alloc.balance();
                        }
                    }
                    held.into_iter().for_each(|(memory, ..)| machine.free(memory));
                });
            });
        }
    });
    machine.alloc.validate();
    machine.alloc.balance();
    assert!(machine.alloc.nr_chunks() <= 2);
}
