//! Reports of misuse, in the form of Linux's `slab_bug`: a kernel bug, so the machine stops.

use core::fmt;

use crate::page::PagePtr;

/// What is wrong with an object that is being freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misuse {
    /// No object starts there.
    NotAnObject,
    /// It was never handed out, or all objects of its slab are free already.
    NotInUse,
    /// It is among its slab's returned objects, or in this CPU's magazine.
    AlreadyFree,
    /// Its slab belongs to another cache.
    WrongCache,
    /// Its page is no slab's.
    NotSlab,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnObject => "Invalid object pointer",
            Self::NotInUse => "Object was not in use",
            Self::AlreadyFree => "Object already free",
            Self::WrongCache => "Object belongs to another cache",
            Self::NotSlab => "Page is not a slab's",
        })
    }
}

/// Reports misuse of a cache and stops.
#[cold]
#[inline(never)]
pub(super) fn bug(cache: &str, what: Misuse, object: *const u8, head: PagePtr) -> ! {
    log::error!("{:=<77}", "");
    log::error!("BUG {cache} (Not tainted): {what}");
    log::error!("{:-<77}", "");
    log::error!("Slab {head:?}");
    log::error!("Object {object:p}");
    panic!("BUG {cache}: {what}: object {object:p}");
}
