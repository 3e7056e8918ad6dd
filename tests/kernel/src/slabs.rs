//! Slab caches, `kmalloc`, and Rust's own collections over them.

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, TryReserveError};
use alloc::vec::Vec;
use core::hint::black_box;
use core::ptr::NonNull;

use kernel::cpu::call;
use kernel::ktest;
use mm::Gfp;
use mm::slub::{CacheFlags, CacheParams, Error, KMALLOC_MAX_SIZE, ZERO_SIZE_PTR};

use crate::support::{Hoard, Random, leaks_nothing};

ktest!(kmalloc_serves_every_size_aligned);
ktest!(kmalloc_refuses_what_no_block_holds);
ktest!(zeroed_objects_are_zero_whatever_was_there);
ktest!(random_objects_keep_their_contents);
ktest!(krealloc_keeps_the_contents);
ktest!(exhaustion_is_an_error_and_recovers);
ktest!(a_cache_gives_distinct_aligned_objects_and_ends);
ktest!(a_cache_with_objects_in_use_does_not_end);
ktest!(collections_live_on_the_heap);
ktest!(giant_reservations_fail_cleanly);

fn kmalloc_serves_every_size_aligned() {
    leaks_nothing(|memory| {
        let sizes = (1..=256)
            .chain((9..=22).flat_map(|n| [(1 << n) - 1, 1 << n]))
            .chain((9..22).map(|n| (1 << n) + 1));
        for size in sizes {
            let object = memory.slub.kmalloc(size, Gfp::KERNEL).expect("plenty is free");
            let align = if size.is_power_of_two() { size.max(8) } else { 8 };
            assert_eq!(object.as_ptr() as usize % align, 0, "{size} bytes at {object:p}");
            // SAFETY: in use.
            let usable = unsafe { memory.slub.ksize(object) };
            assert!(usable >= size && (size < 192 || usable <= 2 * size), "{size} bytes of {usable}");
            // SAFETY: all of what `ksize` names is ours; freed after.
            unsafe {
                object.write_bytes(0x5a, usable);
                memory.slub.kfree(object);
            }
        }
    });
}

fn kmalloc_refuses_what_no_block_holds() {
    leaks_nothing(|memory| {
        for size in [KMALLOC_MAX_SIZE + 1, 1 << 40, usize::MAX] {
            assert_eq!(memory.slub.kmalloc(size, Gfp::KERNEL), Err(Error::TooLarge), "{size}");
        }
        let nothing = memory.slub.kmalloc(0, Gfp::KERNEL).expect("no bytes are always there");
        assert_eq!(nothing, ZERO_SIZE_PTR);
        // SAFETY: from kmalloc.
        unsafe { memory.slub.kfree(nothing) };
    });
}

fn zeroed_objects_are_zero_whatever_was_there() {
    leaks_nothing(|memory| {
        for size in [8, 96, 100, 1000, 8192, 9000, 1 << 20] {
            let dirty = memory.slub.kmalloc(size, Gfp::KERNEL).expect("plenty is free");
            // SAFETY: ours.
            unsafe {
                dirty.write_bytes(0xff, size);
                memory.slub.kfree(dirty);
            }
            let clean = memory.slub.kzalloc(size, Gfp::KERNEL).expect("plenty is free");
            // SAFETY: ours, initialised by kzalloc.
            let bytes = unsafe { core::slice::from_raw_parts(clean.as_ptr(), size) };
            assert!(bytes.iter().all(|&byte| byte == 0), "{size} bytes");
            // SAFETY: ours.
            unsafe { memory.slub.kfree(clean) };
        }
    });
}

#[derive(Clone, Copy)]
struct Object {
    at: NonNull<u8>,
    size: usize,
    fill: u8,
}

impl Object {
    fn check(self) {
        // SAFETY: allocated with that size and filled.
        let bytes = unsafe { core::slice::from_raw_parts(self.at.as_ptr(), self.size) };
        assert!(bytes.iter().all(|&byte| byte == self.fill), "{} bytes at {:p}", self.size, self.at);
    }
}

fn random_objects_keep_their_contents() {
    const SLOTS: usize = 1024;
    leaks_nothing(|memory| {
        let mut random = Random(77);
        let mut held: [Option<Object>; SLOTS] = [None; SLOTS];
        for round in 0..40_000u32 {
            let slot = &mut held[random.below(SLOTS as u64) as usize];
            if let Some(object) = slot.take() {
                object.check();
                // SAFETY: ours, in use.
                unsafe { memory.slub.kfree(object.at) };
                continue;
            }
            let most = 1 << random.below(14);
            let size = 1 + random.below(most) as usize;
            let at = memory.slub.kmalloc(size, Gfp::KERNEL).expect("plenty is free");
            let object = Object { at, size, fill: round as u8 };
            // SAFETY: ours.
            unsafe { at.write_bytes(object.fill, size) };
            *slot = Some(object);
        }
        memory.slub.validate();
        for object in held.into_iter().flatten() {
            object.check();
            // SAFETY: ours, in use.
            unsafe { memory.slub.kfree(object.at) };
        }
    });
}

