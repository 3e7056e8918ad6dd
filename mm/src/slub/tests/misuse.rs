//! Freeing what must not be freed. Debug builds find it at once.

use super::*;
use crate::arch::IrqGuard;

fn with_object(f: impl FnOnce(&Fixture, &CacheHandle<'static>, NonNull<u8>)) {
    let fixture = Fixture::new();
    let cache = fixture.slub.create(CacheParams::new("test", 48)).unwrap();
    let object = cache.alloc(Gfp::KERNEL).unwrap();
    f(&fixture, &cache, object);
}

#[test]
#[should_panic(expected = "BUG test: Object already free")]
fn a_double_free_into_the_magazine_is_caught() {
    // SAFETY: none: that is what is tested, here and below.
    with_object(|_, cache, object| unsafe {
        cache.free(object);
        cache.free(object);
    });
}

#[test]
#[should_panic(expected = "BUG test: Object already free")]
fn a_double_free_into_the_slab_is_caught() {
    with_object(|_, cache, object| {
        let other = cache.alloc(Gfp::KERNEL).unwrap();
        // SAFETY: see above.
        unsafe { cache.free(object) };
        cache.drain_this_cpu();
        // SAFETY: see above.
        unsafe { cache.free(object) };
        let _ = other;
    });
}

#[test]
#[should_panic(expected = "BUG kmalloc-64: Object belongs to another cache")]
fn freeing_into_another_cache_is_caught() {
    with_object(|f, _, object| {
        let mut other = None;
        f.slub.for_each(|c| other = other.or((c.name() == "kmalloc-64").then_some(c)));
        // SAFETY: see above.
        unsafe { other.unwrap().free(object) };
    });
}

#[test]
#[should_panic(expected = "BUG test: Invalid object pointer")]
fn freeing_the_middle_of_an_object_is_caught() {
    // SAFETY: see above.
    with_object(|f, _, object| unsafe { f.slub.kfree(object.add(8)) });
}

#[test]
#[should_panic(expected = "BUG kmalloc: Page is not a slab's")]
fn freeing_pages_as_an_object_is_caught() {
    with_object(|f, _, _| {
        let page = f.machine.pages.alloc_pages(Gfp::KERNEL, Order::ZERO).unwrap();
        let at = page.address(f.machine.machine());
        // SAFETY: see above.
        unsafe { f.slub.kfree(at) };
    });
}

#[test]
fn an_allocation_that_may_wait_where_nobody_may_is_a_bug_even_with_an_object_at_hand() {
    let f = Fixture::new();
    let cache = f.slub.create(CacheParams::new("test", 48)).unwrap();
    // SAFETY: objects just allocated, one from each.
    let free = |objects: [NonNull<u8>; 2]| unsafe {
        cache.free(objects[0]);
        f.slub.kfree(objects[1]);
    };
    free([cache.alloc(Gfp::KERNEL).unwrap(), f.slub.kmalloc(64, Gfp::KERNEL).unwrap()]);
    let ((), lines) = capture(|| {
        let _irq = IrqGuard::new();
        for _ in 0..2 {
            free([cache.alloc(Gfp::KERNEL).unwrap(), f.slub.kzalloc(64, Gfp::KERNEL).unwrap()]);
        }
        free([cache.alloc(Gfp::ATOMIC_CONTEXT).unwrap(), f.slub.kmalloc(64, Gfp::NOWAIT).unwrap()]);
    });
    let is_bug = |line: &&String| line.starts_with("BUG: sleeping function called from invalid context");
    let bugs: Vec<_> = lines.iter().filter(is_bug).collect();
    assert_eq!(bugs.len(), 2, "one for each place: {lines:#?}");
    assert!(bugs.iter().all(|line| line.contains("misuse.rs:")), "{bugs:?}");
    f.destroy(cache);
}
