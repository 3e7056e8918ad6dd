//! Every interleaving of references to a page.

use interleave::frame::Frame;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;

/// Two threads take turns in every order there is. More of them in every order in which a thread is interrupted so
/// often at most between two of its own steps; where one ends or waits does not count.
const INTERRUPTIONS: usize = 3;

fn model<const N: usize>(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = (N > 2).then_some(INTERRUPTIONS);
    builder.check(test);
}

/// Runs the threads in every order, and checks the page when all have ended.
fn every_order<const N: usize>(users: u32, threads: [fn(&Frame); N], then: fn(&Frame)) {
    model::<N>(move || {
        let frame = Arc::new(Frame::new(users));
        let threads = threads.map(|body| {
            let frame = frame.clone();
            thread::spawn(move || body(&frame))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        then(&frame);
    });
}

fn is_freed(frame: &Frame) {
    assert!(frame.is_freed(), "{frame:?}");
}

fn reads_and_leaves(frame: &Frame) {
    assert_eq!(frame.read(), 0);
    frame.put();
}

/// A lookup: whoever gets the page can use it.
fn looks_up(frame: &Frame) {
    if frame.refs.try_get() {
        reads_and_leaves(frame);
    }
}

#[test]
fn the_last_put_frees_after_every_other_use() {
    every_order(3, [reads_and_leaves; 3], is_freed);
}

#[test]
fn a_lookup_gets_the_page_before_the_last_put_or_not_at_all() {
    every_order(1, [reads_and_leaves, looks_up], is_freed);
    every_order(1, [reads_and_leaves, looks_up, looks_up], is_freed);
}

#[test]
fn a_user_can_make_others_whatever_the_rest_does() {
    let shares = |frame: &Frame| {
        frame.refs.get();
        reads_and_leaves(frame);
        reads_and_leaves(frame);
    };
    every_order(2, [shares, reads_and_leaves], is_freed);
    every_order(2, [shares, shares], is_freed);
}

#[test]
fn a_sole_owner_frees_without_a_read_modify_write_after_all_others_have_left() {
    let ends = |frame: &Frame| {
        assert_eq!(frame.read(), 0);
        frame.put_sole();
    };
    every_order(2, [reads_and_leaves, ends], is_freed);
    every_order(3, [reads_and_leaves, ends, ends], is_freed);
}

/// Changes the page when it is its only user, and leaves.
fn freezes(frame: &Frame) {
    if frame.refs.freeze(1) {
        frame.write(7);
        frame.write(0);
        frame.refs.unfreeze(1);
    }
    frame.put();
}

#[test]
fn a_frozen_page_is_its_owners_alone() {
    every_order(1, [freezes, looks_up], is_freed);
    every_order(1, [freezes, looks_up, looks_up], is_freed);
    every_order(2, [freezes, reads_and_leaves], is_freed);
    every_order(2, [freezes, freezes], is_freed);
}

#[test]
fn what_was_done_to_a_frozen_page_is_seen_by_who_gets_it() {
    let moves_in = |frame: &Frame| {
        // Nobody has the page: as one that was just given out.
        frame.write(5);
        frame.refs.unfreeze(1);
    };
    let finds = |frame: &Frame| {
        if frame.refs.try_get() {
            assert_eq!(frame.read(), 5);
            frame.put();
        }
    };
    every_order(0, [moves_in, finds, finds], |frame| {
        frame.put();
        is_freed(frame);
    });
}

#[test]
fn several_references_go_at_once() {
    let takes_two = |frame: &Frame| {
        frame.refs.add(2);
        assert_eq!(frame.read(), 0);
        if frame.refs.sub(2) {
            unreachable!("its first reference is left");
        }
        frame.put();
    };
    every_order(2, [takes_two, takes_two], is_freed);
    every_order(1, [takes_two, looks_up], is_freed);
}

/// An address space lets a page go: first the mapping, then its reference.
fn unmaps(frame: &Frame) {
    frame.maps.remove();
    frame.put();
}

#[test]
fn a_page_is_freed_only_when_its_mappings_have_gone() {
    let with_mappings = |nr: u32, threads: [fn(&Frame); 2]| {
        loom::model(move || {
            let frame = Arc::new(Frame::new(nr));
            (0..nr).for_each(|_| frame.maps.add());
            let threads = threads.map(|body| {
                let frame = frame.clone();
                thread::spawn(move || body(&frame))
            });
            for thread in threads {
                thread.join().unwrap();
            }
            is_freed(&frame);
        });
    };
    let unmaps_sole = |frame: &Frame| {
        frame.maps.remove();
        frame.put_sole();
    };
    let forks = |frame: &Frame| {
        frame.refs.get();
        frame.maps.add();
        unmaps(frame);
        unmaps(frame);
    };
    with_mappings(2, [unmaps, unmaps]);
    with_mappings(2, [unmaps, unmaps_sole]);
    with_mappings(2, [unmaps_sole, unmaps_sole]);
    with_mappings(2, [forks, unmaps]);
    with_mappings(1, [unmaps, looks_up]);
}

#[test]
fn exactly_one_unmapping_is_the_last() {
    loom::model(|| {
        let frame = Arc::new(Frame::new(3));
        frame.maps.add();
        frame.maps.add();
        let unmap = |frame: Arc<Frame>| {
            thread::spawn(move || {
                let last = frame.maps.remove();
                frame.put();
                last
            })
        };
        let threads = [unmap(frame.clone()), unmap(frame.clone())];
        let last = threads.map(|thread| thread.join().unwrap());
        assert!(last[0] != last[1]);
        frame.put();
        is_freed(&frame);
    });
}
