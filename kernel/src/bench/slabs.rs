//! Slab caches and `kmalloc`.

use core::hint::black_box;
use core::ptr::NonNull;

use mm::Gfp;
use mm::slub::{CacheHandle, CacheParams, Slub};

use super::measure::{Back, Irqs, batch, each, halves, time};
use super::{Case, Figures, failed, single};
use crate::cpu::call;
use crate::memory::Memory;

pub(super) const CASES: &[Case] = &[
    Case::single("cache64_pair", |m| cache_pairs(m, 64)),
    Case::batch("cache64_x512", |m| cache_batches(m, 64)),
    Case::single("cache256_pair", |m| cache_pairs(m, 256)),
    Case::batch("cache256_x512", |m| cache_batches(m, 256)),
    Case::single("cache1024_pair", |m| cache_pairs(m, 1024)),
    Case::batch("cache1024_x512", |m| cache_batches(m, 1024)),
    Case::halves("cache64_bulk64", |m| cache_bulk(m, CacheParams::new("bench", 64))),
    Case::single("cache64_ctor_pair", |m| constructed_pairs(m, 64)),
    Case::single("cache256_ctor_pair", |m| constructed_pairs(m, 256)),
    Case::single("cache1024_ctor_pair", |m| constructed_pairs(m, 1024)),
    Case::halves("cache64_ctor_bulk64", |m| {
        cache_bulk(m, CacheParams::new("bench", 64).constructor(nothing))
    }),
    Case::single("kmalloc8_pair", |m| kmalloc_pairs(m, 8)),
    Case::single("kmalloc16_pair", |m| kmalloc_pairs(m, 16)),
    Case::single("kmalloc32_pair", |m| kmalloc_pairs(m, 32)),
    Case::single("kmalloc64_pair", |m| kmalloc_pairs(m, 64)),
    Case::single("kmalloc96_pair", |m| kmalloc_pairs(m, 96)),
    Case::single("kmalloc128_pair", |m| kmalloc_pairs(m, 128)),
    Case::single("kmalloc192_pair", |m| kmalloc_pairs(m, 192)),
    Case::single("kmalloc256_pair", |m| kmalloc_pairs(m, 256)),
    Case::single("kmalloc512_pair", |m| kmalloc_pairs(m, 512)),
    Case::single("kmalloc1024_pair", |m| kmalloc_pairs(m, 1024)),
    Case::single("kmalloc2048_pair", |m| kmalloc_pairs(m, 2048)),
    Case::single("kmalloc4096_pair", |m| kmalloc_pairs(m, 4096)),
    Case::single("kmalloc8192_pair", |m| kmalloc_pairs(m, 8192)),
    Case::single("kmalloc65536_pair", |m| kmalloc_pairs(m, 65536)),
];

/// Measures with a cache that was made so.
fn with_cache(
    memory: &'static Memory,
    params: CacheParams<'static>,
    measure: impl FnOnce(&CacheHandle<'static>) -> Figures,
) -> Figures {
    let Ok(cache) = memory.slub.create(params) else {
        failed();
        return Figures::default();
    };
    let figures = measure(&cache);
    // Used by this CPU only.
    if memory.slub.destroy(cache, call::on_all).is_err() {
        failed();
    }
    figures
}

fn cache_pairs(memory: &'static Memory, size: usize) -> Figures {
    let params = CacheParams::new("bench", size);
    with_cache(memory, params, |cache| single(each(1000, Irqs::Off, || cache_pair(cache))))
}

fn constructed_pairs(memory: &'static Memory, size: usize) -> Figures {
    let params = CacheParams::new("bench", size).constructor(nothing);
    with_cache(memory, params, |cache| single(each(1000, Irqs::Off, || cache_pair(cache))))
}

/// A constructor that leaves its object as it is.
///
/// # Safety
/// None is needed.
unsafe fn nothing(_object: NonNull<u8>) {}

/// 64 objects in one call, and back in one.
fn cache_bulk(memory: &'static Memory, params: CacheParams<'static>) -> Figures {
    const NR: usize = 64;
    let mut objects = [None; NR];
    with_cache(memory, params, |cache| {
        halves(NR, 0, || {
            let taken = time(0..1, |_| {
                if cache.alloc_bulk(Gfp::KERNEL, &mut objects).is_err() {
                    failed();
                }
            });
            // SAFETY: taken from this cache, and used by nobody.
            let given = time(0..1, |_| unsafe { cache.free_bulk(&mut objects) });
            [taken, given]
        })
    })
}

#[inline(never)]
fn cache_pair(cache: &CacheHandle<'static>) {
    match cache.alloc(Gfp::KERNEL) {
        // SAFETY: just taken from this cache.
        Ok(object) => unsafe { cache.free(object) },
        Err(_) => failed(),
    }
}

fn cache_batches(memory: &'static Memory, size: usize) -> Figures {
    let Some(mut objects) = super::pages::slots::<NonNull<u8>>(512) else { return Figures::default() };
    with_cache(memory, CacheParams::new("bench", size), |cache| {
        batch(
            &mut objects,
            Irqs::Off,
            Back::InTurn,
            |slot| {
                *slot = cache.alloc(Gfp::KERNEL).ok();
                if slot.is_none() {
                    failed();
                }
            },
            |slot| {
                if let Some(object) = *slot {
                    // SAFETY: taken from this cache for this slot above.
                    unsafe { cache.free(object) };
                }
            },
        )
    })
}

fn kmalloc_pairs(memory: &'static Memory, size: usize) -> Figures {
    // Not to be folded into the operation.
    let size = black_box(size);
    single(each(500, Irqs::Off, || kmalloc_pair(memory.slub, size)))
}

#[inline(never)]
fn kmalloc_pair(slub: &Slub<'static>, size: usize) {
    match slub.kmalloc(size, Gfp::KERNEL) {
        // SAFETY: just taken.
        Ok(memory) => unsafe { slub.kfree(memory) },
        Err(_) => failed(),
    }
}
