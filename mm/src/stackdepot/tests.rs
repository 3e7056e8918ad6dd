use core::alloc::Layout;
use core::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// The host's memory, of which there is only so much.
struct Heap {
    left: Cell<usize>,
    blocks: RefCell<Vec<(NonNull<u8>, Order)>>,
}

impl Heap {
    fn new(nr_blocks: usize) -> Self {
        Self { left: Cell::new(nr_blocks), blocks: RefCell::default() }
    }

    fn pages(&self) -> u64 {
        self.blocks.borrow().iter().map(|(_, order)| order.nr_pages()).sum()
    }
}

fn layout(order: Order) -> Layout {
    Layout::from_size_align(order.size_bytes(), order.size_bytes()).unwrap()
}

// SAFETY: the host's blocks.
unsafe impl DepotMemory for Heap {
    fn alloc(&self, order: Order) -> Option<NonNull<u8>> {
        self.left.set(self.left.get().checked_sub(1)?);
        // SAFETY: a size above 0.
        let block = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout(order)) })?;
        self.blocks.borrow_mut().push((block, order));
        Some(block)
    }

    fn free(&self, block: NonNull<u8>, order: Order) {
        let at = self.blocks.borrow().iter().position(|known| *known == (block, order)).expect("one of ours");
        self.blocks.borrow_mut().swap_remove(at);
        // SAFETY: from `alloc`, and nobody uses it.
        unsafe { std::alloc::dealloc(block.as_ptr(), layout(order)) };
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        for (block, order) in self.blocks.take() {
            // SAFETY: from `alloc`; the depot is gone.
            unsafe { std::alloc::dealloc(block.as_ptr(), layout(order)) };
        }
    }
}

#[test]
fn a_stack_is_kept_once() {
    let (heap, depot) = (Heap::new(usize::MAX), StackDepot::new());
    let a = depot.save(&[1, 2, 3], &heap).unwrap();
    let b = depot.save(&[1, 2], &heap).unwrap();
    assert_eq!((depot.save(&[1, 2, 3], &heap), depot.save(&[1, 2], &heap)), (Some(a), Some(b)));
    assert_eq!((a.entries(), b.entries(), depot.nr_stacks()), (&[1, 2, 3][..], &[1, 2][..], 2));
    assert_eq!(depot.save(&[], &heap), None);
    depot.validate();
}

#[test]
fn the_table_grows_with_the_stacks_and_handles_stay() {
    let (heap, depot) = (Heap::new(usize::MAX), StackDepot::new());
    let handles: Vec<u64> =
        (0..5000u64).map(|n| depot.save(&[n, n * n, 7], &heap).unwrap().into_raw()).collect();
    for (n, handle) in handles.into_iter().enumerate() {
        // SAFETY: the depot's memory is still there.
        let stack = unsafe { Stack::from_raw(handle) }.unwrap();
        assert_eq!(stack.entries(), [n as u64, (n * n) as u64, 7]);
        assert_eq!(depot.save(stack.entries(), &heap), Some(stack));
    }
    assert_eq!((depot.nr_stacks(), depot.nr_pages()), (5000, heap.pages()), "old tables are given back");
    assert_eq!(depot.inner.lock().nr_buckets, 8192);
    depot.validate();
}

#[test]
fn long_stacks_keep_their_innermost_part() {
    let (heap, depot) = (Heap::new(usize::MAX), StackDepot::new());
    let long: Vec<u64> = (0..100).collect();
    assert_eq!(depot.save(&long, &heap).unwrap().entries(), &long[..MAX_ENTRIES]);
}

#[test]
fn without_memory_what_is_there_is_found_and_nothing_else() {
    for nr_blocks in 0..2 {
        let (heap, depot) = (Heap::new(nr_blocks), StackDepot::new());
        assert_eq!(depot.save(&[1], &heap), None);
        depot.validate();
    }
    let (heap, depot) = (Heap::new(2), StackDepot::new());
    let kept: Vec<Stack> = (0..).map_while(|n| depot.save(&[n, 1], &heap)).collect();
    assert_eq!(kept.len(), PAGE_SIZE / size_of_stack(2));
    assert!(kept.iter().all(|stack| depot.save(stack.entries(), &heap) == Some(*stack)));
    depot.validate();
}

#[test]
fn when_no_larger_table_is_to_be_had_chains_grow() {
    struct Small(Heap);
    // SAFETY: as `Heap`.
    unsafe impl DepotMemory for Small {
        fn alloc(&self, order: Order) -> Option<NonNull<u8>> {
            if order > Order::ZERO { None } else { self.0.alloc(order) }
        }
        fn free(&self, block: NonNull<u8>, order: Order) {
            self.0.free(block, order);
        }
    }
    let (heap, depot) = (Small(Heap::new(usize::MAX)), StackDepot::new());
    assert!((0..2000u64).all(|n| depot.save(&[n], &heap).is_some()));
    assert_eq!((depot.nr_stacks(), depot.inner.lock().nr_buckets), (2000, 512));
    depot.validate();
}

#[test]
fn several_threads_find_the_same_stacks() {
    struct Shared(std::sync::Mutex<Heap>);
    // SAFETY: behind a lock.
    unsafe impl Sync for Shared {}
    // SAFETY: as `Heap`.
    unsafe impl DepotMemory for Shared {
        fn alloc(&self, order: Order) -> Option<NonNull<u8>> {
            self.0.lock().unwrap().alloc(order)
        }
        fn free(&self, block: NonNull<u8>, order: Order) {
            self.0.lock().unwrap().free(block, order);
        }
    }
    let (heap, depot) = (Shared(std::sync::Mutex::new(Heap::new(usize::MAX))), StackDepot::new());
    let save_all = || (0..3000u64).map(|n| depot.save(&[n % 1500, 1], &heap).unwrap()).collect::<Vec<_>>();
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(save_all)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(all.iter().all(|stacks| *stacks == all[0]));
    assert_eq!(depot.nr_stacks(), 1500);
    depot.validate();
}

proptest! {
    #[test]
    fn a_depot_is_a_map_from_stacks_to_handles(stacks in prop::collection::vec(prop::collection::vec(0u64..4, 0..6), 0..200)) {
        let (heap, depot) = (Heap::new(usize::MAX), StackDepot::new());
        let mut model: HashMap<Vec<u64>, Stack> = HashMap::new();
        for entries in stacks {
            match depot.save(&entries, &heap) {
                None => prop_assert!(entries.is_empty()),
                Some(stack) => {
                    prop_assert_eq!(stack.entries(), &entries[..]);
                    prop_assert_eq!(*model.entry(entries).or_insert(stack), stack);
                }
            }
        }
        prop_assert_eq!(depot.nr_stacks(), model.len());
        prop_assert_eq!(depot.nr_pages(), heap.pages());
        depot.validate();
    }
}