fn krealloc_keeps_the_contents() {
    leaks_nothing(|memory| {
        let mut object = memory.slub.kmalloc(3, Gfp::KERNEL).expect("plenty is free");
        // SAFETY: ours.
        unsafe { object.copy_from_nonoverlapping(NonNull::from(b"abc").cast(), 3) };
        for size in [8, 9, 200, 5000, 100_000, 64, 3] {
            // SAFETY: ours; the first three bytes are initialised and kept.
            let kept = unsafe {
                object = memory.slub.krealloc(object, size, Gfp::KERNEL).expect("plenty is free");
                core::slice::from_raw_parts(object.as_ptr(), 3)
            };
            assert_eq!(kept, b"abc", "{size} bytes");
        }
        // SAFETY: ours.
        unsafe { memory.slub.kfree(object) };
    });
}

fn exhaustion_is_an_error_and_recovers() {
    leaks_nothing(|memory| {
        let mut hoard = Hoard::new();
        // The heap too may take what atomic allocations may, when interrupts are off.
        hoard.exhaust(Gfp::ATOMIC_CONTEXT);
        let mut objects: Option<NonNull<Option<NonNull<u8>>>> = None;
        let mut nr = 0u32;
        // What is left in slabs and magazines; each object holds the one before.
        let error = loop {
            match memory.slub.kmalloc(256, Gfp::KERNEL | Gfp::NOWARN) {
                Ok(object) => {
                    let link = object.cast::<Option<NonNull<u8>>>();
                    // SAFETY: ours, large enough, aligned.
                    unsafe { link.write(objects.map(NonNull::cast)) };
                    objects = Some(link);
                    nr += 1;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::NoMemory);
        assert!(reserve(1 << 20).is_err(), "the heap has nothing either");
        log::info!("{nr} objects of 256 bytes were left");
        memory.slub.validate();
        while let Some(link) = objects {
            // SAFETY: ours, written above.
            unsafe {
                objects = link.read().map(NonNull::cast);
                memory.slub.kfree(link.cast());
            }
        }
        hoard.free();
        let object = memory.slub.kmalloc(256, Gfp::KERNEL).expect("there is memory again");
        // SAFETY: ours.
        unsafe { memory.slub.kfree(object) };
    });
}

fn a_cache_gives_distinct_aligned_objects_and_ends() {
    leaks_nothing(|memory| {
        let params = CacheParams::new("ktest", 72).align(64).flags(CacheFlags::HWCACHE_ALIGN);
        let cache = memory.slub.create(params).expect("memory for a cache");
        let mut objects = Vec::new();
        objects.try_reserve_exact(1000).expect("plenty is free");
        for _ in 0..1000 {
            let object = cache.zalloc(Gfp::KERNEL).expect("plenty is free");
            assert_eq!(object.as_ptr() as usize % 64, 0);
            // SAFETY: ours, zeroed.
            unsafe {
                assert_eq!(object.cast::<u64>().read(), 0, "handed out twice, or not zeroed");
                object.cast::<u64>().write(1);
            }
            objects.push(object);
        }
        let info = cache.info();
        assert!(info.active_objs >= 1000 && info.num_objs >= info.active_objs, "{}", info.active_objs);
        for object in objects {
            // SAFETY: ours.
            unsafe { cache.free(object) };
        }
        // Only this CPU runs.
        memory.slub.destroy(cache, call::on_all).expect("no object is in use");
    });
}

fn a_cache_with_objects_in_use_does_not_end() {
    leaks_nothing(|memory| {
        let cache = memory.slub.create(CacheParams::new("ktest-busy", 40)).expect("memory for a cache");
        let object = cache.alloc(Gfp::KERNEL).expect("plenty is free");
        let Err((cache, error)) = memory.slub.destroy(cache, call::on_all) else {
            panic!("a cache ended under its object")
        };
        assert_eq!(error, Error::LiveObjects(1));
        // SAFETY: ours.
        unsafe { cache.free(object) };
        memory.slub.destroy(cache, call::on_all).expect("no object is in use");
    });
}

fn collections_live_on_the_heap() {
    leaks_nothing(|_| {
        #[repr(align(256))]
        struct Aligned(u8);
        let boxed = Box::new(Aligned(3));
        assert_eq!((&raw const *boxed as usize % 256, boxed.0), (0, 3));
        let grown: Vec<u32> = (0..200_000).collect();
        assert!(grown.iter().zip(0..).all(|(&a, b)| a == b));
        let mut random = Random(5);
        let mut map = BTreeMap::new();
        for _ in 0..5000 {
            let key = random.below(2000);
            match map.remove(&key) {
                Some(value) => assert_eq!(value, key * 3),
                None => drop(map.insert(key, key * 3)),
            }
        }
        assert!(map.iter().all(|(&key, &value)| value == key * 3));
        assert!(map.keys().is_sorted());
    });
}

fn giant_reservations_fail_cleanly() {
    leaks_nothing(|_| {
        for size in [(4 << 20) + 1, 1 << 30, 1 << 45, isize::MAX as usize] {
            assert!(reserve(size).is_err(), "{size}");
            assert!(reserve(100).is_ok());
        }
    });
}

/// The compiler must not see that nobody uses the memory: it would leave the allocation out.
fn reserve(size: usize) -> Result<(), TryReserveError> {
    let mut bytes = Vec::<u8>::new();
    bytes.try_reserve_exact(black_box(size))?;
    black_box(bytes);
    Ok(())
}
